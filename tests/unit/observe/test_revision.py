"""The revision of a checkout in every form that git gives it; git itself makes them."""

import shutil
import subprocess

import pytest

from trireme.observe.revision import REVISION_FILE, find_revision, read_head

WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")


def git(folder, *words):
    done = subprocess.run(["git", *WHO, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is missing")
    folder = tmp_path / "checkout"
    (folder / "src" / "trireme").mkdir(parents=True)
    (folder / "src" / "trireme" / "a.py").write_text("")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def head(folder):
    return git(folder, "rev-parse", "HEAD")


def test_a_branch_a_packed_branch_and_a_commit_are_found(checkout):
    assert read_head(checkout / ".git") == head(checkout)
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git" / "refs" / "heads" / "main").exists()
    assert read_head(checkout / ".git") == head(checkout)
    git(checkout, "checkout", "-q", "--detach")
    assert read_head(checkout / ".git") == head(checkout)


def test_a_worktree_has_its_own_revision(checkout, tmp_path):
    other = tmp_path / "other"
    git(checkout, "worktree", "add", "-q", "-b", "side", str(other))
    (other / "b").write_text("")
    git(other, "add", "b")
    git(other, "commit", "-q", "-m", "two")
    assert (other / ".git").is_file()
    assert find_revision(other / "src" / "trireme") == head(other) != head(checkout)
    git(other, "pack-refs", "--all")
    assert find_revision(other / "src" / "trireme") == head(other)


def test_a_checkout_is_asked_before_what_its_build_wrote(checkout):
    package = checkout / "src" / "trireme"
    (package / REVISION_FILE).write_text("a" * 40)
    assert find_revision(package) == head(checkout)


def test_a_wheel_says_what_was_written_when_it_was_built(checkout):
    # In a virtual environment inside of a checkout: its commit is not the package's.
    package = checkout / "site-packages" / "trireme"
    package.mkdir(parents=True)
    assert find_revision(package) == ""
    (package / REVISION_FILE).write_text("b" * 40 + "\n")
    assert find_revision(package) == "b" * 40


@pytest.mark.parametrize("said", ["ref: refs/heads/gone", "ref: HEAD", "", "no revision", "\udcff"])
def test_what_cannot_be_read_is_no_revision(tmp_path, said):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(said.encode("utf-8", "surrogateescape"))
    assert read_head(tmp_path / ".git") == ""
