import contextlib
import json

import pytest

from benchmarks.common.report import DOCS, RESULTS, Circumstances, read_record, write_json
from benchmarks.common.server_load import StepLoad
from benchmarks.encoders.bars import MIXED, PASSAGES, POISSON, RERANK_20, RERANK_20_AT_4, SHORT_ALONE, judge
from benchmarks.encoders.contenders import Load, Sample
from benchmarks.encoders.page import IN_FLIGHT, PLOTS, format_bars, format_document, plot
from benchmarks.encoders.results import (
    INFINITY,
    OUR_PAIR_RANKER,
    OURS,
    OURS_IN_PROCESS,
    ST,
    BenchReport,
    Entrant,
    Failure,
    Point,
    QualityFigure,
    WorkloadFacts,
    compare,
    compute_share,
    hide_folders,
)
from benchmarks.search.stages import SearchStages
from trireme.errors import InvalidInputError

SEEN = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")
TORCH, INFINITY_TORCH, OPENVINO = f"{ST} torch", f"{INFINITY} torch", f"{ST} openvino-int8"
NAMES = (OURS, OURS_IN_PROCESS, OUR_PAIR_RANKER, TORCH, OPENVINO, INFINITY_TORCH)


def make_points(scenario, task, rates, p50=10.0, tail=30.0):
    """Three rounds each; `rates`: contender -> texts/s of the rounds."""
    steps = (StepLoad("embedding", 300, 2.5, 9000, 450.0, 0.03),)
    return [
        Point(
            scenario,
            task,
            name,
            Load(32),
            number,
            Sample(100, rate, rate * 90, p50, p50 * 1.5, tail, 5.0, steps if name == OURS else ()),
        )
        for name, series in rates.items()
        for number, rate in enumerate(series)
    ]


def make_report(points=None, **changes):
    if points is None:
        points = [
            *make_points(MIXED, "c", {OURS: (200, 210, 220), OURS_IN_PROCESS: (220, 220, 220)}),
            *make_points(
                MIXED, "c", {TORCH: (40, 42, 44), INFINITY_TORCH: (20, 21, 22), OPENVINO: (100, 150, 110)}
            ),
            *make_points(PASSAGES, "b", {OURS_IN_PROCESS: (110, 110, 110)}),
            *make_points(RERANK_20, "rerank 20", {OUR_PAIR_RANKER: (90,) * 3, INFINITY_TORCH: (20,) * 3}),
            *make_points(RERANK_20_AT_4, "rerank 20", {OUR_PAIR_RANKER: (90,) * 3}, p50=800.0),
            *make_points(RERANK_20_AT_4, "rerank 20", {INFINITY_TORCH: (20,) * 3}, p50=4000.0),
            *make_points(SHORT_ALONE, "a", {OURS: (300,) * 3}, p50=3.0),
            *make_points(SHORT_ALONE, "a", {OURS_IN_PROCESS: (500,) * 3}, p50=2.0),
            *make_points(POISSON, "c", {OURS: (150,) * 3}, p50=10.0, tail=50.0),
        ]
    values = {
        "workloads": (WorkloadFacts("c", "a mix", 8000, 97.0, 24000.0),),
        "entrants": tuple(Entrant(name, "what it is", {"library": "1.0"}) for name in NAMES),
        "points": tuple(points),
        "failures": (),
        "rates": ({"int8": 0.8, "bf16": 0.4, "fp32": 0.2}, {"int8": 0.9, "bf16": 0.4, "fp32": 0.2}),
        "operations": {"b": 3.2e9, "c": 2.3e9},
        "tokens_agree": {TORCH: True},
        "cosines": {OURS: 0.97, TORCH: 1.0},
        "quality": (QualityFigure("fp32", "squad", 9, 0.75), QualityFigure(OURS, "squad", 9, 0.744)),
        "search": SearchStages(10_000, 60, 90.0, 120.0, {"embedding": 3.0}, {"embedding": 0.5}, 2.0),
        "left_out": (),
        "seconds": 900.0,
        "circumstances": SEEN,
    }
    return BenchReport(**{**values, **changes})


def read_bars(report):
    return {bar.what: bar for bar in judge(report)}


def test_ratios_are_those_of_the_same_round():
    # 200/100, 210/150, 220/110: their median, not 210 by 110.
    assert compare(make_report(), MIXED, OURS, OPENVINO) == 2.0


def test_a_share_is_of_the_best_of_the_machines_rates():
    share = compute_share(make_report(), PASSAGES, OURS_IN_PROCESS, "int8")
    assert share == pytest.approx(110 * 3.2e9 / 0.9e12)


def test_every_bar_is_judged_by_what_was_measured():
    bars = read_bars(make_report())
    verdicts = {what: bar.verdict for what, bar in bars.items()}
    assert verdicts["nDCG@10 lost to fp32"] == "not met"
    assert verdicts[f"{MIXED}: {INFINITY_TORCH}"] == "met"
    assert verdicts[f"{MIXED}: {TORCH}"] == "met"
    assert bars["c, 32 in flight: the best ONNX, OpenVINO or int8 engine of either"].note == OPENVINO
    assert verdicts["b: share of the int8 matrix rate, in process"] == "not met"
    assert verdicts["rerank 20, 4 in flight: our p95 by the rival's p50"] == "met"
    assert bars["a, 1 in flight: what Triton adds to a request, median"].measured == 1.0
    assert verdicts["c, Poisson arrivals at 70 %: p99 by p50"] == "not met"
    assert verdicts["c: padding, of the tokens computed"] == "met"


def test_a_bar_without_its_rival_is_not_measured():
    report = make_report(points=make_points(MIXED, "c", {OURS: (200, 210, 220)}), search=None, quality=())
    assert {bar.verdict for bar in judge(report) if bar.what.startswith("rerank")} == {"not measured"}
    assert "| not measured |" in format_bars(report)


def test_a_rival_that_failed_or_did_not_start_stands_on_the_page():
    entrants = (Entrant(OURS, "ours"), Entrant(INFINITY_TORCH, "a rival", error="no wheel came"))
    failures = (Failure(TORCH, MIXED, "out of memory"),)
    page = format_document(make_report(entrants=entrants, failures=failures, left_out=("search",)))
    assert "Not measured: no wheel came" in page
    assert f"{TORCH} failed on {MIXED}: out of memory" in page
    assert "Left out, the time was up: search" in page


def test_a_library_that_counts_otherwise_is_named():
    said = format_document(make_report(tokens_agree={TORCH: False}))
    assert f"{TORCH} counts tokens differently" in said and "Nothing failed" not in said
    assert "count the same tokens" in format_document(make_report())


def test_one_whose_vectors_are_others_is_named():
    said = format_document(make_report(cosines={TORCH: 0.4, OURS: 0.97}))
    assert f"{TORCH} makes other vectors (cosine 0.4000)" in said
    assert f"{OURS} makes other" not in said


def test_the_throughput_table_holds_ratio_and_shares():
    page = format_document(make_report())
    assert f"| {OPENVINO} |  |  | 110.0 | 2.00x | 5.00 |  |  |\n" in page
    assert f"| {OURS_IN_PROCESS} |  | 110.0 | 220.0 | 0.95x | 5.00 | 39% | 176% |\n" in page


def test_the_page_holds_every_part():
    page = format_document(make_report())
    for part in (
        "seed 7: `python x`",
        "10,000 passages",
        "| the chain itself | 2.00 |",
        "-0.0060",
        "15 minutes",
    ):
        assert part in page


def test_the_committed_page_is_made_of_the_committed_figures():
    found = []
    for path in sorted(RESULTS.glob("*-cores.json")):
        # Those of before are in forms that are no more.
        with contextlib.suppress(InvalidInputError):
            found.append(read_record(path, BenchReport))
    assert format_document(found[-1]) == (DOCS / "performance.md").read_text(encoding="utf-8")


def test_an_error_names_no_folder_of_the_machine():
    assert hide_folders("no /home/me/work/model.onnx (log: /tmp/a/log)") == "no .../model.onnx (log: .../log)"
    assert hide_folders("http://127.0.0.1:80/v2/x and a/b stay") == "http://127.0.0.1:80/v2/x and a/b stay"


def test_a_report_is_written_as_json(tmp_path):
    write_json(tmp_path / "r.json", make_report())
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["points"][0]["sample"]["texts_per_s"] == 200
    assert read_record(tmp_path / "r.json", BenchReport) == make_report()


def test_both_plots_are_png(tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the bench extra")
    points = [
        point
        for scenario in IN_FLIGHT
        for point in make_points(scenario, "c", {OURS: (200, 210), INFINITY_TORCH: (20, 21)})
    ]
    plot(make_report(points), tmp_path)
    for name in PLOTS:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
