"""docs/degradation.md says what the code does: its tables are compared with it, row by row."""

import re
from pathlib import Path

import msgspec

from fakes.cascade_gateways import V1, place
from trireme.gateway.cascades.plan import read_cascades
from trireme.gateway.degrade import wants
from trireme.gateway.degrade.rows import STEPS, RefuseRow, RouteRow
from trireme.gateway.file import parse_gateway_file
from trireme.observe.degrade_metrics import DEGRADE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "degradation.md").read_text(encoding="utf-8")
TABLES = {"degrade.NAME": RouteRow, "degrade.NAME.refuse": RefuseRow}


def rows(name):
    block = re.search(rf"<!-- begin: {name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in block[1].splitlines()
        if "`" in line
    ]


def test_the_steps_are_listed_in_the_order_in_which_they_are_taken():
    assert tuple(step.strip("`") for step, *_ in rows("steps")) == (*STEPS, "refuse")


def test_every_key_of_a_route_is_listed_with_its_default():
    said = {(table.strip("`"), key.strip("`")): default.strip("`") for table, key, default, _ in rows("file")}
    known = {
        (table, field.name): field.default
        if field.default_factory is msgspec.NODEFAULT
        else field.default_factory()
        for table, kind in TABLES.items()
        for field in msgspec.structs.fields(kind)
    }
    known["degrade.NAME", "refuse"] = {}
    assert set(said) == set(known)
    for key, default in known.items():
        assert said[key] == msgspec.json.encode(default).decode(), key


def test_the_example_is_valid_and_takes_every_step():
    example = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    file = parse_gateway_file(example[1].encode(), "example")
    assert tuple(step for step, _ in file.degrade["rag"].steps) == STEPS
    assert file.degrade["rag"].refuse.high == 8.0
    assert file.tenants["crawler"].priority == "batch"


def test_the_example_of_a_cascade_is_read_with_its_calibrations(tmp_path):
    example = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[1]
    (tmp_path / "cascade").mkdir()
    for name in ("extractive.json", "extractive-8.json"):
        place(tmp_path / "cascade", name, features=("sentence_score",), versions=(("rag", V1),))
    file = parse_gateway_file(example.encode(), "example")
    plan = read_cascades(file, tmp_path / "gateway.toml")["careful"]
    assert plan.steps[0].under(["fewer_candidates"]) is not None
    assert [step for step, _ in file.degrade["careful"].steps] == ["fewer_candidates", "extractive"]


def test_every_header_that_is_read_is_listed():
    listed = {name for row in rows("headers") for name in re.findall(r"`(x-[a-z-]+)`", row[0])}
    read = {wants.TIMEOUT, wants.PRIORITY, *wants.READ_TIMEOUTS, wants.OF_ENVOY}
    assert listed == read


def test_every_metric_of_degradation_is_listed_and_no_other():
    said = set(re.findall(r"^\| `(trireme_gateway_\w+)` \|", TEXT, re.MULTILINE))
    assert said == {metric.name for metric in DEGRADE}
