"""tritonserver started by hand, with the command line of docs/running-by-hand.md."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from stacks import ROOT, free_ports, wait_until

from trireme.triton.client import TritonClient

GUIDE = (ROOT / "docs" / "running-by-hand.md").read_text()


@pytest.fixture(scope="module")
def command():
    """The words of the documented command."""
    block = re.search(r"^tritonserver (.*?)$(?!\\\n)", GUIDE.replace("\\\n", " "), re.MULTILINE).group(0)
    return shlex.split(block)


def test_the_documented_command_line_serves(command, stack, tmp_path):
    exports = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "env"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    environ = dict(os.environ, TRIREME_DATABASE_URL=stack.database_url)
    for line in exports.splitlines():
        key, value = shlex.split(line.removeprefix("export "))[0].split("=", 1)
        environ[key] = value
    http, grpc, metrics = free_ports(3)
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, *ports], env=environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with TritonClient(f"127.0.0.1:{grpc}") as client:
            wait_until(lambda: server.poll() is not None or client.is_ready("search"), 180)
            assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert "oars" in client.search("how many banks of oars?")[0].text
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def test_the_guide_names_only_files_that_exist():
    for name in re.findall(r"`((?:deploy|docs|build|python_backends)/[\w./-]+)`", GUIDE):
        assert (ROOT / name).exists() or name == "python_backends/python", name
