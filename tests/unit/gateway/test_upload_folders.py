import stat
import subprocess
import sys

import pytest

from trireme.errors import UnavailableError
from trireme.gateway.upload_folders import PREFIX, UploadFolders

KILLED = """
import os, sys
from pathlib import Path
from trireme.gateway.upload_folders import UploadFolders

folders = UploadFolders(Path(sys.argv[1]))
with folders.open() as folder:
    (folder / "upload").write_bytes(b"left behind")
    os._exit(9)
"""


def test_a_folder_is_private_and_gone_after_use(tmp_path):
    folders = UploadFolders(tmp_path)
    with folders.open() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "upload").write_bytes(b"x")
    assert not folder.exists()
    folders.close()
    assert list(tmp_path.iterdir()) == []
    folders.close()


def test_a_folder_is_gone_after_an_error_too(tmp_path):
    folders = UploadFolders(tmp_path)
    with pytest.raises(RuntimeError), folders.open() as folder:
        (folder / "upload").write_bytes(b"x")
        raise RuntimeError
    assert not folder.exists()
    folders.close()


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path])
    assert killed.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(PREFIX)
    first, second = UploadFolders(tmp_path), UploadFolders(tmp_path)
    with first.open() as mine:
        assert not left.exists()
        with second.open() as theirs:
            assert mine.is_dir() and theirs.is_dir()
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / f"{PREFIX}file").write_text("x")
    (tmp_path / "else").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "else")
    folders = UploadFolders(tmp_path)
    with folders.open():
        pass
    folders.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["else", f"{PREFIX}file", f"{PREFIX}link"]


def test_a_place_that_is_not_there_is_said(tmp_path):
    with (
        pytest.raises(UnavailableError, match="no room for uploads"),
        UploadFolders(tmp_path / "none").open(),
    ):
        pass
