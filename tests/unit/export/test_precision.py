import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from trireme.export.precision import convert


def save_linear(path, weight):
    """x [rows, in] @ weight [in, out] as an fp32 graph."""
    node = helper.make_node("MatMul", ["x", "weight"], ["y"], name="linear")
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in zip(("x", "y"), weight.shape, strict=True)
    ]
    graph = helper.make_graph(
        [node], "g", shapes[:1], shapes[1:], [numpy_helper.from_array(weight, "weight")]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(float)"
    return session.run(None, {"x": x})[0]


def test_int8_sums_of_the_largest_products_do_not_saturate(tmp_path):
    # With signed weights a CPU without VNNI stops two products at 32,767 and gives half of this sum.
    save_linear(tmp_path / "fp32.onnx", np.ones((256, 32), np.float32))
    convert(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", "int8")
    found = run(tmp_path / "int8.onnx", np.ones((8, 256), np.float32))
    assert np.abs(found - 256).max() < 1


def test_int8_weights_have_a_scale_per_channel(tmp_path):
    weight = np.random.default_rng(3).normal(size=(64, 4)).astype(np.float32) * [1e-3, 1, 1e3, 1e-6]
    save_linear(tmp_path / "fp32.onnx", weight.astype(np.float32))
    x = np.random.default_rng(4).normal(size=(16, 64)).astype(np.float32)
    expected = run(tmp_path / "fp32.onnx", x)
    convert(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", "int8")
    error = np.abs(run(tmp_path / "int8.onnx", x) - expected).max(0) / np.abs(expected).max(0)
    assert error.max() < 0.02


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.3), ("fp16", 0.6), ("fp32", 1.0)])
def test_a_lower_precision_is_smaller(precision, share, tmp_path):
    weight = np.random.default_rng(5).normal(size=(128, 128)).astype(np.float32)
    save_linear(tmp_path / "fp32.onnx", weight)
    full = (tmp_path / "fp32.onnx").stat().st_size
    convert(tmp_path / "fp32.onnx", tmp_path / "out.onnx", precision)
    assert (tmp_path / "out.onnx").stat().st_size <= share * full
