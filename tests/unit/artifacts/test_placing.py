import errno
import shutil
from pathlib import Path

import pytest

from trireme.artifacts.placing import check_place, stage_folder, stage_version
from trireme.errors import InvalidInputError, UnavailableError
from trireme.locks import hold_lock


def place(model_dir, content):
    with stage_version(model_dir, 10) as stage:
        (stage / "file").write_text(content)


def hidden(model_dir):
    return [path.name for path in model_dir.iterdir() if path.name.startswith((".tmp", ".old"))]


def test_a_version_appears_whole_when_the_block_ends(tmp_path):
    model = tmp_path / "models" / "m"
    with stage_version(model, 10) as stage:
        (stage / "file").write_text("new")
        assert stage.parent == model
        assert not (model / "1").exists()
    assert (model / "1" / "file").read_text() == "new"
    assert hidden(model) == []


def test_a_new_version_replaces_the_old_one(tmp_path):
    place(tmp_path, "old")
    place(tmp_path, "new")
    assert [path.read_text() for path in (tmp_path / "1").iterdir()] == ["new"]
    assert hidden(tmp_path) == []


def test_a_failure_while_writing_leaves_the_old_version(tmp_path):
    place(tmp_path, "old")
    with pytest.raises(KeyboardInterrupt), stage_version(tmp_path, 10) as stage:
        (stage / "file").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "1" / "file").read_text() == "old"
    assert hidden(tmp_path) == []


def test_a_failure_of_a_new_model_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), stage_version(tmp_path / "m", 10):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failure_between_the_two_renames_puts_the_old_version_back(tmp_path, monkeypatch):
    place(tmp_path, "old")
    rename = Path.rename

    def fail_on_stage(self, target):
        if self.name.startswith(".tmp-"):
            raise OSError(errno.EIO, "disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_stage)
    with pytest.raises(OSError, match="disk gone"):
        place(tmp_path, "new")
    assert (tmp_path / "1" / "file").read_text() == "old"
    assert hidden(tmp_path) == []


def test_what_a_crash_left_is_put_right_by_the_next_build(tmp_path):
    place(tmp_path, "old")
    (tmp_path / "1").rename(tmp_path / ".old-1")
    (tmp_path / ".tmp-crashed").mkdir()
    with pytest.raises(RuntimeError), stage_version(tmp_path, 10):
        assert (tmp_path / "1" / "file").read_text() == "old"
        raise RuntimeError
    assert (tmp_path / "1" / "file").read_text() == "old"
    assert hidden(tmp_path) == []


def test_a_full_disk_is_named_with_the_bytes_needed_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with (
        pytest.raises(UnavailableError, match=r"m is full: the build needs about 1,000 bytes"),
        stage_version(tmp_path / "m", 1000),
    ):
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_writing_leaves_the_old_version(tmp_path):
    place(tmp_path, "old")
    with pytest.raises(UnavailableError, match="is full"), stage_version(tmp_path, 10) as stage:
        (stage / "file").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "1" / "file").read_text() == "old"
    assert hidden(tmp_path) == []


def test_two_builds_of_one_model_do_not_mix(tmp_path):
    with stage_version(tmp_path, 10) as stage:
        with pytest.raises(UnavailableError, match="another build"):
            place(tmp_path, "second")
        (stage / "file").write_text("first")
    assert (tmp_path / "1" / "file").read_text() == "first"


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_at_the_end(tmp_path):
    out = tmp_path / "deep" / "model"
    with stage_folder(out, 1) as stage:
        (stage / "config.json").write_text("new")
        assert not out.exists() and stage.parent == out.parent
    assert (out / "config.json").read_text() == "new"
    assert listed(out.parent) == ["model"]


def test_a_failure_leaves_no_folder_of_any_kind(tmp_path):
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
    with hold_lock(stage, "busy", is_folder=True):
        with pytest.raises(UnavailableError, match="another run writes"), stage_folder(tmp_path / "model", 1):
            pass
    assert (stage / "half").is_file()


def test_a_full_disk_leaves_no_staged_folder(tmp_path):
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
