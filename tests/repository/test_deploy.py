"""The container cannot be built here; what it names must exist."""

import json
import re
from pathlib import Path

from trireme.triton.fences import STACK_BYTES

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", "")


def test_every_copied_path_exists_and_is_in_the_build_context():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert {source, source.split("/")[0]} & kept, source


def test_every_backend_is_copied_beside_the_servers_own():
    ours = {path.parent.name for path in (ROOT / "python_backends").glob("*/model.py")}
    copied = set(
        re.findall(r"^COPY python_backends/(\w+) /opt/tritonserver/backends/\1$", DOCKERFILE, re.MULTILINE)
    )
    assert copied == ours


def test_the_container_does_not_run_as_root():
    assert re.search(r"^USER (?!root)\S+$", DOCKERFILE, re.MULTILINE)


def test_the_command_is_a_tritonserver_command_line_with_deep_stacks():
    shell, flag, line = json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE).group(1))
    assert (shell, flag) == ("/bin/sh", "-c")
    stacks, command = line.split("; exec ")
    assert stacks == f"ulimit -S -s {STACK_BYTES // 1024}"
    assert command.split()[0] == "tritonserver"
    assert all(word.startswith("--") for word in command.split()[1:])


def test_the_health_check_is_a_command_of_ours():
    command = json.loads(re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE).group(1))
    assert command == ["trireme", "ready"]
