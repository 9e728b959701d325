import types

import pytest

from benchmarks.common.report import DOCS, read_record
from benchmarks.gateway.fake_llm import place_fake_llm
from benchmarks.gateway.load import Sent
from benchmarks.gateway.overload import (
    MODEL,
    POLICY,
    RESULT,
    SHARES,
    OverloadReport,
    format_section,
    read_waiting,
    summarize,
)
from benchmarks.gateway.sums import Sums
from trireme.access.priorities import PRIORITIES
from trireme.artifacts.manifest import read_manifest, verify_files
from trireme.gateway.file import parse_gateway_file

SHED = "HTTP 503: refused"


def sending(priority, *requests):
    """requests: milliseconds until the end, and the error."""
    sent = [Sent(10.0, True, at=10.0, done=10.0 + took / 1000, error=error) for took, error in requests]
    return types.SimpleNamespace(priority=priority, sender=types.SimpleNamespace(all=sent))


def test_answers_refusals_and_faults_are_told_apart_by_priority():
    found = summarize(
        "overload",
        100.0,
        2.0,
        [
            sending("batch", (3, SHED), (60, SHED), (5, SHED), (4, SHED)),
            sending("high", (300, ""), (400, ""), (2, SHED), (9, "connection closed")),
        ],
    )
    assert (found.requests, found.answered, found.refused, found.failed) == (8, 2, 5, 1)
    assert found.accepted == {"batch": 0.0, "normal": 0.0, "high": 0.5}
    assert found.answered_p95_ms == pytest.approx(400, abs=10)
    assert (found.refused_most_ms, found.refused_in_50_ms) == (60.0, 0.8)


def test_the_mean_of_the_answers_is_told_with_what_it_is_made_of():
    before = Sums(line=1.0, lined=10, engine=3.0, written=10, cpu=5.0)
    sums = Sums(line=1.5, lined=20, engine=6.0, written=20, cpu=5.5).since(before)
    found = summarize("overload", 100.0, 2.0, [sending("high", (300, ""), (500, ""), (2, SHED))], sums)
    assert (found.answered_mean_ms, found.line_ms, found.engine_ms) == (400.0, 50.0, 300.0)
    assert found.cpu_ms == pytest.approx(1000 * 0.5 / 3, abs=0.01)


def test_the_line_is_read_off_the_page_of_metrics():
    page = '# HELP x\ntrireme_gateway_waiting{model="llm"} 3.0\ntrireme_gateway_waiting{model="rag"} 5.0\n'
    assert read_waiting(page) == 3
    assert read_waiting("") == 0


def test_the_policy_of_the_run_is_one_and_every_priority_has_its_share():
    row = parse_gateway_file(POLICY.encode(), "p").degrade[MODEL]
    assert row.refuse.batch <= row.refuse.normal <= row.refuse.high
    assert set(SHARES) == set(PRIORITIES)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_the_fake_llm_is_a_folder_that_loads(tmp_path):
    place_fake_llm(tmp_path, "llm", step_seconds=0.01, seats=3)
    verify_files(tmp_path / "llm" / "1", read_manifest(tmp_path / "llm" / "1"))
    assert 'string_value: "3"' in (tmp_path / "llm" / "config.pbtxt").read_text()


@pytest.mark.skipif(not RESULT.is_file(), reason="it was not measured yet")
def test_the_committed_section_is_made_of_the_committed_figures():
    report = read_record(RESULT, OverloadReport)
    assert format_section(report).strip() in (DOCS / "degradation.md").read_text(encoding="utf-8")
