"""What HTTP's own caches go by: tags of answers, and the headers that say who may keep one for how long.

RFC 9110 and 9111; QUERY, a safe method with a body, is RFC 10008.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

# A client that sends it takes a 304 for a POST as well, which HTTP itself does not know.
OPT_IN = "x-trireme-conditional"
VARY = "authorization, x-api-key"

Verdict = Literal["answer", "not_modified", "failed"]


@dataclass(frozen=True, slots=True)
class Validator:
    """What an answer is known by. tag (hex) changes with all that can change the answer, the tenant included.

    seconds: for how long caches may keep it; is_public: also those that several clients share.
    """

    tag: str
    seconds: int
    is_public: bool = False

    def headers(self, *, is_kept: bool) -> tuple[tuple[str, str], ...]:
        """Of an answer. is_kept: its bytes are always the same (a strong tag), or made anew (a weak one)."""
        mark = "" if is_kept else "W/"
        etag = ("etag", f'{mark}"{self.tag}"')
        scope = "public" if self.is_public else "private"
        control = ("cache-control", f"{scope}, max-age={self.seconds}")
        if self.is_public and is_kept:
            # Its address names the answer: it is the same for everybody, with a key or without.
            return (etag, control)
        # At any other address a key of another tenant is answered otherwise.
        return (etag, control, ("vary", VARY))


def make_tag(parts: Mapping[str, Any]) -> str:
    """A tag of named parts, each of which may be JSON. Different parts have different tags."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def is_tagged(header: str, tag: str) -> bool:
    """Whether an If-None-Match names the tag; weak and strong ones are the same here (RFC 9110, 13.1.2)."""
    named = [one.strip().removeprefix("W/").strip('"') for one in header.split(",")]
    return "*" in named or tag in named


def judge(method: str, headers: Mapping[str, str], tag: str) -> Verdict:
    """What an If-None-Match asks for. A match answers QUERY and GET with 304, other methods with 412."""
    header = headers.get("if-none-match")
    if header is None or not is_tagged(header, tag):
        return "answer"
    is_safe = method in ("GET", "QUERY") or headers.get(OPT_IN, "") == "304"
    return "not_modified" if is_safe else "failed"
