"""int8 graphs of OpenVINO, made of small ones."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")

from openvino import opset13 as ops  # noqa: E402

from trireme.export.openvino_graph import _quantize, find_flat_tables  # noqa: E402

VOCABULARY = 40


@pytest.fixture
def graph():
    """Vectors of tokens times a layer, and beside them one number a token, as the default reranker has it."""
    seeds = np.random.default_rng(3)
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    ids.output(0).set_names({"input_ids"})
    table = ops.constant(seeds.normal(size=(VOCABULARY, 32)).astype(np.float32))
    weights = ops.constant(seeds.normal(size=VOCABULARY).astype(np.float32))
    layer = ops.constant(seeds.normal(size=(32, 32)).astype(np.float32))
    hidden = ops.matmul(ops.gather(table, ids, 0), layer, False, True)
    side = ops.unsqueeze(ops.gather(weights, ids, 0), 2)
    return openvino.Model([ops.multiply(hidden, side)], [ids], "small")


@pytest.fixture
def tokenizer_file(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def tables_of(graph):
    """Shape of each table that is looked into -> whether the graph keeps it as integers."""
    found = {}
    for node in graph.get_ops():
        if node.get_type_name() == "Gather":
            table = node.input_value(0)
            shape = tuple(len(one) if hasattr(one, "__len__") else int(str(one)) for one in table.get_shape())
            found[shape] = table.get_node().get_type_name() != "Constant"
    return found


def test_a_table_of_one_number_a_token_is_not_rounded_and_one_of_vectors_is(graph, tokenizer_file):
    assert len(find_flat_tables(graph)) == 1
    texts = [f"w{n} w{n + 1} w{n + 2}" for n in range(1, VOCABULARY - 3)]
    quantized = _quantize(graph, tokenizer_file, 16, texts)
    assert tables_of(quantized) == {(VOCABULARY, 32): True, (VOCABULARY,): False}


def test_the_quantized_graph_loads_and_is_near_the_original(graph, tokenizer_file):
    ids = np.array([[1, 5, 9, 17]], np.int64)
    core = openvino.Core()
    exact = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(ids)[0]
    texts = [f"w{n} w{n + 1} w{n + 2}" for n in range(1, VOCABULARY - 3)]
    quantized = _quantize(graph, tokenizer_file, 16, texts)
    near = core.compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(ids)[0]
    # A processor without VNNI cuts off the largest sums (decision 0005), so single values differ.
    assert np.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.9
    assert not np.array_equal(near, exact)
