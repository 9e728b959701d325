"""The console's scripts under Node, each file of tests beside the files that it tests."""

import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The console's files with the tests in a folder of them, as modules."""
    made = tmp_path_factory.mktemp("console")
    with as_file(files("trireme.gateway.console") / "static") as static:
        shutil.copytree(static, made, dirs_exist_ok=True)
    shutil.copytree(SCRIPTS, made / "tests")
    (made / "package.json").write_text('{"type": "module"}')
    return made


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.mjs")))
def test_the_scripts_pass_their_own_tests(folder, name):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing")
    ran = subprocess.run(
        [node, "--test", folder / "tests" / name],
        capture_output=True,
        text=True,
        timeout=120,
        env={"TZ": "UTC", "PATH": ""},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
