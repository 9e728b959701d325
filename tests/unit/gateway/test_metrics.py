import pytest

from trireme.access.keys import Key
from trireme.gateway.exchange import open_exchange
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.labels import MOST_VALUES, OTHER
from trireme.providers.targets import Attempt


def exchange_of(model, target, status=200):
    exchange = open_exchange({"headers": []}, "chat")
    exchange.model, exchange.status, exchange.outcome = model, status, "ok"
    exchange.attempts = (Attempt(target, "ok"),)
    return exchange


def test_names_that_clients_make_up_cannot_fill_the_metrics():
    metrics = GatewayMetrics(["assistant"], ["local:llm"])
    for n in range(MOST_VALUES * 3):
        metrics.begin("chat")
        metrics.end(exchange_of(f"p:{n}", f"p:{n}"), 0.1)
    metrics.begin("chat")
    metrics.end(exchange_of("assistant", "local:llm"), 0.1)
    text = metrics.render([]).decode()
    assert text.count("trireme_gateway_attempts_total{") == MOST_VALUES + 2
    assert 'model="assistant"' in text
    assert 'target="local:llm"' in text


def test_targets_that_never_answered_take_no_place_of_those_that_do():
    metrics = GatewayMetrics(targets=["openai:gpt"])
    failed = [(f"local:{n}", "connect") for n in range(MOST_VALUES * 2)]
    for target, outcome in [
        *failed,
        ("local:llm", "ok"),
        ("local:llm", "connect"),
        ("openai:gpt", "connect"),
    ]:
        metrics.begin("chat")
        exchange = exchange_of("", target, 503)
        exchange.attempts = (Attempt(target, outcome),)
        metrics.end(exchange, 0.1)
    targets = {line.partition('target="')[2].partition('"')[0] for line in series(metrics, names.ATTEMPTS)}
    assert targets == {"local:other", "local:llm", "openai:gpt"}
    text = metrics.render(["local:7", "openai:gpt#1"]).decode()
    assert 'trireme_gateway_breaker_open{target="local:other"} 1.0' in text
    assert 'trireme_gateway_breaker_open{target="openai:gpt#1"} 1.0' in text


def test_a_request_runs_from_its_beginning_to_its_end():
    metrics = GatewayMetrics()
    metrics.begin("chat")
    assert metrics.running == 1
    assert 'trireme_gateway_requests_running{endpoint="chat"} 1.0' in metrics.render([]).decode()
    metrics.end(exchange_of("llm", "local:llm"), 0.1)
    assert metrics.running == 0
    assert 'trireme_gateway_requests_running{endpoint="chat"} 0.0' in metrics.render([]).decode()


def test_circuits_that_close_again_are_no_longer_shown():
    metrics = GatewayMetrics(targets=["a:b"])
    assert 'trireme_gateway_breaker_open{target="a:b#1"} 1.0' in metrics.render(["a:b#1"]).decode()
    assert "a:b#1" not in metrics.render([]).decode()


@pytest.mark.parametrize("row", names.GATEWAY, ids=lambda row: row.name)
def test_every_metric_of_the_table_is_there_from_the_start(row):
    assert f"# TYPE {row.name.removesuffix('_total')}" in GatewayMetrics().render([]).decode()


def of_tenant(tenant, model="assistant", status=200, outcome="ok"):
    exchange = exchange_of(model, "local:llm", status)
    exchange.key, exchange.outcome = Key(id="k", tenant=tenant), outcome
    return exchange


def series(metrics, row):
    lines = metrics.render([]).decode().splitlines()
    return [line for line in lines if line.startswith(row.name + "{")]


@pytest.mark.parametrize(
    # Those that are set as a whole have a bound of their own (test_burn.py).
    "row",
    [
        row
        for row in names.GATEWAY
        if "tenant" in row.labels and row not in (names.BUDGET_USED, names.BUDGET_LEFT_SECONDS)
    ],
    ids=lambda r: r.name,
)
def test_tenants_beyond_the_most_are_one_in_every_metric_that_names_them(row):
    from trireme.providers.chat import Usage

    metrics = GatewayMetrics(["assistant"], ["local:llm"])
    for number in range(MOST_VALUES + 50):
        exchange = of_tenant(f"t{number}")
        exchange.usage = Usage(5, 7, cached_tokens=2)
        metrics.begin("chat")
        metrics.end(exchange, 0.1)
        metrics.spend(f"t{number}", "assistant", "local", 5)
        metrics.add(names.SPENT_TOKENS, f"t{number}", count=3)
        metrics.add(names.SPENT_NANOS, f"t{number}", count=3)
    tenants = {line.partition('tenant="')[2].partition('"')[0] for line in series(metrics, row)}
    assert len(tenants) == MOST_VALUES + 1
    assert OTHER in tenants and "t0" in tenants and f"t{MOST_VALUES}" not in tenants


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "cut"), (200, "client_gone"), (429, "refused"), (503, "error")]
)
def test_only_whole_answers_of_a_model_are_successes(status, outcome):
    metrics = GatewayMetrics(["assistant"], build=Build("1", "f" * 40, "r9"))
    for exchange in (
        of_tenant("bank"),
        of_tenant("bank", model=""),
        of_tenant("bank", "assistant", status, outcome),
    ):
        metrics.begin("chat")
        metrics.end(exchange, 0.1)
    assert series(metrics, names.SUCCESSES) == [
        'trireme_requests_success_total{model="assistant",release="r9",tenant="bank"} 1.0'
    ]


def test_models_that_nobody_serves_take_no_place_among_the_costs():
    metrics = GatewayMetrics(["assistant"])
    for number in range(MOST_VALUES * 2):
        metrics.spend("bank", f"local:{number}", "local", 0, is_served=False)
    metrics.spend("bank", "assistant", "openai", 5, is_served=False)
    metrics.spend("bank", "local:llm", "local", 5)
    models = [line.partition('model="')[2].partition('"')[0] for line in series(metrics, names.COST)]
    assert sorted(models) == ["", "assistant", "local:llm"]


def test_what_attempts_are_charged_is_dollars_by_release():
    metrics = GatewayMetrics(build=Build(release="r9"))
    metrics.spend("bank", "assistant", "openai", 1_500_000_000)
    metrics.spend("bank", "assistant", "openai", 250_000_000)
    assert series(metrics, names.COST) == [
        'trireme_cost_dollars_total{model="assistant",provider="openai",release="r9",tenant="bank"} 1.75'
    ]


def test_a_scrape_while_a_gauge_is_replaced_finds_what_stays():
    metrics = GatewayMetrics()
    metrics.replace(names.HOURLY_COST, {("a", "usage"): 1.0, ("b", "usage"): 2.0})
    found = []

    class Late(dict):
        """Looks at the page before its last value is set."""

        def items(self):
            for item in super().items():
                yield item
                found.append(len(series(metrics, names.HOURLY_COST)))

    metrics.replace(names.HOURLY_COST, Late({("b", "usage"): 3.0, ("c", "usage"): 4.0}))
    assert found == [2, 3]
    assert {line.partition("} ")[2] for line in series(metrics, names.HOURLY_COST)} == {"3.0", "4.0"}
