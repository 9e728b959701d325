"""Mixed requests for a long time: short and long, streamed and not, cancelled and bad; memory is watched.

Memory is told apart by process (tritonserver, Triton's Python stub, the engine's worker) and by kind: `private` is
what the process allocated itself, `shared` what it shares with others, such as the stub's messages to the server.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from trireme.errors import InvalidInputError, TriremeError
from trireme.triton.client import TritonClient
from trireme.triton.server import TritonServer

CLIENTS = 12
SAMPLE_SECONDS = 2.0
WORDS = ("trireme", "oars", "harbour", "漢字", "🙂", "stern", "rowing", "bronze", "ram", "hull")
BAD = ({"max_tokens": 0}, {"colour": "red"}, {"temperature": -1})
KINDS = {"RssAnon": "private", "RssShmem": "shared"}


def soak(server: TritonServer, model: str, seconds: float, seed: int, longest: int = 256) -> dict[str, Any]:
    """What happened in `seconds`; memory in MB (1e6 bytes) is the resident set of the server and its children.

    longest: tokens of the longest answer and words of the longest prompt; small ones make many requests.
    """
    began = time.monotonic()
    ends = began + seconds
    counts: Counter[str] = Counter()
    url = f"{server.config.host}:{server.config.grpc_port}"
    ask = partial(_ask, url, model, ends, longest)
    threads = [
        threading.Thread(target=ask, args=(random.Random(seed * 1000 + number), counts))  # noqa: S311
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    samples: list[float] = []
    parts: list[dict[str, float]] = []
    while time.monotonic() < ends:
        time.sleep(SAMPLE_SECONDS)
        samples.append(_memory_mb(server.pid))
        parts.append({"at": time.monotonic() - began, "requests": counts.total(), **_parts_mb(server.pid)})
        if len(samples) % 15 == 0:
            print(f"{samples[-1]:.0f} MB, {parts[-1]}, {dict(counts)}", file=sys.stderr)
    for thread in threads:
        thread.join()
    tenth = max(1, len(samples) // 10)
    every = max(1, len(samples) // 60)
    return {
        "seconds": seconds,
        "clients": CLIENTS,
        "requests": sum(counts.values()),
        **{name: counts[name] for name in ("answered", "cancelled", "refused", "failed")},
        "rss_mb_early": round(max(samples[tenth : 2 * tenth] or samples), 1),
        "rss_mb_late": round(max(samples[-tenth:]), 1),
        "rss_mb_most": round(max(samples), 1),
        "rss_mb": [round(sample, 1) for sample in samples[::every]],
        "parts": [{name: round(value, 1) for name, value in part.items()} for part in parts[::every]],
    }


def _ask(  # noqa: PLR0917 - the first four are bound once
    url: str, model: str, ends: float, longest: int, draw: random.Random, counts: Counter[str]
) -> None:
    with TritonClient(url, timeout=300) as client:
        while time.monotonic() < ends:
            counts[_one_request(client, model, draw, longest)] += 1


def _one_request(client: TritonClient, model: str, draw: random.Random, longest: int) -> str:
    """Sends one request and says how it ended."""
    is_bad = draw.random() < 0.05
    powers = math.log2(longest)
    sampling: dict[str, Any] = {"max_tokens": int(2 ** draw.uniform(0, powers)), "ignore_eos": True}
    if draw.random() < 0.5:
        sampling |= {"temperature": 0.8, "top_p": 0.9, "seed": draw.randrange(10**6)}
    if is_bad:
        sampling |= draw.choice(BAD)
    text = " ".join(draw.choices(WORDS, k=int(2 ** draw.uniform(0, powers))))
    stops_after = draw.randrange(1, 20) if draw.random() < 0.2 else None
    parts = client.generate(text, sampling=sampling, stream=draw.random() < 0.8, model=model)
    try:
        for number, part in enumerate(parts):
            if stops_after is not None and number >= stops_after and not part.finish_reason:
                parts.close()
                return "cancelled"
    except InvalidInputError:
        return "refused" if is_bad else "failed"
    except TriremeError as error:
        print(f"failed: {error}", file=sys.stderr)
        return "failed"
    return "failed" if is_bad else "answered"


def _memory_mb(pid: int) -> float:
    """Resident memory of the process and all its children."""
    total = 0
    main = psutil.Process(pid)
    for process in (main, *main.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def _parts_mb(pid: int) -> dict[str, float]:
    """Private and shared memory of each process, by a name for it: "stub private" and the like."""
    parts: dict[str, float] = {}
    main = psutil.Process(pid)
    for process in (main, *main.children(recursive=True)):
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            words = " ".join(process.cmdline())
        except (OSError, psutil.NoSuchProcess):
            continue
        name = "server" if process is main else "stub" if "backend_stub" in words else "worker"
        for line in lines:
            field, _, value = line.partition(":")
            if field in KINDS:
                key = f"{name} {KINDS[field]}"
                parts[key] = parts.get(key, 0.0) + int(value.split()[0]) * 1024 / 1e6
    return parts
