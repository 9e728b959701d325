"""Reads the files of sentence-transformers: which modules a model has, its prompts, lengths and similarity.

modules.json lists the modules, config_sentence_transformers.json says what the whole is, and each module has a
config.json of its own; that of Transformer is sentence_bert_config.json. What is not read is refused by its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import POOLINGS
from trireme.checkpoints.config import (
    WEIGHTS_FILE,
    find_variant,
    read_json,
    read_list,
    read_optional,
    refuse,
)
from trireme.errors import UnsupportedError
from trireme.export.transformer_settings import read_count, read_settings

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"
# The first that is there is read.
SETTINGS_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What each model_type is here; ColBERT is PyLate's.
KINDS = {
    "SentenceTransformer": "text_encoder",
    "CrossEncoder": "cross_encoder",
    "SparseEncoder": "text_encoder",
    "MultiVectorEncoder": "text_encoder",
    "ColBERT": "text_encoder",
}
# Those without one vector of a text.
_TOKENWISE = ("SparseEncoder", "MultiVectorEncoder", "ColBERT")
_TOKEN_MODULES = ("MLMTransformer", "SpladePooling", "MultiVectorMask")
# Of Transformer's settings, those of a model of one vector per token.
_TOKEN_SETTINGS = ("query_length", "document_length", "query_expansion")
# Another name of a module that is sentence-transformers' own.
_ALIASES = {"pylate.models.Dense.Dense": "sentence_transformers.base.modules.dense.Dense"}
STATIC = "StaticEmbedding"
BEHIND_POOLING = ("Dense", "Dropout", "Normalize")
DENSE_ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "Sigmoid", "SiLU")
# How a model's vectors are meant to be compared, as sentence-transformers names it.
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
PASSAGE_PROMPTS = ("document", "passage", "corpus")

# In the order of sentence-transformers, which takes mean where all are false.
_OLD_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A Dense module: a linear layer, an activation of DENSE_ACTIVATIONS, and perhaps its input added."""

    weights: Path
    in_features: int
    out_features: int
    has_bias: bool
    activation: str
    is_residual: bool = False
    # Of its tensors in a file that is not sentence-transformers'; None in one that is.
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """What the files say. `kind` is "" for a checkpoint of transformers alone, which has no modules.json.

    answers: tokens whose logits a language model's score is made of, no and yes.
    is_static: words have one vector each, and a text their mean.
    max_length: in tokens, None where they say nothing. truncate: dimensions kept of a vector, 0 for all.
    modules: names and folders. is_tokenwise: there is no vector of a text, see token_files; token_settings: keys of
    Transformer's for that.
    """

    transformer_dir: Path
    kind: str = ""
    max_length: int | None = None
    lowercase: bool = False
    pooling: str = ""
    pools_prompt: bool = True
    normalize: bool = False
    dense: tuple[DenseLayer, ...] = ()
    truncate: int = 0
    # Of SIMILARITIES; "" where they say none, which is cosine.
    similarity: str = ""
    query_prompt: str = ""
    passage_prompt: str = ""
    answers: tuple[int, ...] = ()
    is_static: bool = False
    modules: tuple[tuple[str, Path], ...] = ()
    is_tokenwise: bool = False
    token_settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def read_sentence_files(folder: Path) -> SentenceFiles:
    """What sentence-transformers wrote into `folder`. Raises UnsupportedError naming file and key."""
    path = folder / MODULES_FILE
    config = read_optional(folder / CONFIG_FILE)
    if not path.is_file():
        if config:
            raise UnsupportedError(f"{folder / CONFIG_FILE} stands without {MODULES_FILE}: copy it too")
        return SentenceFiles(folder)
    modules = _read_modules(path)
    kind = _read_kind(folder / CONFIG_FILE, config)
    transformer_dir = folder / modules[0]["path"]
    settings_path = next(
        (transformer_dir / name for name in SETTINGS_FILES if read_optional(transformer_dir / name)),
        transformer_dir / SETTINGS_FILES[0],
    )
    settings = read_optional(settings_path)
    names = [module["name"] for module in modules]
    is_tokenwise = _is_tokenwise(config, names)
    token_settings: dict[str, Any] = {}
    if is_tokenwise:
        token_settings = {key: settings.pop(key) for key in _TOKEN_SETTINGS if key in settings}
    task = (
        "yes or no"
        if "LogitScore" in names
        else "sparse encoder"
        if "SpladePooling" in names and "transformer_task" in settings
        else kind
    )
    found: dict[str, Any] = {
        "transformer_dir": transformer_dir,
        "kind": kind,
        "modules": tuple((module["name"], folder / module["path"]) for module in modules),
        "is_tokenwise": is_tokenwise,
        "token_settings": token_settings,
        "max_length": read_settings(settings_path, settings, task),
        "lowercase": bool(settings.get("do_lower_case")),
        "is_static": modules[0]["name"] == STATIC,
        "config": config,
    }
    if kind == "cross_encoder":
        answers = _check_cross_encoder(path, modules)
        prompt = _default_prompt(folder / CONFIG_FILE, config)
        return SentenceFiles(**found, answers=answers, query_prompt=prompt)
    query, passage = read_prompts(folder / CONFIG_FILE, config)
    return SentenceFiles(
        **found,
        **({} if is_tokenwise else _read_pipeline(path, modules)),
        truncate=read_count(folder / CONFIG_FILE, config, "truncate_dim") or 0,
        similarity="" if is_tokenwise else _read_similarity(folder / CONFIG_FILE, config),
        query_prompt=query,
        passage_prompt=passage,
    )


def _is_tokenwise(config: dict[str, Any], names: list[str]) -> bool:
    """Whether there is no vector of a text. PyLate's first files say so by what is missing alone."""
    stated = config.get("model_type")
    is_old = stated is None and "Pooling" not in names and names[0] in ("Transformer", "MLMTransformer")
    return stated in _TOKENWISE or (is_old and any(name in ("Dense", *_TOKEN_MODULES) for name in names[1:]))


def read_prompts(path: Path, config: dict[str, Any]) -> tuple[str, str]:
    """The prompts of queries and of passages, by the rules of encode_query and encode_document.

    An empty prompt is a prompt. Where neither has one by name, both get the default prompt, as with encode.
    """
    stated = config.get("prompts", {})
    if not isinstance(stated, dict):
        raise refuse(path, "prompts", stated, "this maps names to texts")
    for name, text in stated.items():
        if not isinstance(text, str | None):
            raise refuse(path, f"prompts.{name}", text, "a prompt is a text")
    prompts = {name: text or "" for name, text in stated.items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in {*prompts, "query", "document"}:
        raise refuse(path, "default_prompt_name", default, f"prompts has only {', '.join(prompts) or 'none'}")
    passage = next((name for name in PASSAGE_PROMPTS if name in prompts), None)
    if "query" not in prompts and passage is None:
        both = prompts.get(default or "", "")
        return both, both
    return prompts.get("query", ""), prompts.get(passage or "", "")


def _read_modules(path: Path) -> list[dict[str, Any]]:
    modules = read_list(path)
    for module in modules:
        kind, place = module.get("type"), module.get("path")
        if not isinstance(kind, str) or not isinstance(place, str):
            raise UnsupportedError(f"{path}: a module lacks its type or path")
        if not (path.parent / place).resolve().is_relative_to(path.parent.resolve()):
            raise UnsupportedError(f"{path} names a module outside its folder: {place!r}")
        kind = _ALIASES.get(kind, kind)
        if not kind.startswith("sentence_transformers."):
            raise refuse(
                path,
                "type",
                kind,
                "a module outside of sentence_transformers brings code, which is never run",
            )
        module["name"] = kind.rpartition(".")[2]
    if modules[0]["name"] == STATIC:
        _check_static(path, modules)
        return modules
    known = ("Transformer", "Pooling", "LogitScore", *BEHIND_POOLING, *_TOKEN_MODULES)
    other = next((module["name"] for module in modules if module["name"] not in known), None)
    if other is not None or modules[0]["name"] not in ("Transformer", "MLMTransformer"):
        raise UnsupportedError(
            f"{path} has a module {other or modules[0]['name']!r}; supported: Transformer first, then"
            f" Pooling, then {', '.join(BEHIND_POOLING)}"
        )
    return modules


def _check_static(path: Path, modules: list[dict[str, Any]]) -> None:
    """A table of words' vectors, whose mean is the text's, and what may stand behind a Pooling."""
    other = next((module["name"] for module in modules[1:] if module["name"] not in BEHIND_POOLING), None)
    if other is not None:
        raise UnsupportedError(
            f"{path} has a module {other!r}; supported behind {STATIC}: {', '.join(BEHIND_POOLING)}"
        )


def _read_kind(path: Path, config: dict[str, Any]) -> str:
    model_type = config.get("model_type", "SentenceTransformer")
    if model_type not in KINDS:
        raise refuse(path, "model_type", model_type, f"only {', '.join(KINDS)} are served")
    return KINDS[model_type]


def _read_similarity(path: Path, config: dict[str, Any]) -> str:
    similarity = config.get("similarity_fn_name") or ""
    if similarity and similarity not in SIMILARITIES:
        raise refuse(path, "similarity_fn_name", similarity, f"this is one of {', '.join(SIMILARITIES)}")
    return str(similarity)


def _check_cross_encoder(path: Path, modules: list[dict[str, Any]]) -> tuple[int, ...]:
    """The tokens of no and yes, or of yes alone, whose logits LogitScore compares; () for a head of its own."""
    if len(modules) == 1:
        return ()
    if len(modules) > 2 or modules[1]["name"] != "LogitScore":
        raise UnsupportedError(
            f"{path} has a module {modules[-1]['name']!r} behind Transformer; a CrossEncoder with a head of"
            " ForSequenceClassification alone, or with LogitScore, is supported"
        )
    place = path.parent / modules[1]["path"] / "config.json"
    config = read_json(place)
    name = config.get("module_input_name", "causal_logits")
    if name != "causal_logits":
        raise refuse(place, "module_input_name", name, "only causal_logits is supported")
    tokens = [config.get(key) for key in ("false_token_id", "true_token_id")]
    if not isinstance(tokens[1], int) or tokens[0] == tokens[1]:
        raise refuse(
            place, "true_token_id", tokens[1], "this is the id of a token other than false_token_id's"
        )
    return tuple(int(token) for token in tokens if token is not None)


def _default_prompt(path: Path, config: dict[str, Any]) -> str:
    """What a CrossEncoder puts before every pair, or into its chat template as the system's message."""
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise refuse(path, "prompts", prompts, "this maps names to texts")
    return str(prompts.get(config.get("default_prompt_name") or "") or "")


def _read_pipeline(path: Path, modules: list[dict[str, Any]]) -> dict[str, Any]:
    """Pooling, and what is behind it: Dense layers in their order, then perhaps Normalize."""
    names = [module["name"] for module in modules if module["name"] != "Dropout"]
    if names[0] == STATIC:
        names.insert(1, "Pooling")
    folders = {number: path.parent / module["path"] for number, module in enumerate(modules)}
    if "Pooling" not in names:
        raise UnsupportedError(
            f"{path} has no Pooling, which makes a vector of a text, nor the modules of a ColBERT or a SPLADE"
        )
    if names.count("Pooling") > 1 or names[1] != "Pooling" or {"Transformer", "LogitScore"} & {*names[1:]}:
        raise UnsupportedError(f"{path}: Pooling must come once, behind one Transformer")
    if "Normalize" in names[:-1]:
        raise UnsupportedError(f"{path}: Normalize must be the last module")
    pooling, pools_prompt, dense = "mean" if names[0] == STATIC else "", True, []
    for number, module in enumerate(modules):
        if module["name"] == "Pooling":
            pooling, pools_prompt = _read_pooling(folders[number] / "config.json")
        elif module["name"] == "Dense":
            dense.append(read_dense(folders[number], "sentence_embedding"))
        elif module["name"] == "Normalize":
            _check_names(folders[number] / "config.json")
    is_normal = names[-1] == "Normalize"
    return {"pooling": pooling, "pools_prompt": pools_prompt, "dense": tuple(dense), "normalize": is_normal}


def _read_pooling(path: Path) -> tuple[str, bool]:
    """The one pooling mode, and whether a prompt's tokens are pooled. Old keys are booleans, one for each mode."""
    config = read_json(path)
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    if not modes:
        chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        modes = [_OLD_POOLING_KEYS.get(key, key) for key in chosen] or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UnsupportedError(
            f"{path}: pooling {' + '.join(map(str, modes))!r} is not supported; one of {', '.join(POOLINGS)} is"
        )
    return modes[0], config.get("include_prompt", True) is not False


def read_dense(folder: Path, works_on: str) -> DenseLayer:
    """The Dense module in `folder`, which works on the output of that name. Raises UnsupportedError."""
    path = folder / "config.json"
    config = read_json(path)
    _check_names(path, works_on)
    stated = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = str(stated).rpartition(".")[2]
    if not str(stated).startswith("torch.") or activation not in DENSE_ACTIVATIONS:
        raise refuse(
            path, "activation_function", stated, f"supported: {', '.join(DENSE_ACTIVATIONS)} of torch.nn"
        )
    variant = find_variant(folder)
    sizes = [read_count(path, config, key) for key in ("in_features", "out_features")]
    if None in sizes:
        raise UnsupportedError(f"{path} lacks in_features or out_features")
    return DenseLayer(
        folder / (f"model.{variant}.safetensors" if variant else WEIGHTS_FILE),
        int(sizes[0] or 0),
        int(sizes[1] or 0),
        bool(config.get("bias", True)),
        activation,
        bool(config.get("use_residual", False)),
    )


def _check_names(path: Path, works_on: str = "sentence_embedding") -> None:
    """A module works on the text's vector, or on those of its tokens, where that is what is served."""
    config = read_optional(path)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, works_on):
            raise refuse(path, key, config[key], f"only {works_on} is supported")
