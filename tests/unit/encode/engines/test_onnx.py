import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trireme.encode.engines.onnx import OnnxSession
from trireme.encode.session import SessionOptions, TokenBatch

WIDTH = 6000


@pytest.fixture
def session(tmp_path):
    """Each row's sum over all pairs of its ids, which lie in memory at once."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ids", "last"], ["columns"]),
        helper.make_node("Unsqueeze", ["ids", "middle"], ["lines"]),
        helper.make_node("MatMul", ["columns", "lines"], ["pairs"]),
        helper.make_node("Exp", ["pairs"], ["powers"]),
        helper.make_node("ReduceSum", ["powers", "both"], ["embedding"], keepdims=0),
    ]
    axes = {"last": [2], "middle": [1], "both": [1, 2]}
    graph = helper.make_graph(
        nodes,
        "pairs",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "width"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows"])],
        [helper.make_tensor(name, TensorProto.INT64, [len(at)], at) for name, at in axes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    return OnnxSession(tmp_path, SessionOptions(threads=1))


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_of_a_long_row_is_given_back(session):
    ids = np.zeros(WIDTH, np.int64)
    short = TokenBatch(ids[:8], ids[:8], np.array([8], np.int64))
    assert session.run(short).tolist() == [64]
    before = resident()
    assert session.run(TokenBatch(ids, ids, np.array([WIDTH], np.int64))).tolist() == [WIDTH**2]
    # One of the two tables of pairs has 144 MB. Threads that other tests have left may take some for a moment.
    deadline = time.monotonic() + 30
    while resident() - before >= WIDTH**2 * 2:
        assert time.monotonic() < deadline, f"{(resident() - before) / 1e6:.0f} MB are kept"
        time.sleep(0.1)
    assert session.run(short).tolist() == [64]
