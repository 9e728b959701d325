"""What an engine's writer refuses before anything is converted; what it writes is compared in test_pipeline.py."""

from types import SimpleNamespace

import pytest

from trireme.errors import UnsupportedError
from trireme.export import graph
from trireme.export.writers import WRITERS, Export


def test_a_model_that_one_onnx_file_cannot_hold_is_sent_to_openvino(tmp_path, monkeypatch):
    def write(module, path):
        path.touch()
        (path.parent / "encoder.layers.0.weight").touch()

    monkeypatch.setattr(graph, "export_onnx", write)
    stage = tmp_path / "stage"
    stage.mkdir()
    checkpoint = SimpleNamespace(folder=tmp_path)
    with pytest.raises(UnsupportedError, match=r"more than 2 GB of weights in float32, .*--engine openvino"):
        WRITERS["onnx"](Export(None, checkpoint, "fp32", stage, None, lambda step: None))
