"""Every code block of the README runs, on the test's ports."""

import re
import subprocess
import sys

import pytest
from stacks import ROOT, environment_of

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


def on_test_ports(text, settings):
    return text.replace("127.0.0.1:8001", settings.grpc_url).replace(
        "127.0.0.1:8000", f"127.0.0.1:{settings.http_port}"
    )


def run(command, settings, **changes):
    return subprocess.run(
        command,
        env=environment_of(settings),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        **changes,
    )


def test_the_readme_begins_with_the_two_commands():
    assert [command for command in COMMANDS[:2]] == ["make serve", "make test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_every_make_command_is_a_target(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_other_command_runs_in_order(settings):
    commands = [c for c in COMMANDS if c and not c.startswith("make")]
    assert len(commands) >= 5
    for command in commands:
        # The shell of the reader: the block is what is tested.
        line = on_test_ports(command, settings).replace(
            ".venv/bin/trireme", f"{sys.executable} -m trireme.cli"
        )
        done = run(["/bin/sh", "-c", line], settings)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout.strip(), command


def test_every_python_block_runs(settings):
    blocks = [text for kind, text in BLOCKS if kind == "python"]
    assert blocks
    for block in blocks:
        assert len(block.strip().splitlines()) <= 10
        done = run([sys.executable, "-c", on_test_ports(block, settings)], settings)
        assert done.returncode == 0, done.stderr
        assert "dynamic batcher" in done.stdout


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_every_linked_file_exists(path):
    assert (ROOT / path).exists()
