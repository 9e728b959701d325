from contextlib import contextmanager

import pytest

from trireme.artifacts.build import Built, build
from trireme.artifacts.gate import Gate, Thresholds
from trireme.artifacts.inputs import Inputs
from trireme.errors import GateError

INPUTS = Inputs({"precision": "fp32"}, {"files": {}}, {"numpy": "2"})
GATE = Gate("m", Thresholds({"cosine": 0.9}, {}))


class FakePlace:
    """Notes what is asked of it; `present` is what it finds."""

    def __init__(self, present=None):
        self.present, self.calls = present, []

    def find_same(self, digest):
        self.calls.append("find")
        return self.present

    @contextmanager
    def stage(self):
        self.calls.append("stage")
        yield "stage"
        self.calls.append("place")

    def write_manifest(self, stage, manifest):
        self.calls.append(f"write {manifest} into {stage}")

    def finish(self):
        self.calls.append("finish")


def make(cosine, calls):
    def describe():
        calls.append("describe")
        return "manifest"

    def written(stage):
        calls.append(f"make in {stage}")
        return Built({"cosine": cosine}, describe)

    return written


def test_a_build_goes_from_stage_to_gate_to_manifest_to_place():
    place, steps = FakePlace(), []
    assert build(INPUTS, make(0.95, place.calls), GATE, place, notice=steps.append) == ("manifest", True)
    assert place.calls == [
        "find",
        "stage",
        "make in stage",
        "describe",
        "write manifest into stage",
        "place",
        "finish",
    ]
    assert steps == ["place"]


def test_what_is_there_is_not_made_again_unless_forced():
    place = FakePlace("of before")
    assert build(INPUTS, make(0.95, place.calls), GATE, place) == ("of before", False)
    assert place.calls == ["find", "finish"]
    assert build(INPUTS, make(0.95, place.calls), GATE, place, force=True) == ("manifest", True)


def test_past_the_gate_nothing_is_described_or_placed():
    place = FakePlace()
    with pytest.raises(GateError, match=r"cosine 0\.8"):
        build(INPUTS, make(0.8, place.calls), GATE, place)
    assert place.calls == ["find", "stage", "make in stage"]
