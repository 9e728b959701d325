"""The alerts of budgets and cost: what they make of the gateways' series, and that these exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from promql_parser import parse

from trireme.observe.metrics import every_metric

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "prometheus" / "budgets.yaml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]
ACME = 'level="tenant",tenant="acme",window="day"'


def used(value, labels=ACME, instance="a"):
    return {f'trireme_budget_used_fraction{{namespace="trireme",instance="{instance}",{labels}}}': value}


def left(value, labels=ACME, instance="a"):
    return {
        f'trireme_budget_exhausted_in_seconds{{namespace="trireme",instance="{instance}",{labels}}}': value
    }


@pytest.fixture
def check(tmp_path):
    """Asks promtool which alerts fire: (series, eval time, alert, expected labels and summaries)."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing; Debian's package prometheus has it")
    shutil.copy(FILE, tmp_path / "budgets.yaml")

    def run(series, at, alert, *expected):
        rule = next(rule for rule in RULES if rule["alert"] == alert)
        alerts = [
            {
                "exp_labels": {**rule["labels"], "namespace": "trireme", **labels},
                "exp_annotations": {
                    "summary": summary,
                    "runbook_url": rule["annotations"]["runbook_url"],
                },
            }
            for labels, summary in expected
        ]
        test = {
            "interval": "30s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": alerts}],
        }
        file = tmp_path / "test.yaml"
        file.write_text(yaml.safe_dump({"rule_files": ["budgets.yaml"], "tests": [test]}))
        ran = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    return run


DAY = {"level": "tenant", "tenant": "acme", "window": "day"}


def test_a_budget_that_will_not_last_is_told_once_though_every_gateway_says_so(check):
    series = left("7200x200") | left("7200x200", instance="b")
    said = "The budget by day of tenant acme is used up in 2h 0m 0s, before the day ends."
    check(series, "29m", "TriremeBudgetBurnsFast")
    check(series, "31m", "TriremeBudgetBurnsFast", (DAY, said))


def test_a_budget_that_lasts_again_is_told_for_a_quarter_of_an_hour(check):
    series = left("7200x80 stale")
    said = "The budget by day of tenant acme is used up in 2h 0m 0s, before the day ends."
    check(series, "50m", "TriremeBudgetBurnsFast", (DAY, said))
    check(series, "60m", "TriremeBudgetBurnsFast")


def test_nine_tenths_are_nearly_all(check):
    gateway = 'level="gateway",window="month"'
    labels = {"level": "gateway", "window": "month"}
    check(used("0.89x40", gateway), "15m", "TriremeBudgetNearlyUsed")
    said = "95% of the budget by month of the gateway are used."
    check(used("0.95x40", gateway), "4m", "TriremeBudgetNearlyUsed")
    check(used("0.95x40", gateway), "6m", "TriremeBudgetNearlyUsed", (labels, said))


def test_a_budget_that_is_used_up_is_no_longer_nearly_so(check):
    series = used("0.95x10 1.2x40")
    check(series, "15m", "TriremeBudgetNearlyUsed")
    said = "The budget by day of tenant acme is used up; its requests are refused."
    check(series, "15m", "TriremeBudgetUsedUp", (DAY, said))
    check(series, "4m", "TriremeBudgetUsedUp")


def test_a_ledger_that_no_gateway_reads_is_told_and_one_gateway_is_enough(check):
    old = {'trireme_cost_age_seconds{namespace="trireme",instance="a"}': "1000x40"}
    fresh = {'trireme_cost_age_seconds{namespace="trireme",instance="b"}': "30x40"}
    said = "No gateway has read the ledger for 16m 40s; figures of cost are old."
    check(old, "10m", "TriremeCostUnknown", ({}, said))
    check(old | fresh, "10m", "TriremeCostUnknown")
    never = {'trireme_cost_age_seconds{namespace="trireme",instance="a"}': " ".join(["+Inf"] * 40)}
    check(never, "10m", "TriremeCostUnknown", ({}, said.replace("16m 40s", "+Inf")))


def test_machines_that_do_nothing_for_six_hours_are_told(check):
    kinds = {
        f'trireme_machine_hourly_cost_dollars{{namespace="trireme",instance="{gateway}",kind="{kind}"}}': "5x1000"
        for gateway in "ab"
        for kind in ("gpu", "cpu")
    }
    idle = 'llm_total_hourly_cost{namespace="trireme",instance="a",model_name="idle",cost_basis="allocation"}'
    said = "95% of what own machines cost was idle for six hours."
    check(kinds | {idle: "9.5x1000"}, "5h50m", "TriremeMachinesIdle")
    check(kinds | {idle: "9.5x1000"}, "6h10m", "TriremeMachinesIdle", ({}, said))
    check(kinds | {idle: "8x1000"}, "6h10m", "TriremeMachinesIdle")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_reads_metrics_of_the_table_and_is_told_by_the_runbook_and_its_page(rule):
    parse(rule["expr"])
    known = every_metric()
    found = set(re.findall(r"\b(?:trireme|llm)_\w+", rule["expr"]))
    assert found and found <= set(known)
    for page, heading in (("runbook", "Budgets and cost"), ("cost", "Alerts")):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        assert f"`{rule['alert']}`" in text.partition(f"## {heading}\n")[2]
    assert rule["annotations"]["runbook_url"] == "docs/runbook.md#budgets-and-cost"
