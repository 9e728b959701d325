"""The live stream of a real gateway over Triton, PostgreSQL and Valkey.

Its figures are those of the ledger and of a load generator that counts for itself.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from stacks import ROOT, environment_of, settings_on_free_ports, start_server, wait_until

from fakes.upstreams import serving
from trireme.access.keys import Key, digest_of, new_secret
from trireme.gateway_process import GatewayProcess
from trireme.local.postgres import start_postgres
from trireme.storage import open_keys
from valkeys import valkey

# A token costs a thousandth of a thousandth of a dollar of input, twice that of output.
FILE = """
[providers.fake]
kind = "openai"
url = "{url}/v1"

[models.echo]
chain = ["fake:echo"]

[models.fallback]
chain = ["fake:fault-status_500", "fake:echo"]

[models.failing]
chain = ["fake:fault-status_502"]

[prices."fake:echo"]
input = 1.0
output = 2.0

[limits]
reading_seconds = 2
"""
NANOS = 10**9


@dataclasses.dataclass
class World:
    url: str
    postgres: object
    folder: Path
    valkey: object
    settings: object
    process: GatewayProcess
    log: Path
    secrets: dict

    def ask(self, tenant, method, path, body=None):
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.gateway_port, timeout=60)
        with contextlib.closing(connection):
            raw = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, raw, {"authorization": f"Bearer {self.secrets[tenant]}"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def total(self, path, tenant):
        status, _, body = self.ask(tenant, "GET", path)
        assert status == 200, body
        return json.loads(body)["total"]

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Watch:
    """Reads a stream in a thread of its own, and keeps its events."""

    def __init__(self, port, secret, path="/v1/live"):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", path, headers={"authorization": f"Bearer {secret}"})
        # The answer takes it over.
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self.events = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while line := self._answer.readline():
                if line.startswith(b"event: "):
                    name = line.decode().strip().removeprefix("event: ")
                    data = json.loads(self._answer.readline().removeprefix(b"data: "))
                    self.events.append((name, data))

    def all(self, wanted):
        return [data for name, data in list(self.events) if name == wanted]

    @property
    def now(self):
        """The last one; {} before the first."""
        return (self.all("now") or [{}])[-1]

    def sums(self):
        """What the slots that ended since the stream began add up to."""
        found = Counter()
        for point in self.all("point"):
            for name, value in point["series"].items():
                found[name] += value or 0
        return found

    def await_end(self):
        """The last event, once the stream has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.events[-1]

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._answer.close()
        self._connection.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    # One model is a whole Triton to the gateway.
    shutil.copytree(ROOT / "model_repository" / "embedding", folder / "models" / "embedding")
    with contextlib.ExitStack() as exits:
        server = exits.enter_context(start_server(folder / "models", folder / "run"))
        server.wait_until_ready()
        # Not pytest's folder: each new session closes that of all sessions to other accounts.
        data = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        postgres = exits.enter_context(start_postgres(data))
        store = exits.enter_context(valkey(appendonly="yes", maxmemory_policy="noeviction"))
        upstream = exits.enter_context(serving())
        file = folder / "gateway.toml"
        file.write_text(FILE.format(url=upstream.url))
        settings = settings_on_free_ports(
            folder / "gateway",
            http_port=server.config.http_port,
            grpc_port=server.config.grpc_port,
            metrics_port=server.config.metrics_port,
            gateway_file=file,
            redis_url=store.url,
            release="r1",
        )
        secrets = {}
        with contextlib.closing(open_keys(postgres.url)) as keys:
            for tenant in ("acme", "beta", "gone", "admin"):
                secrets[tenant] = new_secret()
                endpoints = ("admin",) if tenant == "admin" else ()
                keys.create(Key(f"key_{tenant}", tenant, endpoints=endpoints), digest_of(secrets[tenant]))
        log = folder / "gateway.log"
        process = start_gateway(settings, postgres.url, log)
        exits.callback(process.stop)
        yield World(postgres.url, postgres, data, store, settings, process, log, secrets)


def start_gateway(settings, url, log):
    environ = environment_of(settings) | {"TRIREME_DATABASE_URL": url}
    process = GatewayProcess(settings, os.environ | environ, log)
    try:
        process.wait_until_ready()
    except BaseException:
        process.stop()
        raise
    return process


@contextlib.contextmanager
def watching(world, tenant, path="/v1/live"):
    with contextlib.closing(Watch(world.settings.gateway_port, world.secrets[tenant], path)) as watch:
        wait_until(lambda: bool(watch.now))
        yield watch


class Load:
    """Sends requests of several kinds and counts by itself what came of them."""

    def __init__(self, world, tenant):
        self._world, self._tenant = world, tenant
        self.counts = Counter()
        self.nanos = 0
        self.times = []

    def send(self):
        for number in range(8):
            self._chat("echo", f"word {number} of {self._tenant}", stream=number % 2 == 1)
        for _ in range(3):
            # The first one is kept, the others are answered by the cache.
            self._chat("echo", f"the same again, {self._tenant}", temperature=0)
        self._chat("fallback", "a b c")
        self._chat("failing", "a b")
        self._chat("nobody", "a b")
        self._ask("/v1/embeddings", {"model": "embedding", "input": ["oars", "sails of " + self._tenant]})

    def _chat(self, model, text, *, stream=False, temperature=1):
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 100}
        body |= {"temperature": temperature, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        self._ask("/v1/chat/completions", body)

    def _ask(self, path, body):
        began = time.monotonic()
        status, headers, raw = self._world.ask(self._tenant, "POST", path, body)
        took = 1000 * (time.monotonic() - began)
        self.counts["requests"] += 1
        if status >= 400:
            self.counts["failed" if status >= 500 else "refused"] += 1
            return
        self.counts["succeeded"] += 1
        self.times.append(took)
        if headers.get("x-trireme-cache", "").startswith("exact"):
            # Nobody is charged for it.
            self.counts["cache_hits"] += 1
            return
        usage = _usage_of(raw)
        spent = usage["prompt_tokens"], usage.get("completion_tokens", 0)
        self.counts["input_tokens"] += spent[0]
        self.counts["output_tokens"] += spent[1]
        if path.endswith("completions"):
            self.nanos += 1_000 * spent[0] + 2_000 * spent[1]


def _usage_of(raw):
    if not raw.startswith(b"data: "):
        return json.loads(raw)["usage"]
    frames = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]
    return next(frame["usage"] for frame in reversed(frames) if frame.get("usage"))


COUNTED = ("requests", "succeeded", "refused", "failed", "cache_hits", "input_tokens", "output_tokens")


@pytest.mark.timeout(300)
def test_figures_are_those_of_the_ledger_and_of_a_load_generator_that_counts_for_itself(world):
    loads = {tenant: Load(world, tenant) for tenant in ("acme", "beta")}
    with contextlib.ExitStack() as exits:
        streams = {
            tenant: exits.enter_context(watching(world, tenant)) for tenant in ("acme", "beta", "admin")
        }
        threads = [threading.Thread(target=load.send) for load in loads.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counted = {tenant: load.counts for tenant, load in loads.items()}
        counted["admin"] = counted["acme"] + counted["beta"]
        assert counted["acme"]["requests"] == 15
        assert counted["acme"]["failed"] == counted["acme"]["refused"] == 1
        assert counted["acme"]["cache_hits"] == 2
        # Of a slot that has ended the figures are exact.
        for tenant, watch in streams.items():
            wait_until(lambda w=watch, t=tenant: w.sums()["requests"] >= counted[t]["requests"])
        for tenant, watch in streams.items():
            found = watch.sums()
            assert {name: found[name] for name in COUNTED} == {
                name: counted[tenant][name] for name in COUNTED
            }
            assert found["gone"] == 0
            # Nothing takes longer here than it took its client; percentiles are right to 2.5 %.
            slowest = max(value for load in loads.values() for value in load.times) * 1.026
            points = [point["series"] for point in watch.all("point")]
            for name in ("total_ms_p95", "first_ms_p95"):
                known = [point[name] for point in points if point[name] is not None]
                assert known and max(known) <= slowest, name
        for tenant, load in loads.items():
            assert round(streams[tenant].sums()["dollars"] * NANOS) == load.nanos
        # Rows reach the ledger behind the answers.
        spent = counted["admin"]["input_tokens"] + counted["admin"]["output_tokens"]

        def is_whole():
            total = world.total("/v1/usage", "admin")
            return total["input_tokens"] + total["output_tokens"] == spent

        wait_until(is_whole)
        for tenant, watch in streams.items():
            usage, found = world.total("/v1/usage", tenant), watch.sums()
            assert (usage["input_tokens"], usage["output_tokens"]) == (
                found["input_tokens"],
                found["output_tokens"],
            )
            nanos = round(float(usage["dollars"]) * NANOS)
            assert nanos == round(found["dollars"] * NANOS)
            saved = round(float(usage["saved_dollars"]) * NANOS)
            assert saved == round(found["saved_dollars"] * NANOS) > 0
            wait_until(lambda w=watch, u=usage: w.now["spend"]["dollars"] == u["dollars"])
            assert watch.now["spend"]["tokens"] == found["input_tokens"] + found["output_tokens"]
            assert watch.now["cache"]["exact"]["hits"] == counted[tenant]["cache_hits"]
            assert sum(watch.now["errors"].values()) == counted[tenant]["failed"] + counted[tenant]["refused"]
    # Whoever comes later is told the same of the last hour.
    with watching(world, "acme") as late:
        (history,) = late.all("history")
        assert sum(value or 0 for value in history["series"]["requests"]) == counted["acme"]["requests"]


def test_an_admin_sees_models_and_servers_of_a_real_triton(world):
    with watching(world, "admin") as watch, watching(world, "acme") as other:
        wait_until(lambda: bool(watch.now["replicas"]) and watch.now["backlog"] is not None)
        assert [one["is_ready"] for one in watch.now["replicas"]] == [True]
        assert "embedding" in watch.now["backlog"]
        models = {one["name"]: one for one in watch.now["models"]}
        assert models["embedding"] == {
            "name": "embedding",
            "ability": "embed",
            "is_ready": True,
            "is_far": False,
        }
        assert other.now["replicas"] is other.now["backlog"] is other.now["running"] is None
        assert {one["name"] for one in other.now["models"]} == models.keys()


def test_while_the_budget_store_is_away_the_stream_goes_on_and_says_so(world):
    with watching(world, "acme") as watch:
        wait_until(lambda: watch.now["store"] == "ok")
        before = watch.now["spend"]["dollars"]
        world.valkey.kill()
        try:
            wait_until(lambda: watch.now["store"] == "the budget store does not answer")
            assert watch.now["database"] == "ok"
            # The ledger knows it as well.
            wait_until(lambda: watch.now["spend"]["dollars"] == before)
        finally:
            world.valkey.start()
        wait_until(lambda: watch.now["store"] == "ok")
        count = len(watch.all("now"))
        wait_until(lambda: len(watch.all("now")) > count)


def test_while_the_database_is_away_the_stream_goes_on_and_says_so(world):
    with watching(world, "acme") as watch:
        assert watch.now["database"] == "ok"
        pid_file = next(world.folder.rglob("postmaster.pid"))
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        try:
            wait_until(lambda: not world.postgres.is_running())
            wait_until(lambda: watch.now["database"] == "the database does not answer")
            # A key that was known is still.
            with watching(world, "beta") as second:
                assert second.now["database"] == "the database does not answer"
        finally:
            world.postgres.restart()
        wait_until(lambda: watch.now["database"] == "ok")


def test_a_revoked_key_ends_its_stream_with_an_error(world):
    with watching(world, "gone") as watch, watching(world, "acme") as other:
        with contextlib.closing(open_keys(world.url)) as keys:
            keys.revoke(["key_gone"])
        name, data = watch.await_end()
        assert name == "error"
        assert data["error"]["code"] == "invalid_api_key"
        assert "not in force" in data["error"]["message"]
        count = len(other.all("now"))
        wait_until(lambda: len(other.all("now")) > count)


def test_a_client_that_reads_nothing_is_dropped(world):
    with watching(world, "admin") as watch, contextlib.closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", world.settings.gateway_port))
        secret = world.secrets["beta"]
        client.sendall(f"GET /v1/live HTTP/1.1\r\nhost: x\r\nx-api-key: {secret}\r\n\r\n".encode())
        wait_until(lambda: watch.now["streams"] == 2)
        wait_until(lambda: watch.now["streams"] == 1)
    assert "cut" in [line["outcome"] for line in world.lines() if line.get("key") == "key_beta"]


def test_a_gateway_that_stops_ends_its_streams_and_does_not_wait_for_them(world, tmp_path):
    port = settings_on_free_ports(tmp_path).gateway_port
    settings = dataclasses.replace(world.settings, gateway_port=port)
    log = tmp_path / "second.log"
    process = start_gateway(settings, world.url, log)
    try:
        watch = Watch(settings.gateway_port, world.secrets["acme"])
        wait_until(lambda: bool(watch.now))
    finally:
        process.stop()
    # Whom uvicorn cancels after 10 s is told nothing.
    name, data = watch.await_end()
    watch.close()
    assert (name, data["reason"]) == ("end", "the gateway stops; connect again")
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["endpoint"], line["outcome"]) == ("usage", "ok")
