"""A tritonserver that one can take apart: its gRPC, its metrics page, its models."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from fakes.grpc_server import ScriptedServer, config_of


class FakeReplica(ScriptedServer):
    """`index`: model -> (state, reason). `unready`: loaded, but Triton says no.

    `page`: its metrics, behind those of Triton's own that are always there, `head`.
    """

    def __init__(self, *models):
        super().__init__()
        self.index = {model: ("READY", "") for model in models}
        self.configs = {model: config_of(model, backend="python", inputs=("x",)) for model in models}
        for config in self.configs.values():
            config.input[0].data_type = 11
            config.input[0].dims.append(-1)
        self.unready = set()
        self.page = ""
        self.head = "nv_pinned_memory_pool_total_bytes 0\n"
        self.is_locked = False
        # Set: every question waits until it is cleared.
        self.hangs = threading.Event()

    def RepositoryIndex(self, request, context):  # noqa: N802 - the protocol's name
        self.wait()
        if self.is_locked:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'x'")
        answer = messages.RepositoryIndexResponse()
        for name, (state, reason) in self.index.items():
            answer.models.add(name=name, version="1", state=state, reason=reason)
        return answer

    def ModelInfer(self, request, context):  # noqa: N802 - the protocol's name
        self.wait()
        return super().ModelInfer(request, context)

    def ModelReady(self, request, context):  # noqa: N802 - the protocol's name
        return messages.ModelReadyResponse(ready=request.name not in self.unready)

    def wait(self):
        while self.hangs.is_set():
            time.sleep(0.01)


@contextmanager
def serving_replica(*models, host="127.0.0.1", port=0):
    """A running one. `address`: of its gRPC, `metrics`: host and port of its page. `stop_grpc` ends its gRPC."""
    replica = FakeReplica(*models)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            page = replica.page() if callable(replica.page) else replica.page
            self.send_response(200 if page is not None else 404)
            self.end_headers()
            self.wfile.write((replica.head + (page or "")).encode())

        def log_message(self, *_):
            pass

    pages = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=pages.serve_forever, args=(0.02,), daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(replica, server)
    replica.address = f"{host}:{server.add_insecure_port(f'{host}:{port}')}"
    replica.metrics = ("127.0.0.1", pages.server_address[1])
    replica.metrics_url = f"http://127.0.0.1:{replica.metrics[1]}/metrics"
    replica.stop_grpc = lambda: server.stop(None).wait()
    server.start()
    try:
        yield replica
    finally:
        replica.hangs.clear()
        server.stop(None).wait()
        pages.shutdown()
        pages.server_close()
