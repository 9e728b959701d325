from contextlib import contextmanager
from dataclasses import replace

import pytest

from trireme.artifacts.build import Built, VersionPlace, build
from trireme.artifacts.gate import Gate, Thresholds
from trireme.artifacts.inputs import Inputs
from trireme.artifacts.manifest import Manifest, hash_file, read_manifest
from trireme.artifacts.recipe import Recipe
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


@pytest.fixture
def placed(tmp_path):
    """A version of INPUTS in the repository `tmp_path`."""
    place = VersionPlace(tmp_path, Recipe("m", "text_encoder", source="s"), 1)

    def write(stage):
        for name in ("model.onnx", "tokenizer.json"):
            (stage / name).write_text(name)
        files = {name: hash_file(stage / name) for name in ("model.onnx", "tokenizer.json")}
        manifest = Manifest("m", "text_encoder", "s", "", "fp32", 8, 64, files, dict.fromkeys(files, 10))
        quality = {"letters": {"after": 1.0}}
        described = replace(manifest, quality=quality, inputs_digest=INPUTS.digest)
        return Built({"cosine": 1.0}, lambda: described)

    manifest, is_new = build(INPUTS, write, GATE, place)
    assert is_new and read_manifest(tmp_path / "m" / "1") == manifest
    return place


def test_a_version_is_found_by_its_digest_and_gets_the_recipes_config(placed):
    assert placed.find_same(INPUTS.digest).model == "m"
    assert placed.find_same("other") is None
    config = placed.model_dir / "config.pbtxt"
    config.unlink()
    build(INPUTS, make(1.0, []), GATE, placed)
    assert config.is_file()


def test_a_version_without_the_quality_asked_for_is_not_the_same(placed):
    assert replace(placed, quality="letters").find_same(INPUTS.digest) is not None
    assert replace(placed, quality="words").find_same(INPUTS.digest) is None
