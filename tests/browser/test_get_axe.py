"""build/get_axe.py: what it does where axe-core cannot be had."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("get_axe", Path(__file__).parents[2] / "build" / "get_axe.py")
get_axe = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(get_axe)


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Where the script is to write."""
    file = tmp_path / "share" / "axe.min.js"
    monkeypatch.setattr("sys.argv", ["get_axe", str(file)])
    monkeypatch.setattr(get_axe.shutil, "which", lambda name: name)
    return file


def test_where_the_package_cannot_be_fetched_it_is_named_and_nothing_is_written(target, monkeypatch, capsys):
    def fail(npm, folder):
        raise subprocess.CalledProcessError(1, ["npm"])

    monkeypatch.setattr(get_axe, "_download", fail)
    assert get_axe.main() == 1
    assert get_axe.PACKAGE in capsys.readouterr().err
    assert not target.parent.exists()


def test_another_script_than_the_known_one_is_not_written(target, monkeypatch, capsys):
    monkeypatch.setattr(get_axe, "_download", lambda npm, folder: b"other")
    assert get_axe.main() == 1
    assert "not written" in capsys.readouterr().err
    assert not target.exists()


def test_without_npm_it_says_how_to_install_it(target, monkeypatch, capsys):
    monkeypatch.setattr(get_axe.shutil, "which", lambda name: None)
    assert get_axe.main() == 1
    assert "apt-get install npm" in capsys.readouterr().err
