import dataclasses

import pytest

from benchmarks.common.report import DOCS, RESULTS, Circumstances, read_record, write_json
from benchmarks.gateway.arrivals import Times
from benchmarks.gateway.page import (
    BUDGETED,
    DIRECT,
    HITS,
    STREAMED,
    WHOLE,
    EmbeddingRates,
    GatewayReport,
    HighestRate,
    Probe,
    Sample,
    Soak,
    compute_added,
    compute_budget_rows,
    compute_most_added,
    compute_rows,
    format_document,
    pick_first,
    pick_total,
    plot,
)

SEEN = Circumstances(
    "A chip", 2, (), 8.0, 0.1, "Linux", {"trireme": "1"}, "2026-01-01 00:00 UTC", 1, "python x"
)


def times(p50, p99):
    return Times(p50, p50 + 1, p99, p99 + 1, p99 + 2)


def sample(way, p50, p99, number=0, *, mode=WHOLE, rate=50.0, failed=0):
    total = times(p50 + (95 if mode == STREAMED else 0), p99 + (95 if mode == STREAMED else 0))
    first = times(p50, p99) if mode == STREAMED else None
    return Sample(way, mode, rate, number, 1000, failed, 2, total, first, 1.25, 0.5, {})


# What ours adds to p50: 1, 3 and 2 ms; medians of each way alone would say 3.
SAMPLES = (
    sample(DIRECT, 60.0, 61.0, 0),
    sample("Trireme", 61.0, 65.0, 0),
    sample(DIRECT, 62.0, 64.0, 1),
    sample("Trireme", 65.0, 70.0, 1),
    sample(DIRECT, 60.0, 61.0, 2),
    sample("Trireme", 62.0, 64.5, 2),
    sample("LiteLLM", 80.0, 161.0, 2, failed=3),
    sample(DIRECT, 60.0, 61.0, mode=STREAMED),
    sample("Trireme", 61.5, 66.0, mode=STREAMED),
)
HIGHEST = (
    HighestRate("Trireme", WHOLE, 300.0, (Probe(5.0, 1.0, 0, True), Probe(330.0, 200.0, 0, False))),
    HighestRate("LiteLLM", WHOLE, 30.0, (Probe(5.0, 20.0, 0, True),)),
    HighestRate("Trireme", STREAMED, 100.0, (Probe(5.0, 1.0, 0, True),)),
    HighestRate("LiteLLM", STREAMED, 0.0, (Probe(5.0, 200.0, 0, False),)),
)
REPORT = GatewayReport(
    samples=SAMPLES,
    highest=HIGHEST,
    bound_ms=100.0,
    delay_ms=60.0,
    chunks=20,
    gap_ms=5.0,
    seconds=20.0,
    rounds=3,
    versions={"LiteLLM": {"litellm": "1.2.3"}},
    missing={},
    embeddings=EmbeddingRates(32, 32, (900.0, 950.0, 800.0), (1000.0, 1000.0, 1000.0)),
    soak=Soak(600.0, 60000, 42000, 0, 0.04, 0, 41000, (9, 9), (80.0, 81.0, 81.0)),
    circumstances=SEEN,
)


def test_what_is_added_is_the_median_of_differences_within_a_round():
    assert compute_added(SAMPLES, "Trireme", WHOLE, 50.0, pick_total("p50_ms")) == 2.0
    assert compute_added(SAMPLES, "Trireme", WHOLE, 50.0, pick_total("p99_ms")) == 4.0
    assert compute_added(SAMPLES, "Trireme", STREAMED, 50.0, pick_first("p99_ms")) == 5.0


def test_rows_have_every_way_and_the_direct_one_adds_nothing():
    rows = {row["way"]: row for row in compute_rows(REPORT, WHOLE)}
    assert list(rows) == [DIRECT, "Trireme", "LiteLLM"]
    assert rows[DIRECT]["total_added_p50_ms"] is None and rows[DIRECT]["cpu_ms"] is None
    assert (rows["LiteLLM"]["failed"], rows["LiteLLM"]["requests"]) == (3, 1000)
    assert rows["Trireme"]["requests"] == 3000


def test_the_page_shows_rows_highest_rates_embeddings_and_dropped_clients():
    page = format_document(REPORT)
    assert "| 50 | direct | 60.00 | 61.00 | 62.00 |  |  |  | 0 of 3000 | 6 |" in page
    assert "| 50 | LiteLLM | 80.00 | 161.00 | 162.00 | +20.00 | +100.00 | 1.25 | 3 of 1000 | 2 |" in page
    assert "| 50 | Trireme | 61.50 | 66.00 | +1.50 | +5.00 | +1.50 | +5.00 | 1.25 | 0 of 1000 | 2 |" in page
    assert "| whole | 300 | 30 | 10.0x |" in page
    assert "| streamed | 100 | none that was tried | >20.0x |" in page
    assert "| gateway by gRPC, median of the rounds | 0.900 |" in page
    assert "60,000 streams in 600 s, of which 42,000 were dropped" in page
    assert "Nothing was running 0.04 s after the last stream" in page
    assert "MiB, at even distances in time: 80, 81, 81" in page
    assert "- LiteLLM: litellm 1.2.3" in page


# Beside the plain way of the same rounds, which adds 1, 3 and 2 ms.
BUDGETS = (
    *SAMPLES,
    sample(BUDGETED, 61.5, 66.0, 0),
    sample(BUDGETED, 65.6, 71.0, 1),
    sample(BUDGETED, 62.7, 65.5, 2),
    sample(HITS, 1.0, 3.0, 0),
    sample(HITS, 0.8, 2.0, 1),
)


def test_budgets_and_caches_are_shown_beside_the_plain_way_and_kept_answers_ask_nobody():
    rows = {row["way"]: row for row in compute_budget_rows(BUDGETS) if row["mode"] == WHOLE}
    assert list(rows) == ["Trireme", BUDGETED, HITS]
    assert rows["Trireme"]["own_p50_ms"] == 2.0 and rows["Trireme"]["more_p50_ms"] is None
    assert rows[BUDGETED]["own_p50_ms"] == pytest.approx(2.7)
    assert rows[BUDGETED]["more_p50_ms"] == pytest.approx(0.7)
    assert rows[BUDGETED]["ratio_p50_ms"] == pytest.approx(1.35)
    assert rows[HITS]["own_p50_ms"] == pytest.approx(0.9)
    assert compute_most_added(list(rows.values())) == pytest.approx(0.7)


def test_the_page_shows_budgets_in_a_table_of_their_own():
    page = format_document(dataclasses.replace(REPORT, samples=BUDGETS))
    assert "## Budgets and caches" in page
    assert f"| whole | 50 | {BUDGETED} | 2.70 | +0.70 | 1.35 |" in page
    assert f"| 50 | {HITS} |" not in page.split("## Budgets and caches")[0]
    assert "## Budgets" not in format_document(REPORT)


def test_what_was_not_measured_is_named_and_leaves_no_empty_table():
    bare = dataclasses.replace(
        REPORT, samples=(), highest=(), embeddings=None, soak=None, missing={"LiteLLM": "not set up"}
    )
    page = format_document(bare)
    assert "- Not measured: LiteLLM: not set up" in page
    assert "##" not in page and "| ---" not in page


def test_running_requests_that_stayed_are_told():
    stayed = dataclasses.replace(REPORT.soak, clear_s=-1.0)
    page = format_document(dataclasses.replace(REPORT, soak=stayed))
    assert "still counted running requests" in page and "Nothing was running" not in page


def test_a_report_is_the_same_after_it_was_written_and_read(tmp_path):
    write_json(tmp_path / "gateway.json", REPORT)
    assert read_record(tmp_path / "gateway.json", GatewayReport) == REPORT


@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES[:2]])
def test_the_plot_is_a_picture(tmp_path, samples):
    plot(dataclasses.replace(REPORT, samples=samples), tmp_path)
    assert (tmp_path / "gateway-speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_committed_page_is_made_of_the_committed_figures():
    report = read_record(RESULTS / "gateway.json", GatewayReport)
    assert format_document(report) == (DOCS / "gateway-speed.md").read_text(encoding="utf-8")
