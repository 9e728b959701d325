import pytest

from benchmarks.caching.saved import (
    RESULT,
    THINGS,
    SavedReport,
    Timed,
    format_section,
    has_content,
    make_prefix,
    make_questions,
    summarize,
)
from benchmarks.common.report import DOCS, RESULTS, read_record


def test_lines_with_text_are_told_from_others():
    assert has_content(b'data: {"choices": [{"delta": {"content": "The"}}]}\n')
    assert not has_content(b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n')
    assert not has_content(b'data: {"choices": [], "usage": {}}\n')
    assert not has_content(b"data: [DONE]\n") and not has_content(b"\n")


def test_questions_and_long_texts_begin_like_no_other():
    assert len(set(make_questions(len(THINGS)))) == len(THINGS)
    assert make_prefix(1) == make_prefix(1)
    assert make_prefix(1)[:10] != make_prefix(2)[:10]


def test_a_row_has_medians_and_the_slowest():
    row = summarize("asked", [Timed(1.0, 5.0, ""), Timed(3.0, 9.0, ""), Timed(2.0, 6.0, "")])
    assert (row.first_ms, row.total_ms, row.most_ms, row.answers) == (2.0, 6.0, 9.0, 3)


@pytest.mark.skipif(not (RESULTS / RESULT).is_file(), reason="it was not measured yet")
def test_the_committed_section_is_made_of_the_committed_figures():
    report = read_record(RESULTS / RESULT, SavedReport)
    assert format_section(report).strip() in (DOCS / "caching.md").read_text(encoding="utf-8")
