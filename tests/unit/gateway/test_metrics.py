import pytest

from trireme.gateway.exchange import open_exchange
from trireme.gateway.metrics import MOST_VALUES, OTHER, BoundedLabel, GatewayMetrics
from trireme.observe import metrics as names
from trireme.providers.targets import Attempt


def test_the_first_values_of_a_label_pass_and_later_ones_are_one():
    label = BoundedLabel(most=2)
    assert [label(value) for value in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_values_that_are_known_keep_their_places_whatever_others_make_up():
    label = BoundedLabel(["llm"], most=2)
    assert [label(value) for value in ("x", "y", "z", "llm")] == ["x", "y", OTHER, "llm"]


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


def test_a_request_runs_from_its_beginning_to_its_end():
    metrics = GatewayMetrics()
    metrics.begin("chat")
    assert metrics.running == 1
    assert 'trireme_gateway_requests_running{endpoint="chat"} 1.0' in metrics.render([]).decode()
    metrics.end(exchange_of("llm", "local:llm"), 0.1)
    assert metrics.running == 0
    assert 'trireme_gateway_requests_running{endpoint="chat"} 0.0' in metrics.render([]).decode()


def test_circuits_that_close_again_are_no_longer_shown():
    metrics = GatewayMetrics()
    assert 'trireme_gateway_breaker_open{target="a:b#1"} 1.0' in metrics.render(["a:b#1"]).decode()
    assert "a:b#1" not in metrics.render([]).decode()


@pytest.mark.parametrize("row", names.GATEWAY, ids=lambda row: row.name)
def test_every_metric_of_the_table_is_there_from_the_start(row):
    assert f"# TYPE {row.name.removesuffix('_total')}" in GatewayMetrics().render([]).decode()
