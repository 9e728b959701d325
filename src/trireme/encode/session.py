"""The model runner port and its ONNX Runtime implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trireme.errors import ArtifactError
from trireme.types import FloatArray

Feeds = Mapping[str, npt.NDArray[np.int64] | FloatArray]


class Session(Protocol):
    """Runs a graph. Blocks; thread-safe."""

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the graph's inputs."""

    def run(self, feeds: Feeds) -> FloatArray:
        """The graph's first output, float32 [rows, ...]."""


class OnnxSession:
    """An ONNX file on ONNX Runtime, on CPU or on the CUDA device `device_id`."""

    def __init__(self, path: Path, threads: int, device_id: int | None = None) -> None:
        """threads: intra-op threads, 0 for one per core. Raises ArtifactError for a file that is no graph."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Requests come in bursts; spinning threads would take the cores from the tokenizer and the clients.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        if device_id is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(device_id)}))
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime raises its own unrelated classes
            raise ArtifactError(f"cannot load {path.name}: {error}; build the model again") from error
        self._output = self._session.get_outputs()[0].name
        self.input_names = [node.name for node in self._session.get_inputs()]

    def run(self, feeds: Feeds) -> FloatArray:
        """The graph's first output, float32 [rows, ...]."""
        output: FloatArray = self._session.run([self._output], dict(feeds))[0]
        return output
