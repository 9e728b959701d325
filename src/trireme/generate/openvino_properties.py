"""How OpenVINO compiles an LLM: the same for the engine that serves it and the gate that measures it.

Left as the CPU plugin has them: arithmetic in bfloat16 where the processor has it (INFERENCE_PRECISION_HINT),
and activations in int8, per 32 numbers, before quantized weights (DYNAMIC_QUANTIZATION_GROUP_SIZE). The parity
gate measures what both cost in accuracy.
"""

from __future__ import annotations


def compile_properties(threads: int = 0) -> dict[str, str | int]:
    """Properties of OpenVINO's CPU plugin. `threads` of one step; 0 means one per core."""
    properties: dict[str, str | int] = {
        "PERFORMANCE_HINT": "LATENCY",
        # The plugin's own choice is u8: then keys read back from the cache differ from those just made, and a
        # prompt whose beginning is cached gets other logits than the same prompt read whole.
        "KV_CACHE_PRECISION": "f16",
    }
    if threads:
        properties["INFERENCE_NUM_THREADS"] = threads
    return properties
