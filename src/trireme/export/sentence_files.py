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

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"
# The first that is there is read.
SETTINGS_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What each model_type is here; the two others give many vectors, or weights of words, for one text.
KINDS = {"SentenceTransformer": "text_encoder", "CrossEncoder": "cross_encoder"}
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
# Of Transformer's settings by what the model does: its task, its output and where the library finds that.
_TASKS = {
    "text_encoder": ("feature-extraction", "token_embeddings", "last_hidden_state"),
    "cross_encoder": ("sequence-classification", "scores", "logits"),
    "yes or no": ("text-generation", "causal_logits", "logits"),
}
# Keys of Transformer's settings that change nothing of the numbers: weights are read in float32.
_HARMLESS = {
    "dtype",
    "torch_dtype",
    "attn_implementation",
    "trust_remote_code",
    "use_safetensors",
    "use_cache",
}
_ARGUMENTS = {
    "model_args": "model",
    "model_kwargs": "model",
    "tokenizer_args": "tokenizer",
    "processor_kwargs": "tokenizer",
    "config_args": "config",
    "config_kwargs": "config",
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


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """What the files say. `kind` is "" for a checkpoint of transformers alone, which has no modules.json.

    answers: tokens whose logits a language model's score is made of, no and yes.
    is_static: words have one vector each, and a text their mean.
    max_length: in tokens, None where they say nothing. truncate: dimensions kept of a vector, 0 for all.
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
    has_answers = any(module["name"] == "LogitScore" for module in modules)
    found = {
        "transformer_dir": transformer_dir,
        "kind": kind,
        "max_length": _read_settings(settings_path, settings, "yes or no" if has_answers else kind),
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
        **_read_pipeline(path, modules),
        truncate=_read_count(folder / CONFIG_FILE, config, "truncate_dim") or 0,
        similarity=_read_similarity(folder / CONFIG_FILE, config),
        query_prompt=query,
        passage_prompt=passage,
    )


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
    known = ("Transformer", "Pooling", "LogitScore", *BEHIND_POOLING)
    other = next((module["name"] for module in modules if module["name"] not in known), None)
    if other is not None or modules[0]["name"] != "Transformer":
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
    similarity = config.get("similarity_fn_name")
    if model_type not in KINDS:
        raise refuse(path, "model_type", model_type, f"only {' and '.join(KINDS)} are served")
    if isinstance(similarity, str) and "maxsim" in similarity.lower():
        raise refuse(path, "similarity_fn_name", similarity, "a model of one vector per token is not served")
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
            f"{path} has no Pooling: such a model gives one vector per token (multi-vector), which is not served"
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
            dense.append(_read_dense(folders[number]))
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


def _read_dense(folder: Path) -> DenseLayer:
    path = folder / "config.json"
    config = read_json(path)
    _check_names(path)
    stated = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = str(stated).rpartition(".")[2]
    if not str(stated).startswith("torch.") or activation not in DENSE_ACTIVATIONS:
        raise refuse(
            path, "activation_function", stated, f"supported: {', '.join(DENSE_ACTIVATIONS)} of torch.nn"
        )
    variant = find_variant(folder)
    sizes = [_read_count(path, config, key) for key in ("in_features", "out_features")]
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


def _check_names(path: Path) -> None:
    """A module works on the text's vector, not on those of its tokens or on scores."""
    config = read_optional(path)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise refuse(path, key, config[key], "only sentence_embedding is supported")


def _read_settings(path: Path, settings: dict[str, Any], kind: str) -> int | None:
    """The length that Transformer's settings state; every other key is either known to be harmless or refused."""
    length = _read_count(path, settings, "max_seq_length")
    for key, value in settings.items():
        if key in _ARGUMENTS:
            own = _read_arguments(path, key, value or {})
            length = own if own is not None else length
        elif key not in ("max_seq_length", "do_lower_case", "unpad_inputs") and value:
            _check_setting(path, key, value, kind)
    for key in ("query_length", "document_length"):
        stated = _read_count(path, settings, key)
        if stated is not None and stated != length:
            raise refuse(path, key, stated, "queries and passages have one length; set max_seq_length")
    return length


def _check_setting(path: Path, key: str, value: Any, kind: str) -> None:
    if key in ("query_length", "document_length"):
        return
    if key == "modality_config":
        _check_modalities(path, key, value, kind)
        return
    task, output, _ = _TASKS[kind]
    wanted = {"transformer_task": task, "module_output_name": output}
    if key not in wanted:
        raise refuse(path, key, value, "this key is not supported; remove it if the model does without")
    if value != wanted[key]:
        raise refuse(path, key, value, f"a {kind} has {wanted[key]!r} there")


def _check_modalities(path: Path, key: str, value: Any, kind: str) -> None:
    """Texts are read, and, by a chat template, messages: `flat` ones, whose content is a text."""
    read = {"method": "forward", "method_output_name": _TASKS[kind][2]}
    known = {"text": (read,), "message": (read, {**read, "format": "flat"})}
    own = value if isinstance(value, dict) else {}
    names = ("text",) if kind == "text_encoder" else ("text", "message")
    if "text" not in own or any(name not in names or own[name] not in known[name] for name in own):
        raise refuse(path, key, value, f"a {kind} has {dict.fromkeys(names, read)!r} there")


def _read_arguments(path: Path, key: str, arguments: dict[str, Any]) -> int | None:
    """The length among the arguments that `key` passes on to transformers."""
    length = None
    for name, value in arguments.items():
        if _ARGUMENTS[key] == "tokenizer" and name == "model_max_length":
            length = _read_count(path, arguments, name)
        elif name not in _HARMLESS and value is not None:
            raise refuse(
                path, f"{key}.{name}", value, "this argument is not supported; put it into config.json"
            )
    return length


def _read_count(path: Path, config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise refuse(path, key, value, "this must be a whole number above 0")
    return int(value)
