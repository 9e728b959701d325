"""Reads what a checkpoint folder says of itself: family, pooling, prompts, lengths, labels. No torch.

The files are those of transformers (config.json, tokenizer_config.json) and sentence-transformers
(modules.json, 1_Pooling/config.json, config_sentence_transformers.json, sentence_bert_config.json).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import POOLINGS, Recipe
from trireme.errors import UnsupportedError

# Families whose tiny random models are tested to export and to equal torch.
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert")
# Their position table starts after the padding index.
OFFSET_FAMILIES = ("roberta", "xlm-roberta")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# tokenizer_config.json without a limit holds a number like 10**30.
NO_LIMIT = 1_000_000

_OLD_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A Dense module of sentence-transformers: a linear layer and Tanh or Identity."""

    weights: Path
    in_features: int
    out_features: int
    has_bias: bool
    activation: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder, read and found supported. Lengths are in tokens, special tokens included."""

    folder: Path
    transformer_dir: Path
    kind: str
    family: str
    hidden_size: int
    has_segments: bool
    max_length: int
    pooling: str = ""
    normalize: bool = False
    query_prompt: str = ""
    passage_prompt: str = ""
    lowercase: bool = False
    dense: tuple[DenseLayer, ...] = ()
    labels: tuple[str, ...] = ()
    activation: str = ""


def read_checkpoint(folder: Path, kind: str = "", has_adapter: bool = False) -> Checkpoint:
    """What `folder` says of itself; without `kind`, the kind its architecture has.

    With an adapter, head and labels are the adapter's and not read here.
    Raises UnsupportedError naming the file, family or module that is in the way.
    """
    modules = _read_modules(folder)
    transformer_dir = folder / modules[0]["path"] if modules else folder
    config = _read_json(transformer_dir / "config.json")
    _check_config(transformer_dir, config)
    check_weights(transformer_dir)
    found = Checkpoint(
        folder=folder,
        transformer_dir=transformer_dir,
        kind=kind or _detect_kind(config, modules),
        family=config["model_type"],
        hidden_size=int(config.get("hidden_size") or config["dim"]),
        has_segments=config.get("type_vocab_size", 0) > 1,
        max_length=_max_length(transformer_dir, config),
        lowercase=bool(_read_optional(transformer_dir / "sentence_bert_config.json").get("do_lower_case")),
    )
    if found.kind == "text_encoder":
        return _with_pooling(found, modules)
    return found if has_adapter else _with_labels(found, config)


def apply_recipe(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    """`checkpoint` with the recipe's overrides. Raises UnsupportedError for a length it cannot reach."""
    if recipe.max_length is not None:
        limit = _position_limit(_read_json(checkpoint.transformer_dir / "config.json"))
        if recipe.max_length > limit:
            raise UnsupportedError(
                f"max_length {recipe.max_length} is above the checkpoint's {limit} positions"
            )
    names = ("max_length", "pooling", "normalize", "query_prompt", "passage_prompt")
    values = {name: getattr(recipe, name) for name in names}
    return replace(checkpoint, **{name: value for name, value in values.items() if value is not None})


def check_weights(folder: Path) -> None:
    """Raises UnsupportedError unless `folder` holds safetensors; a pickle in their place is named."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise UnsupportedError(
            f"{folder / pickles[0]} is a pickle, which can run code when loaded; convert it to safetensors"
        )
    raise UnsupportedError(f"{folder} holds no model.safetensors")


def _check_config(folder: Path, config: dict[str, Any]) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in _read_optional(folder / name):
            raise UnsupportedError(f"{folder / name} asks for code of its own (auto_map), which is never run")
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedError(f"model_type {family!r} is not supported; supported: {', '.join(FAMILIES)}")
    if config.get("is_decoder"):
        raise UnsupportedError(f"{folder / 'config.json'} describes a decoder; only encoders are supported")


def _detect_kind(config: dict[str, Any], modules: list[dict[str, Any]]) -> str:
    architecture = (config.get("architectures") or [""])[0]
    if modules or not architecture.endswith("ForSequenceClassification"):
        return "text_encoder"
    return "cross_encoder" if len(config.get("id2label") or {"0": "", "1": ""}) == 1 else "classifier"


def _position_limit(config: dict[str, Any]) -> int:
    positions = int(config["max_position_embeddings"])
    if config["model_type"] in OFFSET_FAMILIES:
        return positions - int(config.get("pad_token_id") or 1) - 1
    return positions


def _max_length(folder: Path, config: dict[str, Any]) -> int:
    limit = _position_limit(config)
    stated = _read_optional(folder / "sentence_bert_config.json").get("max_seq_length")
    if stated is None:
        stated = _read_optional(folder / "tokenizer_config.json").get("model_max_length")
    return min(limit, int(stated)) if stated and stated < NO_LIMIT else limit


def _read_modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    if not path.is_file():
        return []
    modules = json.loads(path.read_text(encoding="utf-8"))
    for module in modules:
        module["name"] = module["type"].rpartition(".")[2]
        if not (folder / module["path"]).resolve().is_relative_to(folder.resolve()):
            raise UnsupportedError(f"{path} names a module outside its folder: {module['path']!r}")
    names = [module["name"] for module in modules]
    if names[0] != "Transformer" or not set(names[1:]) <= {"Pooling", "Dense", "Normalize"}:
        other = next((name for name in names[1:] if name not in ("Pooling", "Dense", "Normalize")), names[0])
        raise UnsupportedError(
            f"{path} has a module {other!r}; supported: Transformer, Pooling, Dense, Normalize"
        )
    return list(modules)


def _with_pooling(found: Checkpoint, modules: list[dict[str, Any]]) -> Checkpoint:
    pooling, dense = "mean", []
    for module in modules[1:]:
        folder = found.folder / module["path"]
        if module["name"] == "Pooling":
            pooling = _read_pooling(folder / "config.json")
        elif module["name"] == "Dense":
            dense.append(_read_dense(folder))
    if "Normalize" in [module["name"] for module in modules[:-1]]:
        raise UnsupportedError(f"{found.folder / 'modules.json'}: Normalize must be the last module")
    query, passage = _read_prompts(found.folder / "config_sentence_transformers.json")
    return replace(
        found,
        pooling=pooling,
        dense=tuple(dense),
        normalize=bool(modules) and modules[-1]["name"] == "Normalize",
        query_prompt=query,
        passage_prompt=passage,
    )


def _read_pooling(path: Path) -> str:
    """The one pooling mode of a Pooling config: old keys are booleans, the new one is pooling_mode."""
    config = _read_json(path)
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    if not modes:
        chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        modes = [_OLD_POOLING_KEYS.get(key, key) for key in chosen]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        wanted = " + ".join(modes) or "none"
        raise UnsupportedError(
            f"{path}: pooling {wanted!r} is not supported; one of {', '.join(POOLINGS)} is"
        )
    if config.get("include_prompt") is False:
        raise UnsupportedError(f"{path}: include_prompt = false is not supported")
    return modes[0]


def _read_dense(folder: Path) -> DenseLayer:
    config = _read_json(folder / "config.json")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if activation not in ("Tanh", "Identity"):
        raise UnsupportedError(f"{folder}: activation {activation!r} of Dense is not supported")
    check_weights(folder)
    sizes = (int(config["in_features"]), int(config["out_features"]))
    return DenseLayer(folder / "model.safetensors", *sizes, bool(config.get("bias", True)), activation)


def _read_prompts(path: Path) -> tuple[str, str]:
    config = _read_optional(path)
    prompts = config.get("prompts") or {}
    fallback = prompts.get(config.get("default_prompt_name"), "")
    passage = prompts.get("passage") or prompts.get("document") or fallback
    return prompts.get("query") or fallback, passage


def _with_labels(found: Checkpoint, config: dict[str, Any]) -> Checkpoint:
    # transformers writes no id2label for two labels of default names.
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    labels = tuple(names[key] for key in sorted(names, key=int))
    if found.kind == "cross_encoder":
        return found if len(labels) == 1 else _refuse_reranker(found, labels)
    by_problem = {"multi_label_classification": "sigmoid", "regression": ""}
    activation = by_problem.get(config.get("problem_type") or "", "softmax" if len(labels) > 1 else "sigmoid")
    stated = (config.get("sentence_transformers") or {}).get("activation_fn", "").rpartition(".")[2].lower()
    if stated:
        activation = stated
    if activation not in ("softmax", "sigmoid"):
        raise UnsupportedError(
            f"{found.folder}: a classifier's activation is softmax or sigmoid, not {stated!r}"
        )
    return replace(found, labels=labels, activation=activation)


def _refuse_reranker(found: Checkpoint, labels: tuple[str, ...]) -> Checkpoint:
    raise UnsupportedError(
        f"{found.folder} has {len(labels)} labels; a cross_encoder has one: use kind classifier"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedError(f"{path} is missing; name a folder with a Hugging Face checkpoint") from None
    except ValueError as error:
        raise UnsupportedError(f"{path} is not valid JSON: {error}") from None
    return dict(document)


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.is_file() else {}
