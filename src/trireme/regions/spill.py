"""Which share of an entry's calls is sent to other regions by load, and the turn in which that is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from trireme.errors import TriremeError
from trireme.scale.spill import write_shares

# Of load, in which 1 is full: by an agent's own setting two seconds of work that wait.
SPILL_FROM = 0.5
ALL_AT = 2.0
# A far region takes the whole share up to here, and none of it once it is full.
FAR_FROM = 0.5


def share_of(near: float | None, far: float | None) -> int:
    """How many of a hundred calls leave, by the loads near and far; None: not known. Pure.

    None of them up to SPILL_FROM, all from ALL_AT on, in between a share that grows evenly. Nothing goes to a
    region that is as loaded as this one, so that two regions never send calls to each other at once.
    """
    if near is None or far is None or far >= near:
        return 0
    wanted = (near - max(SPILL_FROM, far)) / (ALL_AT - SPILL_FROM)
    room = (1.0 - far) / (1.0 - FAR_FROM)
    return round(100 * min(1.0, max(0.0, wanted)) * min(1.0, max(0.0, room)))


class Spill:
    """Keeps the shares of all entries, and writes them where Envoy reads them. For one thread."""

    def __init__(self, entries: tuple[str, ...], folder: Path) -> None:
        """Writes nothing."""
        self._entries = entries
        self._folder = folder
        self._written: Mapping[str, int] | None = None
        self._fault = ""
        self.shares: Mapping[str, int] = dict.fromkeys(entries, 0)

    def decide(
        self, near: Mapping[str, float], far: Mapping[str, float], notice: Callable[[str], None]
    ) -> None:
        """Decides by loads by the name of an entry; what is not named is not known. Blocks for the disk.

        Tells `notice` when calls begin or cease to leave, and of shares that cannot be written.
        """
        shares = {entry: share_of(near.get(entry), far.get(entry)) for entry in self._entries}
        for entry in self._entries:
            if bool(shares[entry]) != bool(self.shares[entry]):
                begins = "begin to leave for" if shares[entry] else "no longer leave for"
                notice(f"Calls of {entry} {begins} another region.")
        self.shares = shares
        self._write(notice)

    def _write(self, notice: Callable[[str], None]) -> None:
        if self.shares == self._written:
            return
        try:
            write_shares(self._folder, self.shares)
        except TriremeError as error:
            if self._fault != str(error):
                notice(f"The shares that leave cannot be written, so those before hold: {error}.")
            self._fault = str(error)
        else:
            self._written, self._fault = self.shares, ""
