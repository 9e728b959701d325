"""Releases as they were deployed, notes about them, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trireme.errors import InvalidInputError

MOST_NOTE = 2_000


@dataclass(frozen=True, slots=True)
class Deploy:
    """A release that began to serve, or (note not "") what somebody wrote about one. at: milliseconds (Unix).

    models: of each model its digest, precision, figures and quality as its manifest has them.
    """

    at: int
    release: str
    version: str = ""
    revision: str = ""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""


class ReleaseLog(Protocol):
    """Deploys and notes, for good. Safe to use from several threads and processes. Verbs block, and raise
    UnavailableError."""

    def deploy(self, deploy: Deploy) -> bool:
        """Append it, unless the last deploy is the same but for its time. `at` is the database's now.

        Returns whether it was appended."""
        ...

    def note(self, release: str, text: str) -> Deploy:
        """Append a note. release "": of the last deploy. Raises InvalidInputError for an empty or long text,
        NotFoundError where there is no such release."""
        ...

    def find(self) -> list[Deploy]:
        """All deploys and notes, the oldest first."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """One release with all its deploys. deployed: milliseconds (Unix) of each; models: those of the last one."""

    name: str
    version: str
    revision: str
    deployed: tuple[int, ...]
    models: Mapping[str, Mapping[str, Any]]
    notes: tuple[Deploy, ...] = ()


def releases_of(entries: Sequence[Deploy]) -> list[ReleaseInfo]:
    """Releases with their notes, the one deployed last first."""
    made: dict[str, ReleaseInfo] = {}
    notes: dict[str, list[Deploy]] = {}
    for entry in entries:
        if entry.note:
            notes.setdefault(entry.release, []).append(entry)
            continue
        before = made.pop(entry.release, None)
        times = (*(before.deployed if before else ()), entry.at)
        made[entry.release] = ReleaseInfo(entry.release, entry.version, entry.revision, times, entry.models)
    return [
        ReleaseInfo(
            one.name, one.version, one.revision, one.deployed, one.models, tuple(notes.get(one.name, ()))
        )
        for one in reversed(made.values())
    ]


def quality_of(info: ReleaseInfo) -> dict[str, float]:
    """The figures of its models by "model: figure": parity of the build, and nDCG@10 where it was measured."""
    found: dict[str, float] = {}
    for model, facts in sorted(info.models.items()):
        for name, value in facts.get("figures", {}).items():
            found[f"{model}: {name}"] = value
        for dataset, pair in facts.get("quality", {}).items():
            # What an earlier version noted stays as it was noted.
            if "after" in pair:
                found[f"{model}: nDCG@10 {dataset}"] = pair["after"]
    return found


def check_note(text: str) -> str:
    """The note as it is kept. Raises InvalidInputError."""
    text = text.strip()
    if not text or len(text) > MOST_NOTE or "\x00" in text:
        raise InvalidInputError(f"a note has 1 to {MOST_NOTE} characters, got {len(text)}", "note")
    return text
