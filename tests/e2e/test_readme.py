"""Every code block of the README runs, on the test's ports."""

import re

import pytest
from blocks import Reader, blocks_of, commands_of
from stacks import ROOT

README = ROOT / "README.md"
SCRIPTS = blocks_of(README, "sh")
COMMANDS = commands_of(SCRIPTS)


@pytest.fixture(scope="module")
def reader(settings, gateway):
    return Reader(settings, gateway)


def test_the_readme_begins_with_the_two_commands():
    assert [command for command in COMMANDS[:2]] == ["make serve", "make test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_every_make_command_is_a_target(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_other_block_runs_in_order(reader):
    scripts = [text for text in SCRIPTS if not text.startswith("make")]
    assert len(scripts) >= 5
    for script in scripts:
        reader.run_script(script)


def test_every_python_block_runs(reader):
    blocks = blocks_of(README, "python")
    assert blocks
    for block in blocks:
        assert len(block.strip().splitlines()) <= 10
        assert "dynamic batcher" in reader.run_python(block)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README.read_text()))))
def test_every_linked_file_exists(path):
    assert (ROOT / path).exists()
