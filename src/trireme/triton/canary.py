"""A smallest request to each model: does its process still take requests and answer them?

Whatever comes back proves that it does; most models refuse the empty text. It asks what readiness cannot know: a
stub whose main thread hangs still says that it is ready.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from trireme.triton.wire import BULK_ID

# What Triton says of a stub that is gone: no answer of the model.
_GONE = "is not healthy"
# Type of a tensor -> its name on the wire, and one value: an empty text, false or zero.
_VALUES = {
    "TYPE_STRING": ("BYTES", b"\0\0\0\0"),
    "TYPE_BOOL": ("BOOL", b"\0"),
    "TYPE_INT32": ("INT32", b"\0" * 4),
    "TYPE_FP32": ("FP32", b"\0" * 4),
}


class Canary:
    """Asks the models of one server. Not thread-safe; `close` it."""

    def __init__(self, address: str) -> None:
        """address: host:port of the gRPC endpoint. Connects when it is first used."""
        # A supervisor starts processes, and gRPC's handlers of a fork can end the child before it has become one.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        import grpc
        from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

        self._grpc: Any = grpc
        self._messages: Any = service_pb2
        self._type_name = model_config_pb2.DataType.Name
        self._channel = grpc.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._configs: dict[str, Any] = {}

    def __enter__(self) -> Canary:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def silent(self, models: Iterable[str], seconds: float) -> list[str]:
        """Those of `models` from which nothing came within `seconds`, for which it blocks at most. Never raises."""
        asked = {model: self._ask(model, seconds) for model in models}
        return [model for model, has_answered in asked.items() if not has_answered()]

    def _ask(self, model: str, seconds: float) -> Callable[[], bool]:
        """Sends it; what it returns waits for the answer."""
        try:
            config = self._config(model, seconds)
        except self._grpc.RpcError:
            return lambda: False
        request = self._request(model, config)
        if config.model_transaction_policy.decoupled:
            stream = self._stub.ModelStreamInfer(iter([request]), timeout=seconds)
            return lambda: self._is_word(lambda: [part.error_message for part in stream])
        call = self._stub.ModelInfer.future(request, timeout=seconds)
        return lambda: self._is_word(lambda: [str(call.result().model_name)])

    def _is_word(self, read: Callable[[], list[str]]) -> bool:
        """Whether what `read` returns, or raises, comes from the model. Its refusal is an answer."""
        try:
            said = read()
        except self._grpc.RpcError as error:
            if error.code().name in ("DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE"):
                return False
            said = [error.details() or ""]
        return bool(said) and not any(_GONE in text for text in said)

    def _config(self, model: str, seconds: float) -> Any:
        if model not in self._configs:
            asked = self._messages.ModelConfigRequest(name=model)
            self._configs[model] = self._stub.ModelConfig(asked, timeout=seconds).config
        return self._configs[model]

    def _request(self, model: str, config: Any) -> Any:
        # As a worker's requests it is not counted as somebody who waits.
        request = self._messages.ModelInferRequest(model_name=model, id=BULK_ID)
        # Triton takes no request without any input.
        needed = [tensor for tensor in config.input if not tensor.optional] or config.input[:1]
        for tensor in needed:
            datatype, value = _VALUES[self._type_name(tensor.data_type)]
            shape = [1] * (len(tensor.dims) + bool(config.max_batch_size))
            request.inputs.add(name=tensor.name, datatype=datatype, shape=shape)
            request.raw_input_contents.append(value)
        return request
