import numpy as np
import pytest

from trireme.checkpoints.families import LLM_FAMILIES
from trireme.export_llm.reference import compute_logits
from trireme.export_llm.serving_files import ServedGraph
from trireme.generate.openvino_properties import compile_properties

PROMPT = np.random.default_rng(4).integers(0, 96, 75).tolist()
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


@pytest.mark.parametrize("family", LLM_FAMILIES)
def test_pages_give_the_logits_of_the_checkpoint(family, make_llm, read_weights, write_graph, tmp_path):
    folder, _ = make_llm(tmp_path / "source", family)
    served = ServedGraph(write_graph(folder, tmp_path / "graph"), EXACT, len(PROMPT))
    for prompt in (PROMPT, PROMPT[:1], PROMPT[:5]):
        (expected,) = compute_logits(read_weights(folder), [prompt])
        np.testing.assert_allclose(served.logits(prompt), expected, atol=2e-5 * np.abs(expected).max())


def test_the_properties_that_are_served_stay_near(make_packed, read_weights, write_graph, tmp_path):
    folder, _ = make_packed(tmp_path / "source", "awq")
    path = write_graph(folder, tmp_path / "graph")
    (expected,) = compute_logits(read_weights(folder), [PROMPT])
    found = ServedGraph(path, compile_properties(threads=1), len(PROMPT)).logits(PROMPT)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
