"""Tests of the engine process; what it generates is in tests/contract/test_engine.py."""

import os
import subprocess
import sys

from trireme.generate.openvino_worker import read_parent


def test_the_parent_of_a_process_is_read_from_the_system():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert read_parent(child.pid) == os.getpid()
    finally:
        child.communicate()


def test_a_process_that_is_gone_has_no_parent():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert read_parent(child.pid) == 0
