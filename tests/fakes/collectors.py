"""A collector of OpenTelemetry: takes OTLP over HTTP, decodes it with the official messages, keeps the spans."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from trireme.settings import TRACES_PATH

SECONDS = 60


@dataclass(frozen=True)
class SeenSpan:
    """A span as it came. service: of its resource."""

    name: str
    kind: int
    trace: str
    span: str
    parent: str
    seconds: float
    error: bool
    service: str
    attributes: dict
    began: int = 0
    ended: int = 0


@dataclass
class Collector:
    """mode: ok, hang (answers nothing until `let_go`), slow, drip, garbage, no_http, redirect, or a status."""

    url: str
    mode: str = "ok"
    rejected: int = 0
    spans: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    asked: int = 0
    slow: float = 0.05
    retry_after: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body, kind):
        is_json = kind.startswith("application/json")
        request = _of_json(body) if is_json else ExportTraceServiceRequest.FromString(body)
        with self.changed:
            for group in request.resource_spans:
                service = values_of(group.resource.attributes)["service.name"]
                for scope in group.scope_spans:
                    self.spans += [_seen(span, service) for span in scope.spans]
            self.changed.notify_all()

    def wait_until(self, is_so):
        """Blocks until `is_so(self)`, for SECONDS at most."""
        with self.changed:
            assert self.changed.wait_for(lambda: is_so(self), SECONDS), [span.name for span in self.spans]

    def of_trace(self, trace, count):
        """The spans of one trace, once there are so many."""
        self.wait_until(lambda seen: sum(one.trace == trace for one in seen.spans) >= count)
        return [one for one in self.spans if one.trace == trace]


def values_of(attributes):
    """Key -> value of OTLP's attributes."""
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


def _of_json(body):
    """OTLP's JSON, whose ids are hexadecimal where protobuf's own JSON has base64."""
    said = json.loads(body)
    for group in said["resourceSpans"]:
        for span in (span for scope in group["scopeSpans"] for span in scope["spans"]):
            for name in ("traceId", "spanId", "parentSpanId"):
                span[name] = base64.b64encode(bytes.fromhex(span.get(name, ""))).decode()
    return ParseDict(said, ExportTraceServiceRequest(), ignore_unknown_fields=True)


def _seen(span, service):
    return SeenSpan(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        span.status.code == 2,
        service,
        values_of(span.attributes),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        collector = self.server.collector
        body = self.rfile.read(int(self.headers["content-length"]))
        with collector.changed:
            collector.asked += 1
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.changed.notify_all()
        with contextlib.suppress(OSError):
            self._answer(collector, body)

    def _answer(self, collector, body):
        mode = collector.mode
        if mode == "hang":
            collector.released.wait(SECONDS)
        elif mode == "no_http":
            self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n" * 10)
        elif mode == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while not collector.released.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()
        elif mode == "garbage":
            self._say(200, b"<html>not OTLP</html>")
        elif mode == "redirect":
            self._say(307, b"", ("location", collector.url + "/elsewhere"))
        elif mode.isdecimal():
            self._say(
                int(mode), b"", *([("retry-after", collector.retry_after)] * bool(collector.retry_after))
            )
        else:
            if mode == "slow":
                time.sleep(collector.slow)
            collector.take(body, self.headers["content-type"])
            answer = ExportTraceServiceResponse()
            if collector.rejected:
                answer.partial_success.rejected_spans = collector.rejected
            self._say(200, answer.SerializeToString())

    def _say(self, status, body, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def collecting(mode="ok", port=0) -> Iterator[Collector]:
    """A collector that runs."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    collector = server.collector = Collector(f"http://127.0.0.1:{server.server_address[1]}", mode)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def traces_of(collector):
    """Where it takes spans."""
    return collector.url + TRACES_PATH
