"""The generator backend as a run on the GPU machine needs it.

Weights that a checkpoint lacks are made up by vLLM (load_format dummy). GENERATOR_KV_GIB fixes the size of the KV
cache, so that several engines can be started on one GPU at the same time: vLLM otherwise measures how much memory
is free and fails when another process changes it meanwhile.
"""

import os
from typing import Any

import trireme.generate.vllm as engine
from trireme.artifacts.recipe import read_recipe
from trireme.generate.engine import EngineOptions
from trireme.triton.backends.generator import GeneratorModel as TritonPythonModel

__all__ = ["TritonPythonModel"]

_arguments = engine._engine_arguments


def _changed_arguments(options: EngineOptions) -> dict[str, Any]:
    arguments = _arguments(options)
    weights = options.model_dir / "model.safetensors"
    if weights.exists() and weights.stat().st_size == 0:
        # The placeholder is no safetensors file: vLLM reads the checkpoint where it came from.
        arguments["load_format"] = "dummy"
        arguments["model"] = read_recipe(options.model_dir.parent / "recipe.toml").source
    if size := os.environ.get("GENERATOR_KV_GIB"):
        arguments["kv_cache_memory_bytes"] = int(float(size) * 2**30)
    return arguments


engine._engine_arguments = _changed_arguments
