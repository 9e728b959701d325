import export_cost
import pytest
from export_cost import Point, extrapolate, main, write_page

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
    monkeypatch.setattr("sys.argv", ["export_cost.py", "8b", "--layers", "2", "1"])
    page = tmp_path / "generation.md"
    page.write_text(f"before\n{export_cost.MARKS[0]}\nold\n{export_cost.MARKS[1]}\nafter\n")
    assert main() == 0
    assert "| 3 (drawn out) | 0.30 | 0.40 | 5 | 0.5 | 0.7 |" in capsys.readouterr().out
    assert page.read_text().startswith("before\n") and "old" not in page.read_text()
    with pytest.raises(UnavailableError, match="has no lines"):
        (tmp_path / "generation.md").write_text("x")
        write_page({})


def test_the_memory_of_a_script_is_its_own_and_the_kernels_count():
    script = (
        "import time; kept = bytearray(100_000_000); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(0.3)"
    )
    own, resident = export_cost._run(["-c", script])
    assert 0.1 <= own <= resident < 0.3
    with pytest.raises(UnavailableError, match="no such thing"):
        export_cost._run(["-c", "raise SystemExit('no such thing')"])
