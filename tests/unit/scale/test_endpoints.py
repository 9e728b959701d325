import json
import re
import threading
from pathlib import Path

import pytest

from trireme.errors import InvalidInputError, SettingError
from trireme.scale.endpoints import (
    Endpoint,
    far_file,
    make_far,
    near_file,
    overprovisioning,
    read_far,
    write_far,
    write_near,
)

A, B = Endpoint("127.0.0.1", 8001, agent_port=8003), Endpoint("127.0.0.1", 8011, state="draining", weight=3)


def resource(path):
    (one,) = json.loads(path.read_text())["resources"]
    return one


def ports(assignment):
    """Ports by priority."""
    found = {}
    for locality in assignment["endpoints"]:
        some = [
            one["endpoint"]["address"]["socket_address"]["port_value"] for one in locality["lb_endpoints"]
        ]
        found.setdefault(locality["priority"], []).extend(some)
    return found


def test_envoy_is_told_of_each_replica_its_state_its_weight_and_where_its_health_is_asked(tmp_path):
    write_near(tmp_path, "llm", [A, B])
    one = resource(near_file(tmp_path, "llm"))
    assert one["cluster_name"] == "llm"
    (locality,) = one["endpoints"]
    first, second = locality["lb_endpoints"]
    assert first["endpoint"]["health_check_config"] == {"port_value": 8003}
    assert (first["health_status"], first["load_balancing_weight"]) == ("HEALTHY", 1)
    assert "health_check_config" not in second["endpoint"]
    assert (second["health_status"], second["load_balancing_weight"]) == ("DRAINING", 3)


FAR = [Endpoint("10.0.0.1", port, region=f"r{port}", priority=port) for port in (3, 7, 5)]


def test_far_endpoints_have_a_file_of_their_own_where_priorities_have_no_gaps(tmp_path):
    assert write_far(tmp_path, "llm", FAR)
    one = resource(far_file(tmp_path, "llm"))
    assert one["cluster_name"] == "llm_far"
    assert ports(one) == {0: [3], 1: [5], 2: [7]}
    assert [locality["locality"]["region"] for locality in one["endpoints"]] == ["r3", "r5", "r7"]


def test_who_writes_near_endpoints_and_who_writes_far_ones_leave_the_other_file_alone(tmp_path):
    write_near(tmp_path, "llm", [A])
    assert [path.name for path in tmp_path.iterdir()] == ["llm.json"]
    near = near_file(tmp_path, "llm").read_text()
    write_far(tmp_path, "llm", FAR)
    assert near_file(tmp_path, "llm").read_text() == near
    far = far_file(tmp_path, "llm").read_text()
    write_near(tmp_path, "llm", [B])
    assert far_file(tmp_path, "llm").read_text() == far
    with pytest.raises(InvalidInputError, match="near replicas have priority 0"):
        write_near(tmp_path, "llm", FAR)
    with pytest.raises(InvalidInputError, match="begin with 1"):
        write_far(tmp_path, "llm", [A])


def test_a_far_file_is_written_only_where_it_changes(tmp_path):
    assert write_far(tmp_path, "llm", FAR)
    before = far_file(tmp_path, "llm").stat().st_ino
    assert not write_far(tmp_path, "llm", FAR)
    assert far_file(tmp_path, "llm").stat().st_ino == before
    assert write_far(tmp_path, "llm", FAR[:1])
    far_file(tmp_path, "llm").write_bytes(b"\xff")
    assert write_far(tmp_path, "llm", FAR[:1])


def test_an_empty_far_file_is_made_only_where_there_is_none(tmp_path):
    make_far(tmp_path, "llm")
    assert resource(far_file(tmp_path, "llm"))["endpoints"] == []
    write_far(tmp_path, "llm", FAR)
    make_far(tmp_path, "llm")
    assert len(resource(far_file(tmp_path, "llm"))["endpoints"]) == 3


def test_far_endpoints_are_read_as_they_were_written(tmp_path):
    assert read_far(tmp_path, "llm") == []
    some = [
        Endpoint("10.0.0.9", 1, region="b", priority=1, weight=3),
        Endpoint("fd00::1", 2, "draining", 7, region="a", priority=2),
        Endpoint("fd00::2", 2, region="a", priority=2),
    ]
    write_far(tmp_path, "llm", some)
    assert read_far(tmp_path, "llm") == some


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"resources": []}', '{"resources": [{"endpoints": [{"lb_endpoints": [{}]}]}]}', "\x00"],
)
def test_a_far_file_that_somebody_else_wrote_says_nothing(tmp_path, text):
    far_file(tmp_path, "llm").write_text(text)
    assert read_far(tmp_path, "llm") == []


def test_a_fleet_without_replicas_has_files_that_envoy_can_read(tmp_path):
    write_near(tmp_path, "llm", [])
    write_far(tmp_path, "llm", [])
    assert resource(near_file(tmp_path, "llm"))["endpoints"] == []
    assert resource(far_file(tmp_path, "llm"))["endpoints"] == []


@pytest.mark.parametrize("replicas", range(1, 12))
def test_one_lost_replica_sends_no_call_to_the_next_priority(tmp_path, replicas):
    factor = overprovisioning(replicas)
    left = (replicas - 1) / replicas
    # Envoy keeps min(100, share that is healthy x factor) percent.
    assert replicas == 1 or left * factor >= 100
    assert factor >= 140
    write_near(tmp_path, "llm", [Endpoint("127.0.0.1", port) for port in range(1, replicas + 1)])
    assert resource(near_file(tmp_path, "llm"))["policy"] == {"overprovisioning_factor": factor}


def test_a_region_that_loses_one_of_two_addresses_keeps_its_calls_beside_one_that_has_one(tmp_path):
    two = [Endpoint("10.0.0.1", port, region="b", priority=1) for port in (1, 2)]
    write_far(tmp_path, "llm", [*two, Endpoint("10.0.0.2", 1, region="c", priority=2)])
    assert resource(far_file(tmp_path, "llm"))["policy"] == {"overprovisioning_factor": 200}


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (Endpoint("localhost", 1), "localhost"),
        (Endpoint("", 1), "IP address"),
        (Endpoint("127.0.0.1", 0), "65535"),
        (Endpoint("127.0.0.1", 65536), "65536"),
        (Endpoint("127.0.0.1", 1, agent_port=-1), "-1"),
        (Endpoint("127.0.0.1", 1, weight=0), "weight"),
        (Endpoint("127.0.0.1", 1, priority=-1), "priority 0"),
        (Endpoint("127.0.0.1", 1, state="gone"), "gone"),
        (Endpoint("127.0.0.1", 8001), "twice"),
        (Endpoint("127.0.0.1", 1.5), "whole numbers"),
        (Endpoint("127.0.0.1", 1, weight=float("nan")), "whole numbers"),
        (Endpoint("127.0.0.1", 1, weight=2**32 - 1), "weights of one region"),
        (Endpoint(2130706433, 1), "IP address"),
    ],
)
def test_what_envoy_would_refuse_is_refused_and_the_old_file_stays(tmp_path, bad, word):
    write_near(tmp_path, "llm", [A])
    before = near_file(tmp_path, "llm").read_text()
    with pytest.raises(InvalidInputError, match=word):
        write_near(tmp_path, "llm", [A, bad])
    assert near_file(tmp_path, "llm").read_text() == before


def test_priorities_are_as_many_as_envoy_has(tmp_path):
    for priority in (-1, 128):
        with pytest.raises(InvalidInputError, match="priority from 0 to 127"):
            write_far(tmp_path, "llm", [Endpoint("127.0.0.1", 1, priority=priority)])
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_written_in_two_ways_is_one(tmp_path):
    with pytest.raises(InvalidInputError, match="twice"):
        write_near(tmp_path, "llm", [Endpoint("::1", 1), Endpoint("0:0:0:0:0:0:0:1", 1)])


def test_a_folder_that_is_not_there_or_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(SettingError, match=re.escape(str(folder))):
            write_near(folder, "llm", [Endpoint("127.0.0.1", 1)])
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_what_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    # A folder stands where the file should.
    near_file(tmp_path, "llm").mkdir()
    with pytest.raises(SettingError):
        write_near(tmp_path, "llm", [Endpoint("127.0.0.1", 1)])
    assert list(tmp_path.iterdir()) == [near_file(tmp_path, "llm")]


@pytest.mark.parametrize("name", ["../x", "", "a/b", "LLM", "a.b", "llm_far", "x" * 42])
def test_files_have_names_of_entries_alone(tmp_path, name):
    for write in (write_near, write_far):
        with pytest.raises(InvalidInputError, match="cannot be the name of an entry"):
            write(tmp_path, name, [])
    assert not list(tmp_path.iterdir())


def test_who_reads_meanwhile_finds_a_whole_file_and_no_other_is_left(tmp_path):
    write_near(tmp_path, "llm", [A])
    over = threading.Event()
    broken = []

    def read():
        while not over.is_set():
            try:
                resource(near_file(tmp_path, "llm"))
            except ValueError as error:
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for count in range(50):
            write_near(tmp_path, "llm", [Endpoint("127.0.0.1", port) for port in range(1, count + 2)])
    finally:
        over.set()
        reader.join()
    assert broken == []
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["llm.json"]
