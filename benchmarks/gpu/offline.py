"""vLLM alone: LLM.generate over the prompts, at most 64 sequences at once. Prints one line, RESULT {json}."""

import argparse
import json
import re
import statistics
import sys
import time
from pathlib import Path

from benchmarks.generation.prompts import Prompts
from benchmarks.gpu.machine import OUTPUT_TOKENS, PROMPT_TOKENS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ready", type=Path, help="this file is made once the engine is ready")
    parser.add_argument("--go", type=Path, help="measure only once this file exists")
    parser.add_argument("--load-format", default="safetensors", help="dummy: weights made up by vLLM")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8, help="prompts per stream and repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--max-num-batched-tokens", type=int, default=8192)
    parser.add_argument("--kv-cache-gib", type=float, default=5.0, help="fixed: engines can share a GPU")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.1)
    arguments = parser.parse_args()
    import torch
    import vllm

    began = time.monotonic()
    llm = vllm.LLM(
        str(arguments.model),
        load_format=arguments.load_format,
        max_model_len=arguments.max_model_len,
        max_num_seqs=arguments.streams,
        max_num_batched_tokens=arguments.max_num_batched_tokens,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        kv_cache_memory_bytes=int(arguments.kv_cache_gib * 2**30),
    )
    started = time.monotonic()
    if arguments.ready:
        arguments.ready.touch()
    sampling = vllm.SamplingParams(
        temperature=0.0, max_tokens=OUTPUT_TOKENS, ignore_eos=True, detokenize=False
    )
    prompts = Prompts(arguments.model, PROMPT_TOKENS)

    def seconds_for(count: int, seed: int) -> float:
        inputs = [{"prompt_token_ids": prompts.ids(text)} for text in prompts.texts(count, seed)]
        began = time.perf_counter()
        outputs = llm.generate(inputs, sampling, use_tqdm=False)
        seconds = time.perf_counter() - began
        assert all(len(output.outputs[0].token_ids) == OUTPUT_TOKENS for output in outputs)
        return seconds

    while arguments.go and not arguments.go.exists():
        time.sleep(0.05)
    count = arguments.streams * arguments.rounds
    seconds_for(arguments.streams, seed=0)
    rates = [count * OUTPUT_TOKENS / seconds_for(count, seed) for seed in range(1, arguments.repetitions + 1)]
    seconds_for(1, seed=100)
    single = [OUTPUT_TOKENS / seconds_for(1, seed) for seed in (101, 102, 103)]
    result = {
        "model": arguments.model.name,
        "prompt_tokens": PROMPT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "requests": count,
        "streams": arguments.streams,
        "output_tokens_per_s": statistics.median(rates),
        "output_tokens_per_s_all": rates,
        "single_stream_tokens_per_s": statistics.median(single),
        "engine_start_s": started - began,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "versions": {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "python": re.split(r"\s", sys.version)[0],
        },
    }
    print("RESULT", json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
