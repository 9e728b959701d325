import pytest

from benchmarks.common.report import DOCS, RESULTS, read_json
from benchmarks.once import export_cost
from benchmarks.once.export_cost import Point, extrapolate, format_sections, main
from trireme.errors import UnavailableError


def test_a_line_through_the_ends_gives_all_layers():
    points = [
        Point(1, 1.0, 2.0, 10.0, 1.5, 2.0),
        Point(2, 1.2, 2.3, 15.0, 1.5, 2.0),
        Point(3, 1.4, 2.6, 18.0, 1.5, 2.0),
    ]
    drawn = extrapolate(points, 11)
    assert (drawn.layers, drawn.seconds, drawn.own_gb, drawn.resident_gb) == (11, 50.0, 1.5, 2.0)
    assert drawn.source_gb == pytest.approx(3.0) and drawn.exported_gb == pytest.approx(5.0)


def test_a_small_shape_is_measured_and_the_page_says_so(tmp_path, monkeypatch, capsys):
    shape = {**export_cost.SHAPES["8b"], "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 3}
    monkeypatch.setattr(export_cost, "RESULTS", tmp_path)
    monkeypatch.setattr(export_cost, "DOCS", tmp_path)
    points = {1: Point(1, 0.1, 0.2, 3.0, 0.5, 0.7), 2: Point(2, 0.2, 0.3, 4.0, 0.5, 0.7)}
    monkeypatch.setattr(export_cost, "measure", lambda options, layers: points[layers])
    monkeypatch.setitem(export_cost.SHAPES, "8b", shape)
    page = tmp_path / "generation.md"
    page.write_text("before\n<!-- begin: benchmarks.once.export_cost -->\nold\n<!-- end -->\nafter\n")
    assert main(["8b", "--layers", "2", "1"]) == 0
    row = "| 3 (drawn out) | 0.30 | 0.40 | 5 | 0.5 | 0.7 |"
    assert row in capsys.readouterr().out and row in page.read_text()
    assert page.read_text().startswith("before\n") and "old" not in page.read_text()
    page.write_text("x")
    assert main(["8b", "--layers", "2", "1"]) == 1
    assert "has no lines" in capsys.readouterr().err


def test_the_committed_section_is_made_of_the_committed_figures():
    section = format_sections([*read_json(RESULTS / "export-cost.json").values()])
    assert section.strip() in (DOCS / "generation.md").read_text()


def test_the_memory_of_a_script_is_its_own_and_the_kernels_count():
    script = (
        "import time; kept = bytearray(100_000_000); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(0.3)"
    )
    own, resident = export_cost._run(["-c", script])
    assert 0.1 <= own <= resident < 0.3
    with pytest.raises(UnavailableError, match="no such thing"):
        export_cost._run(["-c", "raise SystemExit('no such thing')"])
