import dataclasses
import itertools
import json
import os
from pathlib import Path

import pytest

from trireme.errors import UnavailableError, UnsupportedError
from trireme.tune import perf_analyzer
from trireme.tune.perf_analyzer import (
    PerfRun,
    PerfTool,
    build_command,
    compute_percentile,
    load_export,
    measure,
    read_export,
)

MILLISECOND = 1_000_000


def make_export(spans, concurrency=1):
    """An export as --profile-export-file writes it, of (sent, answered) in milliseconds."""
    requests = [
        {"timestamp": sent * MILLISECOND, "response_timestamps": [answered * MILLISECOND]}
        for sent, answered in spans
    ]
    ends = [0, max((answered for _, answered in spans), default=1) * MILLISECOND]
    experiment = {"mode": "concurrency", "value": concurrency}
    return {"experiments": [{"experiment": experiment, "requests": requests, "window_boundaries": ends}]}


def write_tool(folder: Path, script: str) -> PerfTool:
    """A stand-in for the binary."""
    binary = folder / "perf_analyzer"
    binary.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    binary.chmod(0o755)
    return PerfTool(binary, folder / "lib")


def make_run(tmp_path) -> PerfRun:
    return PerfRun("embedding", "127.0.0.1:9", 8, tmp_path / "in.json", 1.5, shapes=("passages:20",))


def test_the_first_wave_is_left_out():
    # One in flight: a first answer after 90 ms, then one each 10 ms.
    spans = [(0, 90), *((90 + 10 * i, 100 + 10 * i) for i in range(9))]
    figures = read_export(make_export(spans), "m")
    # The last one was sent when the eighth was answered.
    assert (figures.requests, figures.windows) == (8, 3)
    assert figures.requests_per_s == pytest.approx(112.5)
    assert (figures.p50_ms, figures.p99_ms) == (10, 10)


def test_figures_are_medians_over_three_windows():
    # From 10 ms on: windows of 30 ms with 3, 6 and 3 answers.
    spans = [(0, 10)]
    spans += [(answered - 10, answered) for answered in (20, 30, 39)]
    spans += [(answered - 5, answered) for answered in (41, 46, 51, 56, 61, 66)]
    spans += [(answered - 20, answered) for answered in (80, 90)]
    spans += [(100, 110)]
    spans += [(85, 100)]
    figures = read_export(make_export(spans), "m")
    assert figures.requests_per_s == pytest.approx(3 / 0.030)
    assert figures.p50_ms == 10


def test_what_is_answered_after_the_last_request_was_sent_is_left_out():
    # Two in flight: an answer each 10 ms, and at the end one that takes a second alone.
    spans = [(10 * i, 20 + 10 * i) for i in range(20)] + [(200, 1200)]
    figures = read_export(make_export(spans, concurrency=2), "m")
    assert figures.p99_ms == 20
    assert figures.requests_per_s == pytest.approx(100, rel=0.1)


def test_too_few_answers_make_one_window():
    spans = [(0, 100), (0, 100), (100, 200), (100, 200), (200, 300)]
    figures = read_export(make_export(spans, concurrency=2), "m")
    assert (figures.windows, figures.requests) == (1, 3)
    assert figures.requests_per_s == pytest.approx(3 / 0.2)


def test_an_export_may_hold_bytes_that_are_no_text(tmp_path):
    export = json.dumps(make_export([(0, 10), (10, 20)])).encode()
    path = tmp_path / "export.json"
    path.write_bytes(export.replace(b'{"mode"', b'{"token_count": "\xa7\xff", "mode"'))
    assert read_export(load_export(path), "m").requests == 1


@pytest.mark.parametrize("spans", [[], [(0, 10)], [(0, 10), (0, 10)]])
def test_answers_of_the_first_wave_only_are_an_error(spans):
    with pytest.raises(UnavailableError, match="widen the window"):
        read_export(make_export(spans, concurrency=2), "m")


def test_client_cores_are_processor_time_over_the_run():
    export = make_export([(0, 100), (100, 200), (200, 300), (300, 400)])
    assert read_export(export, "m", processor_s=0.2).client_cores == pytest.approx(0.5)


def test_a_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(100, 0, -1)]
    assert compute_percentile(values, 50) == 50
    assert compute_percentile(values, 99) == 99
    assert compute_percentile([7.0], 50) == 7


def test_a_run_is_an_argument_list(tmp_path):
    tool = PerfTool(Path("perf_analyzer"), tmp_path)
    command = build_command(tool, make_run(tmp_path), tmp_path / "out.json")
    assert "--async" in command
    options = dict(itertools.pairwise(command))
    assert options["--max-threads"] == "2"
    assert options["-m"] == "embedding"
    assert options["-i"] == "grpc"
    assert options["--concurrency-range"] == "8"
    assert options["--measurement-interval"] == "1500"
    assert options["--shape"] == "passages:20"


def test_requests_that_arrive_at_a_rate_are_a_poisson_process(tmp_path):
    run = PerfRun("embedding", "h:1", 8, tmp_path / "in.json", 0.0, requests=50, request_rate=12.5, batch=4)
    command = build_command(PerfTool(tmp_path / "tool", tmp_path), run, tmp_path / "out.json")
    options = dict(itertools.pairwise(command))
    assert options["--request-rate-range"] == "12.500"
    assert options["--request-distribution"] == "poisson"
    assert options["-b"] == "4"
    assert "--concurrency-range" not in command
    assert "--async" not in command


def test_a_run_at_a_rate_is_one_window_and_leaves_out_the_first_answer_alone():
    export = make_export([(10 * i, 10 * i + i) for i in range(1, 101)])
    export["experiments"][0]["experiment"] = {"mode": "request_rate", "value": 100.0}
    figures = read_export(export, "embedding")
    assert (figures.requests, figures.windows) == (99, 1)
    assert figures.p99_ms == 100.0


def test_a_run_of_so_many_requests_has_no_windows(tmp_path):
    run = dataclasses.replace(make_run(tmp_path), requests=64)
    command = build_command(PerfTool(Path("perf_analyzer"), tmp_path), run, tmp_path / "out.json")
    assert command[command.index("--request-count") + 1] == "64"
    assert "--measurement-interval" not in command


def test_libraries_get_the_names_the_binary_asks_for(tmp_path):
    bundle = tmp_path / "nvidia_pytriton.libs"
    bundle.mkdir()
    names = ("libb64-98cb.so.0d", "libcudart-0952.so.12.6", "libz-1.so")
    for name in names:
        (bundle / name).touch()
    elsewhere = tmp_path / "libb64-other.so"
    elsewhere.touch()
    found = perf_analyzer.find_libraries([elsewhere, *(bundle / name for name in names)])
    assert found == {"libb64.so.0d": bundle / names[0], "libcudart.so.12": bundle / names[1]}


def test_the_binary_is_found_among_installed_files(tmp_path):
    binary = tmp_path / "bin" / "perf_analyzer"
    binary.parent.mkdir()
    assert perf_analyzer.find_binary([binary]) is None
    binary.touch()
    assert perf_analyzer.find_binary([tmp_path / "perf_client", binary]) == binary


def test_the_libraries_are_linked_and_the_binary_probed(tmp_path, monkeypatch):
    bundle = tmp_path / "nvidia_pytriton.libs"
    bundle.mkdir()
    library = bundle / "libb64-98cb.so.0d"
    library.touch()
    tool = write_tool(tmp_path, "exit 0")
    installed = {"nvidia-pytriton": [library], "tritonclient": [tool.binary]}
    monkeypatch.setattr(perf_analyzer, "list_installed", installed.get)
    for _ in range(2):
        prepared = perf_analyzer.prepare_tool(tmp_path / "data")
        assert prepared.binary == tool.binary
        assert (prepared.libraries / "libb64.so.0d").readlink() == library


def test_a_binary_that_does_not_start_is_named(tmp_path, monkeypatch):
    tool = write_tool(tmp_path, "echo 'libb64.so.0d: cannot open' >&2; exit 127")
    monkeypatch.setattr(
        perf_analyzer, "list_installed", {"nvidia-pytriton": [], "tritonclient": [tool.binary]}.get
    )
    with pytest.raises(UnsupportedError, match="libb64"):
        perf_analyzer.prepare_tool(tmp_path / "data")


def test_the_library_folder_comes_first_for_the_loader(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    tool = write_tool(tmp_path, 'echo "$LD_LIBRARY_PATH"')
    done = perf_analyzer.run_process([str(tool.binary)], tool.libraries, timeout_s=30)
    assert done.stdout.strip() == f"{tool.libraries}:/elsewhere"
    assert os.environ["LD_LIBRARY_PATH"] == "/elsewhere"


def test_a_failed_run_gives_its_last_words(tmp_path):
    tool = write_tool(tmp_path, "echo 'unknown model' >&2; exit 99")
    with pytest.raises(UnavailableError, match="embedding failed: unknown model"):
        measure(tool, make_run(tmp_path))


def test_a_run_that_does_not_end_is_ended(tmp_path):
    tool = write_tool(tmp_path, "exec sleep 60")
    with pytest.raises(UnavailableError, match="shorter windows"):
        measure(tool, make_run(tmp_path), timeout_s=0.2)
