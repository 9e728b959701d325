import asyncio

from trireme.errors import UnavailableError
from trireme.gateway.live.glance import Glance


class Source:
    """Gives what it is told to, when it is told to."""

    def __init__(self):
        self.now = 100.0
        self.asked = 0
        self.answer = "one"
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self):
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def glance(self):
        return Glance(self.read, 2.0, lambda: self.now)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_look_begins_to_read_and_the_next_one_has_it():
    async def run():
        source = Source()
        glance = source.glance()
        assert glance.look() is None
        await settle()
        assert glance.look() == "one"
        assert source.asked == 1
        source.now += 2.0
        source.answer = "two"
        assert glance.look() == "one"
        await settle()
        assert glance.look() == "two"

    asyncio.run(run())


def test_nobody_reads_while_nobody_looks_or_another_read_runs():
    async def run():
        source = Source()
        glance = source.glance()
        source.gate.clear()
        glance.look()
        await settle()
        source.now += 60
        for _ in range(3):
            assert glance.look() is None
            await settle()
        assert source.asked == 1
        await glance.close()

    asyncio.run(run())


def test_a_read_that_fails_leaves_nothing_and_says_why_until_one_succeeds():
    async def run():
        source = Source()
        glance = source.glance()
        glance.look()
        await settle()
        source.answer = UnavailableError("it is away")
        source.now += 2
        glance.look()
        await settle()
        assert (glance.look(), glance.fault) == (None, "it is away")
        source.answer = ValueError("secret")
        source.now += 2
        glance.look()
        await settle()
        assert (glance.look(), glance.fault) == (None, "ValueError")
        source.answer = "back"
        source.now += 2
        glance.look()
        await settle()
        assert (glance.look(), glance.fault) == ("back", "")

    asyncio.run(run())


def test_what_was_read_long_ago_is_not_known_any_more():
    async def run():
        source = Source()
        glance = source.glance()
        glance.look()
        await settle()
        source.gate.clear()
        source.now += 14
        assert glance.look() == "one"
        source.now += 2
        assert glance.look() is None
        await glance.close()

    asyncio.run(run())
