"""Styles of DOCX: which are headings, which are hidden, each by itself or by the style it is based on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trireme.documents.formats.ooxml import attribute, child, name_of

OFF = frozenset(("0", "false", "off"))
BODY_LEVEL = 9
DEEPEST = 6


class Styles:
    """The styles of a document by id; none where it has no part for them."""

    def __init__(self, root: Any | None) -> None:
        found = () if root is None else root
        self._styles = {attribute(e, "w:styleId"): e for e in found if name_of(e.tag) == "w:style"}
        self._levels: dict[str, int] = {}
        self._hidden: dict[str, bool] = {}

    def level(self, paragraph: Any) -> int:
        """1 to 6 for a heading, 0 for any other paragraph.

        What the paragraph says of its outline level counts, then its style's name ("heading 1" in every
        language, "Title") or level, then those of the styles that it is based on.
        """
        properties = child(paragraph, "w:pPr")
        if properties is None:
            return 0
        own = _outline_level(properties)
        style = child(properties, "w:pStyle")
        identity = "" if style is None else attribute(style, "w:val")
        if identity not in self._levels:
            self._levels[identity] = next(self._style_levels(identity), 0)
        return own or self._levels[identity]

    def is_hidden(self, properties: Any | None, style: str) -> bool:
        """Whether text of these properties (w:pPr, w:rPr) is hidden; `style` is the tag of their style."""
        if properties is None:
            return False
        own = properties if name_of(properties.tag) == "w:rPr" else None
        said = None if own is None else child(own, "w:vanish")
        if said is not None:
            return attribute(said, "w:val") not in OFF
        named = child(properties, style)
        identity = "" if named is None else attribute(named, "w:val")
        if identity not in self._hidden:
            marks = (child(one, "w:rPr", "w:vanish") for one in self._chain(identity))
            said = next((mark for mark in marks if mark is not None), None)
            self._hidden[identity] = said is not None and attribute(said, "w:val") not in OFF
        return self._hidden[identity]

    def _chain(self, identity: str) -> Iterator[Any]:
        seen: set[str] = set()
        while identity in self._styles and identity not in seen:
            seen.add(identity)
            yield self._styles[identity]
            based = child(self._styles[identity], "w:basedOn")
            identity = "" if based is None else attribute(based, "w:val")

    def _style_levels(self, identity: str) -> Iterator[int]:
        for style in self._chain(identity):
            name = child(style, "w:name")
            if level := _named_level("" if name is None else attribute(name, "w:val")):
                yield level
            properties = child(style, "w:pPr")
            said = None if properties is None else child(properties, "w:outlineLvl")
            if said is not None:
                # Level 9 is that of body text: the heading of a table of contents, based on a heading.
                yield _outline_level(properties)


def _outline_level(properties: Any) -> int:
    said = child(properties, "w:outlineLvl")
    value = "" if said is None else attribute(said, "w:val")
    return min(int(value) + 1, DEEPEST) if value.isdecimal() and int(value) < BODY_LEVEL else 0


def _named_level(style: str) -> int:
    """1 to 6 for "Title", "Heading 1" and so on, 0 for others. Names are English in every Word."""
    name, _, number = style.strip().lower().partition(" ")
    if name == "title" and not number:
        return 1
    return min(int(number), DEEPEST) if name == "heading" and number.isdecimal() and int(number) else 0
