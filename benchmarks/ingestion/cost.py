"""What ingestion costs beside the embedding: the embedder alone, and the processor time of each part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from benchmarks.common.processes import read_family_time
from benchmarks.common.report import show_progress_note
from trireme.ingest.encoder import Encoder
from trireme.ingest.throttle import Throttle
from trireme.ingest.worker import SENDERS
from trireme.served_encoders import ServedEncoders
from trireme.settings import Settings
from trireme.stack import Stack
from trireme.storage import open_store

ALONE_ROUNDS = 3


def measure_alone(settings: Settings, url: str, texts: Sequence[str]) -> tuple[float, ...]:
    """Texts/s of each round, with as many senders as a worker has and requests of the same tokens."""
    with closing(open_store(url)) as store, closing(ServedEncoders(settings, store)) as encoders:
        encoder = encoders.open(encoders.default)
        rates = []
        # The first round warms up.
        for _ in range(1 + ALONE_ROUNDS):
            began = time.perf_counter()
            _embed_all(encoder, texts)
            rates.append(len(texts) / (time.perf_counter() - began))
            show_progress_note(f"Embedding alone: {rates[-1]:.0f} texts/s")
    return tuple(rates[1:])


def _embed_all(encoder: Encoder, texts: Sequence[str]) -> None:
    throttle = Throttle(lambda: None)
    counted = iter(zip(texts, encoder.count(texts), strict=True))
    lock = threading.Lock()

    def take() -> tuple[list[str], int]:
        with lock:
            left, batch, tokens = throttle.budget(), [], 0
            while tokens < left and (following := next(counted, None)) is not None:
                batch.append(following[0])
                tokens += following[1]
            return batch, tokens

    def send() -> None:
        while (taken := take())[0]:
            began = time.monotonic()
            encoder.embed(taken[0])
            throttle.record(taken[1], time.monotonic() - began)

    with ThreadPoolExecutor(SENDERS) as pool:
        for sender in [pool.submit(send) for _ in range(SENDERS)]:
            sender.result()


class CpuTimes:
    """Processor seconds of server, database and this process, while it is entered and `goes_on`."""

    def __init__(self, stack: Stack, goes_on: Callable[[], bool]) -> None:
        assert stack.postgres is not None
        database = int(
            (stack.settings.data_dir.resolve() / "postgres" / "cluster" / "postmaster.pid")
            .read_text()
            .split()[0]
        )
        self._roots = {"tritonserver": stack.server.pid, "PostgreSQL": database}
        self._goes_on = goes_on
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> CpuTimes:
        self._before = self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._goes_on() and not self._ended.wait(0.2):
            continue
        self.seconds = {name: seconds - self._before[name] for name, seconds in self._read().items()}

    def _read(self) -> dict[str, float]:
        seconds = {name: read_family_time(root) for name, root in self._roots.items()}
        return {"the worker, in this benchmark's process": time.process_time(), **seconds}
