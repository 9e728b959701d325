"""Writes config.pbtxt, Triton's model configuration, from a recipe. The tensor contracts live here.

Dims leave the batch dimension out where max_batch_size >= 1; decoupled models have max_batch_size 0 and no
batch dimension, as in Triton's vLLM backend. The format is protobuf text (message ModelConfig of Triton's
model_config.proto).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import DECOUPLED_KINDS, Recipe
from trireme.errors import SettingError

CONFIG_FILE = "config.pbtxt"
WARMUP_FOLDER = "warmup"
HEADER = "# Generated from recipe.toml by build/write_configs.py: edit the recipe, then run it again.\n"
BACKENDS = {"classifier": "cross_encoder"}
LINE_LENGTH = 100
ALWAYS_BLOCKS = ("ensemble_scheduling", "model_warmup", "step")

_WARMUP_TEXTS = {
    "text": ("A short sentence to warm up with.",),
    "query": ("What is a short sentence for?",),
    "passages": ("A short sentence to warm up with.", "Another one."),
}
# What a backend is told, by kind; the backends refuse any other parameter.
PARAMETERS = {
    "text_encoder": ("max_batch_tokens", "threads", "max_text_bytes", "default_input_type"),
    "cross_encoder": (
        "max_batch_tokens",
        "threads",
        "max_text_bytes",
        "max_passages",
        "rerank_depth",
        "embedder",
    ),
    "classifier": ("max_batch_tokens", "threads", "max_text_bytes"),
    "retriever": (
        "embedder",
        "default_top_k",
        "max_top_k",
        "candidates",
        "pool_size",
        "exact_below",
        "ef_search",
        "search_mode",
        "text_weight",
        "dense_candidates",
        "text_candidates",
    ),
    "sort": ("default_top_k", "max_top_k"),
    "ingester": ("max_documents", "max_text_bytes"),
    "generator": (
        "engine",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_waiting",
        "prefix_caching",
        "kv_cache_gb",
        "gpu_memory_utilization",
        "threads",
        "default_max_tokens",
        "chat_text_input",
        "max_text_bytes",
    ),
    "rag": (
        "steps",
        "default_top_k",
        "max_top_k",
        "context_passages",
        "extractive_threshold",
        "relevance_threshold",
        "default_max_tokens",
    ),
}
_ENGINES = {"cpu": "openvino", "gpu": "vllm"}

Message = dict[str, Any]


class Name(str):
    """An enum value of the protobuf text format: written without quotes."""

    __slots__ = ()


STRING, FP32, INT32 = Name("TYPE_STRING"), Name("TYPE_FP32"), Name("TYPE_INT32")
UINT32, BOOL = Name("TYPE_UINT32"), Name("TYPE_BOOL")


def write_config(recipe: Recipe) -> str:
    """The text of config.pbtxt: the same recipe gives the same text. Raises SettingError."""
    inputs, outputs = _TENSORS[recipe.kind]
    config: Message = {"name": recipe.model}
    if recipe.kind == "search":
        config["platform"] = "ensemble"
    else:
        config["backend"] = BACKENDS.get(recipe.kind, recipe.kind)
    is_decoupled = recipe.kind in DECOUPLED_KINDS
    config["max_batch_size"] = 0 if is_decoupled else recipe.max_batch_size
    if is_decoupled:
        config["model_transaction_policy"] = {"decoupled": True}
    config["input"] = list(inputs)
    config["output"] = list(outputs)
    if recipe.kind == "search":
        config["ensemble_scheduling"] = {"step": _search_steps(recipe)}
        return HEADER + _render(config)
    config |= _serving(recipe)
    return HEADER + _render(config)


def warmup_files(recipe: Recipe) -> dict[str, bytes]:
    """Content of the files below warmup/ that the config names: texts as Triton serializes strings."""
    return {name: _serialize(_WARMUP_TEXTS[name]) for name in _warmup_inputs(recipe)}


def place_config(model_dir: Path, recipe: Recipe) -> None:
    """Writes config.pbtxt and the warm-up files into `model_dir`, which must exist."""
    for name, content in config_files(recipe).items():
        path = model_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def config_files(recipe: Recipe) -> dict[str, bytes]:
    """Every generated file of a model folder, by its path below the folder."""
    warmup = {f"{WARMUP_FOLDER}/{name}": content for name, content in warmup_files(recipe).items()}
    return {CONFIG_FILE: write_config(recipe).encode(), **warmup}


def _tensor(
    name: str, data_type: Name, size: int, *, optional: bool = False, ragged: bool = False
) -> Message:
    tensor: Message = {"name": name, "data_type": data_type, "dims": [size]}
    if optional:
        tensor["optional"] = True
    if ragged:
        tensor["allow_ragged_batch"] = True
    return tensor


_SCOPE = (
    _tensor("top_k", INT32, 1, optional=True),
    _tensor("collection", STRING, 1, optional=True),
    _tensor("tenant", STRING, 1, optional=True),
)
_FOUND_BY = (
    _tensor("filter", STRING, 1, optional=True),
    _tensor("search_mode", STRING, 1, optional=True),
)
_HITS = (
    _tensor("id", STRING, -1),
    _tensor("text", STRING, -1),
    _tensor("metadata", STRING, -1),
    _tensor("score", FP32, -1),
)
_STREAMED = (
    _tensor("stream", BOOL, 1, optional=True),
    _tensor("sampling_parameters", STRING, 1, optional=True),
)
_TENSORS: dict[str, tuple[tuple[Message, ...], tuple[Message, ...]]] = {
    "text_encoder": (
        (
            _tensor("text", STRING, 1),
            _tensor("input_type", STRING, 1, optional=True),
            _tensor("dimensions", INT32, 1, optional=True),
        ),
        (
            _tensor("embedding", FP32, -1),
            _tensor("token_count", INT32, 1),
            _tensor("truncated_tokens", INT32, 1),
        ),
    ),
    "cross_encoder": (
        (
            _tensor("query", STRING, 1),
            _tensor("passages", STRING, -1, ragged=True),
            _tensor("prior", FP32, -1, optional=True, ragged=True),
            _tensor("rank_score", FP32, -1, optional=True, ragged=True),
        ),
        (_tensor("score", FP32, -1), _tensor("truncated_tokens", INT32, -1)),
    ),
    "classifier": (
        (_tensor("text", STRING, 1),),
        (_tensor("label", STRING, -1), _tensor("score", FP32, -1)),
    ),
    "retriever": (
        (_tensor("embedding", FP32, -1), _tensor("query", STRING, 1), *_SCOPE, *_FOUND_BY),
        (*_HITS, _tensor("rank_score", FP32, -1)),
    ),
    "sort": ((*_HITS, _SCOPE[0]), _HITS),
    "search": ((_tensor("query", STRING, 1), *_SCOPE, *_FOUND_BY), _HITS),
    "ingester": (
        (
            # Not `id`: the generate endpoint keeps that name for itself.
            _tensor("document_id", STRING, -1, optional=True),
            _tensor("text", STRING, -1, optional=True),
            _tensor("title", STRING, -1, optional=True),
            _tensor("metadata", STRING, -1, optional=True),
            _tensor("job_id", STRING, -1, optional=True),
            _tensor("collection", STRING, 1, optional=True),
            _tensor("tenant", STRING, 1, optional=True),
        ),
        (_tensor("job_id", STRING, -1), _tensor("state", STRING, -1), _tensor("error", STRING, -1)),
    ),
    "generator": (
        (
            _tensor("text_input", STRING, 1, optional=True),
            _tensor("messages", STRING, 1, optional=True),
            _tensor("tools", STRING, 1, optional=True),
            *_STREAMED,
            _tensor("exclude_input_in_output", BOOL, 1, optional=True),
            _tensor("return_finish_reason", BOOL, 1, optional=True),
            _tensor("return_num_input_tokens", BOOL, 1, optional=True),
            _tensor("return_num_output_tokens", BOOL, 1, optional=True),
            _tensor("tenant", STRING, 1, optional=True),
        ),
        (
            _tensor("text_output", STRING, -1),
            _tensor("finish_reason", STRING, -1),
            _tensor("num_input_tokens", UINT32, -1),
            _tensor("num_output_tokens", UINT32, -1),
        ),
    ),
    "rag": (
        (
            _tensor("text_input", STRING, 1),
            *_STREAMED,
            *_SCOPE,
            _tensor("answer_mode", STRING, 1, optional=True),
        ),
        (
            _tensor("text_output", STRING, -1),
            _tensor("citations", STRING, -1),
            _tensor("usage", STRING, -1),
            _tensor("finish_reason", STRING, -1),
        ),
    ),
}


def _serving(recipe: Recipe) -> Message:
    part: Message = {}
    if recipe.dynamic_batching:
        part["dynamic_batching"] = {
            # A request with one row goes alone: what Triton's Python backend cannot read fails its whole batch. Our
            # row queue puts together what runs together.
            "preferred_batch_size": [1],
            "max_queue_delay_microseconds": recipe.max_queue_delay_us,
        }
        if recipe.kind == "text_encoder":
            # Bulk requests say priority 2 and wait behind all others.
            part["dynamic_batching"] |= {"priority_levels": 2, "default_priority_level": 1}
    kind = Name("KIND_GPU" if recipe.target == "gpu" else "KIND_CPU")
    part["instance_group"] = [{"kind": kind, "count": recipe.instances}]
    if recipe.response_cache:
        part["response_cache"] = {"enable": True}
    if _warmup_inputs(recipe):
        part["model_warmup"] = [_warmup(recipe)]
    part["parameters"] = [
        {"key": name, "value": {"string_value": _parameter(recipe, name)}} for name in PARAMETERS[recipe.kind]
    ]
    return part


def _parameter(recipe: Recipe, name: str) -> str:
    value = getattr(recipe, name)
    if name == "engine":
        return str(value or _ENGINES[recipe.target])
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _warmup_inputs(recipe: Recipe) -> tuple[str, ...]:
    if not recipe.warmup:
        return ()
    return ("query", "passages") if recipe.kind == "cross_encoder" else ("text",)


def _warmup(recipe: Recipe) -> Message:
    # Files, not zero_data: zeroed strings are empty texts, which the encoders refuse.
    inputs = [
        {
            "key": name,
            "value": {"data_type": STRING, "dims": [len(_WARMUP_TEXTS[name])], "input_data_file": name},
        }
        for name in _warmup_inputs(recipe)
    ]
    return {"name": "one_request", "batch_size": 1, "inputs": inputs}


def _serialize(texts: tuple[str, ...]) -> bytes:
    parts = [text.encode() for text in texts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def _search_steps(recipe: Recipe) -> list[Message]:
    """Steps by position: embed, retrieve, rerank unless left out, then order best first."""
    encoder, retriever, *reranker, sort = recipe.steps
    if len(reranker) > 1:
        raise SettingError("steps must name 3 or 4 models: encoder, retriever[, reranker], sort")
    scope = {tensor["name"]: tensor["name"] for tensor in (*_SCOPE, *_FOUND_BY)}
    found = {name: f"found_{name}" for name in ("id", "text", "metadata", "score", "rank_score")}
    steps = [
        _step(encoder, {"text": "query"}, {"embedding": "query_embedding"}),
        _step(retriever, {"embedding": "query_embedding", "query": "query", **scope}, found),
    ]
    hits = {name: found[name] for name in ("id", "text", "metadata")}
    # Without a reranker the retriever's own order stays, which need not be that of its scores.
    score = found["rank_score"]
    if reranker:
        inputs = {"query": "query", "passages": "found_text", "prior": "found_score", "rank_score": score}
        score = "reranked_score"
        steps.append(_step(reranker[0], inputs, {"score": score}))
    else:
        del found["score"]
    order = {**hits, "score": score, "top_k": "top_k"}
    steps.append(_step(sort, order, {name: name for name in (*hits, "score")}))
    return steps


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> Message:
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": [{"key": key, "value": value} for key, value in inputs.items()],
        "output_map": [{"key": key, "value": value} for key, value in outputs.items()],
    }


def _render(message: Message, indent: str = "") -> str:
    return "".join(_field(key, item, indent) for key, item in _pairs(message))


def _pairs(message: Message) -> list[tuple[str, Any]]:
    """Fields in order; a list of messages is a repeated field."""
    pairs: list[tuple[str, Any]] = []
    for key, value in message.items():
        repeated = isinstance(value, list) and value and isinstance(value[0], dict)
        pairs += [(key, item) for item in (value if repeated else [value])]
    return pairs


def _field(key: str, value: Any, indent: str) -> str:
    """One field on one line when it fits, else as an indented block."""
    line = f"{indent}{_inline(key, value)}\n"
    if not isinstance(value, dict) or (len(line) <= LINE_LENGTH and key not in ALWAYS_BLOCKS):
        return line
    return f"{indent}{key} {{\n{_render(value, indent + '  ')}{indent}}}\n"


def _inline(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{key} {{ {' '.join(_inline(inner, item) for inner, item in _pairs(value))} }}"
    return f"{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[ {', '.join(_scalar(item) for item in value)} ]"
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)
