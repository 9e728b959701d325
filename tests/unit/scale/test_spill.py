import json

import pytest

from trireme.errors import InvalidInputError, SettingError
from trireme.scale.envoy import bootstrap
from trireme.scale.routes import NOT_SENT_HEADER, spill_key
from trireme.scale.spill import (
    LAYER,
    RELAY,
    relay_cluster,
    relay_listener,
    runtime_layer,
    spill_file,
    write_shares,
)
from trireme.scale.values import parse_values

MODELS = {"llm": {"serves": ["llm"]}}
REGIONS = [{"name": "here"}, {"name": "there"}]


def values(**envoy):
    return parse_values({"models": MODELS, "regions": REGIONS, "envoy": envoy}, "v")


def test_shares_are_a_layer_of_the_runtime_whose_keys_the_routes_read(tmp_path):
    write_shares(tmp_path, {"llm": 40, "retrieval": 0})
    (resource,) = json.loads(spill_file(tmp_path).read_text())["resources"]
    assert resource["name"] == runtime_layer(tmp_path)["rtds_layer"]["name"] == LAYER
    assert resource["layer"] == {"spill": {"llm": 40, "retrieval": 0}}
    head, _, tail = spill_key(values().models[0]).partition(".")
    assert resource["layer"][head][tail] == 40
    write_shares(tmp_path, {})
    assert json.loads(spill_file(tmp_path).read_text())["resources"][0]["layer"] == {"spill": {}}


@pytest.mark.parametrize("share", [-1, 101, 0.5, None])
def test_a_share_that_is_none_is_refused_and_nothing_written(tmp_path, share):
    with pytest.raises(InvalidInputError, match="'llm' must be a whole number from 0 to 100"):
        write_shares(tmp_path, {"llm": share})
    assert not spill_file(tmp_path).exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingError, match="away"):
        write_shares(tmp_path / "away", {})


def test_the_relay_is_reached_by_its_name_and_limits_nothing():
    cluster = relay_cluster("llm_relay")
    (locality,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    internal = endpoint["endpoint"]["address"]["envoy_internal_address"]
    assert internal == {"server_listener_name": RELAY, "endpoint_id": "llm_relay"}
    (limits,) = cluster["circuit_breakers"]["thresholds"]
    assert limits["max_requests"] == limits["max_pending_requests"] == 2**31
    listener = relay_listener(values(spill=True), 10)
    assert "address" not in listener
    assert NOT_SENT_HEADER in json.dumps(listener["filter_chains"])


def test_without_spill_or_other_regions_envoy_has_none_of_it(tmp_path):
    alone = parse_values({"models": MODELS, "envoy": {"spill": True}}, "v")
    for some in (values(), alone):
        made = bootstrap(some, endpoints=tmp_path)
        assert "bootstrap_extensions" not in made
        assert len(made["layered_runtime"]["layers"]) == 1
        assert RELAY not in [one["name"] for one in made["static_resources"]["listeners"]]
    made = bootstrap(values(spill=True), endpoints=tmp_path)
    assert made["layered_runtime"]["layers"][1] == runtime_layer(tmp_path)
    assert RELAY in [one["name"] for one in made["static_resources"]["listeners"]]
