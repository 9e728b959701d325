"""Streamed requests of a backend to another model of its server, over the server's own gRPC port.

Not by BLS: the stub of the Python backend (seen in 2.51 and in the newest source) makes the Python objects of every
streamed BLS response after the first in a thread that does not hold the interpreter's lock, which ends the stub
with a segmentation fault sooner or later, and drops an error that is not the first response.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Any

from trireme.errors import TriremeError, UnavailableError
from trireme.triton.traced import CANCEL_ID
from trireme.triton.wire import Outputs, Value, is_final, outputs_of, step_error, stream_request

# What a model is given to say that a cancelled request has ended; then the call itself is ended.
CANCEL_SECONDS = 5.0
# A model that is so long silent, queue included, will not answer.
SILENT_SECONDS = 180.0
READY_SECONDS = 1.0
# How old it may be what a model's configuration said.
INPUTS_SECONDS = 30.0


class OwnPort:
    """The gRPC port of the server that this backend lives in. Thread-safe; connects when it is first used."""

    def __init__(self, address: str) -> None:
        """address: host:port."""
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._messages: Any = service_pb2
        self._address = address
        # A server that was started again is found at once.
        options = [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._inputs: dict[str, tuple[float, frozenset[str]]] = {}

    def is_ready(self) -> bool:
        """Whether the server answers there. Blocks at most READY_SECONDS; never raises."""
        import grpc

        try:
            self._stub.ServerLive(self._messages.ServerLiveRequest(), timeout=READY_SECONDS)
        except grpc.RpcError:
            return False
        return True

    def inputs_of(self, model: str) -> frozenset[str]:
        """Names of the inputs that a model takes, at most INPUTS_SECONDS old; none where the server does not say.

        Blocks at most READY_SECONDS; never raises.
        """
        import grpc

        until, names = self._inputs.get(model, (0.0, frozenset()))
        if time.monotonic() < until:
            return names
        try:
            request = self._messages.ModelConfigRequest(name=model)
            answer = self._stub.ModelConfig(request, timeout=READY_SECONDS)
        except grpc.RpcError:
            return frozenset()
        names = frozenset(one.name for one in answer.config.input)
        self._inputs[model] = (time.monotonic() + INPUTS_SECONDS, names)
        return names

    def call(
        self, model: str, inputs: Mapping[str, Value], parameters: Mapping[str, str] = MappingProxyType({})
    ) -> StreamedCall:
        """Sends a request of single values to a decoupled model. Does not block."""
        return StreamedCall(self._stub, self._address, model, inputs, parameters)

    def close(self) -> None:
        """Ends what runs and closes the connection."""
        self._channel.close()


class StreamedCall:
    """One request on its way. `responses` is read by one thread; `end` may be called from any, again and again."""

    def __init__(
        self,
        stub: Any,
        address: str,
        model: str,
        inputs: Mapping[str, Value],
        parameters: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._address = address
        self._model = model
        # Nobody else may guess it: a message that names it ends the request.
        self._id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._patience: threading.Timer | None = None
        self._heard_at = time.monotonic()
        self._was_silent = False
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._requests.put(stream_request(model, inputs, self._id, parameters))
        self._call = stub.ModelStreamInfer(iter(self._requests.get, None))

    def responses(self) -> Generator[Outputs, None, None]:
        """The outputs of each response that has some, by name; returns with the last. Blocks.

        Raises the model's typed error with its name in front, UnavailableError where the server does not answer.
        Closing the iterator ends the request, and waits until it has.
        """
        import grpc

        has_ended = False
        try:
            for message in self._call:
                self._heard_at = time.monotonic()
                response = message.infer_response
                if response.id == CANCEL_ID:
                    continue
                if message.error_message:
                    has_ended = True
                    raise self._error(message.error_message)
                has_ended = is_final(response)
                if self._was_silent:
                    raise UnavailableError(self._silence())
                if response.outputs:
                    yield outputs_of(response)
                if has_ended:
                    return
            raise UnavailableError(f"model {self._model} ended its answer early; try again")
        except grpc.RpcError as error:
            has_ended = True
            raise self._lost(error) from None
        finally:
            self._finish(has_ended)

    def is_silent(self) -> bool:
        """Whether the model has sent nothing for SILENT_SECONDS."""
        return time.monotonic() - self._heard_at > SILENT_SECONDS

    def end(self) -> None:
        """Asks the model to end the request; ends the call where it has not within CANCEL_SECONDS. Does not block.

        A cancel of the call would do alone, but one that meets the end of its request can crash tritonserver
        before 25.01.
        """
        with self._lock:
            if self._patience is None:
                self._requests.put(
                    stream_request(self._model, {"text_input": ""}, CANCEL_ID, {"cancel": self._id})
                )
                self._was_silent = self.is_silent()
                self._patience = threading.Timer(CANCEL_SECONDS, self._call.cancel)
                self._patience.daemon = True
                self._patience.start()

    def _finish(self, has_ended: bool) -> None:
        """Lets the server close the call: one that is dropped while it is open counts as cancelled."""
        import grpc

        if not has_ended:
            self.end()
        self._requests.put(None)
        with contextlib.suppress(grpc.RpcError):
            for _ in self._call:
                pass
        with self._lock:
            if self._patience is not None:
                self._patience.cancel()

    def _error(self, message: str) -> TriremeError:
        return step_error(self._model, message.removeprefix(f"[request id: {self._id}] "))

    def _lost(self, error: Any) -> TriremeError:
        if self._was_silent:
            return UnavailableError(self._silence())
        return UnavailableError(
            f"model {self._model} cannot be asked at {self._address} ({error.code().name}); try again, or set"
            " TRIREME_GRPC_PORT to the port that tritonserver has (--grpc-port)"
        )

    def _silence(self) -> str:
        return f"model {self._model} sent nothing for {SILENT_SECONDS:.0f} s; try again"
