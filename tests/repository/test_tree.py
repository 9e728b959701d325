"""The tree itself: what git holds and what it must not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_git_does_not_ignore_the_build_scripts(tracked):
    scripts = sorted((ROOT / "build").glob("*.py"))
    assert scripts
    ignored = subprocess.run(["git", "-C", ROOT, "check-ignore", *scripts], capture_output=True, text=True)
    assert ignored.stdout == ""


def test_no_build_script_is_a_package():
    assert not (ROOT / "build" / "__init__.py").exists()


def test_no_pickles_or_weights_over_forty_megabytes_are_tracked(tracked):
    for path in tracked:
        assert path.suffix not in {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".onnx"}, path
        assert path.stat().st_size < 40_000_000, path


def test_python_sources_keep_to_four_hundred_lines(tracked):
    for path in tracked:
        if path.suffix == ".py" and path.is_relative_to(ROOT / "src"):
            assert len(path.read_text().splitlines()) <= 400, path


def test_every_target_of_make_help_exists():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split())
    assert targets == phony
    helped = subprocess.run(["make", "-C", ROOT, "-s", "help"], capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in helped.stdout.splitlines()} == targets


def test_shell_is_never_asked_to_parse_a_command(tracked):
    for path in tracked:
        if path.suffix == ".py" and path != Path(__file__):
            assert "shell=True" not in path.read_text(), path
