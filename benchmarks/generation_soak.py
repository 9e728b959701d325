"""Mixed requests for a long time: short and long, streamed and not, cancelled and bad; memory is watched."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from typing import Any

import psutil

from trireme.errors import InvalidInputError, TriremeError
from trireme.triton.client import TritonClient
from trireme.triton.server import TritonServer

CLIENTS = 12
SAMPLE_SECONDS = 2.0
WORDS = ("trireme", "oars", "harbour", "漢字", "🙂", "stern", "rowing", "bronze", "ram", "hull")
BAD = ({"max_tokens": 0}, {"colour": "red"}, {"temperature": -1})


def soak(server: TritonServer, model: str, seconds: float, seed: int) -> dict[str, Any]:
    """What happened in `seconds`; memory in MB (1e6 bytes) is the resident set of the server and its children."""
    ends = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    threads = [
        threading.Thread(target=_ask, args=(server, model, ends, seed * 1000 + number, counts))
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    samples: list[float] = []
    while time.monotonic() < ends:
        time.sleep(SAMPLE_SECONDS)
        samples.append(_memory_mb(server.pid))
        if len(samples) % 15 == 0:
            print(f"{samples[-1]:.0f} MB, {dict(counts)}", file=sys.stderr)
    for thread in threads:
        thread.join()
    tenth = max(1, len(samples) // 10)
    return {
        "seconds": seconds,
        "clients": CLIENTS,
        "requests": sum(counts.values()),
        **{name: counts[name] for name in ("answered", "cancelled", "refused", "failed")},
        "rss_mb_early": round(max(samples[tenth : 2 * tenth] or samples), 1),
        "rss_mb_late": round(max(samples[-tenth:]), 1),
        "rss_mb_most": round(max(samples), 1),
        "rss_mb": [round(sample, 1) for sample in samples[:: max(1, len(samples) // 60)]],
    }


def _ask(server: TritonServer, model: str, ends: float, seed: int, counts: Counter[str]) -> None:
    draw = random.Random(seed)  # noqa: S311
    with TritonClient(f"{server.config.host}:{server.config.grpc_port}", timeout=300) as client:
        while time.monotonic() < ends:
            counts[_one_request(client, model, draw)] += 1


def _one_request(client: TritonClient, model: str, draw: random.Random) -> str:
    """Sends one request and says how it ended."""
    is_bad = draw.random() < 0.05
    sampling: dict[str, Any] = {"max_tokens": int(2 ** draw.uniform(0, 8)), "ignore_eos": True}
    if draw.random() < 0.5:
        sampling |= {"temperature": 0.8, "top_p": 0.9, "seed": draw.randrange(10**6)}
    if is_bad:
        sampling |= draw.choice(BAD)
    text = " ".join(draw.choices(WORDS, k=int(2 ** draw.uniform(0, 8))))
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
