"""docs/envoy.md and deploy/envoy say what the code does."""

import dataclasses
import json
import re
from pathlib import Path

from trireme.cli import main
from trireme.scale.routes import route_configuration
from trireme.scale.value_readers import Address
from trireme.scale.values import EnvoyValues, ModelEntry, parse_values, read_values

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "envoy.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "deploy" / "envoy"


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def table(name):
    """Key and default of each row."""
    block = re.search(rf"<!-- begin: {re.escape(name)} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)[1]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", block, re.MULTILINE)
    return {key: default for key, default in rows if default != "default"}


def as_yaml(value):
    if value is None:
        return "null"
    if isinstance(value, Address):
        return f"{{address: {value.address}, port: {value.port}}}"
    if value is None:
        return "null"
    return (
        json.dumps(value)
        if isinstance(value, bool) or value == ""
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def test_the_table_of_envoy_has_each_setting_with_its_default():
    defaults = {
        camel(one.name): f"`{as_yaml(getattr(EnvoyValues(), one.name))}`"
        for one in dataclasses.fields(EnvoyValues)
    }
    assert table("envoy") == defaults
    assert list(table("envoy")) == list(defaults)


def test_the_table_of_an_entry_has_each_setting_with_its_default():
    found = table("models.NAME")
    entry = {
        key: {"min": 1}
        if key == "replicas"
        else ["x"]
        if key in ("serves", "idempotent")
        else True
        if key == "default"
        else "gpu"
        if key == "target"
        else 3
        for key in found
    }
    read = parse_values({"models": {"all": entry}}, "v").models[0]
    assert len(found) == len(dataclasses.fields(ModelEntry)) - 2
    assert read.failover_max_requests == read.per_try_timeout_seconds == read.max_requests == 3
    bare = parse_values({"models": {"all": {"serves": ["x"]}}}, "v").models[0]
    assert found["replicas"] == f"`{{min: {bare.min_replicas}, max: {bare.max_replicas}}}`"
    assert (found["maxRequests"], found["target"]) == (f"`{bare.max_requests}`", f"`{bare.target}`")


def test_the_table_of_classes_says_what_is_asked_again():
    values = parse_values({"models": {"all": {"serves": ["x"], "idempotent": ["x"]}}}, "v")
    (host,) = route_configuration(values)["virtual_hosts"]
    asked = {
        route["name"].removeprefix("all-"): route["route"]["retry_policy"]["retry_on"].replace(",", ", ")
        for route in host["routes"]
        if "route" in route
    }
    section = TEXT.split("## What is asked again?")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([a-z, -]+) \|$", section, re.MULTILINE)) == asked


def test_the_flag_that_a_server_needs_is_the_one_that_ours_have():
    from trireme.triton.server import ServerConfig, ServerFiles, server_command

    flag = re.search(r"^`(--grpc[^`]+)`", TEXT, re.MULTILINE)[1]
    paths = {one.name: Path("x") for one in dataclasses.fields(ServerFiles)}
    config = ServerConfig("127.0.0.1", 1, 2, 3, Path("m"), Path("b"), Path("l"))
    assert flag in server_command(config, ServerFiles(**paths))


def test_the_example_is_what_the_page_writes(tmp_path):
    line = re.search(r"^trireme (envoy .*) --out envoy.json$", TEXT, re.MULTILINE)[1]
    out = tmp_path / "envoy.json"
    arguments = line.replace("deploy/envoy", str(EXAMPLE)).split()
    assert main([*arguments, "--out", str(out)]) == 0
    assert out.read_text() == (EXAMPLE / "envoy.json").read_text(), f"write it anew: trireme {line}"


def test_the_example_balances_the_models_of_the_default_repository():
    served = [model for entry in read_values(EXAMPLE / "values.yaml").models for model in entry.serves]
    here = {path.name for path in (ROOT / "model_repository").iterdir() if (path / "recipe.toml").is_file()}
    assert set(served) == here
