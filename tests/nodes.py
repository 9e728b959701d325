"""Node, by which tests run the console's modules."""

import re
import shutil
import subprocess

import pytest

# From this version on it knows a module by its imports, without a package.json beside it.
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
