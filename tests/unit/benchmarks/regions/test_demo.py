"""What the demonstration shows of a second."""

import re
from io import StringIO

from rich.console import Console

from benchmarks.common.report import DOCS, PROJECT
from benchmarks.regions.demo import line_of, summarize, table_of
from benchmarks.regions.load import Outcome

OUTCOMES = [
    Outcome(0.1, 0.02, "eu"),
    Outcome(1.1, 0.02, "eu"),
    # Begun in this second and ended in it, or in the next.
    Outcome(1.2, 0.3, "us"),
    Outcome(1.3, 0.1, "us"),
    Outcome(1.9, 0.5, "us"),
    Outcome(1.4, 0.6, "", "UNAVAILABLE: no"),
]
REPLICAS = {"eu 10.0.0.1:9001": "out", "eu 10.0.0.1:9002": "healthy", "us 127.0.0.1:9001": "healthy"}


def second(order=("eu", "us")):
    return summarize(2, "eu has vanished", OUTCOMES, order, REPLICAS)


def test_a_second_counts_what_was_answered_in_it():
    found = second()
    assert found.regions == {"eu": (1, 20.0), "us": (2, 200.0)}
    assert (found.failed, found.slowest_s) == (1, 0.6)
    assert summarize(9, "x", OUTCOMES, ("eu", "us"), {}).regions == {"eu": (0, None), "us": (0, None)}


def test_a_line_names_regions_replicas_and_failures():
    assert line_of(second()) == (
        "  2 s  eu has vanished: eu 1/s p50 20 ms (out, healthy), us 2/s p50 200 ms (healthy); "
        "failed 1, slowest 0.60 s; order eu, us"
    )


def test_a_table_has_the_regions_in_their_order_with_their_replicas():
    console = Console(width=120, record=True, file=StringIO())
    console.print(table_of(second(order=("us", "eu"))))
    text = console.export_text()
    assert text.index("1. us") < text.index("2. eu")
    assert "10.0.0.1:9001 out" in text
    assert "failed 1, slowest call 0.60 s" in text


def test_the_target_of_make_that_the_page_names_runs_it():
    assert "`make scale-demo`" in (DOCS / "regions.md").read_text(encoding="utf-8")
    command = re.search(r"^scale-demo: .*\n\t@(.+)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)[1]
    assert "-m benchmarks.regions.demo" in command
