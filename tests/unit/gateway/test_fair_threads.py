import asyncio
import gc
import threading
import time

import pytest

from trireme.errors import UnavailableError
from trireme.gateway.fair_threads import FairThreads


def test_no_group_keeps_another_waiting_for_all_of_its_calls():
    ended, opened = [], threading.Event()

    def work(name):
        opened.wait(30)
        ended.append(name)

    async def run():
        threads = FairThreads(2, "test")
        calls = [asyncio.create_task(threads.run("a", work, f"a{n}")) for n in range(9)]
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(threads.run("b", work, "b")))
        await asyncio.sleep(0)
        opened.set()
        await asyncio.gather(*calls)
        await threads.close()

    asyncio.run(run())
    # Two of the other group had begun.
    assert ended.index("b") <= 3


def test_what_was_begun_keeps_its_turn_though_nobody_waits_for_it():
    begun, opened = threading.Event(), threading.Event()
    ended = []

    def work(name):
        begun.set()
        opened.wait(30)
        ended.append(name)

    async def run():
        threads = FairThreads(1, "test")
        first = asyncio.create_task(threads.run("a", work, "first"))
        await asyncio.to_thread(begun.wait, 30)
        first.cancel()
        second = asyncio.create_task(threads.run("a", work, "second"))
        waiting = asyncio.create_task(threads.run("a", work, "left"))
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.sleep(0)
        waiting.cancel()
        assert ended == []
        opened.set()
        await second
        await threads.close()

    asyncio.run(run())
    assert ended == ["first", "second"]


def test_what_the_work_raises_is_raised():
    async def run():
        threads = FairThreads(1, "test")
        with pytest.raises(ZeroDivisionError):
            await threads.run("a", lambda: 1 / 0)
        assert await threads.run("a", int, "7") == 7
        await threads.close()

    asyncio.run(run())


def test_a_fault_that_nobody_waits_for_is_no_traceback_in_the_log(caplog):
    begun, opened = threading.Event(), threading.Event()

    def work():
        begun.set()
        opened.wait(30)
        raise UnavailableError("the database does not answer")

    async def run():
        threads = FairThreads(1, "test")
        call = asyncio.create_task(threads.run("a", work))
        await asyncio.to_thread(begun.wait, 30)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        opened.set()
        # The next one has its turn once that one has ended.
        assert await threads.run("a", int, "7") == 7
        await threads.close()
        gc.collect()

    asyncio.run(run())
    assert caplog.text == ""


def test_what_is_not_waited_for_holds_up_no_end(caplog):
    begun, opened = threading.Event(), threading.Event()
    ended = []

    def work():
        begun.set()
        opened.wait(30)
        ended.append("work")

    async def run():
        threads = FairThreads(1, "test")
        call = asyncio.create_task(threads.run("a", work))
        await asyncio.to_thread(begun.wait, 30)
        call.cancel()
        await threads.close(waits=False)
        ended.append("close")

    asyncio.run(run())
    ended.append("loop")
    opened.set()
    while len(ended) < 3:
        time.sleep(0.01)
    assert ended == ["close", "loop", "work"]
    assert caplog.text == ""
