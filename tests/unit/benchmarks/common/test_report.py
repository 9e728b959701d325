from dataclasses import dataclass

import pytest
from jinja2 import UndefinedError

from benchmarks.common.report import (
    Circumstances,
    format_cell,
    format_pairs,
    read_circumstances,
    read_record,
    render,
    shorten_command,
    write_json,
    write_section,
)
from trireme.errors import InvalidInputError

SEEN = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")


def test_a_cell_is_formatted_and_empty_without_a_value():
    assert format_cell(1234.56, ",.1f") == "1,234.6"
    assert format_cell(None, ",.1f") == ""
    assert format_cell(None, ",.1f", "not measured") == "not measured"
    assert format_pairs({"a": 0.5, "b": 1}, ".2f") == "a 0.50, b 1.00"


def test_a_name_that_a_template_does_not_know_is_an_error():
    with pytest.raises(UndefinedError, match="seen"):
        render("common/circumstances.md.j2")


def test_a_command_names_no_folder_of_the_machine():
    command = shorten_command("benchmarks.search.quality", ["--data", "/home/someone/scifact", "-x"])
    assert command == "python -m benchmarks.search.quality --data .../scifact -x"


def test_circumstances_are_those_of_this_machine():
    seen = read_circumstances("benchmarks.encoders.run", ["--quick"], seed=3)
    assert seen.cores >= 1
    assert seen.memory_gib > 0
    assert "numpy" in seen.versions
    assert seen.command == "python -m benchmarks.encoders.run --quick"


def test_circumstances_are_a_list():
    text = render("common/circumstances.md.j2", seen=SEEN)
    assert all(part in text for part in ("CPU, 2 cores, avx2", "numpy 1", "2026-01-01, seed 7: `python x`"))


def test_json_is_written_whole(tmp_path):
    @dataclass(frozen=True)
    class Pair:
        name: str
        values: tuple[int, ...]

    write_json(tmp_path / "new" / "pair.json", Pair("é", (1, 2)))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pair.json"]
    assert '"é"' in (tmp_path / "new" / "pair.json").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    many: tuple[Inner, ...]
    named: dict[str, Inner]
    one: "Inner | None"
    none: "Inner | None" = None


def test_a_record_reads_as_it_was_written(tmp_path):
    record = Outer((Inner(1.0), Inner(2.0)), {"a": Inner(3.0)}, Inner(4.0))
    write_json(tmp_path / "outer.json", record)
    assert read_record(tmp_path / "outer.json", Outer) == record


@pytest.mark.parametrize("text", ["{", "[]", '{"many": []}', '{"other": 1}'])
def test_a_file_that_holds_no_record_is_named(tmp_path, text):
    (tmp_path / "outer.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"outer\.json is no Outer"):
        read_record(tmp_path / "outer.json", Outer)


def test_a_section_stands_between_its_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- begin: a -->\nold\n<!-- end -->\n<!-- begin: b -->\nkept\n<!-- end -->\nafter\n"
    )
    for _ in range(2):
        write_section(page, "a", "new\n")
    text = page.read_text()
    assert text.startswith("before\n<!-- begin: a -->\n\nnew\n\n<!-- end -->\n<!-- begin: b -->\nkept\n")
    assert text.endswith("\nafter\n")
    with pytest.raises(InvalidInputError, match="has no lines <!-- begin: c -->"):
        write_section(page, "c", "x")
