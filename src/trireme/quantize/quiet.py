"""Keeps the libraries quiet: their talk in a log file, their waiting threads off the cores."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


def wait_passively() -> None:
    """Sets OMP_WAIT_POLICY for this process, where nobody has; it counts only before torch is imported.

    A thread that spins after its part of a product takes the core from the one it waits for, on a busy machine.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Sends file descriptors 1 and 2, of this process and its threads, to the end of `log`.

    What must reach people meanwhile goes through a stream of `keep_stderr`, made before.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    _flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    try:
        with log.open("ab") as stream:
            for number, _ in saved:
                os.dup2(stream.fileno(), number)
        yield
    finally:
        _flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


@contextlib.contextmanager
def keep_stderr() -> Iterator[TextIO]:
    """A stream to where stderr points now, whatever happens to descriptor 2 later."""
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as stream:
        yield stream


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError):
            stream.flush()
