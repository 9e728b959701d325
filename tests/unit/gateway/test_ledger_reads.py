"""Reads of the ledger: by turns, and none that its caller's end makes two."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from trireme.access.keys import Key
from trireme.gateway.ledger_reads import LedgerReads

ACME, OTHER = Key("a", "acme"), Key("o", "other")
ADMIN, ANOTHER_ADMIN = Key("x", "ops", endpoints=("admin",)), Key("y", "acme", endpoints=("admin",))


class Work:
    """Reads that run until they are let go, and count themselves."""

    def __init__(self):
        self._lock = threading.Lock()
        self.release = threading.Event()
        self.begun = []

    def __call__(self, name):
        with self._lock:
            self.begun.append(name)
        assert self.release.wait(60)
        return name

    async def wait_for(self, count):
        while len(self.begun) < count:
            await asyncio.sleep(0.001)
        # What should not begin has the time to.
        await asyncio.sleep(0.05)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def run(threads, steps, count=2, each=1):
    async def main():
        work = Work()
        reads = LedgerReads(threads, count, each)
        tasks = []

        def begin(key, name):
            tasks.append(asyncio.create_task(reads.read(key, work, name)))
            return tasks[-1]

        try:
            await steps(work, begin)
        finally:
            work.release.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_one_tenant_leaves_room_for_the_others_however_much_it_asks(threads):
    async def steps(work, begin):
        many = [begin(ACME, f"a{n}") for n in range(9)]
        await work.wait_for(1)
        assert work.begun == ["a0"]
        begin(OTHER, "o")
        await work.wait_for(2)
        assert work.begun == ["a0", "o"]
        work.release.set()
        assert await asyncio.gather(*many) == [f"a{n}" for n in range(9)]

    run(threads, steps)


def test_all_admins_are_one_group_beside_the_tenants(threads):
    async def steps(work, begin):
        begin(ADMIN, "x")
        begin(ANOTHER_ADMIN, "y")
        begin(ACME, "a")
        await work.wait_for(2)
        assert sorted(work.begun) == ["a", "x"]

    run(threads, steps, count=3)


def test_who_goes_away_gets_no_other_turn_before_the_work_has_ended(threads):
    async def steps(work, begin):
        for n in range(5):
            begin(ACME, f"a{n}").cancel()
            await asyncio.sleep(0)
        first = begin(ACME, "a")
        await work.wait_for(1)
        first.cancel()
        again = begin(ACME, "again")
        await work.wait_for(1)
        assert work.begun == ["a"]
        work.release.set()
        assert await again == "again"
        assert work.begun == ["a", "again"]

    run(threads, steps)


def test_what_the_work_raises_is_the_callers_and_ends_the_turn(threads):
    async def main():
        reads = LedgerReads(threads, 1, 1)

        def fail():
            raise ValueError("no")

        for _ in range(3):
            with pytest.raises(ValueError, match="no"):
                await reads.read(ACME, fail)
        assert await reads.read(OTHER, lambda: 5) == 5

    asyncio.run(main())
