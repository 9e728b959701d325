import json
from collections import deque
from itertools import pairwise

import pytest

from trireme.regions.spill import ALL_AT, SPILL_FROM, Spill, share_of
from trireme.scale.spill import LAYER, spill_file

LOADS = [step / 20 for step in range(61)]


def test_nothing_leaves_at_low_load_then_a_growing_share_then_all():
    shares = [share_of(load, 0.0) for load in LOADS]
    assert shares == sorted(shares)
    for load, share in zip(LOADS, shares, strict=True):
        assert (share == 0) is (load <= SPILL_FROM)
        assert (share == 100) is (load >= ALL_AT)
    # Evenly: no step of load moves more than its part of all calls.
    steps = [after - before for before, after in pairwise(shares)]
    assert max(steps) <= 4


@pytest.mark.parametrize("near", [0.6, 1.0, 3.0])
def test_the_more_loaded_the_far_region_is_the_less_it_gets(near):
    shares = [share_of(near, load) for load in LOADS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert all(share == 0 for load, share in zip(LOADS, shares, strict=True) if load >= min(1.0, near))


def test_two_regions_never_send_calls_to_each_other_at_once():
    for one in LOADS:
        for other in LOADS:
            assert share_of(one, other) == 0 or share_of(other, one) == 0


def test_where_a_load_is_not_known_nothing_leaves():
    assert share_of(None, 0.0) == share_of(3.0, None) == share_of(None, None) == 0


@pytest.mark.parametrize(("offered", "settles"), [(0.9, 0.0), (1.5, 1 / 3), (2.0, 0.5), (3.0, 2 / 3)])
def test_the_share_settles_where_the_near_region_keeps_up_and_comes_back(offered, settles):
    """Work of `offered` seconds a second comes to one that does one; reports are a second old, and a turn each."""
    waiting, share, reports = 0.0, 0, deque([0.0] * 10, maxlen=10)
    found = []
    for step in range(3000):
        comes = offered if step < 2000 else 0.5
        waiting = max(0.0, waiting + 0.1 * (comes * (1 - share / 100) - 1.0))
        # By an agent's own setting, two seconds that wait are a load of 1.
        reports.append(waiting / 2.0)
        if step % 10 == 0:
            share = share_of(reports[0], 0.1)
        found.append(share / 100)
    late = found[1500:2000]
    assert sum(late) / len(late) == pytest.approx(settles, abs=0.03)
    # It does not swing: a load test of a minute sees one share.
    assert max(late) - min(late) <= 0.1
    assert found[-1] == 0


def shares_in(folder):
    (resource,) = json.loads(spill_file(folder).read_text())["resources"]
    return resource["layer"][LAYER]


def test_shares_are_written_when_they_change_and_begin_and_end_are_told(tmp_path):
    said = []
    spill = Spill(("llm", "retrieval"), tmp_path)
    spill.decide({"llm": 0.1}, {"llm": 0.0}, said.append)
    assert shares_in(tmp_path) == {"llm": 0, "retrieval": 0}
    spill_file(tmp_path).unlink()
    spill.decide({"llm": 0.2}, {"llm": 0.0}, said.append)
    assert not spill_file(tmp_path).exists()
    spill.decide({"llm": 1.25, "retrieval": 9.0}, {"llm": 0.0}, said.append)
    assert shares_in(tmp_path) == {"llm": 50, "retrieval": 0}
    spill.decide({"llm": 2.0}, {"llm": 0.0}, said.append)
    spill.decide({}, {}, said.append)
    assert shares_in(tmp_path) == {"llm": 0, "retrieval": 0}
    assert said == [
        "Calls of llm begin to leave for another region.",
        "Calls of llm no longer leave for another region.",
    ]


def test_shares_that_cannot_be_written_are_told_once_and_tried_again(tmp_path):
    said = []
    folder = tmp_path / "later"
    spill = Spill(("llm",), folder)
    for _ in range(2):
        spill.decide({"llm": 0.1}, {}, said.append)
    assert len(said) == 1
    assert "later" in said[0]
    folder.mkdir()
    spill.decide({"llm": 0.1}, {}, said.append)
    assert shares_in(folder) == {"llm": 0}
