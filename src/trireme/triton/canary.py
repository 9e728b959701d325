"""A smallest request to each model: does its process still take requests and answer them?

Whatever comes back proves that it does; most models refuse the empty text. It asks what readiness cannot know: a
stub whose main thread hangs still says that it is ready.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

from trireme.triton.wire import BULK_ID

# What Triton says of a stub that is gone: no answer of the model.
_GONE = "is not healthy"
# Type of a tensor -> its name on the wire, and the bytes of one value: an empty text, false or zero.
_VALUES = {
    "TYPE_STRING": ("BYTES", 4),
    "TYPE_BOOL": ("BOOL", 1),
    **{
        f"TYPE_{kind}{bits}": (f"{kind}{bits}", bits // 8)
        for kind in ("INT", "UINT")
        for bits in (8, 16, 32, 64)
    },
    **{f"TYPE_FP{bits}": (f"FP{bits}", bits // 8) for bits in (16, 32, 64)},
    "TYPE_BF16": ("BF16", 2),
}


class Canary:
    """Asks the models of one server. Not thread-safe; `close` it."""

    def __init__(self, address: str) -> None:
        """address: host:port of the gRPC endpoint. Connects when it is first used."""
        # A supervisor starts processes, and gRPC's handlers of a fork can end the child before it has become one.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._grpc: Any = grpc
        self._messages: Any = service_pb2
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
        request = smallest_request(model, config)
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
            return is_refusal(error)
        return is_word(said)

    def _config(self, model: str, seconds: float) -> Any:
        if model not in self._configs:
            asked = self._messages.ModelConfigRequest(name=model)
            self._configs[model] = self._stub.ModelConfig(asked, timeout=seconds).config
        return self._configs[model]


def is_word(said: Collection[str]) -> bool:
    """Whether `said`, the texts of an answer or a refusal, comes from the model."""
    return bool(said) and not any(_GONE in text for text in said)


def is_refusal(error: Any) -> bool:
    """Whether a grpc.RpcError is an answer of the model, and not the lack of one."""
    is_lack = error.code().name in ("DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE")
    return not is_lack and is_word([error.details() or ""])


def smallest_request(model: str, config: Any) -> Any:
    """A ModelInferRequest of empty values: as few as `config`, a ModelConfig, takes, for what it demands."""
    from tritonclient.grpc import model_config_pb2, service_pb2

    # As a worker's requests it is not counted as somebody who waits.
    request = service_pb2.ModelInferRequest(model_name=model, id=BULK_ID)
    # Triton takes no request without any input.
    needed = [tensor for tensor in config.input if not tensor.optional] or config.input[:1]
    for tensor in needed:
        datatype, size = _VALUES[model_config_pb2.DataType.Name(tensor.data_type)]
        shape = [1] * bool(config.max_batch_size) + [max(1, dim) for dim in tensor.dims]
        request.inputs.add(name=tensor.name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(bytes(size * math.prod(shape)))
    return request
