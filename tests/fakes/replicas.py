"""Replicas whose answers a test decides, each a gRPC server of its own with an agent's health beside it."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from trireme.scale.endpoints import Endpoint

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
# One that nobody ends is a fault of the test.
PATIENCE = 30.0


class Replica(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Counts what reaches it. `infer(request, context)` answers; `stream(request, context)` gives texts.

    cut: closes the connections that it has, so that callers see a reset. They go through a relay, so that the
    server itself hears nothing of it.
    """

    def __init__(self):
        self.infer = lambda request, context: messages.ModelInferResponse(id=request.id)
        self.stream = lambda request, context: iter(("one", "two"))
        self.calls = 0
        self.metadata = []
        self.other_calls = 0
        self.health = SERVING
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", -1)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        health = grpc.unary_unary_rpc_method_handler(lambda request, context: self.health)
        handlers = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health})
        self._server.add_generic_rpc_handlers((handlers,))
        self.own_port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._relay = _Relay(self.own_port)

    @property
    def port(self):
        return self._relay.port

    def endpoint(self, **changes):
        """What Envoy is told of it; its health is asked beside the relay."""
        return Endpoint("127.0.0.1", self.port, agent_port=self.own_port, **changes)

    def cut(self):
        self._relay.cut()

    def vanish(self):
        """Nobody listens there any more; its agent still answers."""
        self._relay.close()

    def close(self):
        self._server.stop(None).wait()
        self._relay.close()

    def _count(self, context):
        with self._lock:
            self.calls += 1
            self.metadata.append(dict(context.invocation_metadata()))

    def ModelInfer(self, request, context):  # noqa: N802 - the protocol's name
        self._count(context)
        return self.infer(request, context)

    def ModelStreamInfer(self, requests, context):  # noqa: N802 - the protocol's name
        request = next(requests)
        self._count(context)
        for text in self.stream(request, context):
            response = messages.ModelInferResponse(id=text)
            yield messages.ModelStreamInferResponse(infer_response=response)

    def ServerReady(self, request, context):  # noqa: N802 - the protocol's name
        self._count(context)
        return messages.ServerReadyResponse(ready=True)

    def RepositoryModelUnload(self, request, context):  # noqa: N802 - the protocol's name
        with self._lock:
            self.other_calls += 1
        return messages.RepositoryModelUnloadResponse()


class _Relay:
    """Carries bytes between a port of its own and a server's, until it is told to drop all connections."""

    def __init__(self, target):
        self._target = target
        self._sockets = set()
        self._carriers = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def cut(self):
        for one in list(self._sockets):
            _shut(one)

    def close(self):
        """Refuses connections from now on."""
        _shut(self._listener)
        self._acceptor.join()
        self._listener.close()
        self.cut()
        for carrier in self._carriers:
            carrier.join()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._carriers.append(threading.Thread(target=self._carry_both, args=(near,)))
                self._carriers[-1].start()

    def _carry_both(self, near):
        # A server that has ended refuses.
        with near, contextlib.suppress(ConnectionRefusedError):
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                self._sockets |= {near, far}
                back = threading.Thread(target=_carry, args=(far, near))
                back.start()
                _carry(near, far)
                back.join()
                self._sockets -= {near, far}


def _carry(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 20):
            sink.sendall(data)
    _shut(source)
    _shut(sink)


def _shut(one):
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
