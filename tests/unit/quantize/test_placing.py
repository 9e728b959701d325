import fcntl
import os

import pytest

from trireme.errors import InvalidInputError, UnavailableError
from trireme.quantize.placing import check_place, stage_folder


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_at_the_end(tmp_path):
    out = tmp_path / "deep" / "model"
    with stage_folder(out, 1) as stage:
        (stage / "config.json").write_text("new")
        assert not out.exists() and stage.parent == out.parent
    assert (out / "config.json").read_text() == "new"
    assert listed(out.parent) == ["model"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), stage_folder(tmp_path / "model", 1) as stage:
        (stage / "half").write_text("x")
        raise RuntimeError
    assert listed(tmp_path) == []


def test_a_failure_leaves_the_folder_of_before(tmp_path):
    out = tmp_path / "model"
    with stage_folder(out, 1) as stage:
        (stage / "file").write_text("old")
    with pytest.raises(RuntimeError), stage_folder(out, 1) as stage:
        (stage / "file").write_text("new")
        raise RuntimeError
    assert (out / "file").read_text() == "old" and listed(tmp_path) == ["model"]
    with stage_folder(out, 1) as stage:
        (stage / "other").write_text("new")
    assert listed(out) == ["other"] and listed(tmp_path) == ["model"]


def test_what_a_crash_left_is_cleared_and_the_old_folder_is_put_back(tmp_path):
    (tmp_path / ".model.old").mkdir()
    (tmp_path / ".model.old" / "file").write_text("old")
    (tmp_path / ".model.tmp" / "work").mkdir(parents=True)
    with pytest.raises(RuntimeError), stage_folder(tmp_path / "model", 1) as stage:
        assert listed(stage) == []
        raise RuntimeError
    assert (tmp_path / "model" / "file").read_text() == "old"
    assert listed(tmp_path) == ["model"]


def test_a_second_run_on_the_same_folder_is_refused_and_disturbs_nothing(tmp_path):
    stage = tmp_path / ".model.tmp"
    stage.mkdir()
    (stage / "half").write_text("x")
    descriptor = os.open(stage, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(UnavailableError, match="another run writes"), stage_folder(tmp_path / "model", 1):
            pass
    finally:
        os.close(descriptor)
    assert (stage / "half").is_file()


def test_a_full_disk_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UnavailableError, match="is full: the build needs about"):
        with stage_folder(tmp_path / "model", 1 << 62):
            pass
    assert listed(tmp_path) == []


def test_a_folder_that_no_run_has_made_is_not_replaced(tmp_path):
    out = tmp_path / "photos"
    check_place(out, "quantization.json")
    out.mkdir()
    with pytest.raises(InvalidInputError, match=r"holds no quantization\.json; name another folder"):
        check_place(out, "quantization.json")
    (out / "quantization.json").write_text("{}")
    check_place(out, "quantization.json")
