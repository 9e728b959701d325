"""What the dashboards show, over the table's rows. grafana.py writes them as Grafana's JSON."""

from __future__ import annotations

from trireme.observe.dashboards.caches import CACHES
from trireme.observe.dashboards.cost import COSTS
from trireme.observe.dashboards.ingestion import INGESTION
from trireme.observe.dashboards.llm import LLM
from trireme.observe.dashboards.overview import OVERVIEW
from trireme.observe.dashboards.retrieval import RETRIEVAL
from trireme.observe.dashboards.scaling import SCALING

DASHBOARDS = (OVERVIEW, LLM, RETRIEVAL, INGESTION, COSTS, SCALING, CACHES)
