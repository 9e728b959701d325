import os
import subprocess
from pathlib import Path

import pytest

from trireme.errors import UnsupportedError
from trireme.local import account
from trireme.local.account import Account, let_through, unprivileged_account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root switches accounts")
NOBODY = 65534
ANOTHER = 54321


def can_read(file: Path, uid: int) -> bool:
    command = ["/bin/cat", str(file)]
    done = subprocess.run(
        command, user=uid, group=uid, extra_groups=[], capture_output=True, cwd="/", check=False
    )
    return done.returncode == 0


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A readable file below folders that only root may enter."""
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    folder.chmod(0o700)
    file = folder / "file"
    file.write_text("text")
    file.chmod(0o644)
    return file


def test_no_account_is_switched_to_without_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unprivileged_account() is None


def test_root_gets_an_account_that_exists_and_is_not_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = unprivileged_account()
    assert found is not None
    assert found.uid != 0


def test_root_without_such_an_account_is_told(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(account, "ACCOUNTS", ("no-such-account",))
    with pytest.raises(UnsupportedError, match="no-such-account"):
        unprivileged_account()


@as_root
def test_the_account_passes_closed_folders_and_nobody_else_does(closed):
    assert not can_read(closed, NOBODY)
    for _ in range(2):
        let_through(closed.parent, Account("nobody", NOBODY, NOBODY))
        assert can_read(closed, NOBODY)
        assert not can_read(closed, ANOTHER)
    assert closed.parent.stat().st_mode & 0o007 == 0


@as_root
def test_the_account_may_not_list_the_folders(closed):
    let_through(closed.parent, Account("nobody", NOBODY, NOBODY))
    listing = subprocess.run(
        ["/bin/ls", closed.parent], user=NOBODY, capture_output=True, cwd="/", check=False
    )
    assert listing.returncode != 0


@as_root
def test_two_accounts_can_both_pass(closed):
    for uid in (NOBODY, ANOTHER):
        let_through(closed.parent, Account("someone", uid, uid))
    assert can_read(closed, NOBODY)
    assert can_read(closed, ANOTHER)


def test_a_folder_that_cannot_be_opened_is_named_with_what_to_do(closed, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "listxattr", refuse)
    with pytest.raises(UnsupportedError, match=r"chmod o\+x"):
        let_through(closed.parent, Account("another", ANOTHER, ANOTHER))
