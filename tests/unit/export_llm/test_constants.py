import numpy as np
import openvino
import pytest

from trireme.export_llm.constants import ConstantStore
from trireme.export_llm.quantization import PackedWeight


@pytest.fixture
def store(tmp_path):
    made = ConstantStore(tmp_path / "constants")
    yield made
    made.close()


def value_of(node):
    """What OpenVINO makes of a constant expression."""
    model = openvino.Model([node.output(0)], [], "constant")
    return np.array(next(iter(openvino.Core().compile_model(model, "CPU", {})([]).values())))


def test_weights_are_kept_in_float16_while_they_fit(store):
    values = np.array([[1.5, -0.25], [65504.0, 0.1]], np.float32)
    node = store.weight(values)
    assert node.input_value(0).get_element_type() == openvino.Type.f16
    np.testing.assert_array_equal(value_of(node), values.astype(np.float16).astype(np.float32))
    assert store.kept_fp32 == 0
    large = np.array([[70_000.0, 1.0]], np.float32)
    np.testing.assert_array_equal(value_of(store.weight(large)), large)
    assert store.kept_fp32 == 1


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("spread", [np.float16(0.037), np.float32(0.0371234)])
def test_packed_weights_are_worth_their_integers(bits, groups, spread, store):
    rng = np.random.default_rng(2)
    integers = rng.integers(0, 2**bits, (6, 32)).astype(np.uint8)
    zeros = rng.integers(0, 2**bits, (6, groups)).astype(np.uint8)
    scales = np.full((6, groups), spread, np.float32)
    weight = PackedWeight(integers, zeros, scales, bits)
    found = value_of(store.packed_weight(weight))
    np.testing.assert_allclose(found, weight.dense(), rtol=2e-3, atol=1e-6)


def test_an_odd_number_of_small_integers_is_kept_whole(store):
    weight = PackedWeight(
        np.array([[1, 2, 3]], np.uint8), np.array([[5]], np.uint8), np.ones((1, 1), np.float32), 4
    )
    np.testing.assert_array_equal(value_of(store.packed_weight(weight)), [[-4.0, -3.0, -2.0]])


def test_constants_outlive_the_arrays_they_were_made_of(store):
    nodes = [store.weight(np.full((64, 64), number, np.float32)) for number in range(20)]
    for number, node in enumerate(nodes):
        assert (value_of(node) == number).all()
