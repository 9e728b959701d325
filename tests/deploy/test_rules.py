"""The rules that autoscalers and people read: what they make of the series of servers, and which those are."""

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from trireme import observe
from trireme.observe.metrics import Metric

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "deploy" / "prometheus" / "rules.yaml"
BUDGETS = PLAIN.parent / "budgets.yaml"
RUNBOOK = ROOT / "docs" / "runbook.md"
# Of Envoy's own page.
ENVOY = {
    "envoy_cluster_membership_healthy",
    "envoy_cluster_upstream_rq_total",
    "envoy_cluster_upstream_rq_retry",
    "envoy_cluster_upstream_rq_retry_overflow",
    "envoy_cluster_upstream_rq_pending_overflow",
    "envoy_cluster_upstream_rq_time_bucket",
}
# Labels that Prometheus or Envoy gives.
GIVEN_LABELS = {"namespace", "pod", "deployment", "envoy_cluster_name", "model", "le"}


def groups_of(objects):
    return next(one for one in objects if one["kind"] == "PrometheusRule")["spec"]


def rules_of(groups):
    return [rule for group in groups["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def own_rules():
    return {
        "groups": [group for path in (PLAIN, BUDGETS) for group in yaml.safe_load(path.read_text())["groups"]]
    }


@pytest.fixture(scope="module")
def all_rules(own_rules, request):
    """The chart's own, and those of values under which every kind of rule is made, where helm is there."""
    rules = rules_of(own_rules)
    if request.getfixturevalue("script").find_helm() is not None:
        chart = request.getfixturevalue("chart")
        p95 = {"scale": {"on": "p95", "target": 0.25, "creditCold": True, "spare": 1}}
        values = {
            "models": {"retrieval": p95, "llm": {"scale": {"creditCold": True, "spare": 1}}},
            "gateway": {"scale": {"on": "p95", "target": 0.5}},
        }
        rules = rules + rules_of(groups_of(chart.objects(values)))
        rules = rules + rules_of(groups_of(request.getfixturevalue("regional")))
    return rules


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing; Debian's package prometheus has it")
    return found


class Prometheus:
    """Asks `promtool test rules` what rules make of series."""

    def __init__(self, promtool, folder):
        self._promtool = promtool
        self._folder = folder

    def check(self, rules, *cases):
        """Each case: series, by name and labels, -> values in promtool's notation, 15 s apart; what is expected
        of expressions: their value, rounded to 1e-6, or None for nothing at all; and when."""
        (self._folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        tests = [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f"round(sum({expression}), 1e-6)",
                        "eval_time": at,
                        "exp_samples": [] if value is None else [{"labels": "{}", "value": round(value, 6)}],
                    }
                    for expression, value in expected.items()
                ],
            }
            for series, expected, at in cases
        ]
        file = self._folder / "test.yaml"
        file.write_text(
            yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": tests})
        )
        ran = subprocess.run([self._promtool, "test", "rules", file], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def prometheus(promtool, tmp_path):
    return Prometheus(promtool, tmp_path)


def replica(pod, *, model="llm", offered="0x90", backlog="0x90", namespace="trireme"):
    """What one replica exports of a model."""
    labels = f'{{namespace="{namespace}",pod="{pod}",model="{model}"}}'
    return {
        f"trireme_offered_work_seconds_total{labels}": offered,
        f"trireme_backlog_seconds{labels}": backlog,
    }


def signal(name):
    return f'trireme:scale_signal{{namespace="trireme",deployment="trireme-{name}"}}'


def firing(alert):
    return f'ALERTS{{alertname="{alert}",alertstate="firing"}}'


# --- What autoscalers read ---


def test_replicas_wanted_are_work_that_arrives_by_utilization_and_work_that_waits_by_the_drain_time(
    prometheus, own_rules
):
    # 0.6 + 0.4 seconds of work arrive each second; 60 s wait at each of two replicas.
    series = {
        **replica("trireme-llm-1-a", offered="0+9x80", backlog="60x80"),
        **replica("trireme-llm-1-b", offered="0+6x80", backlog="60x80"),
    }
    wanted = 1.0 / 0.8 + 120 / 120
    expected = {
        'trireme:wanted_replicas{namespace="trireme",deployment="trireme-llm",model="llm"}': wanted,
        signal("llm"): wanted,
    }
    prometheus.check(own_rules, (series, expected, "5m"))


def test_the_bulk_of_ingestion_workers_asks_for_no_replicas(prometheus, own_rules):
    # They send more whenever a server is free: with it, the wish would grow up to the maximum.
    labels = '{namespace="trireme",pod="a",model="llm"}'
    series = {
        **replica("a", offered="0+15x80"),
        f"trireme_bulk_work_seconds_total{labels}": "0+12x80",
        **replica("b", offered="0+3x80"),
    }
    prometheus.check(own_rules, (series, {signal("llm"): (1.0 + 0.2 - 0.8) / 0.8}, "5m"))


def test_another_releases_load_is_not_ours(prometheus, own_rules):
    series = {
        **replica("a", backlog="12x80"),
        **replica("b", offered="0+900x80", backlog="9000x80", namespace="other"),
    }
    prometheus.check(own_rules, (series, {signal("llm"): 0.1}, "5m"))


def test_a_replica_that_is_gone_takes_its_backlog_with_it(prometheus, own_rules):
    series = {
        **replica("a", backlog="12x80"),
        **replica("b", offered="0x10 stale", backlog="600x10 stale"),
    }
    prometheus.check(own_rules, (series, {signal("llm"): 5.1}, "2m"), (series, {signal("llm"): 0.1}, "4m"))


def test_a_signal_whose_metrics_are_lost_is_nothing_and_not_zero_and_an_alert_says_so(prometheus, own_rules):
    series = replica("a", offered="0+15x10 stale", backlog="0x10 stale")
    lost = f'{firing("TriremeScaleSignalLost")[:-1]},deployment="trireme-llm"}}'
    prometheus.check(
        own_rules,
        (series, {signal("llm"): 1.25, lost: None}, "2m"),
        (series, {signal("llm"): None, lost: 1}, "10m"),
    )


def test_no_load_is_zero_replicas_wanted_and_no_lost_signal(prometheus, own_rules):
    prometheus.check(own_rules, (replica("a"), {signal("llm"): 0}, "5m"))


def test_spare_replicas_are_beyond_what_the_work_needs(chart, prometheus):
    rules = groups_of(chart.objects({"models": {"llm": {"scale": {"spare": 2}}}}))
    prometheus.check(rules, (replica("a", offered="0+15x80"), {signal("llm"): 1.25 + 2}, "5m"))


def test_waiting_work_asks_for_less_while_replicas_for_it_are_loading(chart, prometheus):
    rules = groups_of(chart.objects({"models": {"llm": {"scale": {"creditCold": True}}}}))
    series = replica("trireme-llm-5f-aa", offered="0+15x80", backlog="240x80")
    for pod, value in (("aa", 1), ("bb", 0), ("cc", 0), ("dd", 0)):
        series[f'trireme_replica_ready{{namespace="trireme",pod="trireme-llm-5f-{pod}"}}'] = f"{value}x80"
    # Of another Deployment whose name begins in the same way.
    series['trireme_replica_ready{namespace="trireme",pod="trireme-llm-large-5f-aa"}'] = "1x80"
    prometheus.check(rules, (series, {signal("llm"): 1.25 + 2 * 0.25}, "5m"))


def test_requests_that_envoy_refused_are_requests_too(prometheus, own_rules):
    cluster = '{namespace="trireme",pod="e",envoy_cluster_name="retrieval"}'
    series = {
        f"envoy_cluster_upstream_rq_total{cluster}": "0+300x80",
        f"envoy_cluster_upstream_rq_pending_overflow{cluster}": "0+150x80",
    }
    prometheus.check(own_rules, (series, {signal("retrieval"): 30}, "5m"))


def shed(route, steps, reason="backlog"):
    """What gateways refused of a route."""
    labels = f'{{namespace="trireme",pod="g",model="{route}",priority="normal",reason="{reason}"}}'
    return {f"trireme_gateway_shed_total{labels}": f"0+{steps}x80"}


def served(model, work, requests, rejected=0):
    """Of a model each 15 s: seconds of work offered, of them refused by it, and requests that ran."""
    labels = f'{{namespace="trireme",pod="a",model="{model}"}}'
    return {
        **replica("a", model=model, offered=f"0+{work}x80"),
        f"trireme_queue_waits_total{labels}": f"0+{requests}x80",
        f"trireme_rejected_work_seconds_total{labels}": f"0+{rejected}x80",
    }


def test_work_that_the_gateway_refused_counts_as_offered_at_the_cost_of_a_mean_request(prometheus, own_rules):
    # A second of work arrives each second, 2 s of it for a request; 3 requests a second are refused before.
    series = {**served("llm", 15, 7.5), **shed("llm", 30), **shed("llm", 15, "deadline")}
    expected = {
        signal("llm"): (1 + 3 * 2) / 0.8,
        'trireme:wanted_replicas{deployment="trireme-llm",refused="gateway"}': 3 * 2 / 0.8,
    }
    prometheus.check(own_rules, (series, expected, "5m"))


def test_work_that_the_server_refused_is_offered_work_already_and_is_not_counted_twice(prometheus, own_rules):
    # Of 2 s that arrive each second the server refuses 1 s: a request that runs has 2 s.
    series = {**served("llm", 30, 7.5, rejected=15), **shed("llm", 15)}
    prometheus.check(own_rules, (series, {signal("llm"): (2 + 1 * 2) / 0.8}, "5m"))


def test_an_answer_of_rag_that_was_refused_is_a_request_less_for_the_llm(prometheus, own_rules):
    series = {**served("llm", 15, 7.5), **shed("rag", 15), **shed("search", 900)}
    prometheus.check(own_rules, (series, {signal("llm"): (1 + 1 * 2) / 0.8}, "5m"))


def test_a_search_that_was_refused_is_a_request_less_for_each_encoder_and_bulk_is_none(chart, prometheus):
    values = {"models": {"retrieval": {"scale": {"on": "work"}}}}
    bulk = {
        'trireme_bulk_work_seconds_total{namespace="trireme",pod="a",model="embedding"}': "0+12x80",
        'trireme_interactive_requests_total{namespace="trireme",pod="a",model="embedding"}': "0+30x80",
    }
    # 0.2 s a second of people's work at the embedding, 0.1 s a request; 0.5 s at the reranker, 0.25 s a request.
    series = {**served("embedding", 15, 60), **bulk, **served("reranker", 7.5, 30), **shed("search", 60)}
    offered = (1 - 0.8) + 0.5
    refused = 4 * (0.1 + 0.25)
    prometheus.check(
        groups_of(chart.objects(values)), (series, {signal("retrieval"): (offered + refused) / 0.8}, "5m")
    )


def test_a_route_of_gateway_toml_counts_for_the_model_that_it_asks_first(chart, prometheus):
    toml = """
[models.assistant]
chain = ["local:llm", "openai:gpt"]
[models.elsewhere]
chain = ["openai:gpt"]
[models."my.search"]
chain = ["search"]
[[models.cascade.steps]]
target = "local:llm"
[[models.cascade.steps]]
chain = ["openai:gpt"]
"""
    rules = groups_of(chart.objects({"gateway": {"toml": toml}}))
    series = {
        **served("llm", 15, 7.5),
        **shed("assistant", 15),
        **shed("cascade", 15),
        **shed("elsewhere", 900),
    }
    cluster = '{namespace="trireme",envoy_cluster_name="retrieval"}'
    calls = {
        f"envoy_cluster_upstream_rq_total{cluster}": "0+300x80",
        f"envoy_cluster_upstream_rq_pending_overflow{cluster}": "0x80",
        **shed("my.search", 45),
        **shed("search", 15),
    }
    prometheus.check(
        rules,
        (series, {signal("llm"): (1 + 2 * 2) / 0.8}, "5m"),
        (calls, {signal("retrieval"): 20 + 4}, "5m"),
    )


def test_refusals_alone_are_no_signal_where_the_servers_metrics_are_lost(prometheus, own_rules):
    prometheus.check(
        own_rules,
        (shed("llm", 15), {signal("llm"): None}, "5m"),
        (shed("search", 15), {signal("retrieval"): None}, "5m"),
    )


def test_calls_that_went_to_another_region_are_this_regions_requests(regional, prometheus):
    rules = groups_of(regional)
    near, far, batch, both = (
        f'{{namespace="trireme",envoy_cluster_name="retrieval{end}"}}'
        for end in ("_near", "_far", "_far_batch", "")
    )
    series = {
        f"envoy_cluster_upstream_rq_total{near}": "0+300x80",
        f"envoy_cluster_upstream_rq_total{far}": "0+150x80",
        f"envoy_cluster_upstream_rq_pending_overflow{near}": "0x80",
        # Batch work has a cap of its own there.
        f"envoy_cluster_upstream_rq_total{batch}": "0+15x80",
        # Of both together Envoy counts retries alone.
        f"envoy_cluster_upstream_rq_total{both}": "0+900x80",
    }
    prometheus.check(rules, (series, {signal("retrieval"): 31}, "5m"))


def test_the_gateways_requests_are_those_of_people_whatever_became_of_them(prometheus, own_rules):
    series = {
        'trireme_gateway_requests_total{namespace="trireme",endpoint="chat",status="200"}': "0+60x80",
        'trireme_gateway_requests_total{namespace="trireme",endpoint="chat",status="429"}': "0+15x80",
        'trireme_gateway_requests_total{namespace="trireme",endpoint="healthz",status="200"}': "0+900x80",
    }
    prometheus.check(own_rules, (series, {signal("gateway"): 5}, "5m"))


@pytest.mark.parametrize("on", ["requests", "p95"])
def test_a_gateway_that_nobody_asks_wants_no_more_and_is_not_lost(chart, prometheus, on):
    rules = groups_of(chart.objects({"gateway": {"scale": {"on": on, "target": 1}}}))
    alive = {'trireme_gateway_keys_age_seconds{namespace="trireme",pod="a"}': "0.5x80"}
    asked_before = 'trireme_gateway_request_seconds_bucket{namespace="trireme",endpoint="chat",le="%s"}'
    before = {asked_before % le: "100x80" for le in ("0.1", "+Inf")}
    nobody = {signal("gateway"): 0}
    prometheus.check(
        rules,
        (alive, nobody, "5m"),
        ({**alive, **before}, nobody, "5m"),
        ({}, {signal("gateway"): None}, "5m"),
    )


def test_the_queue_of_ingestion_is_what_its_workers_share(prometheus, own_rules):
    series = {
        **replica("trireme-worker-1-a", model="ingest", offered="0+6x80", backlog="600x80"),
        **replica("trireme-worker-1-b", model="ingest", offered="0+6x80", backlog="600x80"),
    }
    # A worker that has indexed nothing yet knows no rate, and so no seconds.
    (offered, _) = replica("trireme-worker-1-c", model="ingest")
    prometheus.check(
        own_rules,
        (series, {signal("worker"): 0.8 / 0.8 + 1200 / 600}, "5m"),
        ({offered: "0x80"}, {signal("worker"): 0}, "5m"),
        ({}, {signal("worker"): None}, "5m"),
    )


def test_latency_is_the_95th_percentile_in_seconds_zero_without_requests_and_nothing_without_metrics(
    chart, prometheus
):
    rules = groups_of(chart.objects({"models": {"retrieval": {"scale": {"on": "p95", "target": 0.25}}}}))
    cluster = 'namespace="trireme",envoy_cluster_name="retrieval"'

    no_request_yet = {f"envoy_cluster_upstream_rq_total{{{cluster}}}": "0x80"}

    def series(step):
        name = "envoy_cluster_upstream_rq_time"
        counts = {"100": step * 90, "200": step * 100, "+Inf": step * 100}
        return {
            **{f'{name}_bucket{{{cluster},le="{le}"}}': f"0+{count}x80" for le, count in counts.items()},
            f"envoy_cluster_upstream_rq_total{{{cluster}}}": f"0+{step * 100}x80",
        }

    prometheus.check(
        rules,
        (series(1), {signal("retrieval"): 0.15}, "5m"),
        (series(0), {signal("retrieval"): 0}, "5m"),
        (no_request_yet, {signal("retrieval"): 0}, "5m"),
        ({}, {signal("retrieval"): None}, "5m"),
    )


def test_no_signal_counts_what_only_runs_or_stands_for_a_lost_metric(all_rules):
    for rule in all_rules:
        if "record" in rule:
            assert "running" not in rule["expr"]
            assert "in_flight" not in rule["expr"]
            assert "vector(" not in rule["expr"]


# --- Alerts ---


AGENT_SAYS = 'trireme_replica_fault{namespace="trireme",pod="trireme-llm-5f-aa",kind="%s"}'
FROM_ENVOY = '{namespace="trireme",envoy_cluster_name="llm"}'
ENDED = 'trireme_gateway_requests_total{namespace="trireme",endpoint="chat",status="%d"}'
BUDGET = '{namespace="trireme",level="gateway",window="month"}'
# What is seen of each fault.
FAULTS = {
    "TriremeAtMaximum": replica("a", offered="0+75x90"),
    "TriremeBacklogGrows": replica("a", backlog="300x90"),
    "TriremeColdStartSlow": {AGENT_SAYS % "server_away": "1x90"},
    "TriremeReplicaNotReady": {AGENT_SAYS % "model_silent": "1x90"},
    "TriremeNoHealthyReplica": {f"envoy_cluster_membership_healthy{FROM_ENVOY}": "0x90"},
    "TriremeWorkRefused": {
        **replica("a", offered="0+15x90"),
        'trireme_rejected_work_seconds_total{namespace="trireme",model="llm"}': "0+1x90",
    },
    "TriremeEnvoyRefuses": {
        f"envoy_cluster_upstream_rq_pending_overflow{FROM_ENVOY}": "0+1x90",
        f"envoy_cluster_upstream_rq_retry_overflow{FROM_ENVOY}": "0x90",
    },
    "TriremeGatewayErrors": {ENDED % 200: "0+90x90", ENDED % 503: "0+10x90"},
    "TriremeProviderAway": {'trireme_gateway_breaker_open{namespace="trireme",target="a:b"}': "1x90"},
    "TriremeDatabaseAway": {'trireme_gateway_keys_age_seconds{namespace="trireme"}': "0+15x90"},
    "TriremeBudgetStoreAway": {'trireme_budget_store_away{namespace="trireme"}': "1x90"},
    "TriremeIngestionStill": replica("a", model="ingest", backlog="60+1x90"),
    "TriremeBudgetBurnsFast": {f"trireme_budget_exhausted_in_seconds{BUDGET}": "7200x200"},
    "TriremeBudgetNearlyUsed": {f"trireme_budget_used_fraction{BUDGET}": "0.95x90"},
    "TriremeBudgetUsedUp": {f"trireme_budget_used_fraction{BUDGET}": "1x90"},
    "TriremeCostUnknown": {'trireme_cost_age_seconds{namespace="trireme"}': "1000x90"},
    "TriremeMachinesIdle": {
        'llm_total_hourly_cost{namespace="trireme",model_name="idle",cost_basis="allocation"}': "9.5x1500",
        'trireme_machine_hourly_cost_dollars{namespace="trireme",kind="gpu"}': "10x1500",
    },
}
# Alerts that wait for longer than the others.
LATE = {"TriremeBudgetBurnsFast": "40m", "TriremeMachinesIdle": "6h10m"}


def test_each_alert_fires_of_its_fault_and_of_no_other(prometheus, own_rules):
    # Lost signals are all but one of them, where so few series are there.
    alerts = {rule["alert"] for rule in rules_of(own_rules) if "alert" in rule} - {"TriremeScaleSignalLost"}
    assert set(FAULTS) == alerts
    cases = [
        (series, {firing(one): 1 if one == alert else None for one in sorted(alerts)}, LATE.get(alert, "20m"))
        for alert, series in FAULTS.items()
    ]
    prometheus.check(own_rules, *cases)


REGION_FAULTS = {
    "TriremeRegionAway": {'trireme_region_answers{namespace="trireme",pod="e",region="us-east"}': "0x90"},
    "TriremeFailoverStale": {'trireme_region_files_faulty{namespace="trireme",pod="e"}': "1x90"},
    "TriremeRegionOrderFlaps": {
        'trireme_region_order_changes_total{namespace="trireme",pod="e"}': "0+1x90",
    },
    "TriremeFailoverAtCap": {
        'envoy_cluster_upstream_rq_pending_overflow{namespace="trireme",envoy_cluster_name="llm_far"}': "0+1x90",
        'envoy_cluster_upstream_rq_retry_overflow{namespace="trireme",envoy_cluster_name="llm_far"}': "0x90",
    },
    "TriremeNoHealthyReplica": {
        'envoy_cluster_membership_healthy{namespace="trireme",envoy_cluster_name="llm_near"}': "0x90",
    },
    "TriremeEnvoyRefuses": {
        'envoy_cluster_upstream_rq_pending_overflow{namespace="trireme",envoy_cluster_name="llm_near"}': "0+1x90",
        'envoy_cluster_upstream_rq_retry_overflow{namespace="trireme",envoy_cluster_name="llm_near"}': "0x90",
    },
}


def test_each_alert_of_regions_fires_of_its_fault_and_of_no_other(prometheus, regional, own_rules):
    rules = groups_of(regional)
    alerts = {rule["alert"] for rule in rules_of(rules) if "alert" in rule} - {"TriremeScaleSignalLost"}
    assert alerts - set(FAULTS) == {
        "TriremeRegionAway",
        "TriremeFailoverStale",
        "TriremeRegionOrderFlaps",
        "TriremeFailoverAtCap",
    }
    cases = [
        (series, {firing(one): 1 if one == alert else None for one in sorted(alerts)}, "20m")
        for alert, series in REGION_FAULTS.items()
    ]
    prometheus.check(rules, *cases)


def test_one_controller_that_reaches_a_region_is_enough(prometheus, regional):
    up = 'trireme_region_answers{namespace="trireme",pod="%s",region="us-east"}'
    series = {up % "a": "0x90", up % "b": "1x90"}
    prometheus.check(groups_of(regional), (series, {firing("TriremeRegionAway"): None}, "20m"))


def test_a_replica_that_starts_in_time_or_drains_alarms_nobody(prometheus, own_rules):
    series = {
        AGENT_SAYS % "server_away": "1x16 0x80",
        AGENT_SAYS % "model_cold": "0x16 1x8 0x80",
        AGENT_SAYS % "draining": "0x40 1x80",
    }
    nobody = {firing("TriremeColdStartSlow"): None, firing("TriremeReplicaNotReady"): None}
    prometheus.check(own_rules, *((series, nobody, at) for at in ("5m", "15m")))


@pytest.mark.parametrize("values", [None, {"models": {"retrieval": {"scale": {"on": "work"}}}}])
def test_no_two_rules_of_one_name_have_the_same_labels(own_rules, chart, values):
    # Of alerts that do, Alertmanager sees one: the end of the first would be that of the second.
    rules = rules_of(groups_of(chart.objects(values)) if values else own_rules)
    known = [(rule.get("alert") or rule["record"], sorted(rule["labels"].items())) for rule in rules]
    assert len(known) > 10
    assert [one for one in known if known.count(one) > 1] == []


def test_every_alert_leads_to_a_section_of_the_runbook_which_names_it_ten_three_of_regions_and_one_of_cost(
    all_rules,
):
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL))
    anchors = {heading.lower().replace(" ", "-"): text for heading, text in sections.items()}
    assert len(anchors) == 10 + 3 + 1
    named = set()
    for rule in all_rules:
        if "alert" in rule:
            page, anchor = rule["annotations"]["runbook_url"].split("#")
            assert (ROOT / page) == RUNBOOK
            assert f"`{rule['alert']}`" in anchors[anchor], rule["alert"]
            named.add(anchor)
    assert named == set(anchors)
    for link in re.findall(r"\]\(#([a-z-]+)\)", RUNBOOK.read_text()):
        assert link in anchors


# --- Of what the rules are made ---


def test_promtool_takes_the_rules_and_the_sample_configuration(promtool, tmp_path):
    for path in (PLAIN, BUDGETS):
        shutil.copy(path, tmp_path)
    config = yaml.safe_load((PLAIN.parent / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        # Debian builds Prometheus without Kubernetes.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["trireme"]}}]
        job["static_configs"] = [{"targets": ["127.0.0.1:8002"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "gateway-key").write_text("tr-key")
    assert config["rule_files"] == [PLAIN.name, BUDGETS.name]
    for kind, name in (("rules", "rules.yaml"), ("rules", "budgets.yaml"), ("config", "prometheus.yml")):
        ran = subprocess.run([promtool, "check", kind, tmp_path / name], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def selectors(expression):
    """Metric -> labels by which it is chosen, of every series in an expression."""
    parser = pytest.importorskip("promql_parser", reason="make installs it with the test tools")
    found = []

    def visit(part):
        if isinstance(part, parser.VectorSelector):
            found.append((part.name, {matcher.name for matcher in part.matchers.matchers}))
        return True

    parser.walk(parser.parse(expression), visit)
    return found


def observed_rows():
    """The rows of all tables of trireme.observe."""
    modules = [
        importlib.import_module(f"trireme.observe.{one.name}")
        for one in pkgutil.iter_modules(observe.__path__)
    ]
    return [row for module in modules for row in vars(module).values() if isinstance(row, Metric)]


def backend_names():
    """Names of metrics in the sources of backends, which register them by literals."""
    names = set()
    for path in (ROOT / "src" / "trireme" / "triton").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"^trireme_[a-z_]+$", node.value))
    return names


def known_metrics():
    """Name -> labels of every metric that something exports; None where labels are not known."""
    known = {}
    for row in observed_rows():
        endings = ("_bucket", "_count", "_sum") if row.kind == "histogram" else ("",)
        known |= {row.name + ending: set(row.labels) for ending in endings}
    for name in (backend_names() | ENVOY) - known.keys():
        known[name] = None
    return known


def test_every_metric_and_label_in_a_rule_is_one_that_something_exports(all_rules):
    recorded = {rule["record"] for rule in all_rules if "record" in rule}
    known = known_metrics()
    seen = set()
    for rule in all_rules:
        for name, labels in selectors(rule["expr"]):
            seen.add(name)
            if name in recorded:
                continue
            assert name in known, f"{name} of {rule.get('alert', rule.get('record'))}"
            if known[name] is not None:
                assert labels <= known[name] | GIVEN_LABELS, name
    assert {"trireme_offered_work_seconds_total", "trireme_backlog_seconds"} <= seen


def test_every_metric_of_the_runbook_is_one_that_something_exports():
    known = known_metrics().keys()
    text = RUNBOOK.read_text()
    for name in set(re.findall(r"`((?:trireme|envoy|nv)_[a-z_]+)`", text)):
        assert name in known, name


def test_every_query_of_an_autoscaler_is_promql_of_one_series(variant):
    for one in variant:
        if one["kind"] == "ScaledObject":
            (found,) = selectors(one["spec"]["triggers"][0]["metadata"]["query"])
            assert found == ("trireme:scale_signal", {"namespace", "deployment"})
