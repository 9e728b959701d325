"""Closed-loop load on Infinity's HTTP API; gives what perf_analyzer's export holds: both are read alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.errors import UnavailableError

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HttpLoad:
    """`requests` requests, `concurrency` of them in flight, `batch` texts each; none is sent after `seconds`."""

    url: str
    model: str
    items: Sequence[Any]
    concurrency: int
    requests: int
    batch: int
    seconds: float = 60.0


def make_bodies(load: HttpLoad) -> Iterator[tuple[str, Body]]:
    """Path and JSON of each request; items come in order, and again from the first."""
    for number in range(load.requests):
        first = number * load.batch
        items = [load.items[(first + i) % len(load.items)] for i in range(load.batch)]
        if isinstance(items[0], str):
            yield "/embeddings", {"model": load.model, "input": items}
        else:
            asked = {"query": items[0]["query"], "documents": items[0]["passages"]}
            yield "/rerank", {"model": load.model, **asked}


async def send_all(load: HttpLoad, post: Callable[[str, Body], Any]) -> list[dict[str, Any]]:
    """Sends and times every request. Raises what `post` raises."""
    bodies = make_bodies(load)
    records: list[dict[str, Any]] = []
    deadline = time.monotonic() + load.seconds

    async def work() -> None:
        for path, body in bodies:
            sent = time.monotonic_ns()
            await post(path, body)
            records.append({"timestamp": sent, "response_timestamps": [time.monotonic_ns()]})
            if time.monotonic() > deadline:
                return

    await asyncio.gather(*(work() for _ in range(load.concurrency)))
    return records


def drive(load: HttpLoad, timeout_s: float) -> dict[str, Any]:
    """The export of one run. Blocks; raises UnavailableError for an answer that is none, or none in time."""
    try:
        return asyncio.run(asyncio.wait_for(_drive(load), timeout_s))
    except TimeoutError:
        raise UnavailableError(f"{load.model} took over {timeout_s:.0f} s") from None


async def _drive(load: HttpLoad) -> dict[str, Any]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=load.concurrency)
    async with aiohttp.ClientSession(load.url, connector=connector) as session:

        async def post(path: str, body: Body) -> None:
            async with session.post(path, json=body) as response:
                answer = await response.json()
                wanted = len(body.get("input") or body["documents"])
                if response.status != 200 or len(answer.get("data") or answer["results"]) != wanted:
                    raise UnavailableError(f"{path} answered {response.status}: {str(answer)[:200]}")

        try:
            records = await send_all(load, post)
        except aiohttp.ClientError as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from error
    ends = [record["response_timestamps"][-1] for record in records]
    bounds = [min(record["timestamp"] for record in records), max(ends)]
    experiment = {"experiment": {"mode": "concurrency", "value": load.concurrency}, "requests": records}
    return {"experiments": [{**experiment, "window_boundaries": bounds}]}
