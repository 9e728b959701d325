"""The stream over a gateway of fakes, on a real socket."""

import contextlib
import http.client
import json
import socket
import threading

import pytest

from fakes.gateways import Echo, FakeGateway
from trireme.access.keys import Key, KeySet, digest_of
from trireme.errors import UnavailableError
from trireme.gateway.live import hub
from trireme.providers.chat import Finished, Started, TextDelta, Usage

ADMIN, ACME, ANN, OTHER, CHATTER = "tr-admin", "tr-acme", "tr-ann", "tr-other", "tr-chatter"
KEYS = {
    ADMIN: Key("key_admin", "ops", "root", endpoints=("admin",)),
    ACME: Key("key_acme", "acme"),
    ANN: Key("key_ann", "acme", "ann"),
    OTHER: Key("key_other", "other"),
    CHATTER: Key("key_chatter", "acme", endpoints=("chat",)),
}


class ChangingKeys:
    """A key store whose keys can be revoked, and that can be away."""

    def __init__(self):
        self.keys, self.revision, self.is_away = dict(KEYS), 1, False

    def read(self, revision):
        if self.is_away:
            raise UnavailableError("the database does not answer")
        if revision == self.revision:
            return None
        return KeySet(self.revision, {digest_of(secret): key for secret, key in self.keys.items()})

    def count(self, key_id, limit):
        return 0.0

    def revoke(self, secret):
        del self.keys[secret]
        self.revision += 1


def echo(call, model):
    yield Started(model)
    yield TextDelta(call.messages[-1].text)
    yield Usage(3, 1)
    yield Finished("stop")


@pytest.fixture
def gateway():
    with FakeGateway(Echo(echo), keys=dict(KEYS)) as running:
        running.keys = ChangingKeys()
        running.run(swap(running))
        yield running


async def swap(gateway):
    gateway.ports.keys.store = gateway.keys
    await gateway.ports.keys.refresh()


class Stream:
    def __init__(self, gateway, path="/v1/live", secret=ADMIN):
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        self._connection.request("GET", path, headers={"authorization": f"Bearer {secret}"})
        self._answer = self._connection.getresponse()
        self.status, self.headers = self._answer.status, dict(self._answer.getheaders())

    def next(self):
        """Name and data of the next event; None at the end."""
        event = self._answer.readline()
        if not event:
            return None
        data = self._answer.readline()
        assert self._answer.readline() == b"\n"
        return event.decode().strip().removeprefix("event: "), json.loads(data.removeprefix(b"data: "))

    def until(self, accept):
        """The data of the first event that is accepted."""
        while (event := self.next()) is not None:
            if accept(*event):
                return event[1]
        raise AssertionError("the stream ended")

    def rest(self):
        return list(iter(self.next, None))

    def close(self):
        self._connection.close()
        self._answer.close()


@contextlib.contextmanager
def watching(gateway, path="/v1/live", secret=ADMIN):
    with contextlib.closing(Stream(gateway, path, secret)) as stream:
        yield stream


def chat(gateway, secret=ACME, model="llm"):
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    return gateway.ask("POST", "/v1/chat/completions", body, secret=secret)[0]


def is_now(name, data):
    return name == "now"


def refused(gateway, path="/v1/live", secret=ADMIN):
    status, _, raw = gateway.ask("GET", path, secret=secret)
    return status, json.loads(raw)["error"]["message"]


def test_a_request_is_seen_by_its_tenant_by_its_user_and_by_admins_and_by_nobody_else(gateway):
    with contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context(watching(gateway, path, secret))
            for name, path, secret in [
                ("admin", "/v1/live", ADMIN),
                ("admin of acme", "/v1/live?tenant=acme", ADMIN),
                ("admin of ann", "/v1/live?tenant=acme&user=ann", ADMIN),
                ("acme", "/v1/live", ACME),
                ("ann", "/v1/live", ANN),
                ("other", "/v1/live", OTHER),
            ]
        }
        assert [chat(gateway), chat(gateway, ANN), chat(gateway, ANN, "nope")] == [200, 200, 404]
        # What is told from now on knows of them.
        began = gateway.ports.live.recorder._clock()

        def rate(stream):
            now = stream.until(lambda name, data: name == "now" and data["at"] > began)
            seconds = now["requests_per_second"]
            return seconds > 0, sum(now["errors"].values())

        found = {name: rate(stream) for name, stream in streams.items()}
    assert found == {
        "admin": (True, 1),
        "admin of acme": (True, 1),
        "admin of ann": (True, 1),
        "acme": (True, 1),
        "ann": (True, 1),
        "other": (False, 0),
    }


@pytest.mark.parametrize(
    ("path", "secret", "status", "said"),
    [
        ("/v1/live", "", 401, "no key"),
        ("/v1/live", "tr-wrong", 401, "not in force"),
        ("/v1/live", CHATTER, 403, "usage"),
        ("/v1/live?tenant=other", ACME, 403, "its own tenant"),
        ("/v1/live?user=bob", ANN, 403, "its own user"),
        ("/v1/live?user=bob", ADMIN, 400, "tenant"),
        ("/v1/live?tenat=acme", ADMIN, 400, "tenat"),
        ("/v1/live?tenant=", ADMIN, 400, "tenant is empty"),
    ],
)
def test_what_may_not_be_watched_is_refused_before_a_stream_begins(gateway, path, secret, status, said):
    found, message = refused(gateway, path, secret)
    assert found == status
    assert said in message


def test_a_stream_is_no_load_and_no_time_of_a_request(gateway):
    with watching(gateway) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-cache"
        now = stream.until(is_now)
        assert (now["running"], now["streams"]) == (0, 1)
        assert "trireme_gateway_live_streams 1.0" in gateway.ask("GET", "/metrics", secret="")[2].decode()
    wait_until_gone(gateway)
    with watching(gateway) as stream:
        assert stream.until(is_now)["requests_per_second"] == 0
    page = gateway.ask("GET", "/metrics", secret="")[2].decode()
    assert 'trireme_gateway_request_seconds_count{endpoint="usage"}' not in page


def wait_until_gone(gateway):
    while gateway.ports.live.count:
        threading.Event().wait(0.01)


def test_a_client_that_leaves_is_watched_for_no_more(gateway):
    with watching(gateway) as stream:
        stream.next()
        assert gateway.ports.live.count == 1
    wait_until_gone(gateway)
    wait_for_line(gateway, "client_gone")
    assert not gateway.ports.live._rooms


def wait_for_line(gateway, outcome):
    while not any(line.get("outcome") == outcome for line in gateway.lines()):
        threading.Event().wait(0.01)


def test_a_revoked_key_ends_its_stream_with_an_error_and_no_other(gateway):
    with watching(gateway, secret=ACME) as stream, watching(gateway, secret=OTHER) as other:
        stream.until(is_now)
        gateway.keys.revoke(ACME)
        *_, (name, data) = stream.rest()
        assert name == "error"
        assert "not in force" in data["error"]["message"]
        assert data["error"]["code"]
        other.until(is_now)
        assert other.until(is_now)["database"] == "ok"
    wait_for_line(gateway, "refused")


def test_a_stream_goes_on_while_the_database_is_away_and_says_so(gateway, monkeypatch):
    monkeypatch.setattr("trireme.gateway.live.facts.DATABASE_SECONDS", 1.5)
    with watching(gateway, secret=ACME) as stream:
        assert stream.until(is_now)["database"] == "ok"
        gateway.keys.is_away = True
        stream.until(lambda name, data: name == "now" and data["database"] == "the database does not answer")
        gateway.keys.is_away = False
        stream.until(lambda name, data: name == "now" and data["database"] == "ok")


def test_keys_that_could_not_be_read_for_too_long_end_the_stream(gateway, monkeypatch):
    with watching(gateway, secret=ACME) as stream:
        stream.until(is_now)
        gateway.keys.is_away = True
        monkeypatch.setattr("trireme.gateway.key_ring.STALE_SECONDS", 0.5)
        *_, (name, data) = stream.rest()
        assert name == "error"
        assert "cannot be read from the database" in data["error"]["message"]


def test_more_streams_than_a_tenant_may_have_are_refused(gateway, monkeypatch):
    monkeypatch.setattr(hub, "MOST_OF_TENANT", 1)
    with watching(gateway, secret=ACME) as stream:
        stream.next()
        status, message = refused(gateway, secret=ANN)
        assert status == 429
        assert "this tenant has 1 open streams" in message
        with watching(gateway, secret=OTHER) as other:
            assert other.status == 200
    wait_until_gone(gateway)
    with watching(gateway, secret=ANN) as stream:
        assert stream.status == 200


def test_a_client_that_reads_nothing_is_dropped(monkeypatch):
    # Else it takes a minute until what nobody reads fills the buffers.
    monkeypatch.setattr(hub, "LOOK_SECONDS", 0.0005)
    with FakeGateway(Echo(echo), keys=KEYS, file="[limits]\nreading_seconds = 1") as gateway:
        with contextlib.closing(socket.create_connection(("127.0.0.1", gateway.port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /v1/live HTTP/1.1\r\nhost: x\r\nx-api-key: " + ADMIN.encode() + b"\r\n\r\n")
            wait_for_line(gateway, "cut")
            assert gateway.ports.live.count == 0
        with watching(gateway) as stream:
            assert stream.until(is_now)["streams"] == 1


def test_streams_take_no_place_of_the_requests_that_run_at_once():
    with FakeGateway(Echo(echo), keys=KEYS, file="[limits]\nrequests = 1") as gateway:
        with watching(gateway) as first, watching(gateway, secret=ACME) as second:
            assert [first.status, second.status] == [200, 200]
            assert chat(gateway) == 200


def test_head_begins_no_stream(gateway):
    status, _, raw = gateway.ask("HEAD", "/v1/live", secret=ADMIN)
    assert (status, raw, gateway.ports.live.count) == (400, b"", 0)


def test_a_gateway_that_stops_does_not_wait_for_those_who_watch():
    with FakeGateway(Echo(echo), keys=KEYS) as gateway:
        stream = Stream(gateway)
        stream.until(is_now)
        gateway._server.should_exit = True
        assert stream.rest()[-1] == ("end", {"reason": "the gateway stops; connect again"})
        stream.close()
    # One that uvicorn cancels has no such end.
    assert gateway.lines()[-1]["outcome"] == "ok"
