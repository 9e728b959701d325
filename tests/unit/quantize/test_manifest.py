import json

import pytest

from trireme.artifacts.inputs import hash_folder
from trireme.errors import ArtifactError
from trireme.quantize.manifest import (
    QUANTIZATION_FILE,
    QuantizationManifest,
    read_quantization,
    verify_quantization,
    write_quantization,
)


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "model.safetensors").write_text("weights")
    files = hash_folder(tmp_path, without=QUANTIZATION_FILE)
    manifest = QuantizationManifest(
        method="awq",
        bits=4,
        group_size=128,
        sym=False,
        architecture="LlamaForCausalLM",
        parameters=10,
        source="some/model",
        revision="a" * 40,
        device="cpu",
        seed=1,
        calibration={"name": "text"},
        evaluation={"name": "other"},
        figures={"kl": 0.01},
        thresholds={"max_kl": 0.05},
        tools={"gptqmodel": "7.6.0"},
        files=files,
        sizes={"model.safetensors": 7},
        seconds=1.5,
        memory_bytes=100,
    )
    write_quantization(tmp_path, manifest)
    return tmp_path, manifest


def test_a_manifest_reads_back_as_it_was_written(checkpoint):
    folder, manifest = checkpoint
    assert read_quantization(folder) == manifest
    assert manifest.total_bytes == 7
    verify_quantization(folder, manifest)


def test_a_changed_or_missing_file_is_named(checkpoint):
    folder, manifest = checkpoint
    (folder / "model.safetensors").write_text("others")
    with pytest.raises(ArtifactError, match=r"model\.safetensors is not the file in quantization\.json"):
        verify_quantization(folder, manifest)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        verify_quantization(folder, manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "not of format version 1"),
        ({"bytes": 3}, "unknown key 'bytes'"),
        ({"method": None}, "lacks a key"),
    ],
)
def test_a_manifest_of_another_form_is_refused(checkpoint, change, message):
    folder, _ = checkpoint
    document = json.loads((folder / QUANTIZATION_FILE).read_text()) | change
    kept = {key: value for key, value in document.items() if value is not None}
    (folder / QUANTIZATION_FILE).write_text(json.dumps(kept))
    with pytest.raises(ArtifactError, match=message):
        read_quantization(folder)


def test_a_missing_or_broken_manifest_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"quantization\.json is missing; make the checkpoint with"):
        read_quantization(tmp_path)
    (tmp_path / QUANTIZATION_FILE).write_text("{")
    with pytest.raises(ArtifactError, match="is not valid JSON"):
        read_quantization(tmp_path)
