"""Checkpoints as the libraries write them, read by us and by the libraries: the numbers must be the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from trireme.artifacts.recipe import Recipe
from trireme.errors import GateError, UnsupportedError
from trireme.export.checkpoint import apply_recipe, read_checkpoint
from trireme.export.graph import load_graph
from trireme.export.oracle import check_reading
from trireme.export.tokenizer_file import feed_segments, load_pretrained, write_tokenizer

# Every other family is compared in tests/models.
BASES = ("bert", "roberta", "distilbert", "modernbert")
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.fixture
def check(tmp_path):
    """check(folder, kind="", change={}, **recipe keys): reads, and compares as a build does.

    `change` holds fields of the checkpoint that are then read wrongly on purpose.
    """

    def run(folder, kind="", change=None, **keys):
        found = read_checkpoint(folder, kind)
        recipe = Recipe("tiny", found.kind, source=str(folder), **keys)
        found = feed_segments(apply_recipe(found, recipe), load_pretrained(found))
        found = replace(found, **(change or {}))
        file = tmp_path / "written.json"
        write_tokenizer(found, file)
        check_reading(recipe, found, load_graph(found), file)
        return found

    return run


def edit(path, **keys):
    document = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**document, **keys}))


def save(folder, target, *more, **keys):
    """Saves the encoder in `folder` with the modules of `more` behind it, as sentence-transformers does."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    torch.manual_seed(3)
    SentenceTransformer(modules=[Transformer(str(folder)), *more], **keys).save_pretrained(str(target))
    return target


@pytest.fixture
def bert(make_checkpoint, tmp_path):
    return make_checkpoint(tmp_path / "bert", "bert")


@pytest.mark.parametrize("family", BASES)
def test_an_encoder_of_transformers_alone_is_pooled_by_the_mean(family, make_checkpoint, tmp_path, check):
    found = check(make_checkpoint(tmp_path / "source", family))
    assert (found.kind, found.pooling, found.normalize) == ("text_encoder", "mean", False)


@pytest.mark.parametrize("mode", POOLINGS)
def test_a_saved_pooling_is_read(mode, bert, tmp_path, check):
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    found = check(save(bert, tmp_path / "saved", Pooling(32, mode), Normalize()))
    assert (found.pooling, found.normalize) == (mode, True)


@pytest.mark.parametrize("mode", ["cls_token", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"])
def test_an_old_pooling_is_read(mode, bert, add_sentence_files, check):
    check(add_sentence_files(bert, {"word_embedding_dimension": 32, f"pooling_mode_{mode}": True}))


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid"])
def test_a_saved_dense_layer_is_read(activation, bert, tmp_path, check):
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling

    layer = Dense(32, 24, bias=activation != "Tanh", activation_function=getattr(torch.nn, activation)())
    found = check(save(bert, tmp_path / "saved", Pooling(32), layer))
    assert [one.activation for one in found.dense] == [activation]


@pytest.mark.parametrize("out", [32, 24])
def test_dense_dropout_and_what_a_model_cuts_off_are_read(out, bert, tmp_path, check):
    from sentence_transformers.sentence_transformer.modules import Dense, Dropout, Normalize, Pooling

    modules = (Pooling(32), Dropout(0.5), Dense(32, out, use_residual=True), Normalize())
    found = check(save(bert, tmp_path / "saved", *modules, truncate_dim=20))
    assert load_graph(found).dimensions == 20
    assert found.dense[0].is_residual


@pytest.mark.parametrize(
    ("stated", "prompts"),
    [
        (
            {"prompts": {"query": "ask about ", "document": ""}, "default_prompt_name": "query"},
            ("ask about ", ""),
        ),
        ({"prompts": {"query": "ask about "}, "default_prompt_name": "query"}, ("ask about ", "")),
        ({"prompts": {"query": "q ", "passage": "p ", "corpus": "c "}}, ("q ", "p ")),
        ({"prompts": {"query": "q ", "document": "d ", "passage": "p "}}, ("q ", "d ")),
        ({"prompts": {"corpus": "c "}}, ("", "c ")),
        ({"prompts": {"query": None, "document": "d "}}, ("", "d ")),
        ({"prompts": {"search": "s "}, "default_prompt_name": "search"}, ("s ", "s ")),
        ({"prompts": {"search": "s "}, "default_prompt_name": None}, ("", "")),
        ({"prompts": {}, "default_prompt_name": "document"}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_prompts_are_those_of_encode_query_and_encode_document(
    stated, prompts, bert, add_sentence_files, check
):
    add_sentence_files(bert, {"pooling_mode": "mean"})
    (bert / "config_sentence_transformers.json").write_text(json.dumps(stated))
    found = check(bert)
    assert (found.query_prompt, found.passage_prompt) == prompts


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"max_seq_length": 20}, 20),
        ({"max_seq_length": None}, 64),
        ({"max_seq_length": 500}, 66),
        ({"processor_kwargs": {"model_max_length": 30}, "max_seq_length": 20}, 30),
        ({"tokenizer_args": {"model_max_length": 30}}, 30),
    ],
)
def test_lengths_are_those_of_sentence_transformers(settings, length, bert, add_sentence_files, check):
    add_sentence_files(bert, {"pooling_mode": "mean"})
    (bert / "sentence_bert_config.json").write_text(json.dumps(settings))
    assert check(bert).max_length == length


def test_an_old_settings_file_has_another_name(make_checkpoint, tmp_path, add_sentence_files, check):
    folder = add_sentence_files(make_checkpoint(tmp_path / "source", "roberta"), {"pooling_mode": "mean"})
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    assert check(folder).max_length == 48


def test_lowercase_of_the_settings_is_read(bert, add_sentence_files, check):
    add_sentence_files(bert, {"pooling_mode": "mean"})
    tokenizer = json.loads((bert / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (bert / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(bert / "sentence_bert_config.json", do_lower_case=True)
    assert check(bert).lowercase
    with pytest.raises(GateError):
        check(bert, change={"lowercase": False})


@pytest.mark.parametrize(
    "keys",
    [
        {"pooling": "cls"},
        {"normalize": False},
        {"query_prompt": "tell me about "},
        {"passage_prompt": "", "max_length": 12},
    ],
)
def test_what_the_recipe_sets_is_told_to_the_library(keys, bert, add_sentence_files, check):
    check(add_sentence_files(bert, {"pooling_mode": "mean"}, document="passage: "), **keys)


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "max"},
        {"query_prompt": ""},
        {"passage_prompt": "query "},
        {"max_length": 40},
        {"max_length": 50},
        {"normalize": False},
        {"has_segments": True, "dense": ()},
    ],
)
def test_a_wrong_reading_does_not_pass(change, bert, tmp_path, check):
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    saved = save(
        bert, tmp_path / "saved", Pooling(32), Dense(32, 32), Normalize(), prompts={"query": "query "}
    )
    edit(saved / "sentence_bert_config.json", max_seq_length=48)
    check(saved)
    with pytest.raises(GateError, match="makes other numbers"):
        check(saved, change=change)


def test_what_the_library_refuses_is_refused(bert, add_sentence_files, check):
    add_sentence_files(bert, {"pooling_mode": "mean"})
    edit(bert / "config_sentence_transformers.json", requirements={"transformers": ">=99"})
    with pytest.raises(UnsupportedError, match="sentence-transformers cannot read"):
        check(bert)


@pytest.mark.parametrize("family", BASES)
@pytest.mark.parametrize("has_modules", [False, True])
def test_a_cross_encoder_gives_the_librarys_logits(family, has_modules, make_checkpoint, tmp_path, check):
    from sentence_transformers import CrossEncoder

    folder = make_checkpoint(tmp_path / "source", family, labels=["score"])
    if has_modules:
        CrossEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "saved"))
        folder = tmp_path / "saved"
    assert (folder / "modules.json").is_file() == has_modules
    assert check(folder).kind == "cross_encoder"


@pytest.mark.parametrize("inputs", [["input_ids", "attention_mask"], None])
def test_a_tokenizer_that_gives_no_segments_feeds_none(inputs, make_checkpoint, tmp_path, check):
    folder = make_checkpoint(tmp_path / "source", "bert", labels=["score"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert check(folder).has_segments
    del config["model_input_names"]
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**config, **({"model_input_names": inputs} if inputs else {})})
    )
    assert not check(folder).has_segments
    with pytest.raises(GateError, match="CrossEncoder makes other numbers"):
        check(folder, change={"has_segments": True})


@pytest.mark.parametrize(
    "case",
    [
        (3, {}, "softmax"),
        (3, {"problem_type": "single_label_classification"}, "softmax"),
        (3, {"problem_type": "multi_label_classification"}, "sigmoid"),
        (3, {"problem_type": "regression"}, "identity"),
        (1, {"problem_type": "regression"}, "identity"),
        (1, {"problem_type": "multi_label_classification"}, "sigmoid"),
        (3, {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        (2, {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
    ],
)
def test_a_classifier_gives_the_pipelines_scores(case, make_checkpoint, tmp_path, check):
    labels, keys, activation = case
    family = "distilbert" if labels == 3 else "bert"
    folder = make_checkpoint(tmp_path / "source", family, labels=[f"label {n}" for n in range(labels)])
    edit(folder / "config.json", **keys)
    found = check(folder)
    assert (found.kind, found.activation) == ("classifier", activation)


def test_a_classifier_read_wrongly_does_not_pass(make_checkpoint, tmp_path, check):
    folder = make_checkpoint(tmp_path / "source", "bert", labels=["low", "high", "flat"])
    for change in ({"activation": "sigmoid"}, {"labels": ("high", "low", "flat")}, {"max_length": 20}):
        with pytest.raises(GateError, match="pipeline makes other numbers"):
            check(folder, change=change)


@pytest.mark.parametrize("problem", [None, "regression"])
def test_one_label_is_a_classifier_where_it_is_asked_for(problem, make_checkpoint, tmp_path, check):
    folder = make_checkpoint(tmp_path / "source", "bert", labels=["stars"])
    edit(folder / "config.json", problem_type=problem)
    assert check(folder, "classifier").activation == ("identity" if problem else "sigmoid")
    assert check(folder, "cross_encoder").kind == "cross_encoder"


def test_weights_of_a_variant_alone_are_read(make_checkpoint, tmp_path, check):
    import transformers

    folder = make_checkpoint(tmp_path / "source", "bert")
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float16)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, variant="fp16")
    assert not (folder / "model.safetensors").exists()
    assert check(folder).variant == "fp16"
    one = make_checkpoint(tmp_path / "one", "bert", labels=["score"])
    (one / "model.safetensors").rename(one / "model.fp32.safetensors")
    assert check(one).variant == "fp32"
    two = make_checkpoint(tmp_path / "two", "roberta", labels=["a", "b"])
    (two / "model.safetensors").rename(two / "model.bf16.safetensors")
    assert check(two).variant == "bf16"


def test_a_hand_made_folder_may_lack_what_only_the_library_wants(make_checkpoint, tmp_path, check):
    folder = make_checkpoint(tmp_path / "pairs", "bert", labels=["score"])
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([module]))
    edit(folder / "config_sentence_transformers.json", model_type="CrossEncoder")
    assert check(folder).kind == "cross_encoder"
    folder = make_checkpoint(tmp_path / "texts", "bert")
    pooling = {
        **module,
        "idx": 1,
        "name": "1",
        "path": "1_Pooling",
        "type": "sentence_transformers.models.Pooling",
    }
    (folder / "modules.json").write_text(json.dumps([module, pooling]))
    (folder / "1_Pooling").mkdir()
    edit(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    assert check(folder).pooling == "cls"


def test_not_a_number_does_not_pass(bert, check):
    from safetensors.torch import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][0] = np.nan
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GateError):
        check(bert)
