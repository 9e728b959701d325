"""HTTP of the controller: /ready, /healthz, /metrics, and its region's loads for other regions' controllers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from trireme.errors import SettingError
from trireme.regions.loading import Loading
from trireme.regions.loads import loads_body
from trireme.regions.metrics import RegionMetrics
from trireme.regions.options import RegionOptions
from trireme.regions.state import RegionState
from trireme.scale.near_routes import LOADS

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# For a client that sends its request slowly.
REQUEST_SECONDS = 10


@contextmanager
def serving(state: RegionState, options: RegionOptions, loading: Loading) -> Iterator[None]:
    """Within it the pages are served. Raises SettingError for a port in use."""
    server = _open(state, options, loading)
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def readiness(state: RegionState) -> dict[str, Any]:
    """What /ready says. Ready: the far files are as they should be, whoever answers probes or not."""
    return {
        "ready": state.fault == "",
        "reasons": ["the far files have not been written yet"]
        if state.fault is None
        else [state.fault]
        if state.fault
        else [],
        "regions": [
            {
                "name": one.region,
                "rank": one.rank,
                "round_trip_seconds": None if one.round_trip is None else round(one.round_trip, 6),
                "answers": one.answers,
                "addresses": list(one.addresses),
            }
            for one in state.standings()
        ],
    }


def _open(state: RegionState, options: RegionOptions, loading: Loading) -> ThreadingHTTPServer:
    metrics = RegionMetrics(state, loading)

    class Pages(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._say(200, METRICS_TYPE, metrics.page())
            elif path == "/ready":
                said = readiness(state)
                self._say(200 if said["ready"] else 503, "application/json", json.dumps(said).encode())
            elif path == LOADS:
                self._say(200, "application/json", loads_body(loading.near.known))
            elif path == "/healthz":
                self._say(200, "application/json", b'{"status": "ok"}')
            else:
                self._say(404, "application/json", b'{"error": "there are /ready, /healthz and /metrics"}')

        def _say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing of requests."""

    host = options.host.strip("[]")

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that is gone is no fault of ours."""

    try:
        return Server((host, options.port), Pages)
    except OSError as error:
        raise SettingError(
            f"cannot listen on {options.host}:{options.port} ({error.strerror}); set --port to a free port, or "
            "--host"
        ) from None
