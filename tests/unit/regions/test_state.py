import json
from pathlib import Path

import pytest

from trireme.errors import SettingError
from trireme.regions.options import RegionOptions
from trireme.regions.pages import readiness
from trireme.regions.probe import Answer
from trireme.regions.state import RegionState
from trireme.scale.endpoints import Endpoint, far_file, read_far, write_far
from trireme.scale.values import parse_values

MODELS = {"llm": {"serves": ["llm"]}, "retrieval": {"serves": ["embedding"]}}
LISTS = {
    "two": [
        {"name": "a"},
        {"name": "b", "balancer": "10.0.0.1:8010"},
        {"name": "c", "balancer": "10.0.0.2:8020"},
    ],
    "named": [{"name": "a"}, {"name": "b", "balancer": "b.example.org:8010"}],
}


def values_of(regions, **envoy):
    raw = {"models": MODELS, "regions": regions, "envoy": {"regionInsecure": True, **envoy}}
    return parse_values(raw, "values.yaml")


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(tmp_path, said):
    """Makes a state over the same files, as a process that is started anew does."""

    def state(regions="two", look_up=lambda host, port: []):
        options = RegionOptions(Path("values.yaml"), tmp_path, hold=30.0)
        return RegionState(
            values_of(LISTS[regions] if isinstance(regions, str) else regions), options, look_up
        )

    return state


def hear(state, count=15, **milliseconds):
    for _ in range(count):
        for region, ms in milliseconds.items():
            state.hear(region, Answer("late") if ms is None else Answer("ok", ms / 1000))


def order(folder, entry="llm"):
    return [one.region for one in read_far(folder, entry)]


def test_before_any_answer_the_order_is_that_of_the_values_for_every_entry(make, tmp_path, said):
    state = make()
    assert list(tmp_path.iterdir()) == []
    assert not readiness(state)["ready"]
    state.look(0.0, said.append)
    assert readiness(state)["ready"]
    for entry in MODELS:
        assert read_far(tmp_path, entry) == [
            Endpoint("10.0.0.1", 8010, region="b", priority=1),
            Endpoint("10.0.0.2", 8020, region="c", priority=2),
        ]


def test_the_first_answers_order_regions_at_once_and_later_ones_only_as_the_rule_says(make, tmp_path, said):
    state = make()
    hear(state, 3, b=82, c=30)
    state.look(0.0, said.append)
    assert order(tmp_path) == order(tmp_path, "retrieval") == ["c", "b"]
    assert said == ["Regions in order: c (30.0 ms), b (82.0 ms)."]
    hear(state, b=10, c=30)
    state.look(1.0, said.append)
    state.look(30.9, said.append)
    assert order(tmp_path) == ["c", "b"]
    state.look(31.0, said.append)
    assert order(tmp_path) == ["b", "c"]
    assert state.changes == 2


def test_files_are_written_only_where_they_change(make, tmp_path, said):
    state = make()
    state.look(0.0, said.append)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    hear(state, b=30, c=82)
    for now in range(1, 40):
        state.look(float(now), said.append)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before
    assert state.written == len(MODELS)
    # What somebody else did to one of them is put right.
    far_file(tmp_path, "llm").unlink()
    state.look(40.0, said.append)
    assert order(tmp_path) == ["b", "c"]


def test_a_process_that_is_started_anew_finds_the_order_and_writes_nothing(make, tmp_path, said):
    state = make()
    hear(state, b=82, c=30)
    state.look(0.0, said.append)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    anew = make()
    anew.look(0.0, said.append)
    # Nor do its first answers change it: it is held as before.
    hear(anew, b=20, c=30)
    anew.look(1.0, said.append)
    assert order(tmp_path) == ["c", "b"]
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before


def test_a_region_that_does_not_answer_keeps_its_place_and_its_addresses(make, tmp_path, said):
    state = make()
    hear(state, b=30, c=82)
    state.look(0.0, said.append)
    hear(state, b=None, c=10)
    for now in range(1, 100):
        state.look(float(now), said.append)
    assert order(tmp_path) == ["b", "c"]
    first, second = state.standings()
    assert (first.region, first.answers, first.round_trip, first.rank) == ("b", False, None, 1)
    assert (second.answers, second.round_trip) == (True, 0.01)


def test_a_name_is_told_with_its_addresses_of_now_and_those_of_the_file_hold_until_it_is_known(
    make, tmp_path, said
):
    known = [["10.0.0.9", "10.0.0.8"], OSError("no DNS")]

    def look_up(host, port):
        found = known[0]
        if isinstance(found, OSError):
            raise found
        return found

    state = make("named", look_up)
    state.look(0.0, said.append)
    assert read_far(tmp_path, "llm") == []
    state.addresses["b"].refresh()
    state.look(1.0, said.append)
    assert [one.address for one in read_far(tmp_path, "llm")] == ["10.0.0.8", "10.0.0.9"]
    known.pop(0)
    anew = make("named", look_up)
    anew.addresses["b"].refresh()
    anew.look(0.0, said.append)
    assert [one.address for one in read_far(tmp_path, "llm")] == ["10.0.0.8", "10.0.0.9"]
    # Of another port they would be another's.
    moved = [LISTS["named"][0], {"name": "b", "balancer": "b.example.org:9"}]
    make(moved, look_up).look(0.0, said.append)
    assert read_far(tmp_path, "llm") == []


def test_an_address_of_two_regions_is_that_of_the_nearer_one(make, tmp_path, said):
    regions = [{"name": "a"}, *({"name": name, "balancer": f"{name}.example.org:8010"} for name in "bc")]
    state = make(regions, lambda host, port: ["10.0.0.1"])
    for one in state.addresses.values():
        one.refresh()
    state.look(0.0, said.append)
    assert order(tmp_path) == ["b"]


def test_a_region_that_the_values_no_longer_name_is_left_out(make, tmp_path, said):
    write_far(tmp_path, "llm", [Endpoint("10.0.0.7", 1, region="gone", priority=1)])
    make().look(0.0, said.append)
    assert order(tmp_path) == ["b", "c"]


def test_a_folder_that_cannot_be_written_is_told_once_and_is_no_reason_to_end(make, tmp_path, said):
    state = make()
    state.look(0.0, said.append)
    far_file(tmp_path, "llm").unlink()
    far_file(tmp_path, "llm").mkdir()
    for now in (1.0, 2.0):
        state.look(now, said.append)
    (line,) = said
    assert "cannot be written" in line
    assert str(far_file(tmp_path, "llm")) in line
    assert readiness(state)["reasons"] == [state.fault]
    far_file(tmp_path, "llm").rmdir()
    state.look(3.0, said.append)
    assert readiness(state)["ready"]


def test_what_ready_says_is_json_and_has_all_regions(make, said):
    state = make()
    hear(state, b=82, c=30)
    state.look(0.0, said.append)
    regions = json.loads(json.dumps(readiness(state)))["regions"]
    assert [(one["name"], one["rank"], one["round_trip_seconds"]) for one in regions] == [
        ("c", 1, 0.03),
        ("b", 2, 0.082),
    ]


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ([], ("another region", "values.yaml")),
        ([{"name": "a"}], ("another region",)),
        ([{"name": "a"}, {"name": "b"}], ("regions[1].balancer", "b is reached")),
        ([{"name": "a"}, *({"name": f"r{n}", "balancer": f"h{n}:1"} for n in range(128))], ("at most 127",)),
    ],
)
def test_values_that_name_no_other_balancer_are_refused(make, regions, words):
    with pytest.raises(SettingError) as raised:
        make(regions)
    for word in ("--values", *words):
        assert word in str(raised.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    options = RegionOptions(Path("v"), tmp_path / "none")
    with pytest.raises(SettingError, match=r"--endpoints .*none must be the folder"):
        RegionState(values_of(LISTS["two"]), options)
