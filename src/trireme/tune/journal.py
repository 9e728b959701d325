"""Keeps every measurement, one JSON object a line, so that a later run of the tuner need not repeat it.

A measurement is found again by a digest of all that decides it: the machine, the installed versions, the
models' files and recipes, the workload, the setting, the load and the length of the windows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trireme.artifacts.manifest import hash_json
from trireme.errors import UnavailableError
from trireme.locks import hold_lock
from trireme.tune.measure import Measurer, Point
from trireme.tune.setting import Setting


class Journal:
    """The measurements in `path` that were made under `context`; others stay in the file untouched."""

    def __init__(self, path: Path, context: Mapping[str, Any]) -> None:
        """Reads the file where there is one; a line that a killed run cut off is passed over."""
        self._path = path
        self._context = hash_json(context)
        self._known: dict[str, Point] = {}
        self.reused = 0
        self.added = 0
        for line in path.read_bytes().splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
                self._known[entry["key"]] = Point(**entry["point"])
            except (ValueError, KeyError, TypeError):
                continue

    def find(self, setting: Setting, concurrency: int, window_s: float, round_number: int) -> Point | None:
        """The measurement of an earlier run, or None."""
        point = self._known.get(self._make_key(setting, concurrency, window_s, round_number))
        self.reused += point is not None
        return point

    def add(self, setting: Setting, point: Point, window_s: float, round_number: int) -> None:
        """Appends one measurement and waits until it is on disk. Raises UnavailableError."""
        key = self._make_key(setting, point.concurrency, window_s, round_number)
        entry = {
            "key": key,
            "context": self._context,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "setting": dict(setting.values),
            "window_s": window_s,
            "round": round_number,
            "point": asdict(point),
        }
        try:
            with self._path.open("ab+") as stream:
                # Behind a line that was cut off, the new one must not become part of it.
                stream.seek(0, os.SEEK_END)
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":
                        stream.write(b"\n")
                stream.write(json.dumps(entry).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise UnavailableError(f"cannot write {self._path}: {error}") from error
        self._known[key] = point
        self.added += 1

    def _make_key(self, setting: Setting, concurrency: int, window_s: float, round_number: int) -> str:
        return hash_json(
            {
                "context": self._context,
                "setting": dict(setting.values),
                "concurrency": concurrency,
                "window_s": window_s,
                "round": round_number,
            }
        )


class JournaledMeasurer:
    """Measures with `inner` what the journal does not know yet."""

    def __init__(self, inner: Measurer, journal: Journal) -> None:
        self._inner, self._journal = inner, journal

    def measure(self, setting: Setting, concurrency: int, window_s: float, round_number: int) -> Point:
        """As `Measurer.measure`; what was measured is kept before this returns."""
        known = self._journal.find(setting, concurrency, window_s, round_number)
        if known is not None:
            return known
        point = self._inner.measure(setting, concurrency, window_s, round_number)
        self._journal.add(setting, point, window_s, round_number)
        return point


def lock_folder(folder: Path) -> AbstractContextManager[None]:
    """One tuner at a time: two would measure each other. Makes the folder. Raises UnavailableError."""
    folder.mkdir(parents=True, exist_ok=True)
    return hold_lock(folder / ".lock", f"another tuner works in {folder}; wait for it to end")
