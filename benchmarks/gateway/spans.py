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

from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.traced_calls import CallRecorder, Peer
from trireme.observe.spans import NoSpans, Span, SpanSink
from trireme.observe.trace import CURRENT, begin_trace, sample
from trireme.otlp.collector import Collector
from trireme.otlp.messages import encode_spans
from trireme.otlp.sender import OtlpSpans, SenderOptions
from trireme.providers.chat import Usage

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


def main() -> None:
    """Prints a line for each case."""
    CURRENT.set(begin_trace("req_1", PARENT))
    say(
        "a trace that begins, and whether it is recorded",
        median_us(lambda: sample(begin_trace("r"), 50) and None),
    )
    say("a call of a model, no collector set", median_us(recorded(NoSpans())))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    taking = OtlpSpans(Collector(url), {}, "1", 100, SenderOptions(most=RUNS * CALLS))
    say("a call of a model, its span sent meanwhile", median_us(recorded(taking)))
    taking.close()
    server.shutdown()
    away = OtlpSpans(Collector("http://127.0.0.1:9/v1/traces"), {}, "1")
    say("a call of a model, the collector away and the queue full", median_us(recorded(away)))
    away.close()
    kept = Kept()
    recorded(kept)()
    batch = kept.spans * 512
    say(
        "the sender's thread, for each span",
        median_us(lambda: encode_spans(batch, {}, "1") and None, 20) / 512,
    )


def say(what: str, microseconds: float) -> None:
    """One line."""
    print(f"{what}: {microseconds:.1f} us")


if __name__ == "__main__":
    main()
