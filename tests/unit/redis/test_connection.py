"""The client of Valkey, against a real server that is stopped, continued and killed."""

import asyncio
import contextlib
import random
import signal
from pathlib import Path

import pytest

from delayed import link
from trireme.errors import SettingError, UnavailableError
from trireme.redis import connection
from trireme.redis.connection import RedisStore, Script, normalize_url
from valkeys import valkey


@pytest.fixture(scope="module")
def server():
    with valkey() as running:
        yield running


def be_patient(redis):
    """However busy the machine is, the next commands are not late."""
    redis._timeout = 60.0
    redis._pool.connection_kwargs["socket_connect_timeout"] = 60.0


async def is_back(redis):
    """Waits until it answers again: it rests after a fault, and a busy machine may be late once more."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError):
                assert await redis.run("PING") == b"PONG"
                return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def store(server, **more):
    opened = RedisStore(server.url, **more)
    try:
        yield opened
    finally:
        await opened.close()


def test_a_command_gives_its_reply(server):
    async def go():
        async with store(server) as redis:
            assert await redis.run("SET", "one", b"\x00\xff") == b"OK"
            assert await redis.run("GET", "one") == b"\x00\xff"
            assert await redis.run("GET", "nothing") is None
            assert await redis.pipeline([("INCR", "n"), ("INCR", "n"), ("GET", "one")]) == [1, 2, b"\x00\xff"]
            assert await redis.pipeline([]) == []

    asyncio.run(go())


def test_a_server_is_reached_by_tcp_as_well(server):
    """redis-py's own settings for it want a newer protocol."""

    async def go(url):
        redis = RedisStore(url)
        be_patient(redis)
        try:
            return await redis.run("ECHO", "by TCP")
        finally:
            await redis.close()

    with link(server.socket) as through:
        assert asyncio.run(go(f"redis://127.0.0.1:{through.port}/0")) == b"by TCP"


def test_a_script_runs_whether_the_server_knows_it_or_not(server):
    script = Script("return {KEYS[1], ARGV[1]}")

    async def go():
        async with store(server) as redis:
            for _ in range(2):
                assert await redis.run_script(script, ["k"], [7]) == [b"k", b"7"]
            await redis.run("SCRIPT", "FLUSH")
            assert await redis.run_script(script, ["k"], [8]) == [b"k", b"8"]

    asyncio.run(go())


def test_an_error_of_the_server_names_its_code_and_nothing_of_the_command(server):
    async def go():
        async with store(server) as redis:
            await redis.run("SET", "text", "secret-word")
            with pytest.raises(UnavailableError, match=r"\(WRONGTYPE\)") as raised:
                await redis.run("HGET", "text", "secret-word")
            assert "secret-word" not in str(raised.value)
            # The connection is in order still.
            assert await redis.run("GET", "text") == b"secret-word"

    asyncio.run(go())


def test_a_full_server_that_evicts_nothing_refuses_by_its_code():
    async def go(running):
        async with store(running) as redis:
            with pytest.raises(UnavailableError, match=r"\(OOM\)"):
                await redis.run("SET", "one", "text")
            assert await redis.run("GET", "one") is None

    with valkey(maxmemory="1", maxmemory_policy="noeviction") as running:
        asyncio.run(go(running))


def test_a_wrong_password_ends_in_an_error_that_holds_neither_it_nor_the_url():
    async def go(running):
        opened = RedisStore(f"unix://:secret-word@{running.socket}")
        with pytest.raises(UnavailableError, match="AuthenticationError") as raised:
            await opened.run("GET", "one")
        await opened.close()
        assert "secret-word" not in str(raised.value)
        assert str(running.socket) not in str(raised.value)

    with valkey(requirepass="another-word") as running:
        asyncio.run(go(running))


def test_the_query_of_a_url_changes_nothing_that_replies_depend_on(server):
    async def go():
        opened = RedisStore(f"{server.url}?protocol=3&decode_responses=true&socket_timeout=0.001")
        await opened.run("SET", "one", b"\xff")
        assert await opened.run("GET", "one") == b"\xff"
        await opened.close()

    asyncio.run(go())


def test_a_command_whose_caller_left_runs_to_its_end(server):
    async def go():
        async with store(server) as redis:
            await redis.run("DEL", "count")
            for _ in range(50):
                left = asyncio.create_task(redis.run("INCR", "count"))
                await asyncio.sleep(0)
                left.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await left
        async with store(server) as redis:
            assert await redis.run("GET", "count") == b"50"

    asyncio.run(go())


def test_the_policy_of_a_full_server_is_known():
    async def go(running):
        async with store(running) as redis:
            return await redis.policy()

    with valkey(maxmemory_policy="allkeys-lfu") as running:
        assert asyncio.run(go(running)) == "allkeys-lfu"


class Askers:
    """Requests that ask each for a value of their own, and how each ended."""

    def __init__(self, seed):
        self._chance = random.Random(seed)
        self.ends = {"own": 0, "cancelled": 0, "away": 0}

    async def ask(self, redis, number):
        said = [f"{number}-first", f"{number}-second"]
        try:
            if number % 3:
                assert await redis.run("ECHO", said[0]) == said[0].encode()
            else:
                replies = await redis.pipeline([("ECHO", said[0]), ("ECHO", said[1])])
                assert [reply.decode() for reply in replies] == said
            self.ends["own"] += 1
        except asyncio.CancelledError:
            self.ends["cancelled"] += 1
        except UnavailableError:
            self.ends["away"] += 1

    def have_seen_all(self):
        """Whether enough ended in each way to tell."""
        return self.ends["own"] > 500 and self.ends["cancelled"] > 100 and self.ends["away"] > 10

    def start(self, redis, number):
        task = asyncio.create_task(self.ask(redis, number))
        if self._chance.random() < 0.3:
            asyncio.get_running_loop().call_later(self._chance.random() * 0.003, task.cancel)
        return task


def open_sockets():
    links = []
    for number in Path("/proc/self/fd").iterdir():
        # That of the listing itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            links.append(str(number.readlink()))
    return sum(link.startswith("socket:") for link in links)


async def are_closed(before):
    """Waits until no more sockets are open than before."""
    async with asyncio.timeout(60):
        while open_sockets() != before:
            await asyncio.sleep(0.01)


async def hold_up(server):
    while True:
        await asyncio.sleep(0.25)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(0.15)
        server.signal(signal.SIGCONT)


def test_cancelled_and_late_commands_never_hand_their_reply_to_another(server):
    askers = Askers(7)

    async def go():
        before = open_sockets()
        async with store(server, timeout=0.1, most=8) as redis:
            pauses, running = asyncio.create_task(hold_up(server)), []
            # On a very fast machine few are cancelled in time, on a very slow one few are answered.
            while len(running) < 3000 or (not askers.have_seen_all() and len(running) < 60_000):
                running.append(askers.start(redis, len(running)))
                await asyncio.sleep(0.0025 * (len(running) % 4 == 0))
            pauses.cancel()
            await asyncio.wait([pauses])
            server.signal(signal.SIGCONT)
            for end in await asyncio.gather(*running, return_exceptions=True):
                # Some are cancelled before their first step.
                assert end is None or isinstance(end, asyncio.CancelledError), end
            await is_back(redis)
            clients = bytes(await redis.run("CLIENT", "LIST")).splitlines()
            assert len(clients) <= 8
        await are_closed(before)

    try:
        asyncio.run(go())
    finally:
        server.signal(signal.SIGCONT)
    assert askers.have_seen_all(), askers.ends


def test_a_server_that_is_killed_under_load_ends_every_command_and_is_found_again():
    async def go(running):
        async with store(running, timeout=0.5) as redis:
            asked = [asyncio.create_task(redis.run("BLPOP", f"never{n}", 30)) for n in range(20)]
            await asyncio.sleep(0.1)
            running.kill()
            for one in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(one, UnavailableError), one
            with pytest.raises(UnavailableError):
                await redis.run("PING")
            running.start()
            await is_back(redis)

    with valkey() as running:
        asyncio.run(go(running))


def test_a_server_that_is_restarted_between_two_commands_is_not_noticed():
    async def go(running):
        async with store(running) as redis:
            assert await redis.run("PING") == b"PONG"
            running.kill()
            running.start()
            await asyncio.sleep(0)
            assert await redis.run("PING") == b"PONG"

    with valkey() as running:
        asyncio.run(go(running))


def test_a_server_that_hangs_is_asked_again_only_after_a_rest(server, monkeypatch):
    # Longer than a busy machine stands still; the test ends it by hand.
    monkeypatch.setattr(connection, "REST_SECONDS", 600.0)

    async def go():
        async with store(server, timeout=0.1) as redis:
            server.signal(signal.SIGSTOP)
            with pytest.raises(UnavailableError):
                await redis.run("PING")
            # Of one that is let through, too.
            redis._timeout = 1.0
            connections = redis._pool.make_connection
            asked = []
            redis._pool.make_connection = lambda: asked.append(1) or connections()
            for _ in range(50):
                with pytest.raises(UnavailableError):
                    await redis.run("PING")
            assert not asked
            redis._rests_until = 0.0
            # Now one of them finds out for the others, which wait for nothing.
            ends = await asyncio.gather(*(redis.run("PING") for _ in range(50)), return_exceptions=True)
            assert all(isinstance(end, UnavailableError) for end in ends)
            assert len(asked) == 1
            server.signal(signal.SIGCONT)
            monkeypatch.setattr(connection, "REST_SECONDS", 0.1)
            redis._rests_until = 0.0
            be_patient(redis)
            await is_back(redis)
            assert await asyncio.gather(*(redis.run("PING") for _ in range(50))) == [b"PONG"] * 50

    try:
        asyncio.run(go())
    finally:
        server.signal(signal.SIGCONT)


def test_a_large_command_to_a_server_that_hangs_leaves_no_connection(server):
    async def go():
        before = open_sockets()
        async with store(server, timeout=0.1) as redis:
            # Connected before, so that part of the command is sent.
            await is_back(redis)
            server.signal(signal.SIGSTOP)
            with pytest.raises(UnavailableError):
                await redis.run("SET", "large", bytes(8 << 20))
            await are_closed(before)
            server.signal(signal.SIGCONT)
            be_patient(redis)
            await is_back(redis)
            assert await redis.run("GET", "large") is None

    try:
        asyncio.run(go())
    finally:
        server.signal(signal.SIGCONT)


def test_more_commands_than_connections_wait_for_their_turn(server):
    async def go():
        async with store(server, most=2) as redis:
            asked = [redis.run("ECHO", str(n)) for n in range(200)]
            assert await asyncio.gather(*asked) == [str(n).encode() for n in range(200)]
            clients = bytes(await redis.run("CLIENT", "LIST")).splitlines()
            assert len(clients) <= 2

    asyncio.run(go())


def test_a_url_may_name_valkey_and_must_name_a_server():
    assert normalize_url("valkey://h:1/2") == "redis://h:1/2"
    assert normalize_url("valkeys://h") == "rediss://h"
    for url in ("http://user:secret@h", "localhost:6379", ""):
        with pytest.raises(SettingError, match="redis://") as raised:
            normalize_url(url)
        assert "secret" not in str(raised.value)


def test_a_url_that_cannot_be_read_is_refused_without_its_password():
    async def go():
        RedisStore("redis://:secret@h:notaport/0")

    with pytest.raises(SettingError) as raised:
        asyncio.run(go())
    assert "secret" not in str(raised.value)
