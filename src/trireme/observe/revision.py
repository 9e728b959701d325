"""The git revision of the package, found without git. build/kernels_hook.py runs this file by its path."""

from __future__ import annotations

import re
from pathlib import Path

# Beside the package's modules; written when a wheel is built, since a wheel has no checkout.
REVISION_FILE = "REVISION"
_REVISION = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_LINKS = 5


def find_revision(package: Path) -> str:
    """Of the checkout whose src/ the package is, else what its build wrote; "" where neither says. Never raises."""
    root = package.parent.parent
    if (root / ".git").exists() and package.parent.name == "src" and (found := read_head(root / ".git")):
        return found
    return _checked(_text(package / REVISION_FILE))


def read_head(git: Path) -> str:
    """The commit that is checked out. git: the folder .git, or the file of a worktree; "" if it cannot be read."""
    if git.is_file():
        git = (git.parent / _text(git).removeprefix("gitdir:").strip()).resolve()
    shared = git / common if (common := _text(git / "commondir").strip()) else git
    said = _text(git / "HEAD").strip()
    for _ in range(_MOST_LINKS):
        if not said.startswith("ref:"):
            break
        name = said.removeprefix("ref:").strip()
        said = (_text(git / name) or _text(shared / name)).strip() or _packed(shared, name)
    return _checked(said)


def _packed(git: Path, name: str) -> str:
    for line in _text(git / "packed-refs").splitlines():
        revision, _, of = line.partition(" ")
        if of.strip() == name:
            return revision
    return ""


def _checked(text: str) -> str:
    return text.strip() if _REVISION.fullmatch(text.strip()) else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
