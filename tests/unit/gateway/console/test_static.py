"""Rules that the console's files keep, so that the policy of content holds and no text can become code."""

import posixpath
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trireme.gateway.console.files import FILES

ROOT = Path(__file__).parents[4]
SCRIPTS = sorted(path for path in FILES if path.endswith(".js"))
IMPORT = re.compile(
    r"""(?:^|\s)(?:import|export)\s[^'"`;]*?from\s+'([^']+)'|\bimport\(([^)]*)\)""", re.MULTILINE
)
# Ways from text to markup, code or style that the policy forbids, or that would be a hole without it.
FORBIDDEN = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "createContextualFragment",
    "DOMParser",
    "srcdoc",
    "eval(",
    "new Function",
    ".cssText",
    "setAttribute('style'",
    "localStorage",
    "document.cookie",
)


def text_of(path):
    return FILES[path].body.decode()


def imports_of(path):
    """Paths that a script imports, from its folder on; of those that are put together, what can be told."""
    for found in IMPORT.finditer(text_of(path)):
        name = found[1] or found[2].strip("'`")
        yield posixpath.normpath(posixpath.join(posixpath.dirname(path), name))


@pytest.mark.parametrize("path", SCRIPTS)
def test_a_script_imports_only_files_that_are_there(path):
    for name in imports_of(path):
        if "${" in name:
            assert (path, name) == ("app.js", "pages/${page.name}.js")
        else:
            assert name in FILES, f"{path} imports {name}"


def test_every_page_of_the_shell_has_its_module():
    pages = re.findall(r"\{ name: '(\w+)', label", text_of("app.js"))
    assert len(pages) == 9
    for page in pages:
        module = text_of(f"pages/{page}.js")
        assert "export const title = " in module
        assert re.search(r"^export (async )?function show\(main", module, re.MULTILINE)


def test_every_script_is_used():
    used = {name for path in SCRIPTS for name in imports_of(path)}
    pages = {f"pages/{page}.js" for page in re.findall(r"\{ name: '(\w+)', label", text_of("app.js"))}
    named = set(re.findall(r'(?:src|href)="([\w./-]+)"', text_of("index.html")))
    assert set(SCRIPTS) - {"lib/recipes.js"} <= used | pages | named


@pytest.mark.parametrize("path", [*SCRIPTS, "index.html"])
def test_no_text_becomes_markup_code_or_style(path):
    for word in FORBIDDEN:
        assert word not in text_of(path), word


@pytest.mark.parametrize("path", FILES)
def test_no_other_host_is_named(path):
    # The namespace of SVG is a name, and asked for by nobody.
    text = text_of(path).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(https?:|wss?:)?//[\w-]+\.\w", text)
    assert "@import" not in text
    assert not re.search(r"\burl\((?!['\"]?data:)", text)


def test_the_index_has_no_script_style_or_listener_of_its_own():
    page = text_of("index.html")
    assert "<style" not in page
    assert not re.search(r"\s(style|on\w+)=", page)
    assert all(tag.endswith("></script>") for tag in re.findall(r"<script.*", page))
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert name in FILES


@pytest.mark.parametrize("path", FILES)
def test_a_file_keeps_to_four_hundred_lines(path):
    assert len(text_of(path).splitlines()) <= 400


@pytest.mark.parametrize("path", SCRIPTS)
def test_what_a_script_exports_says_its_types(path):
    lines = text_of(path).splitlines()
    assert lines[0].startswith("/**"), "say what the module is for"
    for number, line in enumerate(lines):
        if re.match(r"export (async )?function", line):
            comment = "\n".join(lines[max(0, number - 12) : number])
            assert lines[number - 1].strip().endswith("*/"), line
            has_parameters = "()" not in line
            assert "@param" in comment or not has_parameters, line


def test_both_colour_schemes_can_be_read():
    """Texts on the grounds they stand on: 4.5 to 1 at least (WCAG 2, AA)."""
    light, dark = re.findall(r":root \{(.*?)\}", text_of("app.css"), re.DOTALL)
    for scheme in (colours(light), {**colours(light), **colours(dark)}):
        for ground in ("ground", "panel", "sunk"):
            for ink in ("ink", "muted", "accent", "good", "warning", "bad"):
                assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground, scheme)
        assert contrast(scheme["on-accent"], scheme["accent"]) >= 4.5
        assert contrast(scheme["accent"], scheme["wash"]) >= 4.5
        assert contrast(scheme["ink"], scheme["mark"]) >= 4.5
        assert contrast(scheme["ground"], scheme["bad"]) >= 4.5


def colours(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def contrast(one, other):
    first, second = sorted((luminance(one), luminance(other)))
    return (second + 0.05) / (first + 0.05)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_wheel_has_the_files():
    """A wheel of src/trireme holds each file that git does not ignore."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    paths = [ROOT / "src" / "trireme" / "gateway" / "console" / "static" / path for path in FILES]
    assert all(path.is_file() for path in paths)
    ignored = subprocess.run(
        ["git", "-C", ROOT, "check-ignore", "--no-index", *paths], capture_output=True, text=True
    )
    assert ignored.stdout == ""
