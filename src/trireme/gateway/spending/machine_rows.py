"""Rows of [machines] in gateway.toml: what an hour of a machine costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

import msgspec

from trireme.errors import SettingError

# As TRIREME_MACHINE_KIND may be.
_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
MOST_DOLLARS_PER_HOUR = 1_000_000
MOST_MACHINES = 10_000


class MachineRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an hour of a kind of own machines costs from the day `since` on (UTC), in US dollars; a kind has a row
    for each price. always: so many of them are paid for all the time, whatever any process says of itself.
    """

    dollars_per_hour: float
    since: date = date(1970, 1, 1)
    always: int = 0


def check_machines(kinds: Mapping[str, list[MachineRow]], name: str) -> None:
    """Raises SettingError that begins with `name`, the file's."""
    for kind, rows in kinds.items():
        where = f"{name}: machines.{kind}"
        if not _KIND.fullmatch(kind):
            raise SettingError(f"{where}: a kind has up to 64 letters, digits and . _ + -")
        if not rows:
            raise SettingError(f"{where} has no price; give dollars_per_hour")
        if len({row.since for row in rows}) < len(rows):
            raise SettingError(f"{where} has two prices since one day")
        for row in rows:
            if not 0 <= row.dollars_per_hour <= MOST_DOLLARS_PER_HOUR:
                raise SettingError(f"{where}.dollars_per_hour must be from 0 to {MOST_DOLLARS_PER_HOUR}")
            if not 0 <= row.always <= MOST_MACHINES:
                raise SettingError(f"{where}.always must be from 0 to {MOST_MACHINES}")
