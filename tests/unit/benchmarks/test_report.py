from dataclasses import dataclass

from report import (
    Circumstances,
    format_circumstances,
    format_table,
    read_circumstances,
    shorten_command,
    write_json,
)


def test_a_table_is_markdown():
    table = format_table(("model", "ms"), [("embedding", "1.5")])
    assert table.splitlines() == ["| model | ms |", "| --- | ---: |", "| embedding | 1.5 |"]


def test_a_command_names_no_folder_of_the_machine():
    command = shorten_command(
        "/home/someone/benchmarks/quality.py", ["--data", "/home/someone/scifact", "-x"]
    )
    assert command == "python benchmarks/quality.py --data .../scifact -x"


def test_circumstances_are_those_of_this_machine():
    seen = read_circumstances("bench.py", ["--quick"], seed=3)
    assert seen.cores >= 1
    assert seen.memory_gib > 0
    assert "numpy" in seen.versions
    assert seen.command == "python benchmarks/bench.py --quick"


def test_circumstances_are_a_list():
    seen = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")
    text = format_circumstances(seen)
    assert all(part in text for part in ("CPU, 2 cores, avx2", "numpy 1", "2026-01-01, seed 7: `python x`"))


def test_json_is_written_whole(tmp_path):
    @dataclass(frozen=True)
    class Pair:
        name: str
        values: tuple[int, ...]

    write_json(tmp_path / "new" / "pair.json", Pair("é", (1, 2)))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pair.json"]
    assert '"é"' in (tmp_path / "new" / "pair.json").read_text(encoding="utf-8")
