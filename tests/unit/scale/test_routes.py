import pytest

from trireme.scale.routes import HEALTH, INFER, STREAM, route_configuration, seconds
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
