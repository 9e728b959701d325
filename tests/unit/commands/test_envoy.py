import json
from pathlib import Path

import pytest

from trireme.cli import main
from trireme.scale.endpoints import Endpoint, far_file, read_far, write_far
from trireme.scale.envoy import bootstrap
from trireme.scale.region_tls import secrets
from trireme.scale.spill import spill_file, write_shares
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


REGIONS = """
regions: [{name: here}, {name: there, balancer: "there.example.org:8010"}]
envoy:
  regionListen: {address: 0.0.0.0}
  regionTls: {certificate: /tls/tls.crt, key: /tls/tls.key, authority: /tls/ca.crt}
"""


def test_of_several_regions_near_replicas_may_come_from_dns_and_what_envoy_needs_to_start_is_made(
    values, tmp_path
):
    values.write_text(VALUES + REGIONS)
    folder, out = tmp_path / "far", tmp_path / "out" / "envoy.json"
    folder.mkdir()
    out.parent.mkdir()
    words = ["envoy", "--values", str(values), "--far-endpoints", str(folder), "--out", str(out)]
    assert main(words) == 0
    read = read_values(values)
    made = bootstrap(read, endpoints=None, far_endpoints=folder, secrets=out.parent)
    assert json.loads(out.read_text()) == made
    assert read_far(folder, "all") == []
    assert far_file(folder, "all").exists()
    for name, secret in secrets(read.envoy.region_tls, read.other_regions).items():
        assert json.loads((out.parent / f"{name}.json").read_text()) == secret
    # What is there is somebody's.
    far = [Endpoint("10.0.0.1", 8010, region="there", priority=1)]
    write_far(folder, "all", far)
    assert main(words) == 0
    assert read_far(folder, "all") == far


@pytest.mark.parametrize("flag", ["--endpoints", "--far-endpoints"])
def test_the_file_of_shares_is_made_where_calls_may_spill_and_one_that_is_there_is_left(
    values, tmp_path, flag
):
    folder = tmp_path / "files"
    folder.mkdir()
    words = ["envoy", "--values", str(values), flag, str(folder), "--out", str(tmp_path / "envoy.json")]
    values.write_text(VALUES + REGIONS)
    assert main(words) == 0
    assert not spill_file(folder).exists()
    values.write_text(VALUES + REGIONS.replace("envoy:\n", "envoy:\n  spill: true\n"))
    assert main(words) == 0
    assert spill_file(folder).exists()
    write_shares(folder, {"all": 40})
    before = spill_file(folder).read_text()
    assert main(words) == 0
    assert spill_file(folder).read_text() == before


def test_regions_are_refused_without_a_folder_and_tls_without_a_file(values, tmp_path, capsys):
    values.write_text(VALUES + REGIONS)
    assert main(["envoy", "--values", str(values)]) == 1
    assert "--far-endpoints FOLDER" in capsys.readouterr().err
    assert main(["envoy", "--values", str(values), "--far-endpoints", str(tmp_path)]) == 1
    assert "--out FILE" in capsys.readouterr().err
    assert (
        main(["envoy", "--values", str(values), "--far-endpoints", "/nowhere", "--out", f"{tmp_path}/e.json"])
        == 1
    )
    assert "/nowhere" in capsys.readouterr().err


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
