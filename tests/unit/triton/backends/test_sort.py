import numpy as np
import pytest

from fakes.fake_pb import arguments, strings
from trireme.triton.backends.sort import SortModel


@pytest.fixture
def model(pb, tmp_path):
    model = SortModel()
    model.initialize(arguments(tmp_path, default_top_k=2, max_top_k=5))
    yield model
    model.finalize()


def request(scores, top_k=None, columns=None):
    names = columns or [[f"{name}{i}" for i in range(len(scores))] for name in ("id", "text", "metadata")]
    tensors = {name: strings(row) for name, row in zip(("id", "text", "metadata"), names, strict=True)}
    tensors["score"] = np.array([scores], np.float32)
    if top_k is not None:
        tensors["top_k"] = np.array([[top_k]], np.int32)
    return tensors


def test_passages_come_best_first_and_equal_scores_keep_their_order(model):
    (answer,) = model.execute([request([0.1, 0.5, 0.5, 0.9], top_k=3)])
    assert answer.outputs["id"].tolist() == [[b"id3", b"id1", b"id2"]]
    assert answer.outputs["text"].tolist() == [[b"text3", b"text1", b"text2"]]
    assert answer.outputs["score"].tolist() == [pytest.approx([0.9, 0.5, 0.5])]


def test_without_top_k_the_default_number_comes_back(model):
    (answer,) = model.execute([request([0.1, 0.2, 0.3])])
    assert answer.outputs["id"].shape == (1, 2)


def test_no_passages_stay_no_passages(model):
    (answer,) = model.execute([request([])])
    assert answer.outputs["id"].shape == (1, 0)
    assert answer.outputs["score"].shape == (1, 0)


@pytest.mark.parametrize("top_k", [0, -3, 6])
def test_top_k_outside_its_range_is_refused_with_the_range(model, top_k):
    (answer,) = model.execute([request([0.1], top_k=top_k)])
    assert answer.error.message == f"[INVALID_ARG] top_k must be from 1 to 5, got {top_k}"


def test_columns_of_different_lengths_are_refused(model):
    (answer,) = model.execute([request([0.1], columns=[["a", "b"], ["c"], ["d"]])])
    assert answer.error.code == "INVALID_ARG"
