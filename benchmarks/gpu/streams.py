"""Concurrent gRPC streams against a generator model, several client processes. Prints one line, RESULT {json}.

Modes: throughput (rounds of requests on each stream, the median of repetitions), answers (the same, but each answer
in one response), single (one stream alone),
cancel (all streams go away in the middle; how long until the engine runs nothing), tenants (whose prefixes are
shared).
"""

import argparse
import json
import multiprocessing
import queue
import re
import statistics
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generation.clients import make_tensors
from benchmarks.generation.prompts import Prompts
from benchmarks.gpu.machine import OUTPUT_TOKENS, PROMPT_TOKENS
from trireme.tune.perf_analyzer import compute_percentile

CANCEL_TOKENS = 1500
# Metrics of the engine, and seconds until one is surely fresh.
RUNNING, GENERATED, HITS = "num_requests_running", "generation_tokens_total", "prefix_cache_hits_total"
REFRESH_S = 0.6


@dataclass
class Answer:
    """Times are of one clock for all processes of the machine, in seconds."""

    sent: float
    first: float
    done: float
    responses: int
    output_tokens: int


class Stream:
    """One gRPC stream; answers one request at a time."""

    def __init__(self, url: str, model: str, is_streamed: bool = True) -> None:
        from tritonclient import grpc

        self._is_streamed = is_streamed
        self._model = model
        self._client = grpc.InferenceServerClient(url)
        self._events: queue.SimpleQueue[tuple[float, Any, Any]] = queue.SimpleQueue()
        self._client.start_stream(lambda result, error: self._events.put((time.monotonic(), result, error)))

    def send(self, text: str, max_tokens: int, tenant: str = "") -> float:
        parameters = json.dumps({"max_tokens": max_tokens, "temperature": 0.0, "ignore_eos": True})
        values: dict[str, str | bool] = {"text_input": text, "sampling_parameters": parameters}
        values |= {"return_finish_reason": True, "return_num_output_tokens": True}
        inputs = make_tensors(
            {**values, "stream": self._is_streamed, **({"tenant": tenant} if tenant else {})}
        )
        sent = time.monotonic()
        self._client.async_stream_infer(self._model, inputs, enable_empty_final_response=True)
        return sent

    def next(self) -> tuple[float, Any]:
        """When the next response came, and the message."""
        at, result, error = self._events.get(timeout=120)
        if error is not None:
            raise SystemExit(f"the server answered: {error}")
        return at, result.get_response()

    def ask(self, text: str, max_tokens: int = OUTPUT_TOKENS, tenant: str = "") -> Answer:
        answer = Answer(self.send(text, max_tokens, tenant), 0.0, 0.0, 0, 0)
        while True:
            at, message = self.next()
            if message.outputs:
                answer.first = answer.first or at
                answer.responses += 1
                answer.output_tokens = _read_count(message) or answer.output_tokens
            if message.parameters["triton_final_response"].bool_param:
                answer.done = at
                return answer

    def leave(self) -> None:
        """End the stream in the middle of an answer."""
        self._client.stop_stream(cancel_requests=True)

    def close(self) -> None:
        self._client.stop_stream()
        self._client.close()


def _read_count(message: Any) -> int:
    for position, output in enumerate(message.outputs):
        if output.name == "num_output_tokens" and message.raw_output_contents:
            return int.from_bytes(message.raw_output_contents[position][:4], "little")
    return 0


def _work(arguments: argparse.Namespace, texts: list[list[str]], barrier: Any, results: Any) -> None:
    """One client process: a thread and a stream for each list of texts."""
    import threading

    answers: list[Answer | str] = []

    def run(mine: list[str]) -> None:
        try:
            stream = Stream(arguments.url, arguments.model, arguments.is_streamed)
            barrier.wait(timeout=60)
            answers.extend([stream.ask(text) for text in mine])
            stream.close()
        except (Exception, SystemExit) as error:
            barrier.abort()
            answers.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(mine,)) for mine in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(answers)


def measure(arguments: argparse.Namespace, prompts: Prompts, seed: int) -> list[Answer]:
    """All answers of `streams` streams with `rounds` requests each, one after the other on each stream."""
    texts = prompts.texts(arguments.streams * arguments.rounds, seed)
    per_stream = [texts[n :: arguments.streams] for n in range(arguments.streams)]
    # Spawned: gRPC does not survive a fork.
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(arguments.streams), context.Queue()
    count = min(arguments.processes, arguments.streams)
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


def throughput(arguments: argparse.Namespace) -> dict[str, Any]:
    prompts = Prompts(arguments.tokenizer, PROMPT_TOKENS)
    short = argparse.Namespace(**{**vars(arguments), "rounds": 1})
    measure(short, prompts, seed=0)
    runs = [measure(arguments, prompts, seed) for seed in range(1, arguments.repetitions + 1)]
    rates, first = [], []
    for answers in runs:
        seconds = max(a.done for a in answers) - min(a.sent for a in answers)
        rates.append(sum(a.output_tokens for a in answers) / seconds)
        first += [a.first - a.sent for a in answers]
    between = [
        (a.done - a.first) / (a.output_tokens - 1) for answers in runs for a in answers if a.output_tokens > 1
    ]
    responses = [a.responses for answers in runs for a in answers]
    return {
        "output_tokens_per_s": statistics.median(rates),
        "output_tokens_per_s_all": rates,
        "ttft_ms_median": 1000 * statistics.median(first),
        "ttft_ms_p95": 1000 * compute_percentile(first, 95),
        "inter_token_ms_median": 1000 * statistics.median(between),
        "responses_per_answer": statistics.mean(responses),
        "requests": len(runs[0]),
    }


def answers(arguments: argparse.Namespace) -> dict[str, Any]:
    """Throughput without streaming: what it gains is what the sending of pieces costs."""
    found = throughput(argparse.Namespace(**{**vars(arguments), "is_streamed": False}))
    return {
        "answers_tokens_per_s": found["output_tokens_per_s"],
        "answers_tokens_per_s_all": found["output_tokens_per_s_all"],
    }


def single(arguments: argparse.Namespace) -> dict[str, Any]:
    prompts = Prompts(arguments.tokenizer, PROMPT_TOKENS)
    stream = Stream(arguments.url, arguments.model)
    warm, *texts = prompts.texts(4, seed=101)
    stream.ask(warm)
    answers = [stream.ask(text) for text in texts]
    stream.close()
    return {
        "single_stream_tokens_per_s": statistics.median(a.output_tokens / (a.done - a.sent) for a in answers),
        "single_ttft_ms": 1000 * statistics.median(a.first - a.sent for a in answers),
    }


def read_gauge(arguments: argparse.Namespace, name: str) -> float:
    with urllib.request.urlopen(arguments.metrics, timeout=5) as page:
        text = page.read().decode()
    pattern = rf'^[\w:]*{name}\{{[^}}]*model="{re.escape(arguments.model)}"[^}}]*\}} (\S+)$'
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        raise SystemExit(f"no metric {name} for {arguments.model}")
    return sum(map(float, found))


def _wait(arguments: argparse.Namespace, name: str, is_reached: Any, seconds: float = 30.0) -> float:
    """Seconds until the gauge is there."""
    began = time.monotonic()
    while not is_reached(read_gauge(arguments, name)):
        if time.monotonic() - began > seconds:
            raise SystemExit(f"{name} did not change within {seconds} s: {read_gauge(arguments, name)}")
        time.sleep(0.01)
    return time.monotonic() - began


def cancel(arguments: argparse.Namespace) -> dict[str, Any]:
    prompts = Prompts(arguments.tokenizer, PROMPT_TOKENS)
    times = []
    for seed in range(arguments.repetitions):
        streams = [Stream(arguments.url, arguments.model) for _ in range(arguments.streams)]
        for stream, text in zip(streams, prompts.texts(arguments.streams, seed=200 + seed), strict=True):
            stream.send(text, CANCEL_TOKENS)
        for stream in streams:
            stream.next()
        _wait(arguments, RUNNING, lambda count: count == arguments.streams)
        began = time.monotonic()
        for stream in streams:
            stream.leave()
        left = time.monotonic() - began
        idle = left + _wait(arguments, RUNNING, lambda count: count == 0)
        made = read_gauge(arguments, GENERATED)
        time.sleep(1.0)
        after = read_gauge(arguments, GENERATED) - made
        times.append({"leave_s": left, "idle_s": idle, "tokens_after": after})
    return {"cancel": times, "cancelled_streams": arguments.streams}


def tenants(arguments: argparse.Namespace) -> dict[str, Any]:
    """Hit tokens after each of: a prompt by tenant a, again by a, by tenant b, again by b."""
    prompts = Prompts(arguments.tokenizer, PROMPT_TOKENS)
    stream = Stream(arguments.url, arguments.model)
    text = prompts.texts(1, seed=300)[0]
    before, hits = read_gauge(arguments, HITS), []
    for tenant in ("a", "a", "b", "b"):
        stream.ask(text, 4, tenant)
        # The gauge is refreshed now and then.
        time.sleep(REFRESH_S)
        now = read_gauge(arguments, HITS)
        hits.append(now - before)
        before = now
    stream.close()
    return {"prefix_hit_tokens_a_a_b_b": hits, "prompt_tokens": PROMPT_TOKENS}


def text(arguments: argparse.Namespace) -> dict[str, Any]:
    """The beginning of an answer, to be looked at."""
    from tritonclient import grpc

    stream = Stream(arguments.url, arguments.model)
    stream.send(arguments.text, 40)
    pieces = []
    while True:
        message = stream.next()[1]
        pieces += [
            grpc.InferResult(message).as_numpy("text_output")[0].decode() for output in message.outputs[:1]
        ]
        if message.parameters["triton_final_response"].bool_param:
            stream.close()
            return {"prompt": arguments.text, "text": "".join(pieces), "responses": len(pieces)}


MODES = {
    "throughput": throughput,
    "answers": answers,
    "single": single,
    "cancel": cancel,
    "tenants": tenants,
    "text": text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modes", nargs="+", choices=MODES)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder with tokenizer.json")
    parser.add_argument("--url", default="127.0.0.1:8001")
    parser.add_argument("--metrics", default="http://127.0.0.1:8002/metrics")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--text", default="The city lies on the river", help="the prompt of mode text")
    arguments = parser.parse_args()
    arguments.is_streamed = True
    for mode in arguments.modes:
        result = {"mode": mode, "model": arguments.model, "streams": arguments.streams}
        print("RESULT", json.dumps({**result, **MODES[mode](arguments)}), flush=True)


if __name__ == "__main__":
    main()
