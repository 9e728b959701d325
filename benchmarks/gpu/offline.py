"""vLLM alone: LLM.generate over the prompts, at most 64 sequences at once. Prints one line, RESULT {json}."""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

from benchmarks.generation.prompts import Prompts
from benchmarks.gpu.machine import BATCHED_TOKENS, MODEL_LENGTH, OUTPUT_TOKENS, PROMPT_TOKENS

REPETITIONS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True)
    add("--ready", type=Path, help="this file is made once the engine is ready")
    add("--go", type=Path, help="measure only once this file exists")
    add("--load-format", default="safetensors", help="dummy: weights made up by vLLM")
    add("--streams", type=int, default=64)
    add("--rounds", type=int, default=8, help="prompts per stream and repetition")
    add("--kv-cache-gib", type=float, default=5.0, help="fixed, so that engines can share a GPU")
    add("--gpu-memory-utilization", type=float, default=0.1)
    add("--tensor-parallel-size", type=int, default=1, help="cards that share the weights")
    add("--dtype", default="auto", help="of activations: auto, float16 or bfloat16")
    arguments = parser.parse_args()
    import torch
    import vllm

    began = time.monotonic()
    llm = vllm.LLM(
        str(arguments.model),
        load_format=arguments.load_format,
        dtype=arguments.dtype,
        max_model_len=MODEL_LENGTH,
        max_num_seqs=arguments.streams,
        max_num_batched_tokens=BATCHED_TOKENS,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        tensor_parallel_size=arguments.tensor_parallel_size,
        kv_cache_memory_bytes=int(arguments.kv_cache_gib * 2**30),
    )
    started = time.monotonic()
    if arguments.ready:
        arguments.ready.touch()
    sampling = vllm.SamplingParams(
        temperature=0.0, max_tokens=OUTPUT_TOKENS, ignore_eos=True, detokenize=False
    )
    prompts = Prompts(arguments.model, PROMPT_TOKENS)

    def measure_rate(count: int, seed: int) -> float:
        """Output tokens per second."""
        inputs = [{"prompt_token_ids": prompts.ids(text)} for text in prompts.texts(count, seed)]
        began = time.perf_counter()
        outputs = llm.generate(inputs, sampling, use_tqdm=False)
        seconds = time.perf_counter() - began
        assert all(len(output.outputs[0].token_ids) == OUTPUT_TOKENS for output in outputs)
        return count * OUTPUT_TOKENS / seconds

    while arguments.go and not arguments.go.exists():
        time.sleep(0.05)
    count = arguments.streams * arguments.rounds
    measure_rate(arguments.streams, seed=0)
    rates = [measure_rate(count, seed) for seed in range(1, REPETITIONS + 1)]
    measure_rate(1, seed=100)
    versions = {"vllm": vllm.__version__, "torch": torch.__version__, "python": platform.python_version()}
    result = {
        "model": arguments.model.name,
        "prompt_tokens": PROMPT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "requests": count,
        "streams": arguments.streams,
        "output_tokens_per_s": statistics.median(rates),
        "output_tokens_per_s_all": rates,
        "single_stream_tokens_per_s": statistics.median(measure_rate(1, seed) for seed in (101, 102, 103)),
        "engine_start_s": started - began,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "versions": versions,
    }
    print("RESULT", json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
