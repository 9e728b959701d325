"""The one table of metrics: every name that a process exports or that we rely on, with kind, unit, labels and help.

A row is written once, in the module of its exporter; exporters, rules and dashboards take it from here.
docs/metrics.md is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trireme.observe.cost_metrics import *  # noqa: F403
from trireme.observe.degrade_metrics import *  # noqa: F403
from trireme.observe.foreign_metrics import *  # noqa: F403
from trireme.observe.foreign_metrics import DCGM, ENVOY, TRITON
from trireme.observe.gateway_metrics import *  # noqa: F403
from trireme.observe.gateway_metrics import GATEWAY
from trireme.observe.genai_metrics import *  # noqa: F403
from trireme.observe.labels import MOST_VALUES as MOST_VALUES  # noqa: PLC0414 - for who reads the table
from trireme.observe.labels import OTHER as OTHER  # noqa: PLC0414
from trireme.observe.metric import Metric as Metric  # noqa: PLC0414
from trireme.observe.process_metrics import *  # noqa: F403
from trireme.observe.process_metrics import OF_PROCESS
from trireme.observe.region_metrics import *  # noqa: F403
from trireme.observe.region_metrics import REGIONS
from trireme.observe.replica_metrics import *  # noqa: F403
from trireme.observe.replica_metrics import AGENT
from trireme.observe.server_metrics import *  # noqa: F403
from trireme.observe.server_metrics import SERVER, SIGNALS, WORKER
from trireme.observe.span_metrics import *  # noqa: F403
from trireme.observe.spend_metrics import *  # noqa: F403
from trireme.observe.state_metrics import *  # noqa: F403

# Who exports what, each process on its own page of metrics.
EXPORTERS: Mapping[str, tuple[Metric, ...]] = MappingProxyType(
    {
        "server": (*SIGNALS, *SERVER),
        "gateway": (*GATEWAY, *OF_PROCESS),
        "worker": (*WORKER, *OF_PROCESS),
        "agent": (*AGENT, *OF_PROCESS),
        "regions": (*REGIONS, *OF_PROCESS),
        "triton": TRITON,
        "envoy": ENVOY,
        "dcgm": DCGM,
    }
)


def every_metric() -> dict[str, Metric]:
    """All rows by name, each once, in the order of EXPORTERS."""
    return {row.name: row for rows in EXPORTERS.values() for row in rows}


def exporters_of(name: str) -> tuple[str, ...]:
    """The processes that export a metric of the table."""
    return tuple(who for who, rows in EXPORTERS.items() if name in {row.name for row in rows})
