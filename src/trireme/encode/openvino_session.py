"""Sessions of OpenVINO on CPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from trireme.encode.batching import RunCost
from trireme.encode.session import SessionOptions, TokenBatch, pad_rows
from trireme.errors import ArtifactError
from trireme.types import FloatArray

GRAPH_FILE = "openvino_model.xml"


class OpenVinoSession:
    """The graph of a version folder. Pads rows to the longest of a batch, rounded up."""

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """Raises ArtifactError for a file that is no graph. The recipe keeps it on the CPU."""
        import openvino

        # On two AVX-512 cores a call takes 0.8 ms and 0.045 ms a token, and one of a new shape 10 ms more.
        self.cost = RunCost(call_tokens=18, few_shapes=True, max_width=options.max_length)
        core = openvino.Core()
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # Quantized layers run in int8 whatever this says; the rest must not depend on the processor.
            "INFERENCE_PRECISION_HINT": "f32",
            # Several models share the cores: pinned threads of two would sit on the same one.
            "ENABLE_CPU_PINNING": False,
        }
        if options.threads:
            properties["INFERENCE_NUM_THREADS"] = options.threads
        try:
            model = core.compile_model(core.read_model(folder / GRAPH_FILE), "CPU", properties)
        except RuntimeError as error:
            raise ArtifactError(f"cannot load {GRAPH_FILE}: {error}; build the model again") from error
        self.input_names = [node.get_any_name() for node in model.inputs]
        self._request = model.create_infer_request()
        self._lock = threading.Lock()

    def run(self, batch: TokenBatch) -> FloatArray:
        """The graph's first output, float32 [rows, ...]."""
        feeds = pad_rows(batch, self.cost)
        with self._lock:
            done = self._request.infer({name: feeds[name] for name in self.input_names}, share_inputs=True)
            output: FloatArray = done[0].copy()
        return output
