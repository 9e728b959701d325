"""The dashboard of cost and releases."""

from __future__ import annotations

from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import (
    ANSWERED,
    CHOSEN_TENANT,
    FAILED,
    Dashboard,
    Row,
    Variable,
    panel,
)
from trireme.observe.queries import WINDOW, increase, rate, ratio, series, total

# Which release a gateway is, by the address that it is scraped at.
_OF_RELEASE = "* on (instance) group_left (release) " + series(names.BUILD_INFO, 'process="gateway"')


# Every gateway tells the same figures of the ledger, so that their sum would be too much.
IDLE = 'model_name="idle",cost_basis="allocation"'


def _told(metric: names.Metric, matchers: str = "", by: str = "") -> str:
    """What gateways say of the ledger, once."""
    return f"max by ({by}) ({series(metric, matchers)})" if by else f"max({series(metric, matchers)})"


def _of_release(name: str) -> str:
    """The gateways' rate of a counter, with the label release."""
    return f"rate({name}{{{ANSWERED}}}[{WINDOW}]) {_OF_RELEASE}"


COSTS = Dashboard(
    "trireme-cost",
    "Trireme: cost and releases",
    "What answers cost, who spends it, and what a release changed.",
    (
        Row(
            "Cost",
            (
                panel(
                    "Cost per successful request",
                    f"{total(increase(names.COST, CHOSEN_TENANT), 'release')}"
                    f" / ({total(increase(names.SUCCESSES, CHOSEN_TENANT), 'release')} > 0)",
                    "dollars",
                    "{{release}}",
                ),
                panel(
                    "Spent, by model",
                    f"3600 * {total(rate(names.COST, CHOSEN_TENANT), 'model')}",
                    "dollars per hour",
                    "{{model}}",
                ),
                panel(
                    "Spent, by provider",
                    f"3600 * {total(rate(names.COST, CHOSEN_TENANT), 'provider')}",
                    "dollars per hour",
                    "{{provider}}",
                ),
                panel(
                    "Spent, ten tenants that spend most",
                    f"3600 * topk(10, {total(rate(names.COST, CHOSEN_TENANT), 'tenant')})",
                    "dollars per hour",
                    "{{tenant}}",
                ),
                panel(
                    "Tokens that caches spared",
                    total(rate(names.CACHE_TOKENS, CHOSEN_TENANT), "tier"),
                    "tokens per second",
                    "{{tier}}",
                ),
                panel(
                    "Attempts by how they end",
                    total(rate(names.ATTEMPTS), "target, outcome"),
                    "requests per second",
                    "{{target}} {{outcome}}",
                ),
            ),
        ),
        Row(
            "Releases",
            (
                panel(
                    "Successes by release",
                    total(rate(names.SUCCESSES, CHOSEN_TENANT), "release"),
                    "requests per second",
                    "{{release}}",
                ),
                panel(
                    "Errors by release",
                    ratio(
                        f"{rate(names.REQUESTS, FAILED)} {_OF_RELEASE}",
                        _of_release(names.REQUESTS.name),
                        "release",
                    ),
                    "ratio",
                    "{{release}}",
                ),
                panel(
                    "Seconds of a request by release, mean",
                    total(_of_release(f"{names.DURATION.name}_sum"), "release")
                    + f" / ({total(_of_release(f'{names.DURATION.name}_count'), 'release')} > 0)",
                    "seconds",
                    "{{release}}",
                ),
                panel(
                    "Which builds run",
                    f"count by (process, version, revision, release) ({names.BUILD_INFO.name})",
                    "count",
                    "",
                    kind="table",
                    width=12,
                ),
                panel(
                    "Which models run",
                    f"count by (model, digest, precision) ({names.MODEL_INFO.name})",
                    "count",
                    "",
                    kind="table",
                    width=12,
                ),
            ),
        ),
        Row(
            "The last hour, by the ledger",
            (
                panel(
                    "What is paid for and what is used",
                    total(_told(names.HOURLY_COST, "", "model_name, cost_basis"), "cost_basis"),
                    "dollars per hour",
                    "{{cost_basis}}",
                ),
                panel(
                    "Allocation: what is paid for, by model, and idle time",
                    _told(names.HOURLY_COST, 'cost_basis="allocation"', "model_name"),
                    "dollars per hour",
                    "{{model_name}}",
                ),
                panel(
                    "Idle share of own machines",
                    f"{_told(names.HOURLY_COST, IDLE)} / sum({_told(names.MACHINE_HOURLY_COST, '', 'kind')})",
                    "ratio",
                    "idle",
                ),
                panel(
                    "Own machines that are up",
                    _told(names.MACHINE_HOURLY_COST, "", "kind"),
                    "dollars per hour",
                    "{{kind}}",
                ),
                panel(
                    "Cost per successful request, idle time included",
                    _told(names.SUCCESS_COST, 'cost_basis="allocation"', "release"),
                    "dollars",
                    "{{release}}",
                ),
                panel(
                    "Age of these figures",
                    f"min({names.COST_AGE.name})",
                    "seconds",
                    "age",
                ),
            ),
        ),
        Row(
            "Budgets",
            (
                panel(
                    "Budgets, used",
                    _told(names.BUDGET_USED, "", "level, tenant, window"),
                    "ratio",
                    "{{level}} {{tenant}}, {{window}}",
                ),
                panel(
                    "Budgets that do not last: used up in",
                    f"min by (level, tenant, window) ({names.BUDGET_LEFT_SECONDS.name})",
                    "seconds",
                    "{{level}} {{tenant}}, {{window}}",
                    width=16,
                ),
                panel("Attempts behind a hold", total(names.HOLDS.name, "instance"), "count", "{{instance}}"),
                panel(
                    "Rows that wait for the ledger",
                    total(names.ROWS_WAITING.name, "instance"),
                    "count",
                    "{{instance}}",
                ),
                panel(
                    "The budget store is away",
                    total(names.STORE_AWAY.name, "instance"),
                    "yes or no",
                    "{{instance}}",
                ),
            ),
        ),
    ),
    (Variable("tenant", names.SUCCESSES, "tenant"),),
)
