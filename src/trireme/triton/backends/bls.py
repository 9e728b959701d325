"""Requests of one model to the server's other models (Triton's business logic scripting, BLS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trireme.errors import (
    InvalidInputError,
    NotFoundError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)
from trireme.triton.wire import strip_code

_ERRORS: dict[str, type[TriremeError]] = {
    kind.code: kind for kind in (InvalidInputError, NotFoundError, UnavailableError, UnsupportedError)
}

Outputs = dict[str, Any]


def call_model(pb: Any, model: str, inputs: list[Any], outputs: Sequence[str]) -> Outputs:
    """The named outputs of one answer of `model`, as arrays. Blocks.

    A model's error comes back with its code and the model's name in front; one that is not loaded is
    UnavailableError.
    """
    request = pb.InferenceRequest(model_name=model, requested_output_names=list(outputs), inputs=inputs)
    return read_answer(model, request.exec())


def read_answer(model: str, response: Any) -> Outputs:
    """The outputs of a response by name. Raises the typed error that it carries."""
    if response.has_error():
        # Within the server an error arrives as an internal one, whatever it was.
        raise typed_error(model, *strip_code(str(response.error().message())))
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def typed_error(model: str, code: str, message: str) -> TriremeError:
    """The error that `model` answered with, its name in front. `code` is Triton's, or empty."""
    # Triton calls it an internal error that a model is not loaded, or its process gone.
    if message.endswith("is not ready."):
        return UnavailableError(f"model {model} is not loaded; trireme ready says which models answer")
    if " is not healthy" in message:
        return UnavailableError(f"model {model}: its process ended; try again once it is started")
    return _ERRORS.get(code, TriremeError)(f"model {model}: {message}")
