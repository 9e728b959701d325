"""docs/regions-state.md names what is there."""

import re
from pathlib import Path

from trireme.cli import _parser
from trireme.errors import FollowerError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.spending.home import LOOK_SECONDS
from trireme.local.postgres import replication_settings
from trireme.observe.state_metrics import STATE
from trireme.postgres.following import TABLES
from trireme.redis.connection import TIMEOUT_SECONDS
from trireme.settings import Settings, read_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "regions-state.md").read_text(encoding="utf-8")


def blocks(kind):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return [text for of, text in found if of == kind]


def test_its_example_is_a_file_that_the_gateway_takes():
    (example,) = blocks("toml")
    file = parse_gateway_file(example.encode(), "gateway.toml")
    assert (file.homes(), file.budgets.without_home) == (["eu-west"], "share")


def test_its_settings_are_settings_with_values_that_are_taken():
    exported = dict(re.findall(r'^export (TRIREME_\w+)="(.+)"$', "".join(blocks("sh")), re.MULTILINE))
    assert len(exported) == 2
    read_settings(exported)
    known = {f"TRIREME_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert set(re.findall(r"TRIREME_[A-Z_]+", TEXT)) <= known


def test_its_commands_are_commands():
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("trireme ")]
    spoken = re.findall(r"`trireme (replication [a-z]+(?: --lost)?)`", TEXT)
    assert len(lines) == 3
    assert {"replication stop", "replication promote --lost", "replication status"} <= set(spoken)
    for words in [re.findall(r'"[^"]*"|\S+', line)[1:] for line in lines] + [one.split() for one in spoken]:
        _parser().parse_args(words)


def test_the_servers_settings_are_those_of_the_embedded_one():
    named = dict(re.findall(r"^(\w+) = (\w+)$", "".join(blocks("")), re.MULTILINE))
    assert set(named) == set(replication_settings(Settings().replication_wal_bytes))
    assert named["wal_level"] == replication_settings(1)["wal_level"]
    assert replication_settings(Settings().replication_wal_bytes)["max_slot_wal_keep_size"] == "4096MB"


def test_its_metrics_are_all_of_them():
    assert set(re.findall(r"`(trireme_[a-z_]+)`", TEXT)) == {row.name for row in STATE}


def test_its_times_are_those_of_the_code():
    assert (LOOK_SECONDS, TIMEOUT_SECONDS) == (1.0, 1.0)
    assert FollowerError.reason == "FOLLOWER"
    assert FollowerError.code == "UNSUPPORTED"


def test_the_tests_that_it_names_are_there_and_what_is_published_is_what_it_says():
    for name in re.findall(r"tests/e2e/test_\w+\.py", TEXT):
        assert (ROOT / name).is_file(), name
    granted = re.search(
        r"GRANT SELECT ON (trireme.migrations, trireme.collections.+?) TO replicator", TEXT, re.DOTALL
    )
    assert set(re.findall(r"trireme\.(\w+)", granted[1])) == {"migrations", *TABLES}
