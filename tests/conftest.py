"""Tiny random checkpoints of each family, saved as transformers saves them."""

import json
import os
import string
from functools import cache

import pytest

import tiny_tokenizers
from benchmarks.regions.namespaces import find_hindrance
from tiny_families import STYLES, TINY
from tiny_tokenizers import write_tokenizer
from trireme.checkpoints.families import FAMILIES, Sizes

# Tests hold channels of gRPC while they start processes, as no program of ours does.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

SPECIAL = {"bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "roberta": ("<s>", "<pad>", "</s>", "<unk>")}
TOKEN_IDS = {
    "bert": {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3},
    "roberta": {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
}
SIZES = Sizes(hidden=32, inner=64, heads=2, layers=2, positions=66)


# Files whose tests share what takes long to start, or is there once: one worker runs all of them.
SHARING = {
    "perf_analyzer": ("bench", "generator_clients"),
    "stack": (
        "agent_stack",
        "async_client",
        "bad_input",
        "by_hand",
        "gateway_clients",
        "gateway_disconnects",
        "gateway_security",
        "golden",
        "quality",
        "readme",
        "reranker",
        "scaling_curves",
        "scaling_rules",
        "search",
        "triton_providers",
    ),
    "serving": ("ask", "ingest", "serve"),
    "two_servers": ("home_trips", "homes", "replication"),
}
GROUPS = {f"tests/e2e/test_{name}.py": shared for shared, names in SHARING.items() for name in names}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers of pytest-xdist share the suite by files: what a file sets up is set up once."""
    from xdist.scheduler import LoadFileScheduling

    class ByFiles(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            if file.startswith("tests/browser/"):
                return "browser"
            return GROUPS.get(file, file)

    return ByFiles(config, log)


@cache
def hindrance():
    return find_hindrance()


def pytest_runtest_setup(item):
    """Tests with the marker `namespaces` need root and TUN."""
    if item.get_closest_marker("namespaces") and (reason := hindrance()):
        pytest.skip(f"no network of its own can be made: {reason}")


def make_tokenizer(folder, style):
    """A word-piece tokenizer of single letters, digits and a few signs, in BERT's or RoBERTa's frame."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = string.ascii_lowercase + string.digits + ".,?"
    pieces = [*SPECIAL[style], *letters, *("##" + letter for letter in letters)]
    ids = {piece: number for number, piece in enumerate(pieces)}
    pad, unk = ("[PAD]", "[UNK]") if style == "bert" else ("<pad>", "<unk>")
    start, end = ("[CLS]", "[SEP]") if style == "bert" else ("<s>", "</s>")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=unk))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pair = f"{start} $A {end} $B:1 {end}:1" if style == "bert" else f"{start} $A {end} {end} $B {end}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=pair, special_tokens=[(start, ids[start]), (end, ids[end])]
    )
    tokenizer.enable_padding(pad_id=ids[pad], pad_token=pad, length=99)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": pad, "unk_token": unk, "cls_token": start, "sep_token": end}
    inputs = (
        ["input_ids", "token_type_ids", "attention_mask"]
        if style == "bert"
        else ["input_ids", "attention_mask"]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        "model_input_names": inputs,
        **names,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(pieces)


@pytest.fixture(scope="session")
def make_checkpoint():
    """make_checkpoint(folder, family, head=None, **config) -> folder, with random weights."""

    def make(folder, family, labels=None, head="", **more):
        import torch
        import transformers

        torch.manual_seed(7)
        folder.mkdir(parents=True, exist_ok=True)
        row = FAMILIES[family]
        style = STYLES.get(family, "roberta" if row.first_position == "after padding" else "bert")
        is_bert_like = style in TOKEN_IDS
        vocabulary = make_tokenizer(folder, style) if is_bert_like else write_tokenizer(folder, style)
        sizes = {key: size for (key, _), size in zip(row.sizes, SIZES, strict=True)} | TINY.get(family, {})
        if row.segments and style == "roberta":
            sizes[row.segments[0]] = 1
        if row.embedding:
            sizes[row.embedding[0]] = more.get(row.sizes.hidden[0], SIZES.hidden)
        sizes |= TOKEN_IDS[style] if is_bert_like else tiny_tokenizers.TOKEN_IDS[style]
        if labels is not None:
            sizes |= {"id2label": dict(enumerate(labels)), "label2id": {b: a for a, b in enumerate(labels)}}
        config = getattr(transformers, f"{row.class_name}Config")(
            **{"vocab_size": vocabulary, **sizes, **more}
        )
        head = head or ("Model" if labels is None else "ForSequenceClassification")
        name = row.model_class if head == "Model" and row.model_class else row.class_name + head
        model = getattr(transformers, name)(config)
        with torch.no_grad():
            for weight in model.parameters():
                # Larger than the library's start, so that texts differ from each other.
                weight.mul_(3.0) if weight.dim() > 1 else None
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def add_sentence_files():
    """Writes the files of sentence-transformers beside a checkpoint."""

    def add(folder, pooling, modules=("Transformer", "Pooling", "Normalize"), **prompts):
        pooling = {"embedding_dimension": 32, **pooling}
        listed = [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for i, name in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(listed))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 48, "do_lower_case": false}')
        return folder

    return add
