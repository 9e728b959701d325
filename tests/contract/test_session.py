"""One suite for every Session: what an engine must do with rows of tokens."""

import importlib.util
import threading

import numpy as np
import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import Recipe
from trireme.encode.engines.openvino import share_cores
from trireme.encode.engines.table import open_session
from trireme.encode.session import SessionOptions, TokenBatch
from trireme.errors import ArtifactError, SettingError
from trireme.export.graph import load_graph
from trireme.export.measure import open_torch
from trireme.export.pipeline import build_model

MAX_LENGTH = 64
pytestmark = pytest.mark.filterwarnings("ignore:this processor has no AVX-512 VNNI")
# (engine, precision, how far a number may be from PyTorch's).
ENGINES = [
    ("onnx", "fp32", 1e-4),
    ("openvino", "fp32", 1e-3),
    ("torch", "fp32", 1e-4),
    ("vnni", "int8", 0.15),
    ("vllm", "bf16", 0.1),
]


def _find_absent(engine):
    """What engine vllm needs and this machine lacks; "" for nothing."""
    if engine != "vllm":
        return ""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    import torch

    return "" if torch.cuda.is_available() else "vLLM's pooling runner needs a GPU"


@pytest.fixture(scope="module", params=ENGINES, ids=[f"{engine}-{p}" for engine, p, _ in ENGINES])
def built(request, make_checkpoint, tmp_path_factory):
    """(session, the same model in PyTorch, tolerance, version folder, engine)."""
    from trireme.export.checkpoint import read_checkpoint

    engine, precision, tolerance = request.param
    if why := _find_absent(engine):
        pytest.skip(why)
    sizes = {"hidden_size": 64, "intermediate_size": 128}
    folder = make_checkpoint(tmp_path_factory.mktemp(engine), "bert", **sizes)
    models = tmp_path_factory.mktemp("models")
    target = "gpu" if engine == "vllm" else "cpu"
    recipe = Recipe(
        "tiny", "text_encoder", source=str(folder), precision=precision, engine=engine, target=target
    )
    manifest, _ = build_model(recipe, BuildOptions(models, models / "cache"))
    assert manifest.engine == engine
    version = models / "tiny" / "1"
    session = open_session(engine, version, SessionOptions(max_length=MAX_LENGTH))
    return session, open_torch(load_graph(read_checkpoint(folder))), tolerance, version, engine


def rows_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 40, sum(lengths)).astype(np.int64)
    return TokenBatch(ids, np.zeros_like(ids), np.array(lengths, np.int64))


def alone(run, batch):
    """Every row by itself through PyTorch."""
    parts = np.split(np.arange(len(batch.ids)), np.cumsum(batch.lengths)[:-1])
    return np.concatenate(
        [
            run(
                {
                    "input_ids": batch.ids[part][None],
                    "attention_mask": np.ones((1, len(part)), np.int64),
                    "token_type_ids": batch.type_ids[part][None],
                }
            )
            for part in parts
        ]
    )


def test_rows_of_any_lengths_get_the_outputs_they_get_alone(built):
    session, original, tolerance, *_ = built
    batch = rows_of([3, 64, 17, 5, 33, 1])
    found = session.run(batch)
    assert found.dtype == np.float32
    assert np.abs(found - alone(original, batch)).max() < tolerance


def test_an_output_does_not_change_when_the_next_batch_runs(built):
    session = built[0]
    first = session.run(rows_of([7, 9]))
    before = first.copy()
    session.run(rows_of([7, 9], seed=1))
    assert np.array_equal(first, before)


def test_a_session_says_what_its_graph_takes(built):
    assert set(built[0].input_names) <= {"input_ids", "attention_mask", "token_type_ids"}
    assert built[0].cost.call_tokens >= 0


def test_a_session_says_how_many_runs_go_on_side_by_side(built):
    assert built[0].streams >= 1


@pytest.mark.parametrize(
    ("cores", "shared"), [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (8, (4, 2)), (16, (4, 4)), (64, (4, 16))]
)
def test_cores_are_shared_among_a_few_streams(cores, shared):
    assert share_cores(cores, threads=0) == shared
    assert share_cores(cores, threads=3) == (1, 3)


def test_threads_may_run_a_session_at_the_same_time(built):
    session, _, tolerance, _, engine = built
    batches = [rows_of([n + 2, 20 - n], seed=n) for n in range(8)]
    expected = [session.run(batch) for batch in batches]
    found = {}

    def run(n):
        found[n] = [session.run(batches[n]) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, outputs in found.items():
        # In 16 bits a row's numbers change with what runs beside it, by no more than it may be off.
        atol = tolerance if engine == "vllm" else 1e-5
        assert all(np.allclose(output, expected[n], atol=atol) for output in outputs)
    assert len(found) == 8


def test_a_file_that_is_no_graph_is_refused(built, tmp_path):
    *_, version, engine = built
    for path in version.iterdir():
        (tmp_path / path.name).write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match="cannot load"):
        open_session(engine, tmp_path, SessionOptions())


def test_an_unknown_engine_is_named():
    with pytest.raises(SettingError, match="abacus"):
        open_session("abacus", None, SessionOptions())
