"""A link between two network namespaces in user space, over TUN: delay, jitter and loss, changed while it runs.

The system's own (netem of tc) is not in every kernel. The packets are carried by a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path as File
from typing import Any

from benchmarks.regions.delays import CUT, DelayQueue, Path
from benchmarks.regions.namespaces import Namespace
from trireme.errors import UnavailableError

PROJECT = File(__file__).resolve().parents[2]
# 198.18.0.0/15 is for such networks; each link has four addresses of it.
_NETWORKS = count()
# Packets read of one end before the others have their turn.
_AT_ONCE = 64
_LONGEST_PACKET = 65_535
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Carried:
    """Packets so far, both ways."""

    carried: int
    lost: int


class Link:
    """Two ends, each with an address in its namespace: `near` in the first one, `far` in the second. Close it."""

    def __init__(self, first: Namespace, second: Namespace, path: Path, seed: int = 0) -> None:
        """Blocks until it carries packets. Raises UnsupportedError where there is no TUN."""
        self.path = path
        number = next(_NETWORKS)
        self.near, self.far = (f"198.18.{number // 64}.{4 * (number % 64) + end}" for end in (1, 2))
        files = [first.open_tun(self.near), second.open_tun(self.far)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.regions.links", *map(str, files), "--seed", str(seed)],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=files,
            )
        finally:
            for file in files:
                os.close(file)
        self.set(path)

    @property
    def pid(self) -> int:
        """Of the process that carries its packets."""
        return self._process.pid

    def set(self, path: Path) -> Carried:
        """From now on it is so. Blocks until it is. Raises UnavailableError where its process has ended."""
        self.path = path
        return self._ask(dataclasses.asdict(path))

    def cut(self) -> None:
        """Nothing passes any more, and nothing is refused."""
        self._ask({**dataclasses.asdict(self.path), "loss_percent": CUT})

    def heal(self) -> None:
        """It is again as it was set."""
        self._ask(dataclasses.asdict(self.path))

    def close(self) -> None:
        """Ends it and its devices. Safe to call twice."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, path: dict[str, float]) -> Carried:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(path) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError) as error:
            raise UnavailableError(f"the link has ended: {error}") from None
        if not line:
            raise UnavailableError("the link has ended")
        return Carried(**json.loads(line))


def carry(ends: tuple[int, int], queue: DelayQueue) -> None:
    """Carries packets between two TUN files until stdin ends; a line of it says how the link is from then on."""
    control = sys.stdin.fileno()
    while True:
        due = queue.next_due()
        wait = None if due is None else max(0.0, due - time.monotonic())
        # Not poll or epoll, whose time-outs are whole milliseconds.
        ready, _, _ = select.select([control, *ends], [], [], wait)
        if control in ready:
            line = sys.stdin.readline()
            if not line:
                return
            queue.path = Path(**json.loads(line))
            print(json.dumps({"carried": queue.carried, "lost": queue.lost}), flush=True)
        for at, end in enumerate(ends):
            if end in ready:
                _read(end, 1 - at, queue)
        for at, packet in queue.take(time.monotonic()):
            _write(ends[at], packet)


def _read(end: int, to: int, queue: DelayQueue) -> None:
    for _ in range(_AT_ONCE):
        try:
            packet = os.read(end, _LONGEST_PACKET)
        except BlockingIOError:
            return
        queue.put(packet, to, time.monotonic())


def _write(end: int, packet: bytes) -> None:
    try:
        os.write(end, packet)
    except OSError:
        # Its queue is full, or the namespace has gone: the packet is lost.
        return


def main(words: list[str] | None = None) -> int:
    """The process of a link. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ends", type=int, nargs=2, metavar="FILE", help="open files of two TUN devices")
    parser.add_argument("--seed", type=int, default=0, help="of jitter and loss")
    options: Any = parser.parse_args(words)
    # Ctrl-C is for the one that started it, whose end is seen on stdin.
    try:
        carry(tuple(options.ends), DelayQueue(Path(), options.seed))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
