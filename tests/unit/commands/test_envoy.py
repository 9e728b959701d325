import json
from pathlib import Path

import pytest

from trireme.cli import main
from trireme.scale.envoy import bootstrap
from trireme.scale.values import read_values

VALUES = "models: {all: {serves: [embedding], idempotent: [embedding]}}\n"


@pytest.fixture
def values(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(VALUES)
    return file


def test_the_configuration_is_printed(values, capsys):
    assert main(["envoy", "--values", str(values)]) == 0
    assert json.loads(capsys.readouterr().out) == bootstrap(read_values(values), endpoints=None)


def test_or_written_with_the_folder_of_endpoints(values, tmp_path, capsys):
    out = tmp_path / "envoy.json"
    assert main(["envoy", "--values", str(values), "--endpoints", "eds", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == bootstrap(read_values(values), endpoints=Path("eds"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--values", "missing.yaml"], "missing.yaml"),
        (["--values", "VALUES", "--out", "envoy.conf"], ".json"),
        (["--values", "VALUES", "--out", "/nowhere/envoy.json"], "/nowhere/envoy.json"),
    ],
)
def test_what_is_wrong_is_named(values, capsys, arguments, word):
    arguments = [str(values) if one == "VALUES" else one for one in arguments]
    assert main(["envoy", *arguments]) == 1
    assert word in capsys.readouterr().err
