"""Envoy takes what `trireme envoy` makes of the values that the chart gives its pod."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fakes.balancers import Balancer
from fakes.replicas import Hold, Replica
from trireme.cli import main
from trireme.errors import SettingError, UnsupportedError
from trireme.scale.envoy import find_envoy
from trireme.scale.values import CHART_KEYS, CHART_PARTS, EnvoyValues, parse_values, read_values

# Connections of those who asked Envoy's admin address.
ASKED = "listener.admin.downstream_cx_total"
CHART = Path(__file__).parents[2] / "deploy" / "chart"


def properties(*keys):
    schema = json.loads((CHART / "values.schema.json").read_text())
    for key in keys:
        schema = schema["properties"][key]
    return schema["properties"]


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def envoy_values(objects):
    made = next(
        one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "trireme-envoy"
    )
    return made["data"]["values.yaml"]


def pod(objects):
    named = (
        one for one in objects if one["kind"] == "Deployment" and one["metadata"]["name"] == "trireme-envoy"
    )
    return next(named)["spec"]["template"]["spec"]


def test_envoy_starts_with_the_configuration_of_its_pod(variant, tmp_path):
    try:
        envoy = find_envoy()
    except UnsupportedError as error:
        pytest.skip(str(error))
    (tmp_path / "values.yaml").write_text(envoy_values(variant))
    for folder in ("far", "bootstrap"):
        (tmp_path / folder).mkdir()
    # As in the pod, but for its folders.
    folders = {"/etc/trireme": tmp_path, "/bootstrap": tmp_path / "bootstrap", "/far": tmp_path / "far"}
    (bootstrap, *_), server = pod(variant)["initContainers"], pod(variant)["containers"][0]
    assert bootstrap["command"][:2] == ["trireme", "envoy"]
    assert (
        main(
            [
                re.sub(r"(?<==)(/etc/trireme|/bootstrap|/far)\b", lambda found: str(folders[found[0]]), word)
                for word in bootstrap["command"][1:]
            ]
        )
        == 0
    )
    out = tmp_path / "bootstrap" / "envoy.json"
    words = [str(out) if word == "/bootstrap/envoy.json" else word for word in server["args"]]
    assert str(out) in words
    subprocess.run([envoy, "--mode", "validate", *words], check=True, capture_output=True)
    made = json.loads(out.read_text())
    assert made["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    # The clusters whose metrics the rules read, at the headless Services.
    hosts = {
        cluster["name"]: json.dumps(cluster.get("load_assignment"))
        for cluster in made["static_resources"]["clusters"]
    }
    values = yaml.safe_load(envoy_values(variant))
    is_near = "_near" if len(values.get("regions", [])) > 1 else ""
    for name in values["models"]:
        assert f'"trireme-{name}"' in hosts[f"{name}{is_near}"]


def test_trireme_envoy_reads_the_charts_own_file_too():
    values = read_values(CHART / "values.yaml")
    assert values.default.name == "retrieval"


def test_the_schema_of_envoy_has_the_keys_that_trireme_envoy_reads():
    # The chart names its own Services, files of the Secret of regions, and the port of the controller beside it.
    assert set(properties("envoy")) == {camel(one.name) for one in dataclasses.fields(EnvoyValues)} - {
        "service",
        "regionTls",
        "controller",
    }


def test_the_chart_has_every_key_that_trireme_envoy_leaves_to_it():
    schema = json.loads((CHART / "values.schema.json").read_text())
    (entry,) = schema["properties"]["models"]["patternProperties"].values()
    assert set(entry["properties"]) >= CHART_KEYS
    assert set(schema["properties"]) == CHART_PARTS | {"models", "envoy", "regions"}


def test_no_key_of_an_entry_stops_trireme_envoy():
    schema = json.loads((CHART / "values.schema.json").read_text())
    (entry,) = schema["properties"]["models"]["patternProperties"].values()
    for key in entry["properties"]:
        try:
            parse_values({"models": {"llm": {"serves": ["llm"], key: None}}}, "values.yaml")
        except SettingError as error:
            assert "is no setting" not in str(error), key


@pytest.fixture
def balancer(tmp_path):
    running = Balancer(tmp_path, {"llm": {"serves": ["llm"]}})
    yield running
    running.close()


@pytest.fixture
def replica():
    running = Replica()
    yield running
    running.close()


def test_what_the_rules_read_of_envoy_is_on_its_page(balancer, replica, chart):
    rules = chart.render({"models": {"llm": {"scale": {"on": "p95", "target": 1}}}})
    named = set(re.findall(r"\benvoy_cluster_[a-z_]+(?=\{)", rules))
    assert len(named) == 5
    balancer.place(replica)
    balancer.infer("llm")

    def missing():
        page = balancer.fetch("/stats/prometheus")
        return {name for name in named if f'\n{name}{{envoy_cluster_name="llm"' not in page}

    # Envoy gathers its histograms now and then.
    balancer.wait_until(lambda: not missing())


def test_the_hook_of_envoys_pod_waits_for_a_call_and_ends_with_it(balancer, replica):
    if shutil.which("bash") is None:
        pytest.skip("bash is missing")
    hold = Hold()
    replica.infer = hold.infer
    balancer.place(replica)
    call = balancer.start("llm")
    hold.wait_for(1)
    before = balancer.stat(ASKED)
    words = ["bash", str(CHART / "files" / "drain-envoy.sh"), "0", "600", str(balancer.admin_port)]
    hook = subprocess.Popen(words)
    try:
        # Beside the test's own questions: the order to drain, and how many calls run, more than once.
        count = itertools.count(1)
        balancer.wait_until(lambda: balancer.stat(ASKED) - before - next(count) >= 3)
        assert hook.poll() is None
        hold.end.set()
        call.result()
        assert hook.wait(60) == 0
    finally:
        hook.kill()
        hook.wait()


def test_a_client_connects_anew_now_and_then_and_a_call_that_runs_is_not_cut(tmp_path, replica):
    running = Balancer(tmp_path, {"llm": {"serves": ["llm"]}}, clientConnectionSeconds=0.1)
    try:
        running.place(replica)
        hold = Hold()
        replica.infer = hold.infer
        call = running.start("llm")
        hold.wait_for(1)
        running.wait_until(lambda: running.stat("http.grpc.downstream_cx_max_duration_reached") >= 1)
        hold.end.set()
        assert call.result().id == "late"
        running.wait_until(
            lambda: bool(running.infer("llm").id) and running.stat("http.grpc.downstream_cx_total") >= 2
        )
    finally:
        running.close()


def test_the_chart_lets_no_client_keep_to_one_envoy_for_ever(objects):
    assert 0 < yaml.safe_load(envoy_values(objects))["envoy"]["clientConnectionSeconds"] <= 300
