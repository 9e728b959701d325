"""What a run says of its calls, and the rows of the page."""

import dataclasses

import grpc

from benchmarks.common.report import DOCS, read_json
from benchmarks.regions.load import Outcome
from benchmarks.regions.run import CASES, FILE, Run, came_whole, section_of, summarize, summary_of


def test_a_run_says_when_the_other_region_answered_and_when_the_near_one_was_back():
    outcomes = [
        Outcome(0.0, 0.02, "eu"),
        # An answer from afar before the cut is none because of it.
        Outcome(0.5, 0.1, "us"),
        Outcome(1.0, 0.5, "us"),
        Outcome(1.1, 0.3, "us"),
        Outcome(1.2, 0.4, "", "UNAVAILABLE: no"),
        # Begun before the healing.
        Outcome(1.9, 0.2, "eu"),
        Outcome(2.2, 0.1, "us"),
        Outcome(2.3, 0.04, "eu"),
    ]
    run = summarize(outcomes, cut_at=1.0, healed_at=2.0, streams=3)
    assert (run.calls, run.failed, run.worst_s, run.streams) == (8, 1, 0.5, 3)
    assert run.elsewhere_s == 1.1 + 0.3 - 1.0
    assert run.back_s == 2.3 + 0.04 - 2.0
    assert run.near_p50_ms == 40.0
    assert run.far_p50_ms == 200.0
    assert run.errors == {"UNAVAILABLE: no": 1}


def test_what_never_happened_has_no_time():
    run = summarize([Outcome(0.0, 0.02, "eu")], cut_at=1.0, healed_at=2.0, streams=0)
    assert (run.elsewhere_s, run.back_s, run.far_p50_ms, run.near_p50_ms) == (None, None, None, 20.0)


def test_a_row_has_sums_and_medians_with_the_least_and_the_most():
    one = Run(600, 0, 0.4, 14.0, 90.0, 0.3, 1.0, 10, {})
    runs = [one, dataclasses.replace(one, failed=2, worst_s=0.9), dataclasses.replace(one, worst_s=0.5)]
    row = summary_of("regional", runs)
    assert (row["calls"], row["failed"], row["streams"]) == (1800, 2, 30)
    assert row["worst_s"] == [0.5, 0.4, 0.9]
    assert row["back_s"] == [1.0, 1.0, 1.0]
    assert summary_of("x", [one, dataclasses.replace(one, back_s=None)])["back_s"] is None


def test_a_stream_is_whole_with_both_messages():
    class Broken:
        def __iter__(self):
            yield b"eu"
            raise grpc.RpcError

    assert came_whole([b"eu", b"eu"])
    assert not came_whole([b"eu"])
    assert not came_whole(Broken())


def test_the_page_has_the_table_of_the_results():
    record = read_json(FILE)
    text = (DOCS / "regions.md").read_text(encoding="utf-8")
    assert section_of(record).strip() in text
    assert [row["name"] for row in record["rows"]] == [case.name for case in CASES]
    assert [row["settings"] for row in record["rows"]] == [dict(case.settings) for case in CASES]
