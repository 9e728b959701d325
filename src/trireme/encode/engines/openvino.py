"""Sessions of OpenVINO on CPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trireme.encode.batching import RunCost
from trireme.encode.session import SessionOptions, TokenBatch, check_inputs, pad_rows
from trireme.errors import ArtifactError
from trireme.types import FloatArray

GRAPH_FILE = "openvino_model.xml"
MAX_STREAMS = 4
_FILLING_TYPES = threading.Lock()


class OpenVinoSession:
    """The graph of a version folder. Pads rows to the longest of a batch, rounded up."""

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """Raises ArtifactError for a file that is no graph. The recipe keeps it on the CPU."""
        import openvino

        self.streams, threads = share_cores(options.cores, options.threads)
        _fill_types()
        core = openvino.Core()
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT" if self.streams > 1 else "LATENCY",
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": self.streams * threads,
            # Quantized layers run in int8 whatever this says; the rest must not depend on the processor.
            "INFERENCE_PRECISION_HINT": "f32",
            # Several models share the cores: pinned threads of two would sit on the same one.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = core.compile_model(core.read_model(folder / GRAPH_FILE), "CPU", properties)
        except RuntimeError as error:
            raise ArtifactError(f"cannot load {GRAPH_FILE}: {error}; build the model again") from error
        self.input_names = check_inputs([node.get_any_name() for node in model.inputs], GRAPH_FILE)
        self.output_names = [node.get_any_name() for node in model.outputs]
        # On one AVX-512 core a call takes 1.5 to 3 ms, the more the more its shape differs from that of the call
        # before, and 0.075 ms a token; one of a new shape 10 ms more.
        self.cost = RunCost(
            call_tokens=20,
            few_shapes=True,
            max_width=options.max_length,
            keeps_attention=_has_softmax(model),
        )
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.streams):
            self._requests.put(model.create_infer_request())

    def run(self, batch: TokenBatch) -> FloatArray:
        """The graph's first output, float32 [rows, ...]."""
        return self.run_named(batch, self.output_names[:1])[self.output_names[0]]

    def run_named(self, batch: TokenBatch, names: Sequence[str]) -> dict[str, FloatArray]:
        """See NamedSession."""
        feeds = pad_rows(batch, self.cost)
        request = self._requests.get()
        try:
            done = request.infer({name: feeds[name] for name in self.input_names}, share_inputs=True)
            return {name: done[self.output_names.index(name)].copy() for name in names}
        finally:
            self._requests.put(request)


def _fill_types() -> None:
    """Has OpenVINO fill its table of numpy types here: two threads whose first runs begin at once fill it together,
    and neither goes on, for one holds its guard, the other the interpreter's lock (2026.4)."""
    import openvino

    with _FILLING_TYPES:
        openvino.Type.f32.to_dtype()


def _has_softmax(model: Any) -> bool:
    """Whether an attention is left that OpenVINO has not fused into one that goes through it in parts."""
    ops = model.get_runtime_model().get_ops()
    return any(str(op.get_rt_info()["layerType"].value).lower() == "softmax" for op in ops)


def share_cores(cores: int, threads: int) -> tuple[int, int]:
    """(streams, threads of each) for so many cores; `threads` other than 0 is one stream of so many.

    Threads of one run wait for one another at each operator, and the longer the more else the cores do, so
    runs side by side get more done; but a lone request is as fast as the threads of its stream.
    """
    if threads:
        return 1, threads
    streams = 1
    while streams < MAX_STREAMS and (2 * streams) ** 2 <= 2 * cores:
        streams *= 2
    return streams, max(1, cores // streams)
