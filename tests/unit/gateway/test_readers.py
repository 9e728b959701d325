"""Child processes that answer one task each: what they do to themselves concerns nobody else."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.upload_readers import answer
from trireme.errors import DeadlineError, UnavailableError
from trireme.gateway.readers import Readers


def with_readers(work, count=1, seconds=60.0, most_tasks=100):
    """Runs `work(readers)`, and checks that no process outlives it."""

    async def run():
        readers = Readers(answer, ("hello",), count, seconds, most_tasks)
        try:
            return await work(readers)
        finally:
            await readers.close()
            await readers.close()

    result = asyncio.run(run())
    assert not [child for child in multiprocessing.active_children() if child.name == "trireme-reader"]
    return result


async def ask(readers, task):
    greeting, said, pid = (await readers.run(task.encode())).decode().split()
    assert (greeting, said) == ("hello", task)
    return int(pid)


def test_one_process_is_kept_for_the_next_tasks():
    async def work(readers):
        assert await ask(readers, "a") == await ask(readers, "b")

    with_readers(work)


def test_a_process_that_dies_fails_its_own_task_and_no_other():
    async def work(readers):
        before = await ask(readers, "a")
        died, other = await asyncio.gather(readers.run(b"die"), ask(readers, "b"), return_exceptions=True)
        assert isinstance(died, UnavailableError)
        assert isinstance(other, int) and other != before
        assert await ask(readers, "c") == other

    with_readers(work)


@pytest.mark.parametrize("task", ["hang", "spin"])
def test_a_process_that_hangs_is_ended_after_its_time(task):
    async def work(readers):
        with pytest.raises(DeadlineError, match="more than 3 s"):
            await readers.run(task.encode())

    with_readers(work, seconds=3.0)


def test_an_answer_without_end_is_not_read():
    async def work(readers):
        with pytest.raises(UnavailableError):
            await readers.run(b"flood")
        await ask(readers, "a")

    with_readers(work)


def test_a_cancelled_task_ends_its_process_and_frees_its_place():
    async def work(readers):
        before = await ask(readers, "a")
        task = asyncio.create_task(readers.run(b"hang"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.2)
        assert await ask(readers, "b") != before

    with_readers(work)


def test_a_task_that_is_cancelled_while_it_waits_ends_no_process():
    async def work(readers):
        first = asyncio.create_task(readers.run(b"hang"))
        await asyncio.sleep(0)
        second = asyncio.create_task(readers.run(b"b"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert second.cancelled() and first.cancelled()
        await ask(readers, "c")

    with_readers(work)


def test_a_process_is_replaced_after_its_last_task():
    async def work(readers):
        pids = [await ask(readers, "a") for _ in range(4)]
        assert pids[0] == pids[1] != pids[2] == pids[3]

    with_readers(work, most_tasks=2)


def test_a_process_that_ended_while_it_was_idle_costs_no_task():
    async def work(readers):
        before = await ask(readers, "a")
        (child,) = [one for one in multiprocessing.active_children() if one.pid == before]
        child.kill()
        child.join()
        assert await ask(readers, "b") != before

    with_readers(work)


def test_closing_breaks_off_what_runs():
    async def work(readers):
        task = asyncio.create_task(readers.run(b"hang"))
        await asyncio.sleep(0.1)
        await readers.close()
        with pytest.raises(UnavailableError):
            await task
        with pytest.raises(UnavailableError, match="stops"):
            await readers.run(b"a")

    with_readers(work)


def test_arguments_of_a_process_stand_in_no_list_of_processes():
    async def work():
        readers = Readers(answer, ("canary-5d2",), 1, 60.0, 9)
        try:
            greeting, _, pid = (await readers.run(b"a")).decode().split()
            return greeting, Path(f"/proc/{pid}/cmdline").read_bytes()
        finally:
            await readers.close()

    greeting, arguments = asyncio.run(work())
    assert greeting == "canary-5d2"
    assert b"spawn" in arguments
    assert b"canary" not in arguments


KILLED = """
import asyncio, os, signal
from fakes.upload_readers import answer
from trireme.gateway.readers import Readers

async def main():
    readers = Readers(answer, ("hello",), 1, 60.0, 9)
    print((await readers.run(b"a")).decode(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_no_process_outlives_a_gateway_that_is_killed(tmp_path):
    script = tmp_path / "gateway.py"
    script.write_text(KILLED)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    gateway = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environ)
    # Its children have the pipe too: this returns when the last one has ended.
    said, _ = gateway.communicate(timeout=60)
    assert gateway.returncode == -signal.SIGKILL
    assert said.startswith(b"hello a ")
