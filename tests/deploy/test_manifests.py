"""What the chart renders is what Kubernetes, KEDA and the Prometheus operator take."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(__file__).parent / "schemas"
CUSTOM = {"keda.sh/v1alpha1": "keda.json", "monitoring.coreos.com/v1": "monitoring.json"}
# What the chart's kubeVersion allows, oldest and newest.
KUBERNETES = ("1.29", "1.37")


def schema_of(name):
    return json.loads((SCHEMAS / name).read_text())


def test_helm_lints_the_chart_strictly(helm):
    subprocess.run([helm, "lint", "--strict", ROOT / "deploy" / "chart"], check=True, capture_output=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object_and_each_of_its_fields(variant, version):
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="make installs it with the test tools"
    )
    checked = [one for one in variant if one["apiVersion"] not in CUSTOM]
    assert {one["kind"] for one in checked} >= {"Deployment", "Service", "PodDisruptionBudget", "ConfigMap"}
    for one in checked:
        kubernetes_validate.validate(one, version, strict=True)


def test_keda_and_the_prometheus_operator_take_their_objects(variant):
    jsonschema = pytest.importorskip("jsonschema", reason="make installs it with the test tools")
    for one in variant:
        if one["apiVersion"] in CUSTOM:
            jsonschema.validate(one, schema_of(CUSTOM[one["apiVersion"]]), jsonschema.Draft7Validator)


def test_kedas_schema_is_strict(objects):
    jsonschema = pytest.importorskip("jsonschema", reason="make installs it with the test tools")
    scaled = next(one for one in objects if one["kind"] == "ScaledObject")
    schema = jsonschema.Draft7Validator(schema_of("keda.json"))
    assert schema.is_valid(scaled)
    for change in (
        {"maxReplicas": 3},
        {"fallback": {"failureThreshold": 3, "replicas": 1, "behaviour": "static"}},
        {"triggers": [{"type": "prometheus", "metadata": {"query": "up", "threshold": 1}}]},
    ):
        assert not schema.is_valid({**scaled, "spec": {**scaled["spec"], **change}}), change


def test_the_rendered_manifests_the_plain_rules_and_the_table_of_values_are_those_of_the_chart(
    rendered, script, helm
):
    regions = {path.stem: script.template(helm, "--values", path) for path in script.examples()}
    assert len(regions) == 2
    made = script.made_files(rendered, regions)
    for folder, pattern in ((script.MANIFESTS, "*"), (script.REGIONS, "*/*")):
        assert set(folder.glob(pattern)) == {path for path in made if path.is_relative_to(folder)}
    for path, text in made.items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: run build/render_chart.py"


def test_a_key_that_stands_twice_in_values_is_named_for_helm_would_keep_the_last_silently(
    script, helm, tmp_path, monkeypatch, capsys
):
    own = tmp_path / "own.yaml"
    own.write_text("models:\n  llm: {maxRequests: 1}\ngpuQuota: 1\nmodels:\n  llm: {maxRequests: 2}\n")
    assert '"maxRequests": 2' in script.template(helm, "--values", own)
    assert script.check_values([own]) == 1
    said = capsys.readouterr().err
    assert "models stands twice" in said and "line 4" in said
    assert script.check_values([script.CHART / "values.yaml", *script.examples()]) == 0
    # `make chart` looks first.
    monkeypatch.setattr(script, "examples", lambda: [own])
    monkeypatch.setattr(script, "EXAMPLES", tmp_path)
    monkeypatch.setattr("sys.argv", ["render_chart", "--check"])
    assert script.main() == 2
    assert "models stands twice" in capsys.readouterr().err


def test_where_helm_fails_its_own_words_are_shown(script, tmp_path, monkeypatch, capsys):
    helm = tmp_path / "helm"
    helm.write_text("#!/bin/sh\necho 'Error: of the chart' >&2\nexit 1\n")
    helm.chmod(0o755)
    monkeypatch.setattr("sys.argv", ["render_chart", "--check"])
    for path, words in ((helm, "Error: of the chart"), (tmp_path / "none", "No such file")):
        monkeypatch.setenv("HELM", str(path))
        assert script.main() == 2
        assert words in capsys.readouterr().err


def test_no_two_objects_have_one_name(variant):
    names = [(one["kind"], one["metadata"]["name"]) for one in variant]
    assert len(set(names)) == len(names)


def test_every_selector_finds_the_pods_of_one_deployment_alone(variant):
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in variant
        if one["kind"] == "Deployment"
    }
    for one in variant:
        selector = one.get("spec", {}).get("selector", {})
        if one["kind"] in ("Deployment", "PodDisruptionBudget", "Service"):
            wanted = selector.get("matchLabels", selector)
            found = [name for name, labels in pods.items() if wanted.items() <= labels.items()]
            # Envoy has a second Service, for other regions.
            assert found == [one["metadata"]["name"].removesuffix("-region")], one["metadata"]["name"]


def test_every_port_and_config_map_and_claim_that_is_named_is_there(variant):
    pods = [one["spec"]["template"]["spec"] for one in variant if one["kind"] == "Deployment"]
    maps = {one["metadata"]["name"] for one in variant if one["kind"] == "ConfigMap"}
    for pod in pods:
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        ports = {port["name"] for container in containers for port in container.get("ports", [])}
        for container in containers:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                named = container.get(probe, {}).get("httpGet", {}).get("port")
                assert named is None or named in ports
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in maps
        for volume in volumes.values():
            assert volume.get("configMap", {"name": next(iter(maps))})["name"] in maps


def test_the_sample_configuration_of_prometheus_is_one(regional):
    folder = ROOT / "deploy" / "prometheus"
    read = yaml.safe_load((folder / "prometheus.yml").read_text())
    assert read["rule_files"] == ["rules.yaml", "budgets.yaml"]
    assert all((folder / name).is_file() for name in read["rule_files"])
    # It keeps every port that a PodMonitor reads, but the gateway's, which has a job of its own.
    keep = read["scrape_configs"][0]["relabel_configs"][1]
    monitors = [one for one in regional if one["kind"] == "PodMonitor"]
    ports = {end["port"] for one in monitors for end in one["spec"]["podMetricsEndpoints"]}
    assert set(keep["regex"].split("|")) == ports - {"http"}
    adapter = yaml.safe_load((folder / "adapter.yaml").read_text())
    rule = adapter["rules"]["external"][0]
    assert rule["name"]["as"] == "trireme_scale_signal"
