"""Closed-loop load on Infinity's HTTP API; writes what perf_analyzer's export holds: both are read alike."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 120.0

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` requests, `concurrency` of them in flight, `batch` texts each; stops early after `seconds`."""

    url: str
    model: str
    items: list[Any]
    concurrency: int
    requests: int
    batch: int
    seconds: float = 60.0


def make_bodies(load: Load) -> Iterator[tuple[str, Body]]:
    """Path and JSON of each request; items come in order, and again from the first."""
    for number in range(load.requests):
        first = number * load.batch
        items = [load.items[(first + i) % len(load.items)] for i in range(load.batch)]
        if isinstance(items[0], str):
            yield "/embeddings", {"model": load.model, "input": items}
        else:
            yield (
                "/rerank",
                {"model": load.model, "query": items[0]["query"], "documents": items[0]["passages"]},
            )


async def send_all(load: Load, post: Callable[[str, Body], Any]) -> list[dict[str, Any]]:
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


async def run(load: Load) -> dict[str, Any]:
    """The export of one run. Raises RuntimeError naming an answer that is none."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=load.concurrency)
    async with aiohttp.ClientSession(load.url, connector=connector, timeout=timeout) as session:

        async def post(path: str, body: Body) -> None:
            async with session.post(path, json=body) as response:
                answer = await response.json()
                wanted = len(body.get("input") or body["documents"])
                if response.status != 200 or len(answer.get("data") or answer["results"]) != wanted:
                    raise RuntimeError(f"{path} answered {response.status}: {str(answer)[:200]}")

        records = await send_all(load, post)
    ends = [record["response_timestamps"][-1] for record in records]
    bounds = [min(record["timestamp"] for record in records), max(ends)]
    experiment = {"experiment": {"mode": "concurrency", "value": load.concurrency}, "requests": records}
    return {"experiments": [{**experiment, "window_boundaries": bounds}]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT")
    parser.add_argument("--model", required=True, help="the served model's name")
    parser.add_argument("--file", type=Path, required=True, help="JSON with texts or queries")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1, help="texts a request")
    parser.add_argument("--export", type=Path, required=True, help="where to write the JSON")
    given = vars(parser.parse_args(arguments))
    document = json.loads(given.pop("file").read_text(encoding="utf-8"))
    target = given.pop("export")
    try:
        export = asyncio.run(run(Load(items=document.get("texts") or document["queries"], **given)))
    except Exception as error:  # the client library's and the server's own errors alike
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    target.write_text(json.dumps(export), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
