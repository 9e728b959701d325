"""Writes config.pbtxt, Triton's model configuration, from a recipe.

Dims leave the batch dimension out where max_batch_size >= 1; decoupled models have max_batch_size 0 and no
batch dimension, as in Triton's vLLM backend. The format is protobuf text: message ModelConfig of Triton's
model_config.proto, whose fields the dictionaries here name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.artifacts.contracts import ADAPTERS, ENCODER_OUTPUTS, RERANK_DEPTH, SEARCH_SCOPE, Tensor
from trireme.artifacts.kinds import KINDS
from trireme.artifacts.recipe import Recipe, parameter_keys

PBTXT_FILE = "config.pbtxt"
WARMUP_FOLDER = "warmup"
HEADER = "# Generated from recipe.toml by build/write_configs.py: edit the recipe, then run it again.\n"

_WARMUP_TEXTS = {
    "text": ("A short sentence to warm up with.",),
    "query": ("What is a short sentence for?",),
    "passages": ("A short sentence to warm up with.", "Another one."),
}
# What a backend is told, by kind; the backends refuse any other parameter.
PARAMETERS = {name: parameter_keys(kind) for name, kind in KINDS.items() if not kind.is_ensemble}
# Of encoders engine vllm alone is told it.
GPU_MEMORY = "gpu_memory_utilization"
_LLM_ENGINES = {"cpu": "openvino", "gpu": "vllm"}

Message = dict[str, Any]


def write_config(recipe: Recipe) -> str:
    """The text of config.pbtxt: the same recipe gives the same text."""
    kind = recipe.traits
    config: Message = {"name": recipe.model}
    if kind.is_ensemble:
        config["platform"] = "ensemble"
    else:
        config["backend"] = kind.backend
    config["max_batch_size"] = 0 if kind.is_decoupled else recipe.max_batch_size
    if kind.is_decoupled:
        config["model_transaction_policy"] = {"decoupled": True}
    config["input"] = [_tensor(tensor) for tensor in kind.contract.inputs if _is_taken(tensor, recipe)]
    config["output"] = [_tensor(tensor) for tensor in kind.contract.outputs if _is_given(tensor, recipe)]
    if kind.is_ensemble:
        config["ensemble_scheduling"] = {"step": _search_steps(recipe)}
    else:
        config |= _serving(recipe)
    return HEADER + render(config)


def render(config: Message) -> str:
    """A ModelConfig as protobuf text. Raises google.protobuf.json_format.ParseError naming an unknown field."""
    from google.protobuf.json_format import ParseDict
    from google.protobuf.text_format import MessageToString
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    text: str = MessageToString(ParseDict(config, ModelConfig()), use_short_repeated_primitives=True)
    return text


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
    return {PBTXT_FILE: write_config(recipe).encode(), **warmup}


def _is_taken(tensor: Tensor, recipe: Recipe) -> bool:
    """Whether a step takes it: Triton loads no ensemble with an input that none does."""
    if recipe.kind == "retriever" and not _is_named(tensor, recipe):
        return False
    return tensor.name != RERANK_DEPTH or not recipe.traits.is_ensemble or _has_reranker(recipe)


def _is_given(tensor: Tensor, recipe: Recipe) -> bool:
    """Whether the model makes it: of an encoder's outputs those that its recipe names."""
    return not recipe.traits.makes_vectors or _is_named(tensor, recipe)


def _is_named(tensor: Tensor, recipe: Recipe) -> bool:
    """Whether it is none of an encoder's outputs, or one that the recipe names."""
    return all(
        tensor.name not in {one.name for one in tensors}
        for name, tensors in ENCODER_OUTPUTS.items()
        if name not in recipe.encoder_outputs
    )


def _has_reranker(recipe: Recipe) -> bool:
    return len(recipe.steps) > len(("encoder", "retriever", "sort"))


def _tensor(tensor: Tensor) -> Message:
    field: Message = {"name": tensor.name, "data_type": f"TYPE_{tensor.data_type}", "dims": [*tensor.sizes]}
    if tensor.is_optional:
        field["optional"] = True
    if tensor.is_ragged:
        field["allow_ragged_batch"] = True
    return field


def _serving(recipe: Recipe) -> Message:
    part: Message = {}
    if recipe.dynamic_batching:
        part["dynamic_batching"] = {
            # A request with one row goes alone: what Triton's Python backend cannot read fails its whole batch. Our
            # row queue puts together what runs together.
            "preferred_batch_size": [1],
            "max_queue_delay_microseconds": recipe.max_queue_delay_us,
        }
        if recipe.traits.makes_vectors:
            part["dynamic_batching"] |= {
                # Bulk requests say priority 2 and wait behind all others.
                "priority_levels": 2,
                "default_priority_level": 1,
                # With priorities and no delay at all the batcher of Triton 2.51 sleeps for half a second while
                # requests wait: 300 single ones at once took 33 s, and 1 s with a microsecond.
                "max_queue_delay_microseconds": max(1, recipe.max_queue_delay_us),
            }
    # KIND_GPU makes an instance for each card; one that takes several chooses them itself.
    kind = "KIND_MODEL" if recipe.tensor_parallel_size > 1 else f"KIND_{recipe.target.upper()}"
    part["instance_group"] = [{"kind": kind, "count": recipe.instances or 1}]
    if recipe.response_cache:
        part["response_cache"] = {"enable": True}
    if _warmup_inputs(recipe):
        part["model_warmup"] = [_warmup(recipe)]
    part["parameters"] = {
        name: {"string_value": _parameter(recipe, name)}
        for name in parameter_keys(recipe.traits)
        if _is_said(name, recipe)
    }
    return part


def _is_said(name: str, recipe: Recipe) -> bool:
    """Of a model that makes no use of them not: its configuration stays as it was before there were any."""
    if name == ADAPTERS:
        return bool(recipe.adapters)
    return name != GPU_MEMORY or recipe.engine == "vllm" or recipe.traits.is_generator


def _parameter(recipe: Recipe, name: str) -> str:
    value = getattr(recipe, name)
    if name == "engine":
        return str(value or _LLM_ENGINES[recipe.target])
    if name == ADAPTERS:
        # Their folders are the build's.
        return ",".join(recipe.adapter_folders)
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _warmup_inputs(recipe: Recipe) -> tuple[str, ...]:
    return recipe.traits.warmup_inputs if recipe.warmup else ()


def _warmup(recipe: Recipe) -> Message:
    # Files, not zero_data: zeroed strings are empty texts, which the encoders refuse.
    inputs = {
        name: {"data_type": "TYPE_STRING", "dims": [len(_WARMUP_TEXTS[name])], "input_data_file": name}
        for name in _warmup_inputs(recipe)
    }
    return {"name": "one_request", "batch_size": 1, "inputs": inputs}


def _serialize(texts: tuple[str, ...]) -> bytes:
    parts = [text.encode() for text in texts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def _search_steps(recipe: Recipe) -> list[Message]:
    """Steps by position: embed, retrieve, rerank unless left out, then order best first."""
    encoder, retriever, *reranker, sort = recipe.steps
    scope = {tensor.name: tensor.name for tensor in SEARCH_SCOPE}
    found = {name: f"found_{name}" for name in ("id", "text", "metadata", "rank_score", "prior")}
    made = {
        tensor.name: f"query_{tensor.name}"
        for name in recipe.encoder_outputs
        for tensor in ENCODER_OUTPUTS[name]
    }
    steps = [
        _step(encoder, {"text": "query"}, made),
        _step(retriever, {**made, "query": "query", **scope}, found),
    ]
    hits = {name: found[name] for name in ("id", "text", "metadata")}
    # Without a reranker the retriever's own order stays, which need not be that of its scores.
    score = found["rank_score"]
    if reranker:
        inputs = {"query": "query", "passages": "found_text", "prior": found["prior"], "rank_score": score}
        inputs[RERANK_DEPTH] = RERANK_DEPTH
        score = "reranked_score"
        steps.append(_step(reranker[0], inputs, {"score": score}))
    else:
        del found["prior"]
    order = {**hits, "score": score, "top_k": "top_k"}
    steps.append(_step(sort, order, {name: name for name in (*hits, "score")}))
    return steps


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> Message:
    return {"model_name": model, "model_version": -1, "input_map": inputs, "output_map": outputs}
