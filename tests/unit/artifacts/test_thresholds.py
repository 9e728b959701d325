"""The thresholds that a model's scores are compared with."""

import pytest

from trireme.artifacts.manifest import THRESHOLDS_FILE
from trireme.artifacts.thresholds import read_thresholds
from trireme.errors import ArtifactError


def test_a_share_of_false_hits_has_its_score(tmp_path):
    (tmp_path / THRESHOLDS_FILE).write_text('{"0.01": 0.797, "0.02": 1}')
    assert read_thresholds(tmp_path) == {0.01: 0.797, 0.02: 1.0}


def test_a_model_without_a_table_has_none(tmp_path):
    assert read_thresholds(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '{"a": 1}', '{"0.1": null}', '{"0.1": "x"}', '{"0": 1}', '{"1": 1}', "\xff"]
)
def test_a_table_that_cannot_be_is_refused_by_its_name(tmp_path, text):
    (tmp_path / THRESHOLDS_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"thresholds\.json .*build the model again"):
        read_thresholds(tmp_path)


def test_a_table_that_cannot_be_read_is_an_error_of_its_own(tmp_path):
    (tmp_path / THRESHOLDS_FILE).mkdir()
    with pytest.raises(ArtifactError, match="Is a directory"):
        read_thresholds(tmp_path)
