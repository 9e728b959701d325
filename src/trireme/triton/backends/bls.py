"""Requests of one model to the server's other models (Triton's business logic scripting, BLS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trireme.triton.backends.traced import NOBODY, Asked
from trireme.triton.wire import Outputs, step_error


def call_model(
    pb: Any, model: str, inputs: list[Any], outputs: Sequence[str], asked: Asked = NOBODY
) -> Outputs:
    """The named outputs of one answer of `model`, as arrays. Blocks.

    asked: the request that this one is made for. A model's error comes back with its code and the model's name in
    front; one that is not loaded is UnavailableError.
    """
    traced = {"request_id": asked.request, "parameters": asked.parameters} if asked.request else {}
    request = pb.InferenceRequest(
        model_name=model, requested_output_names=list(outputs), inputs=inputs, **traced
    )
    return read_answer(model, request.exec())


def read_answer(model: str, response: Any) -> Outputs:
    """The outputs of a response by name. Raises the typed error that it carries."""
    if response.has_error():
        # Within the server an error arrives as an internal one, whatever it was.
        raise step_error(model, str(response.error().message()))
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
