"""Which release runs: its name, and the version and git revision that it is of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "trireme"
# Of a revision, in names.
SHORT = 9
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Release:
    """name: what figures are grouped by, a label of metrics. revision: of git, in full; "": not known."""

    name: str
    version: str
    revision: str


def current(name: str = "", folder: Path | None = None) -> Release:
    """The release of this process. name: the setting TRIREME_RELEASE; without it VERSION+REVISION, shortened.

    The revision is that of the checkout that the package lies in (`folder`: the package's own), or the one that
    pip installed it from; a wheel of files knows none. Reads files; raises nothing.
    """
    version = _version()
    revision = _checked_out(folder or Path(__file__).parent) or _installed()
    made = f"{version}+{revision[:SHORT]}" if revision else version
    return Release(name or made, version, revision)


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0"


def _installed() -> str:
    """PEP 610: what pip notes of an installation from a repository."""
    try:
        noted = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        found = json.loads(noted or "{}")["vcs_info"]["commit_id"]
    except (metadata.PackageNotFoundError, OSError, ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) and _REVISION.fullmatch(found) else ""


def _checked_out(package: Path) -> str:
    """Of the repository that has the package at src/trireme, as git lays it out; git itself need not be there."""
    root = package.parent.parent
    if package.parent.name != "src":
        return ""
    try:
        own = root / ".git"
        if own.is_file():
            # Of a worktree: "gitdir: PLACE".
            own = root / own.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
        shared = own
        if (own / "commondir").is_file():
            shared = own / (own / "commondir").read_text(encoding="utf-8").strip()
        head = (own / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        found = head if name == head else _read_ref(shared, name)
    except (OSError, ValueError):
        return ""
    return found if _REVISION.fullmatch(found) else ""


def _read_ref(git: Path, name: str) -> str:
    loose = git / name
    if loose.is_file():
        return loose.read_text(encoding="utf-8").strip()
    for line in (git / "packed-refs").read_text(encoding="utf-8").splitlines():
        revision, _, ref = line.partition(" ")
        if ref == name:
            return revision
    return ""
