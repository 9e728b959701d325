"""Sessions of ONNX Runtime, on CPU and on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trireme.encode.batching import RunCost
from trireme.encode.session import SessionOptions, TokenBatch, check_inputs, pad_rows
from trireme.errors import ArtifactError
from trireme.types import FloatArray

MODEL_FILE = "model.onnx"


class OnnxSession:
    """The file model.onnx of a version folder. Pads rows to the longest of a batch."""

    # On two AVX2 cores a call of one 8-token row takes 4 ms, each further 8 tokens 3 ms.
    cost = RunCost(call_tokens=4, keeps_attention=True)
    streams = 1

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """Raises ArtifactError for a file that is no graph."""
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads or (options.cores if options.instances > 1 else 0)
        settings.log_severity_level = 3
        # Requests come in bursts; spinning threads would take the cores from the tokenizer and the clients.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        if options.device_id is not None:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(options.device_id)}))
        path = folder / MODEL_FILE
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=providers)
        except Exception as error:  # ONNX Runtime raises its own unrelated classes
            raise ArtifactError(f"cannot load {path.name}: {error}; build the model again") from error
        self.output_names = [node.name for node in self._session.get_outputs()]
        self.input_names = check_inputs([node.name for node in self._session.get_inputs()], path.name)

    def run(self, batch: TokenBatch) -> FloatArray:
        """The graph's first output, float32 [rows, ...]."""
        return self.run_named(batch, self.output_names[:1])[self.output_names[0]]

    def run_named(self, batch: TokenBatch, names: Sequence[str]) -> dict[str, FloatArray]:
        """See NamedSession."""
        feeds = pad_rows(batch, self.cost)
        found = self._session.run(list(names), {name: feeds[name] for name in self.input_names})
        return dict(zip(names, found, strict=True))
