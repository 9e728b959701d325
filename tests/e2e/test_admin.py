"""An admin over two real gateways on one PostgreSQL: keys, tenants and requests, and where a secret is kept."""

import contextlib
import dataclasses
import http.client
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from stacks import environment_of, free_ports, settings_on_free_ports, wait_until

from fakes.upstreams import serving
from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import Key, digest_of, new_secret
from trireme.gateway_process import GatewayProcess
from trireme.local.postgres import start_postgres
from trireme.storage import open_keys
from valkeys import valkey

FILE = """
[providers.fake]
kind = "openai"
url = "{url}/v1"

[models.echo]
chain = ["fake:echo"]

[models.fallback]
chain = ["fake:fault-status_500", "fake:echo"]

[models.free]
chain = ["fake:free"]

[prices."fake:echo"]
input = 1.0
output = 2.0
"""
# Revoked keys open nothing within so many seconds, at any gateway.
PROMISE = 2.0


@dataclasses.dataclass
class World:
    """Two gateways by their ports. logs: what they have said."""

    url: str
    ports: list
    logs: list
    folder: Path
    admin: str = dataclasses.field(repr=False)

    def ask(self, secret, method, path, body=None, *, at=0):
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[at], timeout=60)
        with contextlib.closing(connection):
            raw = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, raw, {"authorization": f"Bearer {secret}"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())

    def new_key(self, **fields):
        """The key, with its secret, made over HTTP."""
        status, headers, body = self.ask(self.admin, "POST", "/v1/keys", fields)
        assert status == 201, body
        assert headers["cache-control"] == "no-store"
        return body

    def chat(self, secret, model, text):
        messages = [{"role": "user", "content": text}]
        return self.ask(secret, "POST", "/v1/chat/completions", {"model": model, "messages": messages})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("admin")
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: each new session closes that of all sessions to other accounts.
        data = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(start_postgres(Path(data))).url
        store = stack.enter_context(valkey(appendonly="yes", maxmemory_policy="noeviction"))
        upstream = stack.enter_context(serving())
        file = folder / "gateway.toml"
        file.write_text(FILE.format(url=upstream.url))
        admin = new_secret()
        with contextlib.closing(open_keys(url)) as keys:
            keys.create(Key("key_admin", "ops", endpoints=tuple(ENDPOINTS)), digest_of(admin))
        made = World(url, [], [], folder, admin)
        settings = settings_on_free_ports(
            folder / "gateway", gateway_file=file, redis_url=store.url, release="r1"
        )
        for _ in range(2):
            settings = dataclasses.replace(settings, gateway_port=free_ports(1)[0])
            environ = environment_of(settings) | {"TRIREME_DATABASE_URL": url}
            made.logs.append(folder / f"gateway-{settings.gateway_port}.log")
            process = GatewayProcess(settings, os.environ | environ, made.logs[-1])
            stack.callback(process.stop)
            made.ports.append(settings.gateway_port)
            wait_until(lambda process=process: process.answers(1.0))
        yield made


def test_a_request_is_what_its_client_counts_and_what_it_cost(world):
    key = world.new_key(tenant="acme", user="ann")
    status, headers, body = world.chat(key["secret"], "fallback", "a b c")
    assert status == 200
    path = f"/v1/requests/{headers['x-request-id']}"
    # From the other gateway: the row is in the database that both have.
    wait_until(lambda: world.ask(key["secret"], "GET", f"{path}?wait=10", at=1)[2].get("is_complete"))
    _, _, found = world.ask(key["secret"], "GET", path, at=1)
    usage = body["usage"]
    nanos = 1_000 * usage["prompt_tokens"] + 2_000 * usage["completion_tokens"]
    assert round(float(found["total"]["dollars"]) * 10**9) == nanos
    # The one that fails may be asked again.
    *failed, last = found["attempts"]
    assert {one["served"] for one in failed} == {"fake:fault-status_500"}
    assert last["served"] == "fake:echo"
    assert (last["input_tokens"], last["output_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert (last["outcome"], last["release"], found["model"]) == ("ok", "r1", "fallback")
    other = world.new_key(tenant="acme", user="bob")
    assert world.ask(other["secret"], "GET", path)[0] == 404
    assert world.ask(world.admin, "GET", path)[0] == 200


def test_a_request_without_a_price_says_so(world):
    key = world.new_key(tenant="acme")
    _, headers, _ = world.chat(key["secret"], "free", "a b c")
    path = f"/v1/requests/{headers['x-request-id']}"
    wait_until(lambda: world.ask(key["secret"], "GET", path)[0] == 200)
    _, _, found = world.ask(key["secret"], "GET", path)
    assert (found["is_priced"], found["total"]["dollars"]) == (False, "0.00")
    assert found["total"]["output_tokens"] > 0


def test_a_key_of_one_gateway_opens_the_other_at_once_and_nothing_soon_after_it_was_revoked(world):
    made = world.new_key(tenant="acme", endpoints=["chat", "admin"])
    for at in (0, 1):
        assert world.ask(made["secret"], "GET", "/v1/me", at=at)[2]["id"] == made["id"]
    assert world.ask(world.admin, "DELETE", f"/v1/keys/{made['id']}")[0] == 200
    assert world.ask(made["secret"], "GET", "/v1/me")[0] == 401
    began = time.monotonic()
    wait_until(lambda: world.ask(made["secret"], "POST", "/v1/keys", {}, at=1)[0] == 401)
    print(f"revoked at the other gateway after {time.monotonic() - began:.2f} s, promised {PROMISE} s")


def test_a_secret_is_in_no_log_and_in_no_table(world):
    made = world.new_key(tenant="acme", user="eve")
    secret = made["secret"]
    assert world.ask(secret, "GET", "/v1/me")[0] == 200
    _, _, listed = world.ask(world.admin, "GET", "/v1/keys?tenant=acme")
    assert made["id"] in json.dumps(listed)
    with psycopg.connect(world.url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'trireme'"
        ).fetchall()
        kept = "".join(
            str(connection.execute(f'SELECT * FROM trireme."{name}"').fetchall()) for (name,) in tables
        )
    logs = "".join(log.read_text() for log in world.logs)
    assert made["id"] in kept
    assert f"key key_admin made key {made['id']} of tenant acme" in logs
    for told in (json.dumps(listed), kept, logs):
        assert secret not in told
    for told in (json.dumps(listed), logs):
        assert digest_of(secret) not in told


def test_tenants_say_what_they_used_and_what_they_have(world):
    made = world.new_key(tenant="Zeta")
    world.ask(world.admin, "PUT", "/v1/budgets", {"tenant": "Zeta", "window": "day", "tokens": 10**6})
    _, _, body = world.chat(made["secret"], "echo", "one two")

    def zeta():
        status, _, found = world.ask(world.admin, "GET", "/v1/tenants?q=zet")
        assert status == 200, found
        return found["data"][0]

    wait_until(lambda: zeta()["requests_today"] == 1)
    found = zeta()
    assert (found["tenant"], found["keys"], found["budgets"]) == ("Zeta", 1, 1)
    assert found["tokens_today"] == body["usage"]["total_tokens"]
    assert float(found["dollars_today"]) > 0
    assert world.ask(made["secret"], "GET", "/v1/tenants")[0] == 403


def test_names_that_clients_make_up_are_one_group(world):
    made = world.new_key(tenant="guesser")
    for n in range(4):
        world.chat(made["secret"], f"fake:fault-status_404-{n}", "a")
    world.chat(made["secret"], "echo", "a")

    def names(path):
        return [one["name"] for one in world.ask(made["secret"], "GET", path)[2]["data"]]

    wait_until(lambda: "fake:echo" in names("/v1/usage?by=model"))
    for path in ("/v1/usage?by=model", "/v1/cost?by=model"):
        assert set(names(path)) <= {"fake:echo", "other"}


def start_at_terminal(world, url, *, is_terminal):
    """A gateway of a person's or of a service, and what it has printed once it answers."""
    port = free_ports(1)[0]
    settings = settings_on_free_ports(
        world.folder / f"own-{port}", gateway_file=world.folder / "gateway.toml", gateway_port=port
    )
    environ = os.environ | environment_of(settings) | {"TRIREME_DATABASE_URL": url}
    master, slave = pty.openpty() if is_terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "trireme.cli", "gateway"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.DEVNULL,
    )
    os.close(slave)
    said = ""
    try:
        deadline = time.monotonic() + 120
        while "Console: " not in said or not said.endswith("\n"):
            assert time.monotonic() < deadline, said
            if select.select([master], [], [], 1)[0]:
                said += os.read(master, 65536).decode().replace("\r\n", "\n")
        link = re.search(
            r"^Console: http://127\.0\.0\.1:(\d+)/console/(?:#key=(tr-\S+))?$", said, re.MULTILINE
        )
        assert link, said
        assert int(link[1]) == port
        yield port, link[2], said
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        os.close(master)


at_terminal = contextlib.contextmanager(start_at_terminal)


@pytest.fixture
def empty(world):
    """The URL of a database that never had a key."""
    name = f"empty_{time.monotonic_ns()}"
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return world.url.replace("/postgres?", f"/{name}?")


def status_of(port, secret, path):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers={"authorization": f"Bearer {secret}"})
        return connection.getresponse().status


def test_the_first_gateway_at_a_terminal_prints_a_link_with_an_admins_key_once(world, empty):
    with at_terminal(world, empty, is_terminal=True) as (port, secret, said):
        assert secret is not None
        (app,) = re.findall(r"OPENAI_API_KEY=(tr-\S+)", said)
        wait_until(lambda: status_of(port, secret, "/v1/tenants") == 200)
        assert status_of(port, app, "/v1/tenants") == 403
        assert status_of(port, app, "/v1/me") == 200
    with at_terminal(world, empty, is_terminal=True) as (_, again, said):
        assert again is None
        assert "tr-" not in said
        assert "trireme keys create --admin" in said


def test_a_gateway_that_runs_as_a_service_prints_no_secret_and_makes_no_key(world, empty):
    with at_terminal(world, empty, is_terminal=False) as (_, secret, said):
        assert secret is None
        assert "tr-" not in said
    with contextlib.closing(open_keys(empty)) as keys:
        assert keys.find() == []
