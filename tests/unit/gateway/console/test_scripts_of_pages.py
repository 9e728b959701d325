"""What the playground and the documents page work out, run by node."""

import re
import subprocess
from pathlib import Path

import pytest

from nodes import find_node

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["answers", "passages", "recipes", "uploads"])
def test_the_functions_of_a_module_do_what_its_tests_say(name):
    words = [find_node(), "--test", "--test-reporter=tap", str(HERE / f"{name}.test.mjs")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert re.search(r"^# pass [1-9]", ended.stdout, re.MULTILINE), ended.stdout
