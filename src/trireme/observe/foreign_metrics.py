"""The table of metrics of other programs that ours, rules or dashboards rely on: tritonserver, Envoy, DCGM.

They export many more. Names and units are theirs.
"""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = [
    "DCGM",
    "ENVOY",
    "ENVOY_CALLS",
    "ENVOY_HEALTHY",
    "ENVOY_KNOWN",
    "ENVOY_REFUSED",
    "ENVOY_RETRIED",
    "ENVOY_RETRIES_LEFT_OUT",
    "ENVOY_SECONDS",
    "GPU_MEMORY",
    "GPU_MEMORY_FREE",
    "GPU_UTILIZATION",
    "MACHINE_CPU",
    "MACHINE_MEMORY",
    "MACHINE_MEMORY_ALL",
    "TRITON",
    "TRITON_COMPUTED",
    "TRITON_FAILED",
    "TRITON_PENDING",
    "TRITON_ROWS",
    "TRITON_RUNS",
    "TRITON_SUCCEEDED",
    "TRITON_WAITED",
]

_MODEL = ("model", "version")
_GPU = "on a machine with a GPU"
TRITON_SUCCEEDED = Metric(
    "nv_inference_request_success", "counter", "requests that a model answered, by Triton's count", _MODEL
)
TRITON_FAILED = Metric(
    "nv_inference_request_failure",
    "counter",
    "requests that failed, by Triton's reason: REJECTED, CANCELED, BACKEND, OTHER",
    (*_MODEL, "reason"),
)
TRITON_PENDING = Metric(
    "nv_inference_pending_request_count", "gauge", "requests in Triton's own queue before a model", _MODEL
)
TRITON_WAITED = Metric(
    "nv_inference_queue_duration_us",
    "counter",
    "time in Triton's own queue",
    _MODEL,
    unit="microseconds",
)
TRITON_COMPUTED = Metric(
    "nv_inference_compute_infer_duration_us",
    "counter",
    "time in the backend",
    _MODEL,
    unit="microseconds",
)
TRITON_ROWS = Metric("nv_inference_count", "counter", "rows that were run", _MODEL)
TRITON_RUNS = Metric("nv_inference_exec_count", "counter", "runs, each of one batch or more", _MODEL)
MACHINE_CPU = Metric(
    "nv_cpu_utilization",
    "gauge",
    "share of the machine's processor time in use, of all processes, in the last interval of metrics",
    unit="ratio",
)
MACHINE_MEMORY = Metric(
    "nv_cpu_memory_used_bytes", "gauge", "memory of the machine in use, of all processes", unit="bytes"
)
MACHINE_MEMORY_ALL = Metric("nv_cpu_memory_total_bytes", "gauge", "memory of the machine", unit="bytes")
TRITON = (
    TRITON_SUCCEEDED,
    TRITON_FAILED,
    TRITON_PENDING,
    TRITON_WAITED,
    TRITON_COMPUTED,
    TRITON_ROWS,
    TRITON_RUNS,
    MACHINE_CPU,
    MACHINE_MEMORY,
    MACHINE_MEMORY_ALL,
    Metric(
        "nv_gpu_utilization",
        "gauge",
        "share of the time in which the GPU ran a kernel",
        ("gpu_uuid",),
        unit="ratio",
        when=_GPU,
    ),
    Metric("nv_gpu_memory_used_bytes", "gauge", "memory of the GPU in use", ("gpu_uuid",), when=_GPU),
    Metric("nv_gpu_memory_total_bytes", "gauge", "memory of the GPU", ("gpu_uuid",), when=_GPU),
)

_EXPORTER = "where DCGM's exporter runs"
_CARD = ("gpu", "UUID", "modelName", "Hostname")
GPU_UTILIZATION = Metric(
    "DCGM_FI_DEV_GPU_UTIL",
    "gauge",
    "share of the time in which the GPU ran a kernel, 0 to 100",
    _CARD,
    unit="percent",
    when=_EXPORTER,
)
GPU_MEMORY = Metric(
    "DCGM_FI_DEV_FB_USED", "gauge", "memory of the GPU in use", _CARD, unit="mebibytes", when=_EXPORTER
)
GPU_MEMORY_FREE = Metric(
    "DCGM_FI_DEV_FB_FREE", "gauge", "memory of the GPU that is free", _CARD, unit="mebibytes", when=_EXPORTER
)
DCGM = (GPU_UTILIZATION, GPU_MEMORY, GPU_MEMORY_FREE)

_CLUSTER = ("envoy_cluster_name",)
ENVOY_CALLS = Metric(
    "envoy_cluster_upstream_rq_total", "counter", "calls that were sent to replicas", _CLUSTER
)
ENVOY_REFUSED = Metric(
    "envoy_cluster_upstream_rq_pending_overflow",
    "counter",
    "calls that Envoy refused, since too many waited or ran",
    _CLUSTER,
)
ENVOY_RETRIED = Metric("envoy_cluster_upstream_rq_retry", "counter", "calls that were tried again", _CLUSTER)
ENVOY_RETRIES_LEFT_OUT = Metric(
    "envoy_cluster_upstream_rq_retry_overflow",
    "counter",
    "tries that Envoy left out, since too many ran",
    _CLUSTER,
)
ENVOY_SECONDS = Metric(
    "envoy_cluster_upstream_rq_time",
    "histogram",
    "from a call to its replica's whole answer",
    _CLUSTER,
    unit="milliseconds",
)
ENVOY_HEALTHY = Metric("envoy_cluster_membership_healthy", "gauge", "replicas that get calls", _CLUSTER)
ENVOY_KNOWN = Metric("envoy_cluster_membership_total", "gauge", "replicas that are known", _CLUSTER)
ENVOY = (
    ENVOY_CALLS,
    ENVOY_REFUSED,
    ENVOY_RETRIED,
    ENVOY_RETRIES_LEFT_OUT,
    ENVOY_SECONDS,
    ENVOY_HEALTHY,
    ENVOY_KNOWN,
)
