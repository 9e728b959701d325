"""docs/console.md has the pages of the console's shell, with the endpoints that open them."""

import re
from pathlib import Path

from trireme.access.endpoints import ENDPOINTS

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "trireme" / "gateway" / "console" / "static"
TEXT = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
ROW = re.compile(r"\{ name: '(\w+)', label: '(\w+)', needs: \[([^\]]*)\] \}")


def shell_pages():
    rows = ROW.findall((STATIC / "app.js").read_text(encoding="utf-8"))
    return {label: (name, re.findall(r"'(\w+)'", needs)) for name, label, needs in rows}


def test_the_pages_are_those_of_the_shell_with_the_endpoints_that_open_them():
    block = re.search(r"<!-- begin: pages -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)[1]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines()[2:]]
    assert {row[0]: re.findall(r"`(\w+)`", row[2]) for row in rows} == {
        label: needs for label, (_, needs) in shell_pages().items()
    }


def test_each_page_has_its_module_and_needs_endpoints_that_there_are():
    for name, needs in shell_pages().values():
        assert (STATIC / "pages" / f"{name}.js").is_file()
        assert set(needs) <= set(ENDPOINTS)


def test_every_picture_of_the_page_is_there_and_small():
    shown = re.findall(r"\]\((console-\w+\.png)\)", TEXT + (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    for name in shown:
        assert 0 < (ROOT / "docs" / name.removeprefix("docs/")).stat().st_size <= 150_000
