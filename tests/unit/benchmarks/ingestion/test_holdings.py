import json

import pytest

from benchmarks.ingestion import holdings


@pytest.mark.e2e
def test_a_small_run_is_seeded_measured_and_written(tmp_path, monkeypatch, capsys):
    page = tmp_path / "documents.md"
    page.write_text("before\n<!-- begin: benchmarks.ingestion.holdings -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(holdings, "RESULTS", tmp_path)
    monkeypatch.setattr(holdings, "DOCS", tmp_path)
    arguments = [
        "--documents",
        "200",
        "--passages",
        "100",
        "--runs",
        "1",
        "--scratch",
        str(tmp_path),
        "--write",
    ]
    assert holdings.main(arguments) == 0
    written = json.loads((tmp_path / "holdings.json").read_text())
    assert [one["what"] for one in written["timed"]][-1] == (
        "deletion of a collection of 200 documents and as many jobs"
    )
    assert all(one["median_ms"] > 0 for one in written["timed"])
    text = page.read_text()
    assert text.startswith("before\n")
    assert "| dead letters, with counts |" in text
    assert "| dead letters, with counts |" in capsys.readouterr().out
