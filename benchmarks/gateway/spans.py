"""What spans cost, in processor time: `python -m benchmarks.gateway.spans`.

Of the thread that makes them, with no collector, with one that takes them, and with one that is away while the
queue is full; and of the thread that sends them. Medians of 7 runs.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from trireme.gateway.exchange import open_exchange
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.request_spans import span_of
from trireme.gateway.traced_calls import CallRecorder, Peer
from trireme.observe.spans import NoSpans, Span, SpanSink, began_before
from trireme.observe.trace import CURRENT, begin_trace, sample
from trireme.otlp.collector import Collector
from trireme.otlp.messages import encode_spans
from trireme.otlp.sender import OtlpSpans, SenderOptions
from trireme.providers.chat import Usage
from trireme.triton.backends.traced import read_asked

RUNS, CALLS = 7, 5_000
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Kept(NoSpans):
    """Keeps what it is given."""

    is_on = True

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)


def median_us(act: Callable[[], None], calls: int = CALLS) -> float:
    """Microseconds of one call, of RUNS medians."""
    found = []
    for _ in range(RUNS):
        began = time.thread_time()
        for _ in range(calls):
            act()
        found.append((time.thread_time() - began) / calls * 1e6)
    return statistics.median(found)


def recorded(spans: SpanSink) -> Callable[[], None]:
    """One call of a model, with its metrics and, where `spans` keeps some, its span."""
    recorder = CallRecorder(spans, GatewayMetrics(), {"local": Peer("triton", "127.0.0.1", 8001)})
    usage = Usage(7, 5, cached_tokens=3)

    def act() -> None:
        call = recorder.open("chat", "local", "llm")
        call.response_model, call.usage = "llm", usage
        call.finish_reasons.append("stop")
        recorder.close(call)

    return act


def answered(spans: SpanSink) -> Callable[[], None]:
    """What the end of a request does for its own span."""
    scope = {"method": "POST", "scheme": "http", "headers": [(b"traceparent", PARENT.encode())]}
    exchange = open_exchange(scope, "chat")
    exchange.status, exchange.outcome, exchange.model, exchange.served_by = 200, "ok", "llm", "local:llm"
    trace = exchange.trace

    def act() -> None:
        if spans.is_on and trace is not None and trace.is_sampled:
            spans.put(span_of(exchange, trace, 0.1))

    return act


def noted(spans: SpanSink) -> Callable[[], None]:
    """What a model's process does for a request: it reads whose it is, and leaves its span."""
    text = f'{{"trireme_traceparent": "{PARENT}"}}'
    request = SimpleNamespace(request_id=lambda: "req_1", parameters=lambda: text)

    def act() -> None:
        asked = read_asked(request, is_recording=spans.is_on)
        if asked.span:
            spans.put(asked.ended("llm", "server", began_before(0.1), "", {"trireme.request": asked.request}))

    return act


def main() -> None:
    """Prints a line for each case."""
    CURRENT.set(begin_trace("req_1", PARENT))
    say(
        "a trace that begins, and whether it is recorded",
        median_us(lambda: sample(begin_trace("r"), 50) and None),
    )
    for name, make in CASES.items():
        say(f"{name}, no collector set", median_us(make(NoSpans())))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    for name, make in CASES.items():
        taking = OtlpSpans(Collector(url), {}, "1", 100, SenderOptions(most=RUNS * CALLS))
        say(f"{name}, its span sent meanwhile", median_us(make(taking)))
        taking.close()
    server.shutdown()
    away = OtlpSpans(Collector("http://127.0.0.1:9/v1/traces"), {}, "1")
    for name, make in CASES.items():
        say(f"{name}, the collector away and the queue full", median_us(make(away)))
    away.close()
    kept = Kept()
    recorded(kept)()
    batch = kept.spans * 512
    say(
        "the sender's thread, for each span",
        median_us(lambda: encode_spans(batch, {}, "1") and None, 20) / 512,
    )


CASES = {
    "a request's own end": answered,
    "a call of a model, with its metrics": recorded,
    "a request in a model's process": noted,
}


def say(what: str, microseconds: float) -> None:
    """One line."""
    print(f"{what}: {microseconds:.1f} us")


if __name__ == "__main__":
    main()
