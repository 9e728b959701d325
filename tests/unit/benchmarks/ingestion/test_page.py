import dataclasses

from benchmarks.common.report import DOCS, RESULTS, Circumstances, read_record
from benchmarks.ingestion.page import Comparison, IngestionReport, Scale, SearchTimes, format_document

SEEN = Circumstances(
    "A chip", 2, (), 8.0, 0.1, "Linux", {"trireme": "1"}, "2026-01-01 00:00 UTC", 1, "python x"
)
COMPARED = Comparison(100, 120.0, (2.0, 4.0, 2.5), (10.0, 12.0, 10.0), (8.0, 8.0, 10.0))
SCALE = Scale(
    chunks=1000,
    tokens=30.0,
    publish_s=2.0,
    load_s=10.0,
    build_s=3.0,
    alone=(90.0, 125.0, 130.0),
    cpu_s={"tritonserver": 15.0, "PostgreSQL": 5.0},
    sizes={"passages": 2**20, "embeddings": 5 * 2**20},
    worker_mib=100.0,
    database_mib=200.0,
    queries=50,
    searches=(SearchTimes("dense", 1.5, 2.5, 0.99, 150.0),),
    chain_p50_ms=80.0,
    chain_p95_ms=120.0,
)


def test_ratios_are_medians_of_ratios_within_a_round():
    page = format_document(IngestionReport(COMPARED, None, SEEN))
    # 10/2, 12/4, 10/2.5 and 8/2, 8/4, 10/2.5
    assert "| script, INSERT one by one | 10.0 | 10.0 | 4.00x |" in page
    assert "| script, executemany | 12.5 | 8.0 | 4.00x |" in page
    assert "passages\n" not in page.split("script")[-1]


def test_a_script_that_cannot_be_run_is_named_with_its_error():
    page = format_document(IngestionReport(dataclasses.replace(COMPARED, error="no such model"), None, SEEN))
    assert "The script could not be run: no such model" in page


def test_rates_sizes_and_searches_of_the_large_collection_are_shown():
    page = format_document(IngestionReport(None, SCALE, SEEN))
    assert "| cut, embedded and written, passages/s | 100 |" in page
    assert "| the same, tokens/s | 3,000 |" in page
    assert "| share of the load's time that embedding alone would not take | 20.0% |" in page
    assert "| processor time of PostgreSQL during the load | 25.0% |" in page
    assert page.index("| embeddings | 5 |") < page.index("| passages | 1 |")
    assert "| dense | 1.5 | 2.5 | 0.990 | 150.0 |" in page
    assert "python x" in page


def test_the_committed_page_is_made_of_the_committed_figures():
    report = read_record(max(RESULTS.glob("*-ingestion.json")), IngestionReport)
    assert format_document(report) == (DOCS / "ingestion-speed.md").read_text()
