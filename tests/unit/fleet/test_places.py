"""Where the parts of a fleet listen, and what Envoy is told."""

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.errors import SettingError
from trireme.fleet.places import MOST_CALLS, MOST_REPLICAS, envoy_values, place_replicas
from trireme.settings import Settings

RECIPES = [
    Recipe("embedding", kind="text_encoder", source="x/y"),
    Recipe("ingest", kind="ingester"),
    Recipe("llm", kind="generator", source="x/y"),
    Recipe("search", kind="search", steps=("embedding", "retriever", "sort")),
]


def listening(settings, count):
    """Every address and port that a fleet binds."""
    envoy = envoy_values(settings, RECIPES, count).envoy
    bound = [(one.address, one.port) for one in (envoy.listen, envoy.admin, envoy.metrics)]
    for place in place_replicas(settings, count):
        ports = (
            place.http_port,
            place.grpc_port,
            place.metrics_port,
            place.agent_port,
            place.agent_http_port,
        )
        bound += [(place.address, port) for port in ports]
    return [*bound, (settings.gateway_host, settings.gateway_port)]


def test_each_replica_has_an_address_of_its_own_and_the_ports_that_are_set():
    first, second = place_replicas(Settings(), 2)
    assert (first.name, first.address, second.address) == ("1", "127.0.0.11", "127.0.0.12")
    assert (first.http_port, first.metrics_port) == (8000, 8002)
    assert (second.grpc_port, second.agent_port, second.agent_http_port) == (8003, 8004, 8005)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize("gateway", [8003, 8005, 8080])
def test_no_two_parts_listen_at_the_same_place_whatever_the_host(host, gateway):
    settings = Settings(host=host, gateway_host=host, gateway_port=gateway)
    bound = listening(settings, 3)
    assert len(set(bound)) == len(bound)
    # 0.0.0.0 takes a port of every address.
    everywhere = {port for address, port in bound if address == "0.0.0.0"}  # noqa: S104
    assert not {port for address, port in bound if address.startswith("127.")} & everywhere


def test_envoy_listens_where_users_expect_the_server():
    envoy = envoy_values(Settings(host="localhost", grpc_port=9001), RECIPES, 2).envoy
    assert (envoy.listen.address, envoy.listen.port) in {("127.0.0.1", 9001), ("::1", 9001)}


def test_only_calls_that_read_may_be_sent_again():
    (entry,) = envoy_values(Settings(), RECIPES, 3).models
    assert entry.serves == ("embedding", "ingest", "llm", "search")
    assert entry.idempotent == ("embedding", "search")
    assert entry.max_requests == 3 * MOST_CALLS


@pytest.mark.parametrize("count", [0, -1, MOST_REPLICAS + 1])
def test_a_number_of_replicas_that_has_no_addresses_is_refused(count):
    with pytest.raises(SettingError, match=f"--replicas must be from 1 to {MOST_REPLICAS}, got {count}"):
        place_replicas(Settings(), count)


def test_ports_that_leave_no_room_are_refused():
    with pytest.raises(SettingError, match="TRIREME_METRICS_PORT"):
        place_replicas(Settings(metrics_port=65533), 1)


def test_a_host_without_an_address_is_named():
    with pytest.raises(SettingError, match=r"TRIREME_HOST names no address .*: no-such-host\.invalid"):
        envoy_values(Settings(host="no-such-host.invalid"), RECIPES, 1)
