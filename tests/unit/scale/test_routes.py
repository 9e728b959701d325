import pytest

from trireme.scale.routes import (
    HEALTH,
    INFER,
    MODEL_HEADER,
    NOT_SENT_HEADER,
    PRIORITY_HEADER,
    RESIDENCY_HEADER,
    STREAM,
    relay_configuration,
    route_configuration,
    seconds,
)
from trireme.scale.values import parse_values

MODELS = {
    "a": {"serves": ["embedding", "x.y-z"], "idempotent": ["embedding"], "perTryTimeoutSeconds": 0.25},
    "b": {"serves": ["llm", "rerank"], "idempotent": ["rerank"]},
}


def routes(models=MODELS, **more):
    (host,) = route_configuration(parse_values({"models": models, **more}, "v"))["virtual_hosts"]
    return {route["name"]: route for route in host["routes"]}, host


def policy(name, **more):
    return routes(**more)[0][name]["route"]["retry_policy"]


def test_the_narrowest_match_stands_first_and_the_default_entry_last():
    names = list(routes()[0])
    kinds = ["stream", "idempotent", "infer", "read", "health"]
    assert names == [f"b-{kind}" for kind in kinds] + [f"a-{kind}" for kind in kinds] + ["others"]


def test_only_the_default_entry_takes_calls_that_name_no_model():
    found, _ = routes()
    for kind in ("stream", "infer", "read", "health"):
        assert found[f"a-{kind}"]["match"]["headers"] == []
        (header,) = found[f"b-{kind}"]["match"]["headers"]
        assert header["string_match"]["safe_regex"]["regex"] == "llm|rerank"
    (header,) = found["a-idempotent"]["match"]["headers"]
    assert header["string_match"]["safe_regex"]["regex"] == "embedding"


def test_a_dot_in_a_models_name_stands_for_itself():
    models = {"one": {"serves": ["x"]}, "two": {"serves": ["x.y-z"]}}
    (header,) = routes(models)[0]["two-infer"]["match"]["headers"]
    assert header["string_match"]["safe_regex"]["regex"] == r"x\.y\-z"


def test_without_idempotent_models_there_is_no_such_route():
    found, _ = routes({"a": {"serves": ["llm"]}})
    assert "a-idempotent" not in found


def test_each_class_is_asked_again_for_its_own_reasons():
    assert policy("b-idempotent")["retry_on"] == "connect-failure,refused-stream,unavailable,reset"
    assert policy("b-stream")["retry_on"] == "connect-failure,refused-stream,unavailable,reset"
    assert policy("b-read")["retry_on"] == "connect-failure,refused-stream,unavailable,reset"
    assert policy("b-infer")["retry_on"] == "connect-failure,refused-stream"
    once = policy("b-stream", envoy={"retryStreamResets": False})
    assert once["retry_on"] == "connect-failure,refused-stream,unavailable"


def test_a_try_has_a_time_where_the_class_has_one():
    assert policy("b-idempotent")["per_try_timeout"] == "10s"
    assert policy("a-idempotent")["per_try_timeout"] == "0.25s"
    assert policy("b-stream")["per_try_timeout"] == "120s"
    for name in ("b-infer", "b-read", "b-health"):
        assert "per_try_timeout" not in policy(name)
    off = {"envoy": {"perTryTimeoutSeconds": 0, "firstMessageSeconds": 0}}
    assert "per_try_timeout" not in policy("b-idempotent", **off)
    assert "per_try_timeout" not in policy("b-stream", **off)


def test_only_idempotent_calls_are_hedged_and_only_where_a_try_has_a_time():
    found, _ = routes(
        {**MODELS, "c": {**MODELS["b"], "serves": ["c"], "idempotent": ["c"], "perTryTimeoutSeconds": 0}},
        envoy={"hedging": True},
    )
    hedged = {name for name, route in found.items() if "hedge_policy" in route.get("route", {})}
    assert hedged == {"a-idempotent", "b-idempotent"}
    assert not any("hedge_policy" in route.get("route", {}) for route in routes()[0].values())


def test_no_route_has_a_time_of_its_own():
    found, _ = routes()
    for name, route in found.items():
        if name != "others":
            assert (route["route"]["timeout"], route["route"]["idle_timeout"]) == ("0s", "0s")


def test_priorities_are_left_with_regions_alone():
    assert "retry_priority" not in policy("b-infer")
    some = policy("b-infer", regions=[{"name": "x"}, {"name": "y"}], envoy={"triesPerRegion": 2})
    assert some["retry_priority"]["typed_config"]["update_frequency"] == 2
    assert policy("b-infer", envoy={"retries": 0})["num_retries"] == 0


REGIONS = [{"name": "here"}, {"name": "there"}]


def ways(kind, entry="b", **more):
    """Of a kind of calls: suffix of the route -> its cluster, in Envoy's order."""
    found, _ = routes(regions=REGIONS, **more)
    name = f"{entry}-{kind}"
    return {
        route: found[route]["route"]["cluster"]
        for route in found
        if route == name or route.startswith(f"{name}-")
    }


def test_with_one_region_priority_and_residency_change_nothing():
    for more in ({}, {"regions": REGIONS[:1], "envoy": {"spill": True}}):
        assert not any(name.count("-") > 1 for name in routes(**more)[0])


def test_what_must_stay_is_looked_for_first_and_batch_calls_stay_unless_they_may_leave():
    assert ways("infer") == {"b-infer-near": "b_near", "b-infer-batch": "b_near", "b-infer": "b"}
    models = {**MODELS, "b": {**MODELS["b"], "failoverBatchRequests": 3}}
    leaving = ways("infer", models=models)
    assert leaving == {"b-infer-near": "b_near", "b-infer-batch": "b_batch", "b-infer": "b"}
    found, _ = routes(regions=REGIONS)
    (model, stays) = found["b-infer-near"]["match"]["headers"]
    assert (model["name"], stays) == (MODEL_HEADER, {"name": RESIDENCY_HEADER, "present_match": True})
    (stays,) = found["a-health-near"]["match"]["headers"]
    assert stays["name"] == RESIDENCY_HEADER
    (_, batch) = found["b-infer-batch"]["match"]["headers"]
    assert batch == {"name": PRIORITY_HEADER, "string_match": {"exact": "batch"}}


def test_only_work_spills():
    envoy = {"spill": True}
    for kind in ("stream", "idempotent", "infer"):
        assert list(ways(kind, envoy=envoy).values()) == ["b_near", "b_near", "b_away", "b"]
    for kind in ("read", "health"):
        assert list(ways(kind, envoy=envoy).values()) == ["b_near", "b_near", "b"]
    found, _ = routes(regions=REGIONS, envoy=envoy)
    share = found["b-infer-spill"]["match"]["runtime_fraction"]
    assert share == {"default_value": {"numerator": 0}, "runtime_key": "spill.b"}


def test_what_spills_is_asked_again_where_no_server_had_it_and_nothing_else_is_for_that():
    found, host = routes(regions=REGIONS, envoy={"spill": True})
    for name, route in found.items():
        retry = route.get("route", {}).get("retry_policy", {})
        assert ("retriable-headers" in retry.get("retry_on", "")) is name.endswith("-spill")
        assert ("retriable_headers" in retry) is name.endswith("-spill")
    assert host["response_headers_to_remove"] == [NOT_SENT_HEADER]
    assert "response_headers_to_remove" not in routes()[1]


def test_near_calls_are_asked_again_near_without_an_order_of_regions():
    found, _ = routes(regions=REGIONS)
    assert "retry_priority" not in found["b-idempotent-near"]["route"]["retry_policy"]
    assert "retry_priority" in found["b-idempotent"]["route"]["retry_policy"]


def test_the_relay_leads_to_far_replicas_alone():
    values = parse_values({"models": MODELS, "regions": REGIONS, "envoy": {"spill": True}}, "v")
    (host,) = relay_configuration(values)["virtual_hosts"]
    found = {route["name"]: route for route in host["routes"]}
    assert {name: route["route"]["cluster"] for name, route in found.items()} == {
        "b-far": "b_far",
        "a-far": "a_far",
    }
    assert found["a-far"]["match"]["headers"] == []
    assert not any("retry_policy" in route["route"] for route in found.values())


def test_calls_that_change_one_server_have_no_route_to_one():
    found, host = routes()
    paths = {route["match"].get("path", route["match"].get("prefix")) for route in found.values()} - {None}
    assert paths == {INFER, STREAM, HEALTH, "/"}
    assert found["others"]["direct_response"]["status"] == 404
    assert host["request_body_buffer_limit"] == str(1 << 20)


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05s"), (2.0, "2s"), (0.3, "0.3s"), (600.0, "600s"), (1e-6, "0.000001s")]
)
def test_durations_are_written_as_envoy_reads_them(value, text):
    assert seconds(value) == text
