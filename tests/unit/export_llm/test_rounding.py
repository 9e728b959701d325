import numpy as np
import pytest

from trireme.errors import UnsupportedError
from trireme.export_llm.rounding import ROUNDINGS, Rounding

RNG = np.random.default_rng(4)


@pytest.mark.parametrize(("bits", "group"), [(8, -1), (8, 32), (4, 32), (4, 64)])
def test_no_value_moves_by_more_than_a_step_of_its_group(bits, group):
    weight = (RNG.normal(size=(12, 128)) * RNG.uniform(0.01, 3, (12, 1))).astype(np.float32)
    packed = Rounding(bits, group).round("layer", weight)
    steps = np.repeat(packed.scales, 128 // packed.scales.shape[1], axis=1)
    # Half a step for the value and half for the zero, and the rounding of the scale to float16.
    assert (np.abs(packed.dense() - weight) <= steps * (1 + 2**bits / 2048)).all()
    assert packed.integers.max() <= 2**bits - 1 and packed.zeros.max() <= 2**bits - 1
    assert packed.scales.shape == (12, 1 if group < 0 else 128 // group)


def test_zero_stays_zero_and_values_of_one_sign_are_reached():
    weight = np.abs(RNG.normal(1, 0.01, (4, 32))).astype(np.float32)
    weight[0] = 0
    weight[1] *= -1
    dense = Rounding(8, -1).round("layer", weight).dense()
    assert not dense[0].any()
    assert np.abs(dense - weight).max() < 0.01


def test_what_is_on_the_steps_is_kept_exactly():
    integers = RNG.integers(0, 256, (3, 64))
    integers[:, :2] = (0, 255)
    weight = ((integers - 100) * np.float32(0.125)).astype(np.float32)
    packed = Rounding(8, -1).round("layer", weight)
    assert (packed.dense() == weight).all() and (packed.integers == integers).all()


def test_groups_that_do_not_divide_a_row_are_refused_by_name():
    with pytest.raises(UnsupportedError, match="mlp has rows of 48"):
        Rounding(4, 32).round("mlp", np.zeros((2, 48), np.float32))


def test_tables_keep_eight_bits():
    assert {name: (one.layers.bits, one.tables.bits) for name, one in ROUNDINGS.items()} == {
        "int8": (8, 8),
        "int4": (4, 8),
    }
    assert ROUNDINGS["int8"].layers.precision.startswith("int8")
    assert ROUNDINGS["int4"].layers.precision == "int4 g32"
