"""Measures how fast a running server serves, by the number of requests in flight."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.common.report import read_json, show_progress_note
from benchmarks.generation.clients import ServedModel
from benchmarks.scaling.service import Point, Service
from trireme.errors import InvalidInputError, UnavailableError
from trireme.observe import metrics as table
from trireme.triton.calls import embed_inputs
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_samples

RUNS = 3
WARM_UP = table.WARMUP.name
# Words of the default vocabularies that are about a token each.
WORDS = (
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "life",
    "child",
    "world",
    "school",
    "state",
    "hand",
)


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured: a model of a server, with so many tokens to read (about) and to write for each request."""

    url: str
    model: str
    in_flight: tuple[int, ...]
    inputs: int
    outputs: int
    seconds: float
    seed: int


def write_text(rng: random.Random, words: int) -> str:
    """Random words: no two texts are alike, so no cache answers."""
    return " ".join(rng.choice(WORDS) for _ in range(words))


def read_warm_up(metrics_url: str, model: str) -> float | None:
    """The gauge of a model on a page of metrics; None where it is not there. Raises UnavailableError."""
    try:
        with urlopen(metrics_url, timeout=10) as answer:
            page = answer.read().decode()
    except OSError as error:
        raise UnavailableError(f"no metrics at {metrics_url}: {error}") from None
    found = [value for labels, value in read_samples(page, WARM_UP) if labels.get("model") == model]
    return max(found) if found else None


def measure_encoder(job: Job) -> tuple[tuple[Point, ...], int]:
    """Tokens read a second by requests in flight, medians of RUNS, and tokens of a request. Blocks."""
    tokens: list[int] = []

    def ask(rng: random.Random, client: TritonClient) -> int:
        answer = client.infer(job.model, embed_inputs([write_text(rng, job.inputs)], "passage"))
        count = int(answer["token_count"].sum())
        tokens.append(count)
        return count

    points = []
    with closing(TritonClient(job.url)) as client:
        ask(random.Random(0), client)  # noqa: S311 - the connection
        for count in job.in_flight:
            rates = [run_closed_loop(job, count, number, client, ask) for number in range(RUNS)]
            points.append(Point(count, round(statistics.median(rates), 2)))
            show_progress_note(f"{count} in flight: {points[-1].tokens_per_s:,.0f} tokens/s")
    return tuple(points), round(statistics.mean(tokens))


def run_closed_loop(
    job: Job, count: int, number: int, client: TritonClient, ask: Callable[[random.Random, TritonClient], int]
) -> float:
    """So many callers, each with its next request as soon as it has an answer; tokens a second of all."""
    begins = threading.Barrier(count)

    def call(caller: int) -> float:
        rng = random.Random(f"{job.seed} {count} {number} {caller}")  # noqa: S311
        begins.wait()
        done, began = 0, time.monotonic()
        last = began
        while last < began + job.seconds:
            done += ask(rng, client)
            last = time.monotonic()
        # By each caller's own time: whoever ends first does not wait for the last.
        return done / (last - began)

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(call, range(count)))


def measure_llm(job: Job) -> tuple[tuple[Point, ...], float]:
    """Tokens written a second by streams at once, and tokens read a second of one prompt: medians. Blocks."""
    rng = random.Random(job.seed)  # noqa: S311
    points, reads = [], []
    with closing(ServedModel(job.url, job.model)) as served:
        served.run([write_text(rng, job.inputs)], 4)
        for _ in range(RUNS):
            reads.append(job.inputs / served.run([write_text(rng, job.inputs)], 1).first_token_s)
        for count in job.in_flight:
            runs = [
                served.run([write_text(rng, job.inputs) for _ in range(count)], job.outputs)
                for _ in range(RUNS)
            ]
            rate = statistics.median(run.tokens_per_second for run in runs)
            points.append(Point(count, round(rate, 2)))
            show_progress_note(f"{count} streams: {rate:,.1f} tokens/s")
    return tuple(points), round(statistics.median(reads), 1)


def measure(job: Job, name: str, warm_up_s: float, places: int, source: str) -> Service:
    """The service curve of a running server's model. Blocks for minutes; raises TriremeError."""
    if job.outputs:
        llm_points, read = measure_llm(job)
        return Service(name, llm_points, places, job.inputs, job.outputs, read, 0, warm_up_s, source)
    points, tokens = measure_encoder(job)
    return Service(name, points, places, tokens, 0, 0.0, 0, warm_up_s, source)


def read_one_card(path: Path, kind: str) -> Service:
    """The curve of what benchmarks.gpu.one_card measured of a card. Raises InvalidInputError for another file."""
    found: dict[str, Any] = read_json(path)
    if kind not in found:
        raise InvalidInputError(f"{path.name} has no {kind}")
    one = found[kind]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return Service(
        name=f"llama-70b-{kind}",
        points=(Point(1, one["tokens_per_s_1"]), Point(48, one["tokens_per_s_48"])),
        places=48,
        inputs=found["prompt_tokens"],
        outputs=found["output_tokens"],
        read_per_s=round(512 / (one["first_token_512_ms"] / 1000), 1),
        kv_tokens=one["kv_tokens"],
        warm_up_s=one["engine_start_s"],
        source=f"{path.name}: {found['machine']}; {versions}; the engine of the server, without Triton",
    )


def put(services: Sequence[Service], one: Service) -> tuple[Service, ...]:
    """In the place of the one that has its name, or behind all."""
    names = [service.name for service in services]
    if one.name not in names:
        return (*services, one)
    return tuple(one if service.name == one.name else service for service in services)
