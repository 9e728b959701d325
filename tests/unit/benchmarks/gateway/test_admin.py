import pytest

from benchmarks.common.report import DOCS, read_json
from benchmarks.gateway.admin import QUESTIONS, RESULT, format_section


@pytest.mark.skipif(not RESULT.is_file(), reason="it was not measured yet")
def test_the_committed_section_is_made_of_the_committed_figures_of_every_question():
    record = read_json(RESULT)
    assert list(record["ledgers"]["all of today"]) == list(QUESTIONS)
    assert format_section(record).strip() in (DOCS / "gateway.md").read_text(encoding="utf-8")
