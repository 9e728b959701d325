"""Mixed requests for a long time: short and long, streamed and not, cancelled and bad; memory is watched.

Memory is told apart by process (tritonserver, Triton's Python stub, the engine's worker) and by kind: `private` is
what the process allocated itself, `shared` what it shares with others, such as the stub's messages to the server.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

import psutil

from benchmarks.common.processes import list_family, read_status
from benchmarks.common.report import show_progress_note
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
        total, by_part = read_memory(server.pid)
        samples.append(total)
        parts.append({"at": time.monotonic() - began, "requests": counts.total(), **by_part})
        if len(samples) % 15 == 0:
            show_progress_note(f"{samples[-1]:.0f} MB, {parts[-1]}, {dict(counts)}")
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
        show_progress_note(f"failed: {error}")
        return "failed"
    return "failed" if is_bad else "answered"


def read_memory(server: int) -> tuple[float, dict[str, float]]:
    """MB resident of the server and all below it; private and shared MB by part: "stub private" and the like."""
    total, parts = 0.0, Counter[str]()
    for process in list_family(server):
        # A process may end meanwhile.
        with contextlib.suppress(OSError, psutil.Error):
            name = "stub" if process.name().startswith("triton_python") else "worker"
            found = read_status(process.pid, "VmRSS", *KINDS)
            total += found.pop("VmRSS", 0) / 1e6
            for field, size in found.items():
                key = f"{'server' if process.pid == server else name} {KINDS[field]}"
                parts[key] += size / 1e6
    return total, dict(parts)
