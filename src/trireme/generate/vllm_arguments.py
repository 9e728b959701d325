"""Our options and sampling in vLLM's terms (version 0.24)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trireme.generate.engine import EngineOptions, Sampling, StructuredOutput
from trireme.generate.model_files import ADAPTERS_FOLDER
from trireme.vllm_environment import show_device

# What vLLM takes for max_lora_rank.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
MOST_AT_ONCE = 8

_log = logging.getLogger(__name__)


def visible_devices(options: EngineOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """Shows vLLM the card of `device_id` alone, unless it takes several."""
    return show_device(None if options.tensor_parallel_size > 1 else options.device_id, environ)


def engine_arguments(options: EngineOptions) -> dict[str, Any]:
    """What AsyncEngineArgs is made of; the rest, quantization included, is as the checkpoint says."""
    return {
        "model": str(options.model_dir),
        # No pickled weights, no code of the checkpoint's own. Text is made and read above the engine: vLLM's
        # tokenizer is for structured output alone.
        "load_format": "safetensors",
        "trust_remote_code": False,
        "skip_tokenizer_init": not _has_tokenizer(options.model_dir),
        "generation_config": "vllm",
        # Of a model that also sees or hears, the text model: its other parts would want memory and files of theirs.
        "language_model_only": True,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "max_num_batched_tokens": max(options.max_num_batched_tokens, options.max_num_seqs),
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "tensor_parallel_size": options.tensor_parallel_size,
        "enable_prefix_caching": options.prefix_caching,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **_lora_arguments(options),
    }


def _lora_arguments(options: EngineOptions) -> dict[str, Any]:
    """None for a model without adapters: with LoRAs enabled every step costs more."""
    if not options.adapters:
        return {}
    return {
        "enable_lora": True,
        # Of one step; each takes room on the card for a LoRA of the largest rank in every layer.
        "max_loras": min(len(options.adapters), MOST_AT_ONCE),
        "max_cpu_loras": len(options.adapters),
        "max_lora_rank": next(rank for rank in RANKS if rank >= options.adapter_rank),
    }


def lora_request(name: str, options: EngineOptions) -> Any:
    """vLLM's LoRARequest of an adapter, None for "". Ids are places in the list: the same after each start."""
    if not name:
        return None
    from vllm.lora.request import LoRARequest

    folder = options.model_dir / ADAPTERS_FOLDER / name
    return LoRARequest(name, options.adapters.index(name) + 1, str(folder.absolute()))


def _has_tokenizer(folder: Path) -> bool:
    """Whether vLLM can read the tokenizer, without which it serves all but structured output."""
    from vllm.tokenizers import get_tokenizer

    try:
        get_tokenizer(str(folder), trust_remote_code=False)
    except Exception:
        _log.warning(
            "vLLM cannot read the tokenizer of %s: answers cannot be structured", folder, exc_info=True
        )
        return False
    return True


def _structured(form: StructuredOutput | None) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    return None if form is None else StructuredOutputsParams(**{form.kind: form.text})


def sampling_parameters(sampling: Sampling, eos_token_ids: tuple[int, ...]) -> Any:
    """vLLM's SamplingParams. eos_token_ids: what ends an answer unless it ignores them."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    # End tokens are the recipe's alone: vLLM's own reading of the checkpoint is switched off.
    stops = sampling.stop_token_ids if sampling.ignore_eos else (*sampling.stop_token_ids, *eos_token_ids)
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        seed=sampling.seed,
        stop_token_ids=list(stops),
        ignore_eos=True,
        # Of the model's own distribution: its logprobs_mode is raw_logprobs unless a start says otherwise.
        logprobs=sampling.logprobs,
        structured_outputs=_structured(sampling.structured),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
