"""Texts to token ids, all of them padded to the model's limit: the plain way."""

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from transformers import AutoTokenizer

LENGTH = 512


class TritonPythonModel:
    """The tokenizer of the files beside this one."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder))

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().reshape(-1)
            texts = [row.decode() for row in rows]
            encoded = self.tokenizer(
                texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
            )
            tensors = [
                pb_utils.Tensor(name, encoded[name].astype("int64"))
                for name in ("input_ids", "attention_mask")
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
