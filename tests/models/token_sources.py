"""Tiny checkpoints with other outputs than a vector of a text, in the forms that they are published in."""

import json

import numpy as np
import torch

from models.forms import edit

LENGTHS = {"query": 12, "passage": 40}
WIDTH = 64
# Of the tiny tokenizers of single letters, and three more tokens.
VOCABULARY = 85


def build(form, family, make_checkpoint, place):
    """The checkpoint's folder, below `place`."""
    names = ("dim", "hidden_dim") if family == "distilbert" else ("hidden_size", "intermediate_size")
    inner = dict(zip(names, (WIDTH, 96), strict=True))
    if form in ("splade", "opensearch"):
        more = (
            {"pooling_strategy": "sum", "activation_function": "log1p_relu"} if form == "opensearch" else {}
        )
        return save_splade(
            make_checkpoint(place / "plain", family, head="ForMaskedLM", **inner), place / "saved", **more
        )
    folder = make_checkpoint(place / "plain", family, vocab_size=VOCABULARY, **inner)
    if form == "stanford":
        return save_stanford(folder)
    return {"multi": save_multi, "pylate": save_pylate}[form](folder, place / "saved")


def save_heads(folder):
    """FlagEmbedding's layers of bge-m3, as safetensors."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(3)
    for name, rows in (("sparse_linear", 1), ("colbert_linear", WIDTH)):
        weight = rng.normal(size=(rows, WIDTH), scale=0.2).astype(np.float32)
        # Most tokens weigh something.
        bias = np.full(rows, 2.0, np.float32)
        save_file({"weight": weight, "bias": bias}, folder / f"{name}.safetensors")


def save_splade(folder, target, **pooling):
    """A SparseEncoder on the masked language model in `folder`."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    modules = [Transformer(str(folder), transformer_task="fill-mask"), SpladePooling(**pooling)]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(target))
    return target


def add_tokens(folder, *tokens):
    """Tokens of the tokenizer in `folder` behind its own, and [MASK]; the model has rows for three."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(str(folder))


def save_multi(folder, target):
    """A MultiVectorEncoder: two lengths, queries filled up with masks that nothing sees, signs without a vector."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    add_tokens(folder, "[Q] ", "[D] ")
    expansion = {"strategy": "min", "length": LENGTHS["query"], "attend": True}
    torch.manual_seed(5)
    on_tokens = {"module_input_name": "token_embeddings"}
    modules = [
        Transformer(str(folder), document_length=LENGTHS["passage"], query_expansion=expansion),
        Dense(WIDTH, 24, bias=False, activation_function=torch.nn.Identity(), **on_tokens),
        MultiVectorMask(skiplist_words=[".", "?"]),
        Normalize(**on_tokens),
    ]
    prompts = {"query": "query: ", "document": "passage: "}
    MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu").save_pretrained(str(target))
    return target


def save_pylate(folder, target):
    """The same model as PyLate 1 writes it: a Dense of its own, markers, lengths and signs beside the modules."""
    save_multi(folder, target)
    types = ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")
    listed = [
        {"idx": number, "name": str(number), "path": "" if number == 0 else "1_Dense", "type": kind}
        for number, kind in enumerate(types)
    ]
    (target / "modules.json").write_text(json.dumps(listed))
    (target / "sentence_bert_config.json").write_text('{"max_seq_length": 39, "do_lower_case": false}')
    dense = json.loads((target / "1_Dense" / "config.json").read_text())
    kept = {key: dense[key] for key in ("in_features", "out_features", "bias", "activation_function")}
    (target / "1_Dense" / "config.json").write_text(json.dumps(kept))
    config = {
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": LENGTHS["query"],
        "document_length": LENGTHS["passage"],
        "attend_to_expansion_tokens": False,
        "skiplist_words": [".", "?", ","],
    }
    (target / "config_sentence_transformers.json").write_text(json.dumps(config))
    return target


def save_stanford(folder):
    """Stanford's own form: the layer beside the encoder's weights, and a file of settings."""
    from safetensors.torch import load_file, save_file

    add_tokens(folder, "[unused0]", "[unused1]")
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    torch.manual_seed(5)
    weights["linear.weight"] = torch.randn(24, WIDTH) * 0.2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", architectures=["HF_ColBERT"])
    settings = {"query_maxlen": LENGTHS["query"], "doc_maxlen": LENGTHS["passage"], "mask_punctuation": True}
    (folder / "artifact.metadata").write_text(json.dumps(settings))
    return folder
