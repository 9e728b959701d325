import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from trireme.regions.loading import Loading
from trireme.regions.loads import loads_body
from trireme.regions.options import RegionOptions
from trireme.scale.spill import LAYER, spill_file
from trireme.scale.values import parse_values

REGIONS = [
    {"name": "here"},
    {"name": "b", "balancer": "127.0.0.1:1"},
    {"name": "c", "balancer": "127.0.0.1:2"},
]


def standing(region, *, answers=True):
    return SimpleNamespace(region=region, answers=answers)


@pytest.fixture
def make(tmp_path):
    def loading(*standings, **envoy):
        raw = {"models": {"llm": {"serves": ["llm"]}}, "regions": REGIONS, "envoy": envoy}
        state = SimpleNamespace(standings=lambda: list(standings))
        return Loading(state, RegionOptions(Path("v"), tmp_path), parse_values(raw, "v"))

    return loading


def shares_in(folder):
    (resource,) = json.loads(spill_file(folder).read_text())["resources"]
    return resource["layer"][LAYER]


def test_the_load_that_counts_is_of_the_first_region_that_answers(make, tmp_path):
    loading = make(standing("b", answers=False), standing("c"), spill=True)
    loading.near.known = {"llm": 1.25}
    loading.far.hear("b", loads_body({"llm": 9.0}))
    loading.decide(print)
    assert shares_in(tmp_path) == loading.shares == {"llm": 0}
    loading.far.hear("c", loads_body({"llm": 0.0}))
    loading.decide(print)
    assert shares_in(tmp_path) == loading.shares == {"llm": 50}
    assert loading.far_loads() == {"llm": 0.0}


def test_where_no_region_answers_nothing_leaves(make):
    loading = make(standing("b", answers=False), spill=True)
    loading.far.hear("b", loads_body({"llm": 0.0}))
    loading.near.known = {"llm": 3.0}
    loading.decide(print)
    assert loading.shares == {"llm": 0}


def test_after_its_end_nothing_is_decided(make, tmp_path):
    loading = make(standing("b"), spill=True)
    loading.far.hear("b", loads_body({"llm": 0.0}))
    loading.near.known = {"llm": 3.0}
    loading.decide(print)
    assert shares_in(tmp_path) == {"llm": 100}
    loading.stop(print)
    loading.decide(print)
    assert shares_in(tmp_path) == {"llm": 0}


def test_a_region_that_does_not_spill_writes_nothing_and_tells_others_where_it_listens(make, tmp_path):
    for envoy, is_asked in (({}, False), ({"regionListen": {}}, True)):
        loading = make(standing("b"), **envoy)
        loading.near.known = {"llm": 3.0}
        loading.far.hear("b", loads_body({"llm": 0.0}))
        loading.decide(print)
        loading.stop(print)
        assert loading.is_asked is is_asked
        assert loading.shares == {}
    assert not spill_file(tmp_path).exists()
