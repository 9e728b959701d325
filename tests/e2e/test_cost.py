"""A real gateway over PostgreSQL and Valkey: its figures of cost are those that clients count for themselves."""

import contextlib
import dataclasses
import http.client
import json
import os
import tempfile
from pathlib import Path

import pytest
from stacks import environment_of, settings_on_free_ports, wait_until

from fakes.upstreams import serving
from trireme.access.keys import Key, digest_of, new_secret
from trireme.gateway_process import GatewayProcess
from trireme.local.postgres import start_postgres
from trireme.storage import open_costs, open_keys
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

[[machines.cpu]]
dollars_per_hour = 36.0
"""
FAR = 10**15


@dataclasses.dataclass
class World:
    url: str
    settings: object
    process: GatewayProcess
    secrets: dict

    def ask(self, tenant, method, path, body=None):
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.gateway_port, timeout=60)
        with contextlib.closing(connection):
            raw = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, raw, {"authorization": f"Bearer {self.secrets[tenant]}"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())

    def chat(self, tenant, model, text, temperature=1):
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "messages": messages, "max_tokens": 100, "temperature": temperature}
        return self.ask(tenant, "POST", "/v1/chat/completions", body)

    def cost(self, by, tenant="admin"):
        status, _, body = self.ask(tenant, "GET", f"/v1/cost?by={by}")
        assert status == 200, body
        return body

    def spans(self):
        with contextlib.closing(open_costs(self.url)) as book:
            return book.spans(0, FAR)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cost")
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: each new session closes that of all sessions to other accounts.
        data = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(start_postgres(Path(data))).url
        store = stack.enter_context(valkey(appendonly="yes", maxmemory_policy="noeviction"))
        upstream = stack.enter_context(serving())
        file = folder / "gateway.toml"
        file.write_text(FILE.format(url=upstream.url))
        settings = settings_on_free_ports(
            folder / "gateway",
            gateway_file=file,
            redis_url=store.url,
            release="r1",
            machine_kind="cpu",
            machine="one",
        )
        secrets = {}
        with contextlib.closing(open_keys(url)) as keys:
            for tenant in ("acme", "beta", "admin"):
                secrets[tenant] = new_secret()
                endpoints = ("admin",) if tenant == "admin" else ()
                keys.create(Key(f"key_{tenant}", tenant, endpoints=endpoints), digest_of(secrets[tenant]))
        environ = environment_of(settings) | {"TRIREME_DATABASE_URL": url}
        process = GatewayProcess(settings, os.environ | environ, folder / "gateway.log")
        stack.callback(process.stop)
        made = World(url, settings, process, secrets)
        wait_until(lambda: process.answers(1.0))
        yield made


def test_cost_is_what_clients_count_and_machines_idle_is_beside_it(world):
    counted = {"acme": 0, "beta": 0}
    succeeded = failed = hits = 0
    asked = [("acme", "echo", f"word {n}", 1) for n in range(5)] + [("beta", "fallback", "a b c", 1)] * 3
    asked += [("beta", "failing", "a b", 1)] * 2 + [("acme", "echo", "the same again", 0)] * 3
    for tenant, model, text, temperature in asked:
        status, headers, body = world.chat(tenant, model, text, temperature)
        if status != 200:
            failed += 1
            continue
        succeeded += 1
        if headers.get("x-trireme-cache", "").startswith("exact"):
            hits += 1
            continue
        usage = body["usage"]
        counted[tenant] += 1_000 * usage["prompt_tokens"] + 2_000 * usage["completion_tokens"]
    assert (succeeded, failed, hits) == (11, 2, 2)

    def dollars(text):
        return round(float(text) * 10**9)

    # Rows reach the ledger behind the answers.
    wait_until(lambda: world.cost("all")["total"]["requests"] == len(asked))
    body = world.cost("tenant")
    assert {one["name"]: dollars(one["provider_dollars"]) for one in body["data"]} == counted
    total = body["total"]
    assert (total["succeeded"], total["failed"]) == (succeeded, failed)
    assert dollars(total["usage_dollars"]) == sum(counted.values())
    assert dollars(total["saved_dollars"]) > 0
    assert body["unexplained_dollars"] == "0.00"
    assert world.cost("tier")["data"][-1]["saved_dollars"] == total["saved_dollars"]
    assert [one["name"] for one in world.cost("release")["data"]] == ["r1"]
    assert world.cost("model", "acme")["total"]["requests"] == 8
    # The fallback's failed attempts are in it and cost nothing.
    models = {one["name"]: one for one in world.cost("model")["data"]}
    assert (models["fake:fault-status_500"]["failed"], models["fake:echo"]["succeeded"]) == (3, 11)


def test_a_gateway_notes_its_deploy_and_its_machine_from_start_to_end(world):
    wait_until(lambda: world.ask("admin", "GET", "/v1/releases")[2]["data"])
    (release,) = world.ask("admin", "GET", "/v1/releases")[2]["data"]
    assert release["name"] == "r1"
    assert release["deployed"]
    # The last beat of one that ends in order is of its end.
    world.process.stop()
    (first,) = world.spans()
    assert (first.machine, first.kind, first.release) == ("one", "cpu", "r1")
    assert first.end > first.start
    world.process._start()
    wait_until(lambda: world.process.answers(1.0))
    wait_until(lambda: sum(one.end - one.start for one in world.spans()) > first.end - first.start)
    # One that is killed leaves what it had noted, and the same release is no new deploy.
    world.process.kill()
    wait_until(lambda: not world.process.is_running())
    (span,) = world.spans()
    assert span.start == first.start
    world.process._start()
    wait_until(lambda: world.process.answers(1.0))
    body = world.cost("all")
    (machine,) = body["machines"]
    assert machine["kind"] == "cpu"
    # 36 dollars an hour are a cent a second.
    assert abs(float(machine["dollars"]) - machine["hours"] * 36) < 1e-6
    assert body["unexplained_dollars"] == "0.00"
    assert len(world.ask("admin", "GET", "/v1/releases")[2]["data"][0]["deployed"]) == 1
