"""docs/regions.md names what is there, with its defaults, and leaves nothing out."""

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from trireme.cli import _parser
from trireme.fleet.places import raw_values
from trireme.fleet.regions import with_regions
from trireme.observe import metrics
from trireme.regions.options import RegionOptions, flag_of
from trireme.regions.probe import OUTCOMES
from trireme.scale.values import parse_values
from trireme.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "regions.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_file_of_a_machine_is_one_that_trireme_serve_takes(tmp_path):
    (text,) = blocks("yaml")
    more = yaml.safe_load(text)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    # Those that the page makes.
    (made,) = (block for block in blocks("sh") if block.startswith("openssl"))
    subprocess.run(["sh", "-ec", made], cwd=tmp_path, check=True, capture_output=True)
    for key, path in more["envoy"]["regionTls"].items():
        more["envoy"]["regionTls"][key] = str(tmp_path / Path(path).name)
    values = parse_values(with_regions(raw_values(Settings(), [], 1), more, "regions.yaml"), "regions.yaml")
    assert values.has_failover
    # A region that vanished is found within a second, as the page says of its settings.
    envoy = values.envoy
    assert envoy.keepalive_interval_seconds + envoy.keepalive_timeout_seconds <= 1
    assert envoy.connect_timeout_seconds < envoy.per_try_timeout_seconds < 0.5


def test_its_commands_are_commands():
    commands = re.findall(r"^(?:[A-Z_]+=\S+ )?trireme (.+)$", "\n".join(blocks("sh")), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        _parser().parse_args(command.split())


def test_the_metrics_are_those_of_the_table_with_their_labels():
    told = dict(re.findall(r"^\| `(trireme_region_\w+)(?:\{([a-z,]+)\})?` \|", TEXT, re.MULTILINE))
    assert told == {row.name: ",".join(row.labels) for row in metrics.REGIONS}


def test_the_outcomes_of_probes_are_those_that_there_are():
    (row,) = re.findall(r"^\| `trireme_region_probes_total.*$", TEXT, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(OUTCOMES)


def test_every_option_is_named_with_its_default():
    defaults = {flag_of(one.name): one.default for one in fields(RegionOptions)}
    told = dict(re.findall(r"`(--[a-z-]+)`\s\(([\d.]+)\)", TEXT))
    others = {"--values", "--endpoints", "--answer-seconds", "--release"}
    assert set(told) == set(defaults) - others
    for flag, value in told.items():
        assert value == f"{defaults[flag]:g}" if isinstance(defaults[flag], float) else str(defaults[flag]), (
            flag
        )
