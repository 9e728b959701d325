"""What the playground and the documents page work out, run by node."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# From this version on node knows a module by its imports, without a package.json beside it.
LEAST = (20, 19)


def find_node():
    """The path of node; skips where there is none that is new enough."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", said)[:2])) < LEAST:
        pytest.skip(f"node {said.strip()} is older than {LEAST[0]}.{LEAST[1]}")
    return node


@pytest.mark.parametrize("name", ["answers", "passages", "recipes", "uploads"])
def test_the_functions_of_a_module_do_what_its_tests_say(name):
    words = [find_node(), "--test", "--test-reporter=tap", str(HERE / f"{name}.test.mjs")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert re.search(r"^# pass [1-9]", ended.stdout, re.MULTILINE), ended.stdout
