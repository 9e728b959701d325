import pytest

from trireme import __version__
from trireme.release import SHORT, Release, current

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def package(tmp_path):
    """The package's folder in a checkout without commits."""
    folder = tmp_path / "src" / "trireme"
    folder.mkdir(parents=True)
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    return folder


def test_a_release_is_called_by_version_and_short_revision(package):
    (package.parents[1] / ".git" / "refs" / "heads" / "main").write_text(f"{REVISION}\n")
    assert current(folder=package) == Release(f"{__version__}+{REVISION[:SHORT]}", __version__, REVISION)


def test_a_name_of_the_settings_comes_before_and_the_revision_stays(package):
    (package.parents[1] / ".git" / "HEAD").write_text(f"{REVISION}\n")
    assert current("2026-11-canary", package) == Release("2026-11-canary", __version__, REVISION)


def test_a_packed_ref_is_found(package):
    packed = (
        f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{REVISION} refs/heads/main\n^{'e' * 40}\n"
    )
    (package.parents[1] / ".git" / "packed-refs").write_text(packed)
    assert current(folder=package).revision == REVISION


def test_a_worktree_says_where_its_head_and_the_refs_are(tmp_path):
    git, package = tmp_path / "main.git", tmp_path / "tree" / "src" / "trireme"
    package.mkdir(parents=True)
    own = git / "worktrees" / "tree"
    own.mkdir(parents=True)
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "x").write_text(REVISION)
    (own / "HEAD").write_text("ref: refs/heads/x\n")
    (own / "commondir").write_text("../..\n")
    (tmp_path / "tree" / ".git").write_text(f"gitdir: {own}\n")
    assert current(folder=package).revision == REVISION


@pytest.mark.parametrize("head", ["", "ref: refs/heads/none", "not a revision", "ref: refs/heads/bad"])
def test_without_a_revision_the_version_alone_is_the_name(package, head):
    git = package.parents[1] / ".git"
    (git / "HEAD").write_text(head)
    (git / "refs" / "heads" / "bad").write_bytes(b"\xff\xfe")
    assert current(folder=package) == Release(__version__, __version__, "")


def test_a_package_outside_of_a_checkout_has_no_revision(tmp_path):
    assert current(folder=tmp_path).revision == ""
