import numpy as np
import pytest

from trireme.export_llm.architecture import Rope
from trireme.export_llm.rope import inverse_frequencies


def test_the_first_pair_turns_by_one_radian_and_the_rest_ever_slower():
    found = inverse_frequencies(Rope("default", 10_000.0), 8)
    np.testing.assert_allclose(found, [1.0, 0.1, 0.01, 0.001], rtol=1e-6)
    np.testing.assert_allclose(inverse_frequencies(Rope("linear", 10_000.0, 4.0), 8), found / 4, rtol=1e-6)


def test_llama3_keeps_short_waves_and_stretches_long_ones():
    plain = inverse_frequencies(Rope("default", 10_000.0), 64)
    found = inverse_frequencies(Rope("llama3", 10_000.0, 8.0, 1.0, 4.0, 512), 64)
    waves = 512 / (2 * np.pi / plain)
    np.testing.assert_array_equal(found[waves > 4], plain[waves > 4])
    np.testing.assert_allclose(found[waves < 1], plain[waves < 1] / 8, rtol=1e-6)
    between = (waves > 1) & (waves < 4)
    assert between.any()
    assert np.all((found[between] < plain[between]) & (found[between] > plain[between] / 8))


def test_llama3_is_what_transformers_computes():
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = transformers.LlamaConfig(head_dim=128, rope_parameters=parameters)
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    found = inverse_frequencies(Rope("llama3", 500_000.0, 8.0, 1.0, 4.0, 8192), 128)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
