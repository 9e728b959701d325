import os
import subprocess
import sys

import pytest

from trireme.quantize.quiet import keep_stderr, output_to, wait_passively


def test_output_of_libraries_and_their_children_goes_to_the_log(tmp_path, capfd):
    log = tmp_path / "deep" / "log.txt"
    with keep_stderr() as people, output_to(log):
        os.write(1, b"from C\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        people.write("for people\n")
        people.flush()
    os.write(1, b"afterwards\n")
    assert log.read_text() == "from C\nfrom a child\n"
    assert capfd.readouterr() == ("afterwards\n", "for people\n")


def test_output_comes_back_after_an_error(tmp_path, capfd):
    with pytest.raises(RuntimeError), output_to(tmp_path / "log.txt"):
        raise RuntimeError
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_threads_wait_passively_unless_somebody_said_how(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
