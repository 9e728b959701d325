"""Reads the server's Prometheus page."""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from urllib.error import HTTPError

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError
from trireme.observe import metrics as table
from trireme.observe.work import FrontQueue

# A model says each second whether it is ready.
STALE_SECONDS = 4.0
# A page of a hundred models has some hundred KB.
MOST_PAGE_BYTES = 4 << 20

# Requests that people wait for: an encoder's own count leaves a worker's bulk out, other models have none.
_INTERACTIVE = table.INTERACTIVE.name
_ANSWERED = table.TRITON_SUCCEEDED.name
_FAILED = table.TRITON_FAILED.name
_PENDING = table.TRITON_PENDING.name
_DECODING = table.DECODING.name
_WAITED = table.TRITON_WAITED.name
_BACKLOG = table.BACKLOG.name


def read_metrics(host: str, port: int, seconds: float = 5.0) -> str:
    """The page as text. Raises UnavailableError, also for one of more than MOST_PAGE_BYTES.

    Blocks for `seconds` without a byte at most, and for a page that comes in drops three times as long.
    """
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=seconds) as page:
            text = _read_whole(page, seconds).decode()
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        # A server that dies amid its page ends it early.
        raise UnavailableError(f"no metrics at {host}:{port}; start a server with: make serve") from None
    return text


def _read_whole(page: HTTPResponse, seconds: float) -> bytes:
    """The body. Raises ValueError for one that is too large, TimeoutError for one that takes too long."""
    parts, size, end = [], 0, time.monotonic() + 2 * seconds
    while part := page.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MOST_PAGE_BYTES:
            raise ValueError("no page of metrics")
        if time.monotonic() > end:
            raise TimeoutError
    if page.length:
        raise IncompleteRead(b"", page.length)
    return b"".join(parts)


def read_readiness(host: str, port: int, recipes: Iterable[Recipe] = ()) -> dict[str, bool]:
    """What each model says of itself: its session, files and database answer. Raises UnavailableError.

    Those of `recipes` that have steps are ready when all of their steps are, and they themselves where they say so:
    ensembles do not. A model that has said nothing for STALE_SECONDS is not ready: its process is gone or still.
    """
    return readiness_of(read_metrics(host, port), recipes)


def readiness_of(page: str, recipes: Iterable[Recipe] = ()) -> dict[str, bool]:
    """As `read_readiness`, of a page that was read."""
    fresh = time.time() - STALE_SECONDS
    checked = {_key(labels): value for labels, value in read_samples(page, table.CHECKED.name)}
    recipes = list(recipes)
    said: dict[str, bool] = {}
    for labels, value in read_samples(page, table.READY.name):
        name = labels.get("model", "")
        is_ready = value == 1.0 and checked.get(_key(labels), 0.0) >= fresh
        # Each instance speaks for itself.
        said[name] = is_ready and said.get(name, True)
    for recipe in recipes:
        if not recipe.traits.is_ensemble:
            said.setdefault(recipe.model, False)
    whole = {
        recipe.model: said.get(recipe.model, True) and all(said.get(step, False) for step in recipe.steps)
        for recipe in recipes
    }
    return said | whole


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the instances of a model have loaded. names: one for each load, sorted. version: of their files, ""
    where they differ or one does not say."""

    names: tuple[str, ...]
    version: str = ""


def read_loads(host: str, port: int) -> dict[str, Loaded]:
    """What each model says that its instances have loaded. Raises UnavailableError.

    A model is missing where one of them does not know, or nobody has said anything for STALE_SECONDS.
    """
    return loads_of(read_metrics(host, port))


def loads_of(page: str) -> dict[str, Loaded]:
    """As `read_loads`, of a page that was read."""
    fresh = time.time() - STALE_SECONDS
    said: dict[str, set[tuple[str, str]]] = {}
    for labels, value in read_samples(page, table.LOADED.name):
        if value >= fresh:
            load = labels.get("digest", ""), labels.get("version", "")
            said.setdefault(labels.get("model", ""), set()).add(load)
    return {name: _loaded(loads) for name, loads in said.items() if all(digest for digest, _ in loads)}


def _loaded(loads: set[tuple[str, str]]) -> Loaded:
    versions = {version for _, version in loads}
    return Loaded(tuple(sorted(digest for digest, _ in loads)), versions.pop() if len(versions) == 1 else "")


def count_interactive(page: str, models: Collection[str]) -> tuple[int, bool]:
    """How many requests people have sent since the server started, and whether the LLM writes for one now.

    models: those that do nothing in bulk, such as rerankers. Only a growing number means something.
    """
    count = sum(value for _, value in read_samples(page, _INTERACTIVE))
    count += sum(value for labels, value in read_samples(page, _ANSWERED) if labels.get("model") in models)
    return int(count), any(value > 0 for _, value in read_samples(page, _DECODING))


def find_silent(page: str) -> list[str]:
    """Models of which an instance has said nothing for STALE_SECONDS: its process is gone or still.

    One that says that it is not ready, such as where its database is away, lives.
    """
    fresh = time.time() - STALE_SECONDS
    said = read_samples(page, table.CHECKED.name)
    return sorted({labels.get("model", "") for labels, value in said if value < fresh})


def count_answered(page: str) -> dict[str, float]:
    """Requests that each model has ended since the server started, with an answer or an error."""
    counts: dict[str, float] = {}
    for labels, value in read_samples(page, _ANSWERED, _FAILED):
        model = labels.get("model", "")
        counts[model] = counts.get(model, 0.0) + value
    return counts


def has_pending(page: str) -> bool:
    """Whether a request waits in one of Triton's queues, or the LLM writes."""
    return any(value > 0 for _, value in read_samples(page, _PENDING, _DECODING))


def read_front_queue(page: str, model: str) -> FrontQueue:
    """Triton's own queue of a model, all versions and instances together: what no backend can see.

    Raises UnavailableError for no page of metrics.
    """
    mine = "\n".join(line for line in page.splitlines() if f'model="{model}"' in line)
    reasons = {"REJECTED": 0.0, "CANCELED": 0.0}
    for labels, value in read_samples(mine, _FAILED):
        if (reason := labels.get("reason", "")) in reasons:
            reasons[reason] += value
    return FrontQueue(
        waiting=int(sum(value for _, value in read_samples(mine, _PENDING))),
        refused=int(reasons["REJECTED"]),
        gone=int(reasons["CANCELED"]),
        wait_seconds=sum(value for _, value in read_samples(mine, _WAITED)) / 1e6,
    )


def read_backlogs(host: str, port: int, seconds: float = 5.0) -> dict[str, float]:
    """Seconds of work that wait in front of each model that says so. Blocks as `read_metrics`, and raises as it."""
    found: dict[str, float] = {}
    for labels, value in read_samples(read_metrics(host, port, seconds), _BACKLOG):
        # What is no number of seconds would hide the others in every maximum, or refuse all there is.
        if not 0 <= value < math.inf:
            continue
        model = labels.get("model", "")
        # Each instance has its share of what waits.
        found[model] = found.get(model, 0.0) + value
    return found


def read_samples(page: str, *names: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of every sample that has one of `names`. Raises UnavailableError for no page of metrics."""
    from prometheus_client.parser import text_string_to_metric_families

    # The parser takes 50 us a line, and of hundreds a few matter.
    page = "".join(line + "\n" for line in page.splitlines() if line.startswith(names))
    try:
        return [
            (sample.labels, float(sample.value))
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name in names
        ]
    except ValueError as error:
        raise UnavailableError(f"the server's metrics cannot be read: {str(error)[:200]}") from None


def _key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
