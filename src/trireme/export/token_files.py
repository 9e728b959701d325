"""Reads what a checkpoint has for the tokens of a text: weights of words, and a vector of each token. No torch.

The forms: sentence-transformers' SparseEncoder and MultiVectorEncoder, PyLate, Stanford's ColBERT, and the linear
layers that FlagEmbedding puts beside bge-m3.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.checkpoints.config import read_json, read_optional, refuse
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.export.sentence_files import CONFIG_FILE, DenseLayer, SentenceFiles, read_dense
from trireme.types import EncoderOutput

LEXICAL_FILE, VECTOR_FILE = "sparse_linear", "colbert_linear"
STANFORD_FILE = "artifact.metadata"
STANFORD_CLASS = "HF_ColBERT"
# Tokens of a query in ColBERT, filled up with masks.
_QUERY_TOKENS = 32
# A layer stands in a file of its own, or beside the encoder's weights.
_IN_FILE, _BESIDE = "", "linear."


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """What a checkpoint can make of tokens: `outputs`, and how.

    lexical: the layer [1, H] of a token's weight. layers: those of its vector. pooling: of SPLADE, max or sum, of
    the weights of all words; saturates_twice: their logarithm is taken twice. markers: tokens that stand before
    queries and passages. skips: tokens that have no vector. Lengths are in tokens, 0 for the model's own; those of
    a query are filled up to expansion_length with expansion_token, "" for the tokenizer's mask.
    """

    outputs: tuple[EncoderOutput, ...] = ("dense",)
    lexical: DenseLayer | None = None
    layers: tuple[DenseLayer, ...] = ()
    pooling: str = ""
    saturates_twice: bool = False
    markers: tuple[str, ...] = ()
    query_prompt: str = ""
    passage_prompt: str = ""
    skips_first: bool = False
    query_skips: tuple[str, ...] = ()
    passage_skips: tuple[str, ...] = ()
    query_length: int = 0
    passage_length: int = 0
    expansion_length: int = 0
    expansion_token: str = ""
    expansion_attends: bool = False


def read_token_files(folder: Path, files: SentenceFiles, config: Mapping[str, Any]) -> TokenFiles:
    """What `folder` has, where config is its config.json. Raises UnsupportedError naming file and key."""
    names = [name for name, _ in files.modules]
    if "SpladePooling" in names:
        return _read_splade(dict(files.modules)["SpladePooling"] / "config.json", names)
    if files.is_tokenwise:
        return _read_multi(folder, files)
    if not files.kind and STANFORD_CLASS in (config.get("architectures") or []):
        return _read_stanford(folder)
    if not files.kind and str((config.get("architectures") or [""])[0]).endswith("ForMaskedLM"):
        return TokenFiles(("dense", "sparse"), pooling="max")
    return _read_linear(folder)


def find_missing(folder: Path, found: TokenFiles, outputs: tuple[EncoderOutput, ...]) -> str:
    """Why the checkpoint cannot make all of `outputs`; "" where it can."""
    missing = next((output for output in outputs if output not in found.outputs), None)
    if missing is None:
        return ""
    if missing == "dense":
        return f"makes no vector of a text; set outputs to {', '.join(found.outputs)}"
    name = LEXICAL_FILE if missing == "sparse" else VECTOR_FILE
    if (folder / f"{name}.pt").is_file():
        return (
            f"has {name}.pt, a pickle, which can run code when loaded; convert it once, in Python: from"
            f" safetensors.torch import save_file; save_file(torch.load('{name}.pt', weights_only=True),"
            f" '{name}.safetensors')"
        )
    return f"has nothing that makes the output {missing}: no {name}.safetensors, as of bge-m3, and no such module"


def check_layers(found: TokenFiles, hidden_size: int) -> None:
    """Raises UnsupportedError for a layer that does not fit what it works on."""
    if found.lexical is not None and found.lexical.out_features != 1:
        raise UnsupportedError(
            f"{found.lexical.weights} makes {found.lexical.out_features} numbers of a token; a weight is one"
        )
    size = hidden_size
    for layer in (*found.layers, *([found.lexical] if found.lexical else [])):
        given = hidden_size if layer is found.lexical else size
        if layer.in_features != given:
            raise UnsupportedError(
                f"{layer.weights} takes {layer.in_features} numbers of a token, and the model makes {given}"
            )
        size = layer.out_features


def _read_linear(folder: Path) -> TokenFiles:
    """FlagEmbedding's layers, in safetensors."""
    lexical, vectors = (_find_linear(folder / f"{name}.safetensors") for name in (LEXICAL_FILE, VECTOR_FILE))
    outputs: list[EncoderOutput] = ["dense"]
    if lexical is not None:
        outputs.append("sparse")
    if vectors is not None:
        outputs.append("multi")
    return TokenFiles(tuple(outputs), lexical, (vectors,) if vectors else (), skips_first=vectors is not None)


def _find_linear(path: Path, prefix: str = _IN_FILE) -> DenseLayer | None:
    if not path.is_file():
        return None
    tensors = TensorFiles(path.parent, [path])
    shape = tensors.entry(f"{prefix}weight").shape
    if len(shape) != 2:
        raise UnsupportedError(
            f"{path}: {prefix}weight is of shape {list(shape)}; a linear layer's has two sizes"
        )
    rows, columns = shape
    return DenseLayer(path, columns, rows, f"{prefix}bias" in tensors.entries, "Identity", prefix=prefix)


def _read_splade(path: Path, names: list[str]) -> TokenFiles:
    if names not in (["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"]):
        raise UnsupportedError(
            f"{path.parent.parent} has the modules {', '.join(names)}; of a SparseEncoder a Transformer with"
            " SpladePooling is supported"
        )
    config = read_json(path)
    pooling = config.get("pooling_strategy", "max")
    if pooling not in ("max", "sum"):
        raise refuse(path, "pooling_strategy", pooling, "supported: max, sum")
    activation = config.get("activation_function", "relu")
    if activation not in ("relu", "log1p_relu"):
        raise refuse(path, "activation_function", activation, "supported: relu, log1p_relu")
    return TokenFiles(("sparse",), pooling=pooling, saturates_twice=activation == "log1p_relu")


def _read_multi(folder: Path, files: SentenceFiles) -> TokenFiles:
    """sentence-transformers' MultiVectorEncoder, or PyLate's files, which name fewer modules and more keys."""
    path, config, names = folder / CONFIG_FILE, files.config, [name for name, _ in files.modules]
    is_native = "MultiVectorMask" in names
    wanted = ["Transformer", *["Dense"] * names.count("Dense")]
    if names != [*wanted, *(["MultiVectorMask", "Normalize"] if is_native else [])]:
        raise UnsupportedError(
            f"{folder} has the modules {', '.join(names)}; of a model of one vector per token Transformer, Dense,"
            " MultiVectorMask and Normalize, in this order, are supported"
        )
    layers = tuple(read_dense(place, "token_embeddings") for name, place in files.modules if name == "Dense")
    prefixes = {key: str(config.get(key) or "") for key in ("query_prefix", "document_prefix")}
    query_skips: tuple[str, ...] = ()
    skips = tuple(string.punctuation if config.get("skiplist_words") is None else config["skiplist_words"])
    if is_native:
        query_skips, skips = _read_mask(dict(files.modules)["MultiVectorMask"] / "config.json")
        _check_normalize(dict(files.modules)["Normalize"] / "config.json")
    lengths = {**_read_pylate(path, config), **files.token_settings}
    return TokenFiles(
        ("multi",),
        layers=layers,
        markers=tuple(text for text in prefixes.values() if text),
        query_prompt=_put_before(prefixes["query_prefix"], files.query_prompt),
        passage_prompt=_put_before(prefixes["document_prefix"], files.passage_prompt),
        query_skips=query_skips,
        passage_skips=skips,
        **_read_lengths(path, lengths),
    )


def _read_mask(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words without a vector in queries and in passages."""
    config = read_json(path)
    if config.get("keep_only_token_ids"):
        raise refuse(path, "keep_only_token_ids", config["keep_only_token_ids"], "this is for images")
    words, tasks = tuple(config.get("skiplist_words") or ()), config.get("skiplist_tasks") or ["document"]
    return words if "query" in tasks else (), words if "document" in tasks else ()


def _check_normalize(path: Path) -> None:
    name = read_optional(path).get("module_input_name", "sentence_embedding")
    if name != "token_embeddings":
        raise refuse(path, "module_input_name", name, "vectors of tokens are of unit length here")


def _put_before(prefix: str, prompt: str) -> str:
    return prefix + prompt.removeprefix(prefix)


def _read_pylate(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """PyLate's keys as sentence-transformers names them."""
    keys = ("query_length", "document_length", "do_query_expansion", "attend_to_expansion_tokens")
    if not any(key in config for key in (*keys, "query_prefix", "document_prefix", "skiplist_words")):
        return {}
    found = {key: config[key] for key in keys[:2] if config.get(key) is not None}
    if config.get("do_query_expansion") is False:
        return {**found, "query_expansion": None}
    length = found.pop("query_length", _QUERY_TOKENS)
    attends = bool(config.get("attend_to_expansion_tokens"))
    return {**found, "query_expansion": {"strategy": "fixed", "length": length, "attend": attends}}


def _read_lengths(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    expansion = settings.get("query_expansion") or {}
    if not isinstance(expansion, dict):
        raise refuse(path, "query_expansion", expansion, "this maps strategy and length to their values")
    sizes = {
        "query_length": settings.get("query_length"),
        "document_length": settings.get("document_length"),
        "query_expansion.length": expansion.get("length") if expansion else None,
    }
    for key, value in sizes.items():
        if value is not None and (type(value) is not int or value < 1):
            raise refuse(path, key, value, "this must be a whole number above 0")
    is_fixed = bool(expansion) and expansion.get("strategy") == "fixed"
    query = sizes["query_expansion.length"] if is_fixed else sizes["query_length"]
    return {
        "query_length": query or 0,
        "passage_length": sizes["document_length"] or 0,
        "expansion_length": sizes["query_expansion.length"] or 0,
        "expansion_token": str(expansion.get("token") or ""),
        "expansion_attends": bool(expansion.get("attend")),
    }


def _read_stanford(folder: Path) -> TokenFiles:
    """Stanford's own form: the layer beside the encoder's weights, the rest in a file of its own."""
    layer = _find_linear(folder / "model.safetensors", _BESIDE)
    if layer is None:
        raise UnsupportedError(f"{folder} holds no model.safetensors with {_BESIDE}weight; convert it")
    path = folder / STANFORD_FILE
    config = read_optional(path)
    query, passage = (
        str(config.get(key) or default) + " "
        for key, default in (("query_token_id", "[unused0]"), ("doc_token_id", "[unused1]"))
    )
    lengths = {
        "document_length": config.get("doc_maxlen"),
        "query_expansion": {
            "strategy": "fixed",
            "length": config.get("query_maxlen") or _QUERY_TOKENS,
            "attend": bool(config.get("attend_to_mask_tokens")),
        },
    }
    return TokenFiles(
        ("multi",),
        layers=(layer,),
        markers=(query, passage),
        query_prompt=query,
        passage_prompt=passage,
        passage_skips=tuple(string.punctuation) if config.get("mask_punctuation", True) else (),
        **_read_lengths(path, lengths),
    )
