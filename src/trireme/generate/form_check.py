"""Whether the openvino engine can hold an answer to a form: asked of a process beside it, once for each form."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import resource
import select
import signal
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.generate.engine import EngineRequest, StructuredOutput

# Forms whose result is known without asking; 64 KiB each at most.
REMEMBERED = 256
# Of the process; it takes 145 MB where it has nothing to do.
MEMORY_BYTES = 2 << 30
LOOK_SECONDS = 0.1
# Of one that takes no processor time either.
STUCK_SECONDS = 180.0
# From the end of what it says until it is gone.
END_SECONDS = 5.0

Answer = Callable[[EngineRequest, TriremeError | None], None]

_log = logging.getLogger(__name__)


class FormCheck:
    """One process (see openvino_forms), which starts with the first form, and a thread that asks it."""

    def __init__(self, command: list[str], model_dir: Path, owner_pid: int, answer: Answer) -> None:
        """answer: called in the thread with a request and what is wrong with its form, or None."""
        self._command = [*command, "-m", "trireme.generate.openvino_forms", str(model_dir), str(owner_pid)]
        self._answer = answer
        self._known: OrderedDict[StructuredOutput, str] = OrderedDict()
        self._asked: queue.SimpleQueue[EngineRequest | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="openvino-forms", daemon=True)
        self._thread.start()

    def ask(self, request: EngineRequest) -> None:
        """`answer` hears of it. Does not block."""
        self._asked.put(request)

    def close(self) -> None:
        """End the process and the thread. Safe to call twice."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()
        self._asked.put(None)
        self._thread.join()
        self._end()

    def _run(self) -> None:
        while (request := self._asked.get()) is not None:
            error: TriremeError | None
            try:
                error = self._find(request.sampling.structured)
            except TriremeError as raised:
                error = raised
            except Exception:
                _log.exception("a form could not be tried")
                error = UnavailableError(
                    "the form of the answer could not be tried; send it again in a minute"
                )
            self._answer(request, error)

    def _find(self, form: StructuredOutput | None) -> TriremeError | None:
        if form is None:
            return None
        if form in self._known:
            self._known.move_to_end(form)
        else:
            self._known[form] = self._ask(form)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        fault = self._known[form]
        return (
            InvalidInputError(f"the engine cannot hold an answer to this {form.kind}: {fault}")
            if fault
            else None
        )

    def _ask(self, form: StructuredOutput) -> str:
        process = self._start()
        line = json.dumps(asdict(form)).encode() + b"\n"
        with contextlib.suppress(OSError):
            _pipe(process.stdin).write(line)
            _pipe(process.stdin).flush()
        until, is_ours = time.monotonic() + STUCK_SECONDS, False
        while not select.select([_pipe(process.stdout)], [], [], LOOK_SECONDS)[0]:
            # No limit of the process's own: thread stacks of the server's size would count for it.
            if _memory_bytes(process.pid) > MEMORY_BYTES or time.monotonic() > until:
                is_ours = True
                process.kill()
        said = _pipe(process.stdout).readline()
        if said.endswith(b"\n"):
            return str(json.loads(said)["fault"])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        self._end()
        if self._is_closed:
            raise UnavailableError("the LLM engine is closed; load the model again")
        # By the system, for want of memory elsewhere, or by a person: nothing that is to be remembered of the form.
        if process.returncode == -signal.SIGKILL and not is_ours:
            raise UnavailableError(
                "the process that tries forms was killed; send the request again in a minute"
            )
        return (
            "it takes too much time or memory to compile; lower its lengths and repeats, or make it smaller"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        """The process. Raises UnavailableError, and InvalidInputError where the model takes no forms."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the LLM engine is closed; load the model again")
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._process = process
        said = _pipe(process.stdout).readline()
        first = json.loads(said) if said.endswith(b"\n") else {}
        if "ready" not in first:
            self._end()
            if "failed" in first:
                raise InvalidInputError(f"this model's answers can be held to no form: {first['failed']}")
            raise UnavailableError("the process that tries forms did not start; the log may say why")
        return process

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _memory_bytes(pid: int) -> int:
    """What a process has in memory; 0 where there is none."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


def _pipe(pipe: Any) -> Any:
    assert pipe is not None  # noqa: S101 - for the type checker
    return pipe
