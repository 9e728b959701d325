import asyncio
import json

import pytest

from trireme.access.keys import Key
from trireme.errors import ResourceExhaustedError, UnavailableError
from trireme.gateway.exchange import Exchange
from trireme.gateway.live import hub as module
from trireme.gateway.live.hub import Gateway, Live
from trireme.gateway.live.recorder import Recorder
from trireme.gateway.live.scopes import new_scope
from trireme.gateway.live.slots import INTERVAL

START = 1_800_000_000
ADMIN = Key("key_admin", "ops", endpoints=("admin",))
ACME = Key("key_acme", "acme")


class Clock:
    def __init__(self):
        self.now = float(START)

    def __call__(self):
        return self.now


class Facts:
    """A machine that runs three requests, and tells who asks it what."""

    running = 3
    database = "ok"

    def __init__(self):
        self.seconds = {"llm": 1.5, "embedding": 0.25}
        self.closed = False

    def backlog(self):
        return self.seconds

    def waiting(self):
        return 2

    def models(self, scope):
        return [{"name": scope.key.id}]

    def replicas(self):
        return [{"name": "127.0.0.1", "is_ready": True}]

    def regions(self):
        return None

    def new_spent(self, scope):
        return Spent(scope.tenant)

    async def close(self):
        self.closed = True


class Spent:
    store = "ok"
    closed = 0

    def __init__(self, tenant):
        self._tenant = tenant

    def body(self):
        return {"tokens": 5, "dollars": "0.10", "budgets": [], "of": self._tenant}

    async def close(self):
        type(self).closed += 1


def scope(key=ADMIN, tenant="", user=""):
    return new_scope(key, tenant, user)


def events_of(frames):
    found = []
    for part in frames.decode().split("\n\n")[:-1]:
        event, data = part.split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def run(check):
    """What `check(live, clock, facts)` does in an event loop; nothing is told by itself."""

    async def whole():
        clock, facts = Clock(), Facts()
        recorder = Recorder(clock)
        live = Live(recorder, facts, Gateway("host", "r1", "1.0", START), clock)
        await check(live, clock, facts)
        await live.close()
        assert facts.closed

    asyncio.run(whole())


def note(live, tenant="acme"):
    key = Key("key", tenant)
    live.recorder.note(Exchange({"method": "POST"}, "chat", {}, "r", key=key, outcome="ok"), 0.1)


def test_a_stream_begins_with_who_speaks_the_last_hour_and_how_things_are():
    async def check(live, clock, facts):
        note(live)
        clock.now += INTERVAL
        with live.watch(scope(), lambda: True) as watcher:
            events = events_of(await watcher.next())
        assert [name for name, _ in events] == ["hello", "history", "now"]
        hello, history, now = (data for _, data in events)
        assert hello == {
            "gateway": "host",
            "release": "r1",
            "version": "1.0",
            "tenant": None,
            "user": None,
            "interval": INTERVAL,
            "started": START,
            "since": START,
        }
        assert len(history["at"]) == 360
        assert all(len(values) == 360 for values in history["series"].values())
        assert history["series"]["requests"][-2:] == [None, 1]
        assert (now["running"], now["waiting"], now["streams"]) == (2, 2, 1)
        assert now["backlog"] == {"llm": 1.5, "embedding": 0.25}
        assert now["spend"]["tokens"] == 5
        assert (now["database"], now["store"]) == ("ok", "ok")

    run(check)


def test_all_who_watch_the_same_are_told_the_same_bytes_and_others_their_own():
    async def check(live, clock, facts):
        two = [live.watch(scope(ACME, "acme"), lambda: True) for _ in range(2)]
        other = live.watch(scope(Key("key_other", "other"), "other"), lambda: True)
        for watcher in (*two, other):
            await watcher.next()
        note(live)
        live.tell()
        first, second, third = [await watcher.next() for watcher in (*two, other)]
        assert first is second
        assert events_of(first)[0][1]["requests_per_second"] > 0
        assert events_of(third)[0][1]["requests_per_second"] == 0
        assert events_of(third)[0][1]["spend"]["of"] == "other"

    run(check)


def test_what_concerns_all_is_null_for_a_key_that_is_no_admins():
    async def check(live, clock, facts):
        live.tell()
        clock.now += INTERVAL
        live.tell()
        with live.watch(scope(ACME, "acme"), lambda: True) as watcher:
            (_, hello), (_, history), (_, now) = events_of(await watcher.next())
        assert hello["gateway"] is None
        for name in ("running", "waiting", "backlog", "replicas", "regions", "streams"):
            assert now[name] is None, name
        for name in ("running", "backlog_seconds"):
            assert set(history["series"][name]) == {None}
        with live.watch(scope(ADMIN, "acme"), lambda: True) as watcher:
            (_, hello), (_, history), (_, now) = events_of(await watcher.next())
        assert hello["tenant"] == "acme"
        assert now["backlog"] is not None
        assert history["series"]["backlog_seconds"][-1] == 1.5
        assert history["series"]["running"][-1] == 3

    run(check)


def test_keys_that_are_limited_to_other_models_are_not_told_the_same():
    async def check(live, clock, facts):
        for name in ("one", "two"):
            key = Key(f"key_{name}", "acme", models=(name,))
            with live.watch(scope(key, "acme"), lambda: True) as watcher:
                assert events_of(await watcher.next())[2][1]["models"] == [{"name": f"key_{name}"}]

    run(check)


def test_a_point_is_told_once_for_each_slot_that_ends_also_where_none_was_told_meanwhile():
    async def check(live, clock, facts):
        watcher = live.watch(scope(), lambda: True)
        await watcher.next()
        note(live)
        clock.now += 3 * INTERVAL
        live.tell()
        live.tell()
        events = events_of(await watcher.next())
        points = [data for name, data in events if name == "point"]
        assert [point["at"] for point in points] == [START, START + INTERVAL, START + 2 * INTERVAL]
        assert [point["series"]["requests"] for point in points] == [1, 0, 0]
        assert [name for name, _ in events].count("now") == 2
        assert points[0]["series"].keys() == points[1]["series"].keys()
        assert points[0]["series"]["backlog_seconds"] == 1.5

    run(check)


def test_a_backlog_that_nobody_knows_is_null_and_not_0():
    async def check(live, clock, facts):
        facts.seconds = None
        watcher = live.watch(scope(), lambda: True)
        clock.now += INTERVAL
        live.tell()
        events = dict(events_of(await watcher.next()))
        assert events["point"]["series"]["backlog_seconds"] is None
        assert events["now"]["backlog"] is None

    run(check)


def test_the_oldest_frames_of_a_watcher_that_is_far_behind_are_dropped():
    async def check(live, clock, facts):
        watcher = live.watch(scope(), lambda: True)
        for _ in range(module.MOST_BEHIND + 10):
            live.tell()
        events = events_of(await watcher.next())
        assert [name for name, _ in events] == ["now"] * module.MOST_BEHIND

    run(check)


def test_a_key_that_is_not_held_any_more_is_doubted():
    async def check(live, clock, facts):
        held = True
        watcher = live.watch(scope(), lambda: held)
        await watcher.next()
        waiting = asyncio.ensure_future(watcher.next())
        watcher.look()
        await asyncio.sleep(0)
        assert not waiting.done()
        held = False
        watcher.look()
        assert await waiting == b""
        assert watcher.is_doubted
        watcher.trust()
        live.tell()
        assert events_of(await watcher.next())[0][0] == "now"

    run(check)


def test_a_gateway_that_stops_ends_all_streams_and_begins_none():
    async def check(live, clock, facts):
        watcher = live.watch(scope(), lambda: True)
        live.stop()
        assert await watcher.next() == b""
        assert events_of(watcher.last) == [("end", {"reason": "the gateway stops; connect again"})]
        with pytest.raises(UnavailableError, match="stops"):
            live.watch(scope(), lambda: True)

    run(check)


def test_a_tenant_has_only_so_many_streams_and_others_are_not_kept_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_OF_TENANT", 2)

    async def check(live, clock, facts):
        watchers = [live.watch(scope(ACME, "acme"), lambda: True) for _ in range(2)]
        with pytest.raises(ResourceExhaustedError, match="this tenant has 2 open streams"):
            live.watch(scope(ACME, "acme"), lambda: True)
        live.watch(scope(), lambda: True)
        assert live.count == 3
        live.leave(watchers[0])
        live.watch(scope(ACME, "acme"), lambda: True)

    run(check)


def test_a_gateway_has_only_so_many_streams(monkeypatch):
    monkeypatch.setattr(module, "MOST_STREAMS", 2)

    async def check(live, clock, facts):
        for name in ("a", "b"):
            live.watch(scope(Key(name, name), name), lambda: True)
        with pytest.raises(ResourceExhaustedError, match="the gateway has 2"):
            live.watch(scope(Key("c", "c"), "c"), lambda: True)
        # Those of tenants keep no admin out.
        for _ in range(module.MOST_OF_TENANT):
            live.watch(scope(), lambda: True)
        with pytest.raises(ResourceExhaustedError):
            live.watch(scope(), lambda: True)

    run(check)


def test_nothing_is_read_any_more_for_a_scope_that_nobody_watches():
    async def check(live, clock, facts):
        Spent.closed = 0
        with live.watch(scope(ACME, "acme"), lambda: True), live.watch(scope(ACME, "acme"), lambda: True):
            assert len(live._rooms) == 1
        await asyncio.sleep(0)
        assert (Spent.closed, live._rooms, live.count) == (1, {}, 0)

    run(check)


def test_telling_goes_on_after_a_fault(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)

    async def check(live, clock, facts):
        await live.start()
        watcher = live.watch(scope(), lambda: True)
        await watcher.next()
        facts.waiting = None
        await asyncio.sleep(0.05)
        watcher._frames.clear()
        del facts.waiting
        assert events_of(await watcher.next())[0][1]["waiting"] == 2

    run(check)
