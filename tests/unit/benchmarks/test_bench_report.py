import dataclasses

import pytest
from bench_report import (
    BenchReport,
    Measurement,
    TokenizerTime,
    find_limits,
    format_client_table,
    format_document,
    format_step_table,
    plot,
)
from report import Circumstances
from server_load import StepLoad

from trireme.triton.perf_analyzer import PerfFigures

SEEN = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")


def make_point(model="embedding", concurrency=8, batching=True, rate=50.0, steps=()):
    client = PerfFigures(model, concurrency, 300, 3, rate, 10.0, 20.0, 30.0, client_cores=0.25)
    own = StepLoad(model, 300, 4.0, 2.5, 7.5, 9000, 0.125)
    return Measurement(batching, client, (own, *steps), server_cores=1.5, busy_cores=1.9)


def make_report(*points):
    return BenchReport(1000, points, TokenizerTime(256, 20480, 0.04, 2.0), SEEN)


def test_the_client_table_marks_rows_of_one_window():
    point = make_point()
    single = dataclasses.replace(point, client=dataclasses.replace(point.client, windows=1))
    rows = format_client_table([point, single]).splitlines()[2:]
    assert rows[0] == "| embedding | 8 | on | 50.0 | 10.0 | 20.0 | 30.0 | 300 |"
    assert rows[1].endswith("| 300 * |")


def test_the_steps_of_search_are_listed_without_its_own_sum():
    step = StepLoad("candidates", 300, 1.0, 0.5, 1.5, 0, 0.0)
    table = format_step_table([make_point("search", steps=(step,))])
    assert "| search | 8 | candidates | 1.0 | 0.5 | 1.5 |  |" in table
    assert "| search | 8 | search |" not in table


def test_the_limits_rest_on_the_figures():
    limits = find_limits(make_report(make_point(rate=60.0), make_point(batching=False, rate=40.0)))
    text = "\n".join(limits)
    assert "embeds 128 texts/s of 80 tokens; tokenizing is 2.0%" in text
    assert "1.90 of 2 cores busy: the server 1.50, the client 0.25" in text
    assert "dynamic batching changes requests/s by +50%" in text
    assert "2 ms in its queue and 8 ms at work" in text
    assert "12% of the tokens it runs are padding" in text
    assert "reaches 47% of the encoder alone" in text


def test_the_longest_step_of_search_is_named():
    slow = StepLoad("reranker", 300, 1.0, 40.0, 300.0, 100, 0.0)
    limits = find_limits(make_report(make_point("search", steps=(slow,))))
    assert any("longest step is `reranker`" in sentence for sentence in limits)


def test_the_page_holds_the_tables_and_the_circumstances():
    page = format_document(make_report(make_point(), make_point(batching=False)))
    for part in ("| embedding | 8 | on |", "| embedding | 8 | off |", "seed 7: `python x`", "1,000 passages"):
        assert part in page


def test_both_plots_are_png(tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the bench extra")
    points = [make_point(m, c, b) for m in ("embedding", "search") for c in (1, 8) for b in (True, False)]
    plot(make_report(*points), tmp_path)
    for name in ("performance-throughput.png", "performance-latency.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
