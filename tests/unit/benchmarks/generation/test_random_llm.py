import json

import numpy as np
import pytest

from benchmarks.generation.random_llm import COMMON, SHAPES, count_tokens, write_checkpoint
from trireme.errors import InvalidInputError


@pytest.fixture
def tokenizer(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    document = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 6}, {"id": 3}]}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def test_the_vocabulary_has_room_for_every_token(tokenizer, tmp_path):
    assert count_tokens(tokenizer) == 7
    with pytest.raises(InvalidInputError, match=r"tokenizer\.json is missing"):
        count_tokens(tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quantization", [None, "awq"])
def test_a_shrunk_shape_is_a_checkpoint_that_the_export_reads(shape, quantization, tokenizer, tmp_path):
    from trireme.checkpoints.config import read_config
    from trireme.export_llm.architecture import read_architecture
    from trireme.export_llm.quantization import read_quantization
    from trireme.export_llm.reference import compute_logits
    from trireme.export_llm.weights import Weights

    small = {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2, "vocab_size": 40}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = {**COMMON, **SHAPES[shape], **small}
    if quantization:
        config["quantization_config"] = {
            "quant_method": "awq",
            "bits": 4,
            "group_size": 128,
            "zero_point": True,
            "version": "gemm",
        }
    write_checkpoint(tmp_path / "out", config, tokenizer)
    found = read_config(tmp_path / "out")
    weights = Weights(tmp_path / "out", read_architecture(found), read_quantization(found))
    (logits,) = compute_logits(weights, [[1, 2, 3]])
    assert logits.shape == (3, 40) and np.isfinite(logits).all()
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    linear = weights.linear("model.layers.1.mlp.up_proj")
    dense = linear.dense() if quantization else linear
    assert 0.015 < np.std(dense) < 0.025
