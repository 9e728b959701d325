"""The process that reads uploaded files and publishes them: JSON tasks in, JSON answers out.

A process of its own, because parsers are slow, hold Python's lock, and are fed by strangers: what hangs, crashes or
takes too much memory costs one request and this process.

Tasks: path, name, key, title, metadata and batch of an `Upload`, tenant, collection, and the fields of an Origin.
Answers: {"job": id}, or why there is none: {"refused": of the document}, {"invalid"}, {"unavailable"}, {"failed"}.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from trireme.documents.load import DEFAULT_LIMITS, Limits, load_file
from trireme.errors import DocumentError, InvalidInputError, UnavailableError
from trireme.gateway.readers import take_task
from trireme.ingest.queue import JobQueue, Origin
from trireme.ingest.submitted import file_document

# What the batch of jobs is called that a client of the gateway published.
BATCH = "gateway"
# The gateway ends a task that takes too long; where it is gone itself, the kernel does, so much later.
GRACE_SECONDS = 10
# Requests come first where cores are few.
NICENESS = 5


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """Of one file: seconds for reading and publishing it, memory that this takes at most, and its limits."""

    seconds: float = 120.0
    memory_bytes: int = 2 << 30
    limits: Limits = DEFAULT_LIMITS


def serve(connection: Connection, open_queue: Callable[[], JobQueue], options: ReaderOptions) -> None:
    """Work on the tasks of `connection` until its other end is closed. Sets this process's signals and limits."""
    # Ctrl-C is meant for the gateway, which ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    queue = open_queue()
    _bound(options.memory_bytes)
    while True:
        try:
            task = json.loads(take_task(connection))
        except EOFError:
            return
        signal.alarm(int(options.seconds) + GRACE_SECONDS)
        answer = json.dumps(answer_task(queue, task, options)).encode()
        signal.alarm(0)
        connection.send_bytes(answer)


def answer_task(queue: JobQueue, task: dict[str, Any], options: ReaderOptions) -> dict[str, str]:
    """Publish the file of a task in one transaction; see the module. Never raises."""
    try:
        return _publish(queue, task, options.limits)
    except DocumentError as error:
        return {"refused": str(error)}
    except MemoryError:
        most = options.memory_bytes >> 20
        return {"refused": f"reading it takes more than {most} MiB of memory; split it"}
    except InvalidInputError as error:
        return {"invalid": str(error)}
    except UnavailableError as error:
        return {"unavailable": str(error)}
    except Exception as error:
        # Its text may be a piece of the document: the log gets the place alone.
        return {"failed": _place(error)}


def _publish(queue: JobQueue, task: dict[str, Any], limits: Limits) -> dict[str, str]:
    loaded = load_file(Path(task["path"]), task["name"], limits).open()
    document = file_document(loaded, task["key"], task["title"], task["metadata"])
    origin = Origin(task["request"], task["parent"])
    (published,) = queue.publish(task["tenant"], task["collection"], [document], task["batch"], origin)
    return {"job": published.job} if published.job else {"refused": published.error}


def _place(error: Exception) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"


def _bound(memory_bytes: int) -> None:
    """At most `memory_bytes` more than now; behind others for the processor, first to go when memory runs out."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
        status = Path("/proc/self/status").read_text()
    except OSError:
        # A system without /proc: the time limit holds there too.
        return
    now = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:")), 0)
    resource.setrlimit(resource.RLIMIT_DATA, (now + memory_bytes, now + memory_bytes))
