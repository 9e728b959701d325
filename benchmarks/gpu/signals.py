"""The signals of an LLM on vLLM under a load whose truth is known: as many wait as run, then one more comes.

The server's max_num_seqs and max_waiting are both --streams. Prints one line, RESULT {json}: what the metrics said
beside what was sent. See docs/signals.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.generation.clients import Answer, Stream
from benchmarks.generation.prompts import Prompts
from benchmarks.gpu.machine import PROMPT_TOKENS
from trireme.errors import UnavailableError
from trireme.observe import metrics as names
from trireme.observe.metric import Metric
from trireme.triton.metrics import read_samples

ANSWER_TOKENS = 600
WAIT_SECONDS = 60.0
# While all places are taken: so many readings, so far apart.
READINGS, PAUSE_SECONDS = 10, 0.2
# Until what has been counted is surely on the page.
REFRESH_SECONDS = 1.5


class Page:
    """The signals of one model at one moment."""

    def __init__(self, url: str, model: str) -> None:
        self._model = model
        with urllib.request.urlopen(url, timeout=5) as page:
            self._text = page.read().decode()

    def read(self, metric: Metric, **labels: str) -> float:
        """The sum over the samples with these labels."""
        wanted = {"model": self._model, **labels}
        samples = read_samples(self._text, metric.name)
        return sum(value for found, value in samples if wanted.items() <= found.items())


def measure(url: str, metrics: str, model: str, prompts: Prompts, streams: int) -> dict[str, Any]:
    """Blocks for about two answers' time. Raises SystemExit where the load could not be held."""

    def look() -> Page:
        return Page(metrics, model)

    before = look()
    texts = prompts.texts(2 * streams, seed=700)
    with ThreadPoolExecutor(len(texts)) as pool:
        began = time.monotonic()
        answers = [pool.submit(ask, url, model, text) for text in texts]
        wait_until(
            lambda: (look().read(names.DECODING), look().read(names.QUEUE_DEPTH)) == (streams, streams)
        )
        is_refused = refuses(url, model, texts[0])
        pages = []
        for _ in range(READINGS):
            pages.append(look())
            time.sleep(PAUSE_SECONDS)
        ended = [answer.result() for answer in answers]
        seconds = time.monotonic() - began
    wait_until(lambda: look().read(names.DECODING) == 0)
    wait_until(lambda: look().read(names.QUEUE_WAITS) - before.read(names.QUEUE_WAITS) >= len(texts))
    time.sleep(REFRESH_SECONDS)
    return compare(before, pages, look(), ended, seconds, is_refused=is_refused)


def compare(
    before: Page, pages: list[Page], after: Page, ended: list[Answer], seconds: float, *, is_refused: bool
) -> dict[str, Any]:
    """Each signal beside its truth: [said, true]. Rates and seconds of work are of the metrics' own rate."""
    streams = len(ended) // 2
    share = before.read(names.INPUT_TOKEN_WORK)
    cost = share * PROMPT_TOKENS + ANSWER_TOKENS

    def grown(metric: Metric, **labels: str) -> float:
        return after.read(metric, **labels) - before.read(metric, **labels)

    held = [page for page in pages if page.read(names.QUEUE_DEPTH) == streams]
    starts = sorted(answer.first - answer.sent for answer in ended)
    rate = statistics.median(page.read(names.CAPACITY) for page in pages)
    return {
        "streams": streams,
        "readings": [len(held), len(pages)],
        "is_refused": is_refused,
        "queue_depth": [statistics.median(page.read(names.QUEUE_DEPTH) for page in pages), streams],
        "waiting_work": [
            statistics.median(page.read(names.BACKLOG) * page.read(names.CAPACITY) for page in held or pages),
            streams * cost,
        ],
        "offered_over_refused_work": [
            grown(names.OFFERED) / max(grown(names.REJECTED), 1e-9),
            len(ended) + 1,
        ],
        "input_tokens": [grown(names.MODEL_TOKENS, kind="input"), len(ended) * PROMPT_TOKENS],
        "output_tokens": [grown(names.MODEL_TOKENS, kind="output"), len(ended) * ANSWER_TOKENS],
        "waits": [grown(names.QUEUE_WAITS), len(ended)],
        "mean_wait_s": [grown(names.QUEUE_WAIT) / len(ended), statistics.mean(starts)],
        "capacity": [rate, len(ended) * cost / seconds],
        "capacity_after": after.read(names.CAPACITY),
        "left": [after.read(names.QUEUE_DEPTH) + after.read(names.BACKLOG), 0],
        "warm_up_s": after.read(names.WARMUP),
        "input_token_work": share,
    }


def ask(url: str, model: str, text: str) -> Answer:
    with closing(Stream(url, model)) as stream:
        return stream.ask(text, ANSWER_TOKENS)


def refuses(url: str, model: str, text: str) -> bool:
    """Whether one more request is refused."""
    try:
        ask(url, model, text)
    except UnavailableError:
        return True
    return False


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"it did not come to it within {WAIT_SECONDS:g} s")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder with tokenizer.json")
    parser.add_argument("--url", default="127.0.0.1:8001")
    parser.add_argument("--metrics", default="http://127.0.0.1:8002/metrics")
    parser.add_argument("--streams", type=int, default=64)
    options = parser.parse_args()
    prompts = Prompts(options.tokenizer, PROMPT_TOKENS)
    found = measure(options.url, options.metrics, options.model, prompts, options.streams)
    print("RESULT", json.dumps({"mode": "signals", "model": options.model, **found}), flush=True)


if __name__ == "__main__":
    main()
