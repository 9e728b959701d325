"""The table of what every process says of itself: which build it is, and its memory and processor time."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = [
    "BUILD_INFO",
    "MODEL_CPU",
    "MODEL_INFO",
    "MODEL_MEMORY",
    "OF_PROCESS",
    "PROCESS",
    "PROCESS_MEMORY",
]

BUILD_INFO = Metric(
    "trireme_build_info",
    "gauge",
    "1; which build runs: the package's version, the git revision, and the release that TRIREME_RELEASE names;"
    " process is server, gateway, worker or agent, model that of a server's process",
    ("process", "model", "version", "revision", "release"),
    unit="information",
)
MODEL_INFO = Metric(
    "trireme_model_info",
    "gauge",
    "1; which model runs: the first 12 signs of the digest of what decides its answers, and its precision",
    ("model", "digest", "precision"),
    unit="information",
)
MODEL_MEMORY = Metric(
    "trireme_model_memory_bytes",
    "gauge",
    "resident memory of the model's process, shared pages included; a GPU's memory is not in it",
    ("model", "instance"),
)
MODEL_CPU = Metric(
    "trireme_model_cpu_seconds_total",
    "counter",
    "processor time of the model's process",
    ("model", "instance"),
)

# Those of prometheus_client's ProcessCollector.
PROCESS_MEMORY = Metric("process_resident_memory_bytes", "gauge", "resident memory of the process")
PROCESS = (
    PROCESS_MEMORY,
    Metric("process_virtual_memory_bytes", "gauge", "virtual memory of the process"),
    Metric("process_cpu_seconds_total", "counter", "processor time of the process"),
    Metric("process_start_time_seconds", "gauge", "when the process began, Unix time", unit="unix seconds"),
    Metric("process_open_fds", "gauge", "open file descriptors"),
    Metric("process_max_fds", "gauge", "most file descriptors that it may open"),
)
OF_PROCESS = (BUILD_INFO, *PROCESS)
