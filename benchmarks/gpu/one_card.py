"""A 70B shape (Llama 3's: 80 layers of 8,192) on one card, weights made up by vLLM: bf16 beside AWQ.

    python -m benchmarks.gpu.one_card --shape FOLDER --awq-shape FOLDER --work FOLDER [--which awq,bf16]

The folders are of the 8B shape (config.json and tokenizer); layers and widths are changed to those of 70B. One
process a variant, one after the other; PART lines as figures come, RESULT {json} last. Needs vLLM, and a card of
141 GB for bf16.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SHAPE = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80}
PROMPT_TOKENS, OUTPUT_TOKENS, LONG_PROMPT = 128, 128, 512
# bf16 leaves 4 GiB of 141 GB for keys and values: 13,000 tokens, so no more than 48 requests of 256 at once.
AT_ONCE = {"bf16": (48,), "awq": (48, 256)}
MEMORY_SHARE = {"bf16": 0.985, "awq": 0.9}


def write_shape(source: Path, target: Path) -> Path:
    """A model folder of the 70B shape beside the 8B one's tokenizer."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.name != "config.json" and not (target / file.name).exists():
            (target / file.name).symlink_to(file.resolve())
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | SHAPE))
    return target


def measure(variant: str, folder: Path) -> None:
    """Prints tokens per second of one request and of many, and the time to the first token of 512."""
    import torch
    import vllm

    began = time.monotonic()
    llm = vllm.LLM(
        str(folder),
        load_format="dummy",
        max_model_len=1024,
        max_num_batched_tokens=2048,
        max_num_seqs=256,
        gpu_memory_utilization=MEMORY_SHARE[variant],
        enable_prefix_caching=False,
        compilation_config={"cudagraph_capture_sizes": [1, *AT_ONCE[variant]]},
    )
    figures = {
        "variant": variant,
        "gpu": torch.cuda.get_device_name(),
        "versions": {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "engine_start_s": round(time.monotonic() - began, 1),
    }
    rng = np.random.default_rng(0)

    def run(count: int, tokens: int = OUTPUT_TOKENS, prompt_tokens: int = PROMPT_TOKENS) -> float:
        """Seconds of `count` requests at once."""
        prompts = [
            {"prompt_token_ids": [rng.randrange(300, 11_000) for _ in range(prompt_tokens)]}
            for _ in range(count)
        ]
        sampling = vllm.SamplingParams(temperature=1.0, max_tokens=tokens, ignore_eos=True)
        started = time.perf_counter()
        llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - started

    run(2)
    figures["tokens_per_s_1"] = round(OUTPUT_TOKENS / statistics.median(run(1) for _ in range(3)), 1)
    figures["first_token_512_ms"] = round(
        1000 * statistics.median(run(1, 1, LONG_PROMPT) for _ in range(5)), 1
    )
    for count in AT_ONCE[variant]:
        seconds = statistics.median(run(count) for _ in range(3))
        figures[f"tokens_per_s_{count}"] = round(count * OUTPUT_TOKENS / seconds, 1)
        print("PART", json.dumps(figures), flush=True)
    print("RESULT", json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=Path, required=True)
    parser.add_argument("--awq-shape", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--which", default="awq,bf16")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sources = {"bf16": given.shape, "awq": given.awq_shape}
    if given.one:
        measure(given.one, write_shape(sources[given.one], given.work / f"70b-{given.one}"))
        return
    for variant in given.which.split(","):
        subprocess.run(
            [sys.executable, "-m", "benchmarks.gpu.one_card", *sys.argv[1:], "--one", variant], check=True
        )


if __name__ == "__main__":
    main()
