"""Processes that take one task each, bytes in and bytes out; one that dies or hangs is replaced."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from trireme.errors import DeadlineError, UnavailableError
from trireme.gateway.turns import Turns

ANSWER_BYTES = 1 << 20
TAKEN = b"taken"


def take_task(connection: Connection) -> bytes:
    """In a child: the next task, which counts as begun now. Raises EOFError when none comes any more."""
    task = connection.recv_bytes()
    connection.send_bytes(TAKEN)
    return task


class Readers:
    """At most `count` child processes, started when there is a task and kept for the next ones.

    One task at a time for each: whatever it does to its process concerns nobody else. Belongs to one event loop.
    """

    def __init__(
        self,
        serve: Callable[..., None],
        arguments: tuple[Any, ...],
        count: int,
        seconds: float,
        most_tasks: int,
    ) -> None:
        """serve(connection, *arguments): runs in a child; importable by name, its arguments picklable. For each
        `take_task` it sends one answer.

        seconds: of one task, the start of a process included. most_tasks: after so many a process is replaced.
        """
        self._serve = serve
        self._arguments = arguments
        self._seconds = seconds
        self._most_tasks = most_tasks
        self._turns = Turns(count)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._is_closed = False
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="reader")

    async def run(self, task: bytes, group: str = "") -> bytes:
        """The answer to `task`. Waits for a free process; the group that has the fewest is served next.

        Raises DeadlineError after the task's seconds and UnavailableError where the process ends. Both, and a
        cancel, end that process.
        """
        async with self._turns.turn(group):
            while True:
                child = self._take()
                tasks = child.tasks
                is_whole = False
                try:
                    answer = await self._ask(child, task)
                    is_whole = child.tasks < self._most_tasks
                    return answer
                except (EOFError, OSError):
                    # One that ended while it was idle has not seen the task.
                    if tasks == 0 or child.tasks > tasks:
                        raise UnavailableError(
                            "the process that read this file ended before it had answered; try again, or split"
                            " the file"
                        ) from None
                finally:
                    if is_whole and not self._is_closed:
                        self._idle.append(child)
                    else:
                        self._replace(child)

    async def close(self) -> None:
        """End all processes, also those at work: their tasks raise UnavailableError. Safe to call twice."""
        self._is_closed = True
        children, self._idle = list(self._all), []
        for child in children:
            child.kill()
        await asyncio.to_thread(self._end, children)

    def _end(self, children: list[_Child]) -> None:
        for child in children:
            child.wait()
        self._threads.shutdown()

    def _take(self) -> _Child:
        """An idle process, or a new one."""
        if self._is_closed:
            raise UnavailableError("the gateway stops; try again")
        child = self._idle.pop() if self._idle else _Child(self._serve, self._arguments)
        self._all.add(child)
        return child

    def _replace(self, child: _Child) -> None:
        child.kill()
        self._all.discard(child)
        if not self._is_closed:
            # An ended process stays in the system's table until somebody has waited for it.
            self._threads.submit(child.wait)

    async def _ask(self, child: _Child, task: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            child.kill()

        timer = loop.call_later(self._seconds, give_up)
        try:
            return await loop.run_in_executor(self._threads, child.exchange, task)
        except (EOFError, OSError):
            if is_late:
                raise DeadlineError(
                    f"reading and publishing this file took more than {self._seconds:g} s; split it"
                ) from None
            raise
        finally:
            timer.cancel()


class _Child:
    """One process and our end of its pipe. `exchange` runs in a thread, `kill` may come from another.

    tasks: how many it has taken.
    """

    def __init__(self, serve: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._serve = serve
        self._arguments = arguments
        self._lock = threading.Lock()
        self._in_use = threading.Lock()
        self._process: Any = None
        self._connection: Any = None
        self._is_over = False
        self.tasks = 0

    def exchange(self, task: bytes) -> bytes:
        """Send a task and wait for its answer. Raises EOFError or OSError where the process ends."""
        with self._in_use:
            self._start()
            self._connection.send_bytes(task)
            self._connection.recv_bytes(len(TAKEN))
            self.tasks += 1
            answer: bytes = self._connection.recv_bytes(ANSWER_BYTES)
            return answer

    def kill(self) -> None:
        """End the process, at once and for good. Does not wait. Idempotent."""
        with self._lock:
            self._is_over = True
            if self._process is not None:
                self._process.kill()

    def wait(self) -> None:
        """Blocks until the killed process has ended, and frees what is left of it. Idempotent."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.join()
            # `exchange` has seen the end of its pipe by now, or will: nobody may close it under its hands.
            with self._in_use:
                self._connection.close()
            process.close()

    def _start(self) -> None:
        with self._lock:
            if self._is_over:
                raise EOFError
            if self._process is None:
                # Not fork: threads of gRPC and of the event loop run here.
                context = multiprocessing.get_context("spawn")
                self._connection, theirs = context.Pipe()
                self._process = context.Process(
                    target=self._serve, args=(theirs, *self._arguments), name="trireme-reader", daemon=True
                )
                self._process.start()
                # With our copy of it, their end would never be seen as closed.
                theirs.close()
