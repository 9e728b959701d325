"""What open consoles cost the gateway: processor time of its process with and without those who watch /v1/live."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.report import DOCS, RESULTS, read_circumstances, render, write_json, write_section
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_server
from benchmarks.gateway.measure import Upstream
from benchmarks.gateway.ours import create_key, make_environ, start_budgeted, start_database
from benchmarks.gateway.servers import HOST, Server
from benchmarks.gateway.upstream import MODEL, Pace
from trireme.errors import UnavailableError

# Nothing is drawn.
SEED = 0
SETTLE_S = 3.0
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "row"}], "stream": True, "max_tokens": 32}


@dataclass(slots=True)
class Console:
    """One that watches. first: bytes until the first figures of now; later: behind them; told: `now` events."""

    first: int = 0
    later: int = 0
    told: int = 0


async def watch(port: int, secret: str, console: Console) -> None:
    """Reads a stream until it is cancelled. Raises UnavailableError where it ends by itself."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
    try:
        writer.write(f"GET /v1/live HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: {secret}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head:
            raise UnavailableError(f"the gateway gives no stream: {head.splitlines()[0].decode()}")
        while part := await reader.read(1 << 16):
            if console.told:
                console.later += len(part)
            else:
                console.first += len(part)
            console.told += part.count(b"event: now")
        raise UnavailableError("a stream has ended")
    finally:
        writer.close()


async def send_chats(server: Server, rate: float) -> None:
    """One chat after the other, `rate` a second, until it is cancelled: figures are made of something."""
    raw = json.dumps(CHAT).encode()
    head = [f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\nconnection: close"]
    head += [f"{name}: {value}" for name, value in server.headers.items()]
    request = "\r\n".join([*head, f"content-length: {len(raw)}", "", ""]).encode() + raw
    while True:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(request)
        await reader.read()
        writer.close()
        await asyncio.sleep(1 / rate)


async def measure(
    server: Server, secrets: Sequence[str], seconds: float, rate: float
) -> tuple[float, list[Console]]:
    """Share of a core that the gateway takes while `secrets` watch, one console each."""
    consoles = [Console() for _ in secrets]
    tasks = [
        asyncio.create_task(watch(server.port, secret, console))
        for secret, console in zip(secrets, consoles, strict=True)
    ]
    tasks.append(asyncio.create_task(send_chats(server, rate)))
    try:
        await asyncio.sleep(SETTLE_S)
        before = [console.told for console in consoles]
        began, cpu = time.monotonic(), server.read_cpu_s()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        share = (server.read_cpu_s() - cpu) / took
        for task in tasks:
            if task.done():
                task.result()
        if any(console.told - had < 0.8 * took for console, had in zip(consoles, before, strict=True)):
            raise UnavailableError("a console was told less than once a second; the machine is too busy")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return share, consoles


def run(arguments: argparse.Namespace, words: list[str]) -> None:
    """Measure, and write the page's section."""
    seen = read_circumstances("benchmarks.gateway.live", words, SEED)
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="trireme-")))
        for name in arguments.models:
            shutil.copytree(arguments.repository / name, folder / "models" / name)
        triton = resources.enter_context(start_server(folder / "models"))
        upstream = Upstream(Pace(delay_s=0.02), folder)
        resources.callback(upstream.stop)
        url = resources.enter_context(start_database(folder / "db"))
        config = triton.config
        ports = {"HTTP": config.http_port, "GRPC": config.grpc_port, "METRICS": config.metrics_port}
        more = {f"TRIREME_{name}_PORT": str(port) for name, port in ports.items()}
        server = resources.enter_context(start_budgeted(upstream.server.port, folder, url, more))[0]
        environ = make_environ(folder, server.port, url, {})
        admin = create_key(environ, folder, "--endpoint", "admin")
        tenants = [
            create_key(environ, folder, "--tenant", f"tenant{number}") for number in range(arguments.consoles)
        ]
        ways = {
            "none": [],
            f"{arguments.consoles} of one scope": [admin] * arguments.consoles,
            f"{arguments.consoles} of as many tenants": tenants,
        }
        shares: dict[str, list[float]] = {name: [] for name in ways}
        seen_consoles: dict[str, Console] = {}
        for number in range(arguments.rounds):
            for name, secrets in ways.items():
                share, consoles = asyncio.run(measure(server, secrets, arguments.seconds, arguments.rate))
                shares[name].append(share)
                if consoles:
                    seen_consoles[name] = consoles[0]
                print(json.dumps({"round": number, "consoles": name, "share": round(share, 4)}), flush=True)
    values = summarize(shares, seen_consoles, arguments)
    print(json.dumps(values))
    if arguments.print:
        return
    write_json(RESULTS / "live.json", {**values, "shares": shares, "circumstances": dataclasses.asdict(seen)})
    write_section(DOCS / "console.md", "live", render("gateway/live.md.j2", **values, seen=seen))


def summarize(
    shares: dict[str, list[float]], consoles: dict[str, Console], arguments: argparse.Namespace
) -> dict[str, object]:
    """Medians, and what watching adds, round by round."""
    none, one_scope = shares["none"], list(shares)[1]
    added = {
        name: [share - base for share, base in zip(found, none, strict=True)]
        for name, found in shares.items()
    }
    rows = [
        {
            "name": name,
            "share": statistics.median(found),
            "more": statistics.median(added[name]),
            "bytes": consoles[name].later / (arguments.seconds + SETTLE_S) if name in consoles else 0.0,
        }
        for name, found in shares.items()
    ]
    return {
        "consoles": arguments.consoles,
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "rate": arguments.rate,
        "rows": rows,
        "least": min(added[one_scope]),
        "most": max(added[one_scope]),
        "first": consoles[one_scope].first,
        "models": ", ".join(arguments.models),
    }


def main() -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--consoles", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=5.0, help="chats a second meanwhile")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--models", nargs="+", default=["embedding"], help="that Triton serves")
    parser.add_argument("--print", action="store_true", help="print the figures and write nothing")
    return run_script(parser, run)


if __name__ == "__main__":
    raise SystemExit(main())
