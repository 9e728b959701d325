"""docs/traces.md names what the code sends, reads and writes."""

import re
from pathlib import Path

from trireme.observe.trace import HEADER, TRACE_PARAMETER, call_headers, read_parent
from trireme.triton.backends.traced import Asked
from trireme.triton.traced import CANCEL_ID
from trireme.triton.wire import BULK_ID

TEXT = (Path(__file__).parents[2] / "docs" / "traces.md").read_text(encoding="utf-8")
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
