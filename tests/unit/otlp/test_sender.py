"""What becomes of spans where a collector takes them, is away, hangs, is slow or answers nonsense."""

import logging
import socket
import threading
import time

import pytest

from fakes.collectors import collecting, traces_of
from trireme.observe.spans import Span, SpanCounts
from trireme.otlp.collector import Collector
from trireme.otlp.sender import OtlpSpans, SenderOptions

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FAST = SenderOptions(most=50, batch=10, pause=0.02, closing=1.0)


def span(number=1, **more):
    return Span(f"part {number}", "internal", TRACE, f"{number:016x}", "", 1_000, 2_000, **more)


def sender(url, options=FAST, seconds=0.5, **headers):
    return OtlpSpans(Collector(url, headers, seconds), {"service.name": "trireme-test"}, "1.0", 100, options)


def wait_for(sink, is_so):
    deadline = time.monotonic() + 30
    while not is_so(sink.counts()):
        assert time.monotonic() < deadline, sink.counts()
        time.sleep(0.01)
    return sink.counts()


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_spans_arrive_with_their_names_times_parents_and_attributes():
    more = {"error": "timeout", "attributes": {"a": "text", "b": 3, "c": 0.5, "d": True, "e": ("x", "y")}}
    whole = Span(
        "chat llm",
        "client",
        TRACE,
        "00f067aa0ba902b7",
        "00f067aa0ba902b8",
        10**18,
        10**18 + 5 * 10**8,
        **more,
    )
    with collecting() as collector:
        sink = sender(traces_of(collector))
        sink.put(whole)
        (seen,) = collector.of_trace(TRACE, 1)
        wait_for(sink, lambda counts: counts.sent == 1)
        sink.close()
    assert (seen.name, seen.kind, seen.span, seen.parent) == ("chat llm", 3, whole.span, whole.parent)
    assert (seen.seconds, seen.error, seen.service) == (0.5, True, "trireme-test")
    assert seen.attributes == {
        "a": "text",
        "b": 3,
        "c": 0.5,
        "d": True,
        "e": ["x", "y"],
        "error.type": "timeout",
    }


def test_what_waits_when_it_closes_is_sent():
    with collecting() as collector:
        sink = sender(traces_of(collector), SenderOptions(pause=60.0))
        for number in range(1, 6):
            sink.put(span(number))
        sink.close()
        assert len(collector.spans) == 5
    assert sink.counts() == SpanCounts(sent=5)


def test_a_full_batch_does_not_wait_for_the_pause():
    with collecting() as collector:
        sink = sender(traces_of(collector), SenderOptions(batch=10, pause=60.0))
        for number in range(1, 11):
            sink.put(span(number))
        collector.of_trace(TRACE, 10)
        sink.close()


def test_headers_go_along_and_stay_out_of_every_text(caplog):
    with collecting("400") as collector:
        sink = sender(traces_of(collector), authorization="Bearer s3cret")
        sink.put(span())
        wait_for(sink, lambda counts: counts.failed == 1)
        sink.close()
    assert collector.headers[0]["authorization"] == "Bearer s3cret"
    assert "s3cret" not in caplog.text + repr(sink._collector)


@pytest.mark.parametrize("mode", ["dead", "hang", "503", "no_http", "drip"])
def test_a_collector_that_takes_nothing_costs_what_has_no_room_and_no_time(mode):
    with collecting(mode) as collector:
        url = f"http://127.0.0.1:{closed_port()}/v1/traces" if mode == "dead" else traces_of(collector)
        sink = sender(url)
        for number in range(1, 201):
            sink.put(span(number))
        assert wait_for(sink, lambda counts: counts.dropped > 0).sent == 0
        # All that may wait does.
        assert sink.counts().dropped == 150
        sink.close()
        assert sink.counts() == SpanCounts(dropped=200)


@pytest.mark.parametrize("mode", ["503", "hang"])
def test_what_waited_for_a_collector_arrives_once_it_is_there_again(mode, caplog):
    caplog.set_level(logging.WARNING)
    with collecting(mode) as collector:
        sink = sender(traces_of(collector), SenderOptions(most=50, batch=10, pause=0.02))
        for number in range(1, 21):
            sink.put(span(number))
        collector.wait_until(lambda seen: seen.asked >= 2)
        collector.mode = "ok"
        collector.released.set()
        seen = collector.of_trace(TRACE, 20)
        wait_for(sink, lambda counts: counts == SpanCounts(sent=20))
        sink.close()
    assert {one.span for one in seen} == {f"{number:016x}" for number in range(1, 21)}
    said = [record.message for record in caplog.records]
    assert len(said) == 2, said
    assert "takes no spans" in said[0]
    assert "takes spans again" in said[1]


def test_a_slow_collector_gets_them_all_in_batches():
    with collecting("slow") as collector:
        sink = sender(traces_of(collector))
        for number in range(1, 41):
            sink.put(span(number))
        collector.of_trace(TRACE, 40)
        wait_for(sink, lambda counts: counts == SpanCounts(sent=40))
        sink.close()


@pytest.mark.parametrize("mode", ["400", "404", "garbage", "redirect"])
def test_what_a_collector_will_never_take_is_lost_at_once_and_counted(mode):
    with collecting(mode) as collector:
        sink = sender(traces_of(collector))
        sink.put(span())
        assert wait_for(sink, lambda counts: counts.failed == 1) == SpanCounts(failed=1)
        collector.mode = "ok"
        sink.put(span(2))
        assert wait_for(sink, lambda counts: counts.sent == 1) == SpanCounts(sent=1, failed=1)
        sink.close()
        assert collector.asked == 2


def test_spans_that_a_collector_rejects_of_a_batch_are_counted():
    with collecting() as collector:
        collector.rejected = 2
        sink = sender(traces_of(collector), SenderOptions(batch=5, pause=60.0))
        for number in range(1, 6):
            sink.put(span(number))
        assert wait_for(sink, lambda counts: counts.failed == 2) == SpanCounts(sent=3, failed=2)
        sink.close()


def test_a_collector_says_how_long_it_wants_to_be_left_alone():
    with collecting("429") as collector:
        collector.retry_after = "1"
        sink = sender(traces_of(collector))
        sink.put(span())
        collector.wait_until(lambda seen: seen.asked == 1)
        time.sleep(0.3)
        assert collector.asked == 1
        collector.mode = "ok"
        wait_for(sink, lambda counts: counts.sent == 1)
        sink.close()


def test_a_span_that_cannot_be_written_costs_its_batch_alone(caplog):
    with collecting() as collector:
        sink = sender(traces_of(collector))
        sink.put(span(1, attributes={"bad": "s3cret \ud800"}))
        wait_for(sink, lambda counts: counts.failed == 1)
        sink.put(span(2))
        collector.of_trace(TRACE, 1)
        sink.close()
    assert "they cannot be written (UnicodeEncodeError)" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://a b:4318/v1/traces", f"http://{'a' * 70}:4318/v1/traces", "http://h/a b", "http://h:x/"]
)
def test_a_collector_that_cannot_be_asked_costs_what_has_no_room_and_not_the_thread(url, caplog):
    sink = sender(url, SenderOptions(most=1, pause=0.02, closing=0.0))
    for number in (1, 2):
        sink.put(span(number))
    wait_for_line(caplog, "takes no spans: it cannot be asked")
    assert sink._thread.is_alive()
    sink.close()
    assert sink.counts() == SpanCounts(dropped=2)


def test_many_threads_may_put_at_once_and_each_span_is_counted_once():
    with collecting() as collector:
        sink = sender(traces_of(collector), SenderOptions(most=100_000, batch=200, pause=0.01))
        threads = [
            threading.Thread(target=lambda: [sink.put(span(number)) for number in range(1, 501)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(sink, lambda counts: counts == SpanCounts(sent=2000))
        sink.close()


def test_closing_twice_and_putting_after_it_do_no_harm():
    with collecting() as collector:
        sink = sender(traces_of(collector))
        sink.close()
        sink.close()
        sink.put(span())
        assert sink.counts() == SpanCounts(dropped=1)


def test_a_process_that_ends_does_not_wait_for_a_collector_that_is_away(caplog):
    with collecting("503") as collector:
        sink = sender(traces_of(collector), SenderOptions(pause=0.02, closing=10_000.0))
        sink.put(span())
        wait_for_line(caplog, "takes no spans")
        collector.mode = "hang"
        sink.close()
        assert sink.counts() == SpanCounts(dropped=1)


def wait_for_line(caplog, text):
    deadline = time.monotonic() + 30
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)
