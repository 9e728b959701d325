"""Which build of Trireme this process runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trireme.observe.revision import find_revision

SHORT = 7


@dataclass(frozen=True, slots=True)
class Build:
    """version: of the package. revision: of git, 40 signs, "" where nobody knows. release: a short name of both."""

    version: str = ""
    revision: str = ""
    release: str = ""


def read_build(release: str = "") -> Build:
    """Of this process. release: its name as the settings have it; "": the version and the revision's first signs.

    Reads a few small files; runs no program.
    """
    try:
        number = version("trireme")
    except PackageNotFoundError:
        number = ""
    revision = find_revision(Path(__file__).parents[1])
    return Build(number, revision, release or "-".join(filter(None, (number, revision[:SHORT]))))
