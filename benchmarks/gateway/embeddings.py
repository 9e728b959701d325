"""Embeddings through the gateway against the same tritonserver's own gRPC, with as many requests in flight."""

from __future__ import annotations

import asyncio
import base64
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common.report import show_progress_note
from benchmarks.common.stack import make_settings
from benchmarks.gateway.ours import start_gateway
from benchmarks.gateway.page import EmbeddingRates
from benchmarks.gateway.servers import HOST, Server
from benchmarks.ingestion.run import make_texts
from trireme.errors import UnavailableError
from trireme.settings import Settings, environment
from trireme.stack import Stack

MODEL, IN_FLIGHT, BATCH = "embedding", 32, 32
# Requests of one round, and of the warm-up before the first.
REQUESTS, WARMUP = 160, 32

Embed = Callable[[Sequence[str]], Awaitable["np.ndarray"]]


def measure_embeddings(rounds: int, seed: int) -> EmbeddingRates:
    """A stack and a gateway of its own; the same texts both ways. Blocks for minutes; raises TriremeError."""
    texts = make_texts(REQUESTS * BATCH, seed)
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    with tempfile.TemporaryDirectory(prefix="trireme-") as name:
        folder = Path(name)
        settings = make_settings(folder / "data")
        show_progress_note("Starting PostgreSQL and tritonserver on free ports")
        with Stack(settings) as stack:
            more = choose_ports(settings)
            with start_gateway(None, folder / "gateway", stack.database_url, more) as server:
                return asyncio.run(_compare(server, settings.grpc_url, batches, rounds))


def choose_ports(settings: Settings) -> dict[str, str]:
    """The variables by which a gateway finds the tritonserver of `settings`."""
    names = ("TRIREME_HOST", "TRIREME_HTTP_PORT", "TRIREME_GRPC_PORT", "TRIREME_METRICS_PORT")
    return {name: value for name, value in environment(settings).items() if name in names}


async def _compare(
    server: Server, grpc_url: str, batches: Sequence[Sequence[str]], rounds: int
) -> EmbeddingRates:
    import aiohttp

    from trireme.triton.async_client import AsyncTritonClient

    rates: dict[str, list[float]] = {"gateway": [], "gRPC": []}
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    base = f"http://{HOST}:{server.port}"
    async with (
        AsyncTritonClient(grpc_url) as client,
        aiohttp.ClientSession(base, connector=connector, headers=server.headers) as session,
    ):

        async def by_gateway(texts: Sequence[str]) -> np.ndarray:
            body = {"model": MODEL, "input": list(texts), "encoding_format": "base64"}
            async with session.post("/v1/embeddings", json=body) as response:
                answer = await response.json()
                if response.status != 200:
                    raise UnavailableError(f"/v1/embeddings answered {response.status}: {str(answer)[:200]}")
            return decode_vectors(answer)

        async def by_grpc(texts: Sequence[str]) -> np.ndarray:
            return (await client.infer(MODEL, {"text": [[text] for text in texts]}))["embedding"]

        ways: dict[str, Embed] = {"gateway": by_gateway, "gRPC": by_grpc}
        for embed in ways.values():
            await drive(embed, batches[:WARMUP])
        await check_same(ways, batches[0])
        for number in range(rounds):
            for name in list(ways) if number % 2 == 0 else list(reversed(ways)):
                rates[name].append(await drive(ways[name], batches))
            show_progress_note(
                ", ".join(f"{name} {values[-1]:.0f} texts/s" for name, values in rates.items())
            )
    return EmbeddingRates(IN_FLIGHT, BATCH, tuple(rates["gateway"]), tuple(rates["gRPC"]))


def decode_vectors(answer: dict[str, list[dict[str, str]]]) -> np.ndarray:
    """[texts, dimensions] of an answer of /v1/embeddings with base64."""
    rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]]
    return np.stack(rows)


async def check_same(ways: dict[str, Embed], texts: Sequence[str]) -> None:
    """Raises UnavailableError unless all ways give the same vectors."""
    made = [await embed(texts) for embed in ways.values()]
    if not all(np.allclose(made[0], other, atol=1e-3) for other in made[1:]):
        raise UnavailableError("the gateway's vectors are not those of tritonserver")


async def drive(embed: Embed, batches: Sequence[Sequence[str]]) -> float:
    """Texts a second over all batches, IN_FLIGHT requests at a time."""
    waiting = iter(batches)

    async def work() -> None:
        for batch in waiting:
            await embed(batch)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return sum(map(len, batches)) / (time.perf_counter() - began)
