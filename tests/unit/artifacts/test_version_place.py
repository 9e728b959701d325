from dataclasses import replace

import pytest

from trireme.artifacts.build import Built, build
from trireme.artifacts.gate import Gate, Thresholds
from trireme.artifacts.inputs import Inputs
from trireme.artifacts.manifest import Manifest, hash_file, read_manifest
from trireme.artifacts.recipe import Recipe
from trireme.artifacts.version_place import VersionPlace

INPUTS = Inputs({"precision": "fp32"}, {"files": {}}, {"numpy": "2"})
GATE = Gate("m", Thresholds({}, {}))


@pytest.fixture
def placed(tmp_path):
    """A version of INPUTS in the repository `tmp_path`."""
    place = VersionPlace(tmp_path, Recipe("m", "text_encoder", source="s"), 1)

    def make(stage):
        names = ("model.onnx", "tokenizer.json")
        for name in names:
            (stage / name).write_text(name)
        files = {name: hash_file(stage / name) for name in names}
        manifest = Manifest("m", "text_encoder", "s", "", "fp32", 8, 64, files, dict.fromkeys(files, 10))
        quality = {"letters": {"after": 1.0}}
        described = replace(manifest, quality=quality, inputs_digest=INPUTS.digest)
        return Built({}, lambda: described)

    manifest, is_new = build(INPUTS, make, GATE, place)
    assert is_new and read_manifest(tmp_path / "m" / "1") == manifest
    return place


def test_the_same_inputs_are_found_while_their_files_are_whole(placed):
    assert placed.find_same(INPUTS.digest).model == "m"
    assert placed.find_same("other") is None
    (placed.model_dir / "1" / "model.onnx").write_text("changed")
    assert placed.find_same(INPUTS.digest) is None


def test_nothing_placed_is_not_the_same(placed, tmp_path):
    assert replace(placed, repository=tmp_path / "absent").find_same(INPUTS.digest) is None


def test_a_version_without_the_quality_asked_for_is_not_the_same(placed):
    assert replace(placed, quality="letters").find_same(INPUTS.digest) is not None
    assert replace(placed, quality="words").find_same(INPUTS.digest) is None


def test_a_version_that_stays_gets_the_recipes_config(placed):
    config = placed.model_dir / "config.pbtxt"
    config.unlink()
    _, is_new = build(INPUTS, lambda stage: pytest.fail("it is there"), GATE, placed)
    assert not is_new and config.is_file()
