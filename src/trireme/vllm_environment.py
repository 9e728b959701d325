"""What vLLM's processes find in their environment, whichever of our engines starts them."""

from __future__ import annotations

from collections.abc import Mapping

# Read by vLLM when it is imported. Its own process must not be forked from one with threads.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "HF_HUB_OFFLINE": "1",
    # A regular expression that takes longer ends vLLM's process, with all requests; ours are bounded by their size.
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "60",
}
DEVICES = "CUDA_VISIBLE_DEVICES"


def show_device(device_id: int | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Shows vLLM this card alone: it takes the first ones that it sees, whichever Triton chose. None: all."""
    if device_id is None:
        return {}
    shown = environ.get(DEVICES, "").split(",")
    # Triton counts those that it sees itself.
    device = shown[device_id] if device_id < len(shown) else ""
    return {DEVICES: device.strip() or str(device_id)}
