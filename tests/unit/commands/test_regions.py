"""`trireme regions` on the command line."""

from dataclasses import fields
from pathlib import Path

import pytest

from trireme.cli import main
from trireme.commands import regions as module
from trireme.regions.options import RegionOptions

FILES = {"values": Path("v.yaml"), "endpoints": Path("eds")}


@pytest.fixture
def given(monkeypatch):
    """The options that `trireme regions` with the words it is called with would run with."""
    found = []
    monkeypatch.setattr(
        "trireme.regions.controller.run_controller",
        lambda options, notice, parent: found.append((options, parent)),
    )

    def run(*words):
        assert main(["regions", *words]) == 0
        return found[-1]

    return run


def test_options_survive_their_command_line(given):
    numbers = {
        one.name: one.default + 1 for one in fields(RegionOptions) if type(one.default) in (int, float)
    }
    options = RegionOptions(**FILES, host="0.0.0.0", **numbers)  # noqa: S104
    assert given(*options.flags(), "--parent", "3") == (options, 3)
    assert given(*RegionOptions(**FILES).flags()) == (RegionOptions(**FILES), 0)


def test_every_option_has_a_help():
    assert set(module._HELP) == {option.name for option in fields(RegionOptions)}


def test_what_is_wrong_is_named(tmp_path, capsys):
    assert main(["regions", "--values", "missing.yaml", "--endpoints", str(tmp_path)]) == 1
    assert "missing.yaml" in capsys.readouterr().err
    (tmp_path / "v.yaml").write_text("models: {all: {serves: [x]}}\n")
    assert main(["regions", "--values", str(tmp_path / "v.yaml"), "--endpoints", str(tmp_path)]) == 1
    assert "another region" in capsys.readouterr().err
