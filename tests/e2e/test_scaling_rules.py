"""The rules of deploy/prometheus in a real Prometheus that scrapes a real tritonserver and a real gateway."""

import re
import shutil
import subprocess
import urllib.request

import pytest
import yaml
from prometheuses import job, prometheus_over
from stacks import ROOT, wait_until

from trireme.observe import metrics as observed

PLAIN = ROOT / "deploy" / "prometheus" / "rules.yaml"
# Of faults: a healthy gateway exports none of it.
ONLY_OF_FAULTS = {"trireme_gateway_breaker_open", "trireme_gateway_shed_total"}


@pytest.fixture(scope="module")
def prometheus(stack, gateway, tmp_path_factory):
    rules = yaml.safe_load(PLAIN.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
    servers = {
        "trireme-llm-5f-aa": f"127.0.0.1:{stack.settings.metrics_port}",
        "trireme-gateway-5f-aa": gateway.url.removeprefix("http://"),
    }
    jobs = [job(pod, target, namespace="trireme", pod=pod) for pod, target in servers.items()]
    with prometheus_over(tmp_path_factory.mktemp("prometheus"), jobs, rules) as running:
        yield running


def test_prometheus_evaluates_every_rule_without_an_error(prometheus):
    def rules():
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    wanted = sum(len(group["rules"]) for group in yaml.safe_load(PLAIN.read_text())["groups"])
    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()))
    found = rules()
    assert len(found) == wanted
    assert [rule for rule in found if rule["health"] != "ok" or rule.get("lastError")] == []


def test_what_the_rules_read_of_servers_and_gateway_is_there(prometheus, gateway):
    # One request, so that requests are counted.
    gateway.new_key("--user", "scraped")
    rows = {row.name for who in ("server", "gateway") for row in observed.EXPORTERS[who]}
    text = PLAIN.read_text()
    named = {name for name in rows if re.search(rf"\b{name}\b", text)} - ONLY_OF_FAULTS
    assert "trireme_gateway_requests_total" in named
    for name in sorted(named):
        wait_until(lambda name=name: bool(prometheus.values(f'{name}{{namespace="trireme"}}')))


def test_autoscalers_are_told_a_number(prometheus):
    for name in ("gateway", "llm"):
        query = f'trireme:scale_signal{{deployment="trireme-{name}"}}'
        wait_until(lambda query=query: bool(prometheus.values(query)))
        (told,) = prometheus.values(query)
        assert told >= 0


def test_the_hook_of_a_gateways_pod_ends_where_no_request_runs(gateway):
    if shutil.which("curl") is None:
        pytest.skip("curl is missing")
    page = f"{gateway.url}/metrics"
    with urllib.request.urlopen(page) as answer:
        assert 'trireme_gateway_requests_running{endpoint="metrics"} 1.0' in answer.read().decode()
    hook = ROOT / "deploy" / "chart" / "files" / "wait-for-requests.sh"
    assert subprocess.run(["sh", hook, "0", "600", page], timeout=120).returncode == 0
