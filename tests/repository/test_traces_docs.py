"""docs/traces.md names what the code sends, reads and writes."""

import re
from pathlib import Path

from trireme.ingest.ended_jobs import NAME, EndedJobs
from trireme.ingest.queue import Job, Origin
from trireme.observe import metrics as names
from trireme.observe.spans import NoSpans
from trireme.observe.trace import HEADER, TRACE_PARAMETER, call_headers, read_parent
from trireme.otlp.collector import LONGEST_WAIT, Collector
from trireme.otlp.sender import DEFAULT_OPTIONS
from trireme.settings import (
    HTTP_PROTOBUF,
    OTEL_HEADERS,
    OTEL_OFF,
    OTEL_PROTOCOL,
    OTEL_URL,
    TRACES_PATH,
    Settings,
)
from trireme.triton.backends.traced import Asked
from trireme.triton.traced import CANCEL_ID
from trireme.triton.wire import BULK_ID
from trireme.types import Document

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
SOURCE = ROOT / "src" / "trireme" / "gateway"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_the_line_of_a_model_is_the_one_that_is_written():
    said = re.search(r"`(request ID trace .+?)`", TEXT)[1]
    values = {"ID": "req_1", "TRACE": TRACE, "MODEL": "llm", "OUTCOME": "stop", "SECONDS": "0.5000"}
    line = re.sub(r"\b[A-Z]{2,}\b", lambda found: values[found[0]], said)
    assert Asked("req_1", f"00-{TRACE}-00f067aa0ba902b7-01").line("llm", "stop", 0.5) == line


def test_headers_parameters_and_ids_that_mean_something_are_named():
    assert call_headers() == {}
    for name in (HEADER, TRACE_PARAMETER, "x-request-id", BULK_ID, CANCEL_ID):
        assert f"`{name}`" in TEXT, name


def test_the_header_that_asks_for_every_step_is_one_that_does():
    said = re.search(r"`traceparent: (00-TRACE-SPAN-\d\d)`", TEXT)[1]
    assert read_parent(said.replace("TRACE", TRACE).replace("SPAN", "00f067aa0ba902b7")) == (TRACE, True)


def test_the_line_of_a_document_is_the_one_that_is_written():
    said = re.search(r"`(request ID trace TRACE job .+?)`", TEXT)[1]
    lines = []
    ended = EndedJobs(lines.append, NoSpans())
    origin = Origin("req_1", f"00-{TRACE}-00f067aa0ba902b7-01")
    job = Job("7", "1", "t", "c", Document("a b", "", ("text",), ""), origin=origin)
    ended.take([job])
    ended.tell([job], "stored")
    values = {"ID": "req_1", "TRACE": TRACE, "JOB": "7", "NAME": "a b", "OUTCOME": "stored"}
    pattern = re.sub(r"\b(ID|TRACE|JOB|NAME|OUTCOME)\b", lambda found: values[found[0]], re.escape(said))
    assert re.fullmatch(pattern.replace("SECONDS", r"[\d.]+").replace(r"a\ b", "a b"), lines[0])
    assert f"`{NAME}`" in TEXT


def test_settings_standard_variables_and_metrics_of_spans_are_named():
    wanted = [f"TRIREME_{name.upper()}" for name in Settings.__dataclass_fields__ if name.startswith("otlp_")]
    wanted += [OTEL_URL, OTEL_HEADERS, OTEL_OFF, OTEL_PROTOCOL, HTTP_PROTOBUF, TRACES_PATH]
    wanted += [names.SPANS.name, names.MODEL_SPANS.name, *names.SPAN_OUTCOMES]
    assert [name for name in wanted if f"`{name}`" not in TEXT] == []
    assert f"{Settings().otlp_percent} by default" in TEXT


def test_the_bounds_of_the_queue_are_those_of_the_code():
    assert f"{DEFAULT_OPTIONS.most:,} spans at most" in TEXT
    assert f"sends {DEFAULT_OPTIONS.batch} at a time" in TEXT
    assert f"one request has {Collector('').seconds:.0f} s" in TEXT
    assert f"after {DEFAULT_OPTIONS.pause:.0f} to {LONGEST_WAIT:.0f} s" in TEXT
    assert f"sends what waits, for {DEFAULT_OPTIONS.closing:.0f} s" in TEXT


def test_every_attribute_of_a_request_and_of_a_call_is_named():
    code = "".join((SOURCE / name).read_text() for name in ("traced_calls.py", "request_spans.py"))
    written = set(re.findall(r'"((?:gen_ai|http|server|trireme)\.[\w.]+)"', code))
    assert len(written) > 20
    assert sorted(name for name in written if f"`{name}`" not in TEXT) == []


def test_opentelemetrys_metrics_are_mapped_to_rows_of_the_table():
    pairs = re.findall(r"^\| `(gen_ai\.[\w.]+)` \| `([\w:]+)` \|$", METRICS, re.M)
    assert len(pairs) == 6
    assert {ours for _, ours in pairs} <= set(names.every_metric())
    exported = [ours for _, ours in pairs if ours.startswith("gen_ai_")]
    assert exported == [row.name for row in names.GENAI]
    for theirs, ours in pairs:
        if ours in exported:
            assert ours.removesuffix("_seconds") == theirs.replace(".", "_")
