"""Concurrent gRPC streams against a generator model, several client processes. Prints one line, RESULT {json}.

Modes: throughput (rounds of requests on each stream, the median of repetitions), answers (the same, but each answer
in one response), single (one stream alone),
cancel (all streams go away in the middle; how long until the engine runs nothing), tenants (whose prefixes are
shared).
"""

import argparse
import itertools
import json
import multiprocessing
import re
import statistics
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.generation.clients import Answer, Stream, summarize
from benchmarks.generation.prompts import Prompts
from benchmarks.gpu.machine import OUTPUT_TOKENS, PROMPT_TOKENS
from trireme.tune.perf_analyzer import compute_percentile

CANCEL_TOKENS = 1500
# Metrics of the engine, and seconds until one is surely fresh.
RUNNING, GENERATED, HITS = "num_requests_running", "generation_tokens_total", "prefix_cache_hits_total"
REFRESH_S = 0.6
PROCESSES, REPETITIONS = 8, 3
TEXT = "The city lies on the river"


def _work(arguments: argparse.Namespace, texts: list[list[str]], barrier: Any, results: Any) -> None:
    """One client process: a thread and a stream for each list of texts."""
    answers: list[Answer | str] = []

    def run(mine: list[str]) -> None:
        try:
            stream = Stream(arguments.url, arguments.model, arguments.is_streamed)
            barrier.wait(timeout=60)
            answers.extend([stream.ask(text, OUTPUT_TOKENS) for text in mine])
            stream.close()
        except Exception as error:
            barrier.abort()
            answers.append(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(run, texts))
    results.put(answers)


def measure(arguments: argparse.Namespace, prompts: Prompts, seed: int) -> list[Answer]:
    """All answers of `streams` streams with `rounds` requests each, one after the other on each stream."""
    texts = prompts.texts(arguments.streams * arguments.rounds, seed)
    per_stream = [texts[n :: arguments.streams] for n in range(arguments.streams)]
    # Spawned: gRPC does not survive a fork.
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(arguments.streams), context.Queue()
    count = min(PROCESSES, arguments.streams)
    workers = [
        context.Process(target=_work, args=(arguments, per_stream[n::count], barrier, results))
        for n in range(count)
    ]
    for worker in workers:
        worker.start()
    answers = [answer for _ in workers for answer in results.get(timeout=300)]
    for worker in workers:
        worker.join()
    if failures := [answer for answer in answers if isinstance(answer, str)]:
        raise SystemExit(f"{len(failures)} streams failed: {failures[0]}")
    if any(answer.output_tokens != OUTPUT_TOKENS for answer in answers):
        raise SystemExit(f"an answer does not have {OUTPUT_TOKENS} tokens")
    return answers


def throughput(arguments: argparse.Namespace, prompts: Prompts) -> dict[str, Any]:
    measure(argparse.Namespace(**{**vars(arguments), "rounds": 1}), prompts, seed=0)
    runs = [measure(arguments, prompts, seed) for seed in range(1, REPETITIONS + 1)]
    rates = [summarize(run).tokens_per_second for run in runs]
    every = [answer for run in runs for answer in run]
    first = [answer.first - answer.sent for answer in every]
    between = [(one.done - one.first) / (one.output_tokens - 1) for one in every]
    return {
        "output_tokens_per_s": statistics.median(rates),
        "output_tokens_per_s_all": rates,
        "ttft_ms_median": 1000 * statistics.median(first),
        "ttft_ms_p95": 1000 * compute_percentile(first, 95),
        "inter_token_ms_median": 1000 * statistics.median(between),
        "responses_per_answer": statistics.mean(answer.responses for answer in every),
        "requests": len(runs[0]),
    }


def answers(arguments: argparse.Namespace, prompts: Prompts) -> dict[str, Any]:
    """Throughput without streaming: what it gains is what the sending of pieces costs."""
    found = throughput(argparse.Namespace(**{**vars(arguments), "is_streamed": False}), prompts)
    rates = ("output_tokens_per_s", "output_tokens_per_s_all")
    return {name.replace("output", "answers"): found[name] for name in rates}


def single(arguments: argparse.Namespace, prompts: Prompts) -> dict[str, Any]:
    with closing(Stream(arguments.url, arguments.model)) as stream:
        _, *asked = [stream.ask(text, OUTPUT_TOKENS) for text in prompts.texts(4, seed=101)]
    return {
        "single_stream_tokens_per_s": statistics.median(a.output_tokens / (a.done - a.sent) for a in asked),
        "single_ttft_ms": 1000 * statistics.median(a.first - a.sent for a in asked),
    }


def read_gauge(arguments: argparse.Namespace, name: str) -> float:
    with urllib.request.urlopen(arguments.metrics, timeout=5) as page:
        text = page.read().decode()
    pattern = rf'^[\w:]*{name}\{{[^}}]*model="{re.escape(arguments.model)}"[^}}]*\}} (\S+)$'
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        raise SystemExit(f"no metric {name} for {arguments.model}")
    return sum(map(float, found))


def wait_for_running(arguments: argparse.Namespace, wanted: int, seconds: float = 30.0) -> float:
    """Seconds until so many requests run."""
    began = time.monotonic()
    while (count := read_gauge(arguments, RUNNING)) != wanted:
        if time.monotonic() - began > seconds:
            raise SystemExit(f"{count} requests run after {seconds} s instead of {wanted}")
        time.sleep(0.01)
    return time.monotonic() - began


def cancel(arguments: argparse.Namespace, prompts: Prompts) -> dict[str, Any]:
    times = []
    for seed in range(REPETITIONS):
        streams = [Stream(arguments.url, arguments.model) for _ in range(arguments.streams)]
        for stream, text in zip(streams, prompts.texts(arguments.streams, seed=200 + seed), strict=True):
            stream.send(text, CANCEL_TOKENS)
        for stream in streams:
            stream.next()
        wait_for_running(arguments, arguments.streams)
        began = time.monotonic()
        for stream in streams:
            stream.leave()
        left = time.monotonic() - began
        idle = left + wait_for_running(arguments, 0)
        made = read_gauge(arguments, GENERATED)
        time.sleep(1.0)
        after = read_gauge(arguments, GENERATED) - made
        times.append({"leave_s": left, "idle_s": idle, "tokens_after": after})
    return {"cancel": times, "cancelled_streams": arguments.streams}


def tenants(arguments: argparse.Namespace, prompts: Prompts) -> dict[str, Any]:
    """Hit tokens after each of: a prompt by tenant a, again by a, by tenant b, again by b."""
    [text] = prompts.texts(1, seed=300)
    counts = [read_gauge(arguments, HITS)]
    with closing(Stream(arguments.url, arguments.model)) as stream:
        for tenant in ("a", "a", "b", "b"):
            stream.ask(text, 4, tenant)
            # The gauge is refreshed now and then.
            time.sleep(REFRESH_S)
            counts.append(read_gauge(arguments, HITS))
    hits = [after - before for before, after in itertools.pairwise(counts)]
    return {"prefix_hit_tokens_a_a_b_b": hits, "prompt_tokens": PROMPT_TOKENS}


def text(arguments: argparse.Namespace, _prompts: Prompts) -> dict[str, Any]:
    """The beginning of an answer, to be looked at."""
    from trireme.triton.client import TritonClient

    sampling = {"max_tokens": 40, "temperature": 0.0, "ignore_eos": True}
    with TritonClient(arguments.url) as client:
        parts = list(client.generate(TEXT, sampling=sampling, stream=True, model=arguments.model))
    return {"prompt": TEXT, "text": "".join(part.text for part in parts), "responses": len(parts)}


MODES = {mode.__name__: mode for mode in (throughput, answers, single, cancel, tenants, text)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modes", nargs="+", choices=MODES)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder with tokenizer.json")
    parser.add_argument("--url", default="127.0.0.1:8001")
    parser.add_argument("--metrics", default="http://127.0.0.1:8002/metrics")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    arguments.is_streamed = True
    prompts = Prompts(arguments.tokenizer, PROMPT_TOKENS)
    for mode in arguments.modes:
        result = {"mode": mode, "model": arguments.model, "streams": arguments.streams}
        print("RESULT", json.dumps({**result, **MODES[mode](arguments, prompts)}), flush=True)


if __name__ == "__main__":
    main()
