"""An fp32 ONNX graph on ONNX Runtime as it comes: one run per batch that Triton made."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

INPUTS = ("input_ids", "attention_mask")


class TritonPythonModel:
    """The graph beside this file, which pools; the vectors are brought to unit length here."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        self.wants_types = "token_type_ids" in [node.name for node in self.session.get_inputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        parts = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS]
            for request in requests
        ]
        feeds = {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(INPUTS)}
        if self.wants_types:
            feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])
        vectors = self.session.run(None, feeds)[0]
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        ends = np.cumsum([len(part[0]) for part in parts])[:-1]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("embedding", rows)])
            for rows in np.split(vectors.astype(np.float32), ends)
        ]
