import sys

import pytest

from benchmarks.rivals import setup as setup_rivals
from benchmarks.rivals.setup import hash_lock, is_made, list_rivals, main, make_environment, read_failure


@pytest.fixture(autouse=True)
def environments(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_rivals, "ENVIRONMENTS", tmp_path / "environments")
    return tmp_path / "environments"


def write_python(folder, script):
    """A stand-in for the interpreter: `venv` makes a folder whose python runs `script`."""
    python = folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        'mkdir -p "$3/bin"\n'
        f"printf '#!/bin/sh\\n%s\\n' '{script}' > \"$3/bin/python\"\n"
        'chmod +x "$3/bin/python"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    return str(python)


def test_both_rivals_have_a_lock_file_that_pins_every_version():
    assert list_rivals() == ["infinity", "sentence-transformers"]
    for name in list_rivals():
        lines = (setup_rivals.LOCKS / f"{name}.lock").read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#")
        assert all("==" in line and "@" not in line for line in lines[1:])
        assert not any(line.startswith("torch==") for line in lines)


def test_an_environment_is_made_once_and_anew_when_its_lock_changes(tmp_path, monkeypatch):
    log = tmp_path / "log"
    python = write_python(tmp_path, f'echo "$@" >> {log}')
    assert main(["infinity", "--python", python, "--torch-args", "--index-url X"]) == 0
    assert is_made("infinity")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line.split("--quiet")[1].strip().split()[0] for line in lines] == ["--index-url", "--no-deps"]
    assert main(["infinity", "--python", python]) == 0
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2
    monkeypatch.setattr(setup_rivals, "hash_lock", lambda lock: f"another {lock}")
    assert not is_made("infinity")


def test_what_pip_said_is_noted_and_the_benchmark_goes_on(tmp_path, capsys):
    python = write_python(tmp_path, 'echo "ERROR: no matching distribution" >&2; exit 1')
    assert main(["infinity", "--python", python]) == 0
    assert "infinity: failed: ERROR: no matching distribution" in capsys.readouterr().err
    assert read_failure("infinity") == "torch cannot be installed: ERROR: no matching distribution"
    assert not is_made("infinity")
    assert make_environment("infinity", write_python(tmp_path, "exit 0"), []) == ""
    assert read_failure("infinity") == ""
    assert hash_lock(setup_rivals.LOCKS / "infinity.lock")


def test_an_unknown_rival_is_named(capsys):
    assert main(["absent", "--python", sys.executable]) == 1
    assert "no rival named 'absent'" in capsys.readouterr().err
