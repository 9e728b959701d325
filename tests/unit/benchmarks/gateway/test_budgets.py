import argparse

import pytest

from benchmarks.common.report import DOCS, read_record
from benchmarks.gateway.budgets import RESULT, WARMUP_S, BudgetReport, format_section, make_plans
from benchmarks.gateway.page import STREAMED, WHOLE


def test_each_round_has_both_modes_at_every_rate_and_moments_of_its_own():
    plans = make_plans(argparse.Namespace(rates=[10.0, 50.0], seconds=3.0, rounds=2))
    assert [(one.mode, one.rate) for one in plans[0]] == [
        (WHOLE, 10.0),
        (WHOLE, 50.0),
        (STREAMED, 10.0),
        (STREAMED, 50.0),
    ]
    assert [{one.seed for one in some} for some in plans] == [{1}, {2}]
    assert {one.warmup_s for some in plans for one in some} == {WARMUP_S}


@pytest.mark.skipif(not RESULT.is_file(), reason="it was not measured yet")
def test_the_committed_section_is_made_of_the_committed_figures():
    report = read_record(RESULT, BudgetReport)
    assert format_section(report).strip() in (DOCS / "budgets.md").read_text(encoding="utf-8")
