"""Takes as long as it is told to, and says when it began: service times that are known beforehand."""

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# What loading a model takes in life.
START_S = 8.0


class TritonPythonModel:
    """Two instances of it are two places of a replica."""

    def initialize(self, args: dict[str, str]) -> None:
        time.sleep(START_S)

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            began = time.time()
            told = pb_utils.get_input_tensor_by_name(request, "milliseconds").as_numpy()
            time.sleep(float(told.sum()) / 1000)
            output = pb_utils.Tensor("began", np.full((1, 1), began, np.float64))
            responses.append(pb_utils.InferenceResponse(output_tensors=[output]))
        return responses
