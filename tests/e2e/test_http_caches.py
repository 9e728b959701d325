"""A cache that knows nothing of us, Envoy's, in front of a gateway: it keeps what is public, and nothing else."""

import contextlib
import http.client
import json
import subprocess

import pytest
from stacks import ROOT, free_ports, wait_until

from fakes.gateways import SECRET, Echo, FakeGateway
from fakes.memory_cache import MemoryCache
from trireme.access.keys import Key
from trireme.providers.models import ServedModel
from trireme.types import Hit

BOB = "tr-bob"
FILE = """
[cache]
http_seconds = {seconds}
[public]
tenant = "acme"
endpoints = ["search"]
"""
SEARCH = {"query": "oars", "collection": "docs"}
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
CACHE = "type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig"
MEMORY = "type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def find_envoy():
    for found in (ROOT / ".venv-clients").glob("lib/python3*/site-packages/envoy/_bin/envoy"):
        return found
    pytest.skip("no Envoy in .venv-clients (make clients-env)")


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def configuration(port, gateway_port):
    """JSON is YAML, which Envoy reads."""
    cache = {"@type": CACHE, "typed_config": {"@type": MEMORY}}
    manager = {
        "@type": HCM,
        "stat_prefix": "cache",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "gateway"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.cache", "typed_config": cache},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(gateway_port)}}]}
    return json.dumps(
        {
            "static_resources": {
                "listeners": [{"address": address(port), "filter_chains": [chain]}],
                "clusters": [
                    {
                        "name": "gateway",
                        "type": "STATIC",
                        "load_assignment": {"cluster_name": "gateway", "endpoints": [endpoint]},
                    }
                ],
            }
        }
    )


class Server:
    """One passage, which names its collection."""

    async def models(self):
        return [ServedModel("search", "search", True)]

    async def search(self, call):
        return [Hit(f"{call.collection}#0", "Oars are of fir.", "{}", 0.5)]


class Versions:
    """Counts how often it is asked: each request that reaches the gateway asks."""

    def __init__(self):
        self.asked, self.now = 0, "1"

    async def version_of(self, model, tenant, collection):
        self.asked += 1
        return self.now


@pytest.fixture(params=[3600], ids=["an hour"])
def gateway(request):
    """What it answers may be kept for `param` seconds."""
    keys = {SECRET: Key("k", "acme", "ann"), BOB: Key("b", "other")}
    parts = {"server": Server(), "versions": Versions(), "cache_store": MemoryCache()}
    with FakeGateway(
        Echo(lambda call, model: []), keys=keys, file=FILE.format(seconds=request.param), **parts
    ) as running:
        yield running


@pytest.fixture
def proxy(gateway, tmp_path):
    envoy, (port,) = find_envoy(), free_ports(1)
    file = tmp_path / "envoy.yaml"
    file.write_text(configuration(port, gateway.port))
    command = [str(envoy), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: answers(port) or process.poll() is not None)
            assert process.poll() is None, (tmp_path / "log").read_text()
            yield port
        finally:
            process.terminate()


def answers(port):
    with contextlib.suppress(OSError):
        return get(port, "/healthz")[0] == 200
    return False


def get(port, path, secret=None, method="GET", body=None, **headers):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        raw = None if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, raw, sent)
        answer = connection.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, got, answer.read()


def place_of(gateway, secret=None):
    """Where the answer of a search can be fetched."""
    _, headers, _ = get(gateway.port, "/v1/search", secret, "QUERY", SEARCH)
    return headers["content-location"]


def test_what_is_public_is_asked_once_for_all(gateway, proxy):
    at = place_of(gateway)
    asked = gateway.ports.versions.asked
    first = get(proxy, at)
    assert first[0] == 200
    for _ in range(5):
        status, headers, raw = get(proxy, at)
        assert (status, raw, headers["etag"]) == (200, first[2], first[1]["etag"])
        assert "age" in headers
    assert gateway.ports.versions.asked == asked + 1
    assert get(proxy, at, if_none_match=first[1]["etag"])[0] == 304


def test_what_a_key_was_needed_for_is_asked_each_time_and_given_to_nobody_else(gateway, proxy):
    at = place_of(gateway, SECRET)
    asked = gateway.ports.versions.asked
    for _ in range(3):
        assert get(proxy, at, SECRET)[0] == 200
    assert gateway.ports.versions.asked == asked + 3
    assert get(proxy, at, BOB)[0] == 404
    assert get(proxy, at)[0] == 404


@pytest.mark.parametrize("gateway", [2], indirect=True, ids=["two seconds"])
def test_what_is_old_is_asked_for_again_and_what_changed_is_gone(gateway, proxy):
    at = place_of(gateway)
    assert get(proxy, at)[0] == 200
    gateway.ports.versions.now = "2"
    # The proxy may give it away until its seconds are over; then it asks.
    wait_until(lambda: get(proxy, at)[0] == 404)


def test_a_post_is_asked_each_time(gateway, proxy):
    asked = gateway.ports.versions.asked
    for _ in range(3):
        assert get(proxy, "/v1/search", None, "POST", SEARCH)[0] == 200
    assert gateway.ports.versions.asked == asked + 3


def test_a_proxy_that_does_not_know_query_refuses_it(gateway, proxy):
    """Envoy 1.40 reads no methods that are younger than itself: docs/caching.md says so."""
    assert get(proxy, "/v1/search", None, "QUERY", SEARCH)[0] == 400
