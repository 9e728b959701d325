import json

from trireme.scale.near_routes import CONTROLLER_CLUSTER, LOADS, PING, near_route_configuration
from trireme.scale.routes import HEALTH, route_configuration
from trireme.scale.values import parse_values

MODELS = {"llm": {"serves": ["llm"]}, "all": {"serves": ["a"], "idempotent": ["a"], "default": True}}


def routes(made):
    (host,) = made["virtual_hosts"]
    return {route["name"]: route for route in host["routes"]}


def values_of(*regions):
    return parse_values({"models": MODELS, "regions": [{"name": name} for name in regions]}, "v")


def test_other_regions_have_the_routes_of_clients_and_reach_near_replicas_alone():
    values = values_of("here", "there")
    near, own = routes(near_route_configuration(values)), routes(route_configuration(values))
    alone = {name for name in own if not name.endswith(("-near", "-batch"))}
    assert set(near) == {*alone, "ping", "loads"}
    clusters = {route["route"]["cluster"] for route in near.values() if "route" in route}
    assert clusters == {"llm_near", "all_near", CONTROLLER_CLUSTER}
    assert near["all-idempotent"]["match"] == own["all-idempotent"]["match"]
    # There is no further region to be asked.
    assert "previous_priorities" not in json.dumps(near)


def test_where_no_other_region_is_known_there_is_one_cluster():
    near = routes(near_route_configuration(values_of("here")))
    assert {route["route"]["cluster"] for route in near.values() if "route" in route} == {
        *("llm", "all", CONTROLLER_CLUSTER)
    }


def test_health_is_counted_apart_so_that_a_full_region_is_not_taken_for_one_that_is_gone():
    near = routes(near_route_configuration(values_of("here", "there")))
    raised = {name for name, route in near.items() if route.get("route", {}).get("priority") == "HIGH"}
    assert raised == {"llm-health", "all-health"}
    assert near["all-health"]["match"]["prefix"] == HEALTH


def test_a_round_trip_is_answered_before_any_model_is_looked_for():
    (host,) = near_route_configuration(values_of("here"))["virtual_hosts"]
    assert host["routes"][0]["match"] == {"path": PING}
    assert host["routes"][0]["direct_response"] == {"status": 200}
    assert host["routes"][1]["match"]["path"] == LOADS
    assert LOADS not in json.dumps(route_configuration(values_of("here", "there")))
    assert PING not in json.dumps(route_configuration(values_of("here")))
