"""Collections of one database that others follow: how a link between two stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class ReplicationLink:
    """One link, as one of its ends sees it.

    role: follower, of the database that is asked, whose home the link leads to; or home, of one that follows it.
    name: of the other end. is_connected: whether anything can come through now. state: in a word or two, such as
    copying, following, lost. behind_bytes: of the home's write-ahead log, that the follower has not applied (a home
    sees all of it, a follower what has come and is not applied). silent_seconds: since the other end was last heard
    of; None where that is not known. left_bytes: that a home keeps for the follower beyond that before it is lost;
    None where that is not known.
    """

    role: Literal["follower", "home"]
    name: str
    is_connected: bool
    state: str
    behind_bytes: int
    silent_seconds: float | None = None
    left_bytes: int | None = None


class Replication(Protocol):
    """How the links of one database stand. Safe to use from several threads."""

    def read(self) -> list[ReplicationLink]:
        """All links, by name; none where it neither follows nor is followed. Raises UnavailableError."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...
