"""Tags of what our own models answer: they change with the model, the collection, the tenant and the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trireme.gateway.caching.conditional import Validator, make_tag


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is answered from. path: it was sent to. collection: "" where none is read."""

    path: str
    tenant: str
    user: str
    model: str
    collection: str = ""
    is_public: bool = False


class Versions(Protocol):
    """What changes with models and collections."""

    async def version_of(self, model: str, tenant: str, collection: str) -> str:
        """A text that is another whenever the model, one below it, or the collection ("": none) changed; "" where
        that is not known. Does not raise."""
        ...


class Validators:
    """Makes the validator of a request."""

    def __init__(self, versions: Versions, seconds: int) -> None:
        """seconds: that caches may keep an answer."""
        self._versions = versions
        self._seconds = seconds

    async def of(self, subject: Subject, body: Mapping[str, Any]) -> tuple[Validator, str] | None:
        """With the version of what answers; None where that is not known. Does not raise."""
        version = await self._versions.version_of(subject.model, subject.tenant, subject.collection)
        if not version:
            return None
        # Users see different passages of a collection.
        whose = subject.user if subject.collection else ""
        parts = {
            "tenant": subject.tenant,
            "user": whose,
            "path": subject.path,
            "model": subject.model,
            "collection": subject.collection,
            "version": version,
            "body": body,
        }
        return Validator(make_tag(parts), self._seconds, subject.is_public), version
