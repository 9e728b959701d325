"""Replicas whose answers a test decides, each a gRPC server of its own with an agent's health beside it."""

import contextlib
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from trireme.scale.endpoints import Endpoint

# As a tritonserver's: large messages, and pings of a balancer.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.http2.max_ping_strikes", 0)]
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
# One that nobody ends is a fault of the test.
PATIENCE = 30.0


class Replica(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Counts what reaches it. `infer(request, context)` answers; `stream(request, context)` gives texts.

    It is reached through a relay, so that a test can cut its connections. agent_port: of its health and reports.
    listener: a socket that the relay listens on, in whatever network; it is asked for its health there as well.
    """

    def __init__(self, host="127.0.0.1", agent_port=0, listener=None):
        self.host = host
        self.infer = lambda request, context: messages.ModelInferResponse(id=request.id)
        self.stream = lambda request, context: iter(("one", "two"))
        self.calls = 0
        self.metadata = []
        self.other_calls = 0
        self.health = SERVING
        self.utilization = 0.0
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(64), options=OPTIONS)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        health = grpc.unary_unary_rpc_method_handler(lambda request, context: self.health)
        reports = grpc.unary_stream_rpc_method_handler(self._report)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),
                grpc.method_handlers_generic_handler(
                    "xds.service.orca.v3.OpenRcaService", {"StreamCoreMetrics": reports}
                ),
            )
        )
        self.own_port = self._server.add_insecure_port(f"{host}:{agent_port}")
        self._ended = threading.Event()
        self._server.start()
        self._is_apart = listener is not None
        self._relay = Relay(
            listener or socket.create_server((host, 0)),
            lambda: socket.create_connection((host, self.own_port)),
        )

    @property
    def port(self):
        return self._relay.port

    @property
    def address(self):
        """Where it is reached."""
        return self._relay.address

    def endpoint(self, **changes):
        """What Envoy is told of it; its health is asked beside the relay."""
        agent_port = 0 if self._is_apart else self.own_port
        return Endpoint(self.address, self.port, agent_port=agent_port, **changes)

    def cut(self):
        """Closes the connections that it has: who waits for an answer sees a reset."""
        self._relay.cut()

    def fall_silent(self):
        """Nothing reaches it or leaves it any more; connections stay open. Its agent still answers."""
        self._relay.is_silent = True

    def vanish(self):
        """Nobody listens there any more; its agent still answers."""
        self._relay.close()

    def close(self):
        self._ended.set()
        self._server.stop(None).wait()
        self._relay.close()

    def _report(self, request, context):
        """OrcaLoadReports: rps_fractional is field 6, application_utilization field 9, both doubles."""
        while context.is_active() and not self._ended.wait(0.05):
            yield struct.pack("<BdBd", 6 << 3 | 1, 10.0, 9 << 3 | 1, self.utilization)

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


class Relay:
    """Carries bytes between who comes to `listener` and what `connect()` opens, until it is told to drop all."""

    def __init__(self, listener, connect):
        self._connect = connect
        self.is_silent = False
        self._sockets = set()
        self._carriers = []
        self._listener = listener
        self.address, self.port = listener.getsockname()
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
            with self._connect() as far:
                self._sockets |= {near, far}
                back = threading.Thread(target=self._carry, args=(far, near))
                back.start()
                self._carry(near, far)
                back.join()
                self._sockets -= {near, far}

    def _carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                if not self.is_silent:
                    sink.sendall(data)
        _shut(source)
        _shut(sink)


def _shut(one):
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def fail(code):
    def answer(request, context):
        context.abort(code, "as told")

    return answer


class Hold:
    """Answers that wait until the test lets them go. `begun`: how many wait."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.end = threading.Event()

    def infer(self, request, context):
        self.begun.release()
        assert self.end.wait(PATIENCE)
        return messages.ModelInferResponse(id="late")

    def stream(self, request, context):
        yield "one"
        self.begun.release()
        assert self.end.wait(PATIENCE)
        yield "two"

    def stream_late(self, request, context):
        self.begun.release()
        assert self.end.wait(PATIENCE)
        yield "late"

    def wait_for(self, calls):
        for _ in range(calls):
            assert self.begun.acquire(timeout=PATIENCE)


def fail_first(some, act):
    """The first call, whichever replica gets it, does `act(replica, context)`; all others are answered."""
    lock = threading.Lock()

    def is_first():
        return lock.acquire(blocking=False)

    for one in some:

        def infer(request, context, one=one):
            if is_first():
                act(one, context)
            return messages.ModelInferResponse(id="answered")

        def stream(request, context, one=one):
            if is_first():
                act(one, context)
            yield from ("one", "two")

        one.infer, one.stream = infer, stream


def cut(replica, context):
    replica.cut()
    context.abort(grpc.StatusCode.INTERNAL, "nobody hears this")


def calls_of(some):
    return [one.calls for one in some]
