"""The table of metrics of `trireme regions`. docs/regions.md has them too."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = [
    "REGIONS",
    "REGION_ADDRESSES",
    "REGION_ANSWERS",
    "REGION_FAR_LOAD",
    "REGION_FILES_FAULTY",
    "REGION_FILES_WRITTEN",
    "REGION_NEAR_LOAD",
    "REGION_ORDER_CHANGES",
    "REGION_PROBES",
    "REGION_RANK",
    "REGION_ROUND_TRIP",
    "REGION_SPILL",
]

REGION_ROUND_TRIP = Metric(
    "trireme_region_round_trip_seconds",
    "gauge",
    "seconds to the region's balancer and back, the median of the recent probes; gone while it does not answer",
    ("region",),
)
REGION_RANK = Metric(
    "trireme_region_rank",
    "gauge",
    "1: asked first of the other regions, where this one has no replica",
    ("region",),
)
REGION_ANSWERS = Metric(
    "trireme_region_answers",
    "gauge",
    "1 while the region's balancer answers probes; one that does not keeps its rank",
    ("region",),
)
REGION_ADDRESSES = Metric(
    "trireme_region_addresses", "gauge", "addresses of the region's balancer that Envoy is told", ("region",)
)
REGION_PROBES = Metric(
    "trireme_region_probes_total",
    "counter",
    "probes: ok, late, away (no connection), denied (TLS), wrong (another answer), unnamed (no address is known)",
    ("region", "outcome"),
)
REGION_ORDER_CHANGES = Metric(
    "trireme_region_order_changes_total", "counter", "changes of the order of the other regions"
)
REGION_FILES_WRITTEN = Metric(
    "trireme_region_files_written_total", "counter", "files of far endpoints that were replaced"
)
REGION_FILES_FAULTY = Metric(
    "trireme_region_files_faulty", "gauge", "1 while the files of far endpoints cannot be written"
)
REGION_NEAR_LOAD = Metric(
    "trireme_region_near_load",
    "gauge",
    "load of an entry's near replicas, the mean of their agents' reports: 1 is full; gone while none reports",
    ("entry",),
)
REGION_FAR_LOAD = Metric(
    "trireme_region_far_load",
    "gauge",
    "the same of the first other region that answers, as it says; gone while it does not",
    ("entry",),
)
REGION_SPILL = Metric(
    "trireme_region_spill_percent", "gauge", "calls of an entry that leave by load, of a hundred", ("entry",)
)

REGIONS = (
    REGION_ROUND_TRIP,
    REGION_RANK,
    REGION_ANSWERS,
    REGION_ADDRESSES,
    REGION_PROBES,
    REGION_ORDER_CHANGES,
    REGION_FILES_WRITTEN,
    REGION_FILES_FAULTY,
    REGION_NEAR_LOAD,
    REGION_FAR_LOAD,
    REGION_SPILL,
)
