"""The paragraphs and tables of a DOCX story, in the order and with the text that Word shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trireme.documents.formats.docx_math import linear
from trireme.documents.formats.docx_styles import Styles
from trireme.documents.formats.ooxml import attribute, child, name_of
from trireme.documents.formats.symbols import symbol
from trireme.documents.formats.text import clean

# What is not shown: deleted and moved text, fields' instructions. Nor are properties, whose names end in Pr.
UNSEEN = frozenset((
    "w:del", "w:moveFrom", "w:delText", "w:instrText", "w:delInstrText", "w:rt", "w:fldData", "w:ffData",
))  # fmt: skip
SIGNS = {"w:tab": "\t", "w:ptab": "\t", "w:br": "\n", "w:cr": "\n", "w:noBreakHyphen": "-"}
# A soft hyphen shows only where a line ends at it.
SOFT_HYPHEN = "\u00ad"
LINE_ENDS = re.compile(r"[^\S\n]*\n\s*")


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, or a table with a line to each row. `level` is that of a heading, 1 to 6, else 0."""

    text: str
    level: int = 0
    is_markdown: bool = False


@dataclass(slots=True)
class _Line:
    """A paragraph as it is read. `below` comes after it: its text boxes, then its notes."""

    words: list[str] = field(default_factory=list)
    below: list[Text] = field(default_factory=list)
    notes: list[Text] = field(default_factory=list)


class Story:
    """Reads stories of one document. Notes are given once, below the paragraph that refers to them first.

    `include` gives the text of the part behind a relationship's id, for what the document includes whole.
    """

    def __init__(
        self,
        styles: Styles,
        footnotes: dict[str, Any],
        endnotes: dict[str, Any],
        include: Callable[[str], list[Text]],
    ) -> None:
        self._styles = styles
        self._notes = {"w:footnoteReference": footnotes, "w:endnoteReference": endnotes}
        self._include = include
        # Fields that the text is inside of, outermost first: whether their result is being read.
        self._fields: list[bool] = []
        self._whole_fields: set[Any] = set()

    def texts(self, root: Any) -> Iterator[Text]:
        """The texts below an element, headings and tables among them."""
        before, self._fields = self._fields, []
        self._whole_fields |= _whole_fields(root)
        open_line: _Line | None = None
        for element in _reach(root, {"w:p", "w:tbl", "w:altChunk", "m:oMath"}):
            name = name_of(element.tag)
            if name == "w:p":
                line = open_line or _Line()
                self._read(element, line, self._is_hidden_style(element))
                open_line = line if _is_mark_deleted(element) else None
                if open_line is None:
                    yield from _finish(line, self._styles.level(element))
            elif name == "w:tbl":
                rows = [row for row in map(self._row, _reach(element, {"w:tr"})) if row]
                yield from (Text("\n".join(rows)),) if rows else ()
            elif name == "w:altChunk":
                yield from self._include(attribute(element, "r:id"))
            else:
                yield Text(linear(element))
        if open_line is not None:
            yield from _finish(open_line, 0)
        self._fields = before

    def _is_hidden_style(self, paragraph: Any) -> bool:
        return self._styles.is_hidden(child(paragraph, "w:pPr"), "w:pStyle")

    def _row(self, row: Any) -> str:
        properties = child(row, "w:trPr")
        if properties is not None and any(name_of(e.tag) in {"w:del", "w:hidden"} for e in properties):
            return ""
        cells = (self._cell(cell) for cell in _reach(row, {"w:tc"}))
        return " | ".join(cell for cell in cells if cell)

    def _cell(self, cell: Any) -> str:
        if child(cell, "w:tcPr", "w:cellDel") is not None:
            return ""
        return " ".join(" ".join(text.text for text in self.texts(cell)).split())

    def _read(self, element: Any, line: _Line, is_hidden: bool) -> None:
        """Adds the text inside an element of a paragraph to its line."""
        for one in element:
            name = name_of(one.tag)
            if name == "w:t":
                if not is_hidden and all(self._fields):
                    line.words.append((one.text or "").replace("\n", " "))
            elif name in SIGNS:
                if not is_hidden and all(self._fields):
                    line.words.append(SIGNS[name])
            elif name == "w:fldChar":
                self._enter_field(one)
            elif name in UNSEEN or name.endswith("Pr"):
                continue
            elif name == "w:r":
                properties = child(one, "w:rPr")
                said = properties is not None and child(properties, "w:vanish") is not None
                hidden = self._styles.is_hidden(properties, "w:rStyle") or (is_hidden and not said)
                self._read(one, line, hidden)
            else:
                self._read_other(one, name, line, is_hidden)

    def _read_other(self, element: Any, name: str, line: _Line, is_hidden: bool) -> None:
        is_seen = not is_hidden and all(self._fields)
        if name == "w:sym":
            line.words.append(symbol(attribute(element, "w:font"), attribute(element, "w:char")) * is_seen)
        elif name == "m:oMath":
            line.words.append(linear(element) * is_seen)
        elif name == "w:ruby":
            self._read_ruby(element, line, is_hidden)
        elif name == "w:txbxContent":
            line.below += self.texts(element) if is_seen else ()
        elif name in self._notes:
            note = self._notes[name].pop(attribute(element, "w:id"), None)
            line.notes += self.texts(note) if note is not None and is_seen else ()
        elif name == "mc:AlternateContent":
            self._read(_branch(element), line, is_hidden)
        else:
            self._read(element, line, is_hidden)

    def _read_ruby(self, ruby: Any, line: _Line, is_hidden: bool) -> None:
        """The characters, then how they are read, in brackets."""
        self._read(ruby, line, is_hidden)
        spoken = _Line()
        reading = child(ruby, "w:rt")
        if reading is not None:
            self._read(reading, spoken, is_hidden)
        if text := "".join(spoken.words):
            line.words.append(f"({text})")

    def _enter_field(self, mark: Any) -> None:
        kind = attribute(mark, "w:fldCharType")
        if mark not in self._whole_fields:
            return
        if kind == "begin":
            self._fields.append(False)
        elif kind == "separate" and self._fields:
            self._fields[-1] = True
        elif kind == "end" and self._fields:
            self._fields.pop()


def _finish(line: _Line, level: int) -> Iterator[Text]:
    text = LINE_ENDS.sub("\n", clean("".join(line.words)).replace(SOFT_HYPHEN, "")).strip()
    if text:
        yield Text(text, level)
    yield from line.below
    yield from line.notes


def _reach(element: Any, names: set[str]) -> Iterator[Any]:
    """The outermost elements of these names, through the frames around them: content controls, insertions."""
    pending = list(reversed(element))
    while pending:
        one = pending.pop()
        name = name_of(one.tag)
        if name in names:
            yield one
        elif name == "mc:AlternateContent":
            pending.extend(reversed(_branch(one)))
        elif name not in UNSEEN and not name.endswith("Pr"):
            pending.extend(reversed(one))


def _branch(alternatives: Any) -> Any:
    """What is shown of content that is there twice: the first choice, unless the fallback alone has text."""
    choices = [one for one in alternatives if name_of(one.tag) == "mc:Choice"]
    fallback = child(alternatives, "mc:Fallback")
    if not choices:
        return () if fallback is None else fallback
    return (
        fallback if fallback is not None and not _has_text(choices[0]) and _has_text(fallback) else choices[0]
    )


def _has_text(element: Any) -> bool:
    return any(name_of(one.tag) in {"w:t", "m:t"} for one in element.iter())


def _is_mark_deleted(paragraph: Any) -> bool:
    """Whether the paragraph's end was deleted, so that the next one goes on in it."""
    mark = child(paragraph, "w:pPr", "w:rPr")
    return mark is not None and any(name_of(one.tag) in {"w:del", "w:moveFrom"} for one in mark)


def _whole_fields(root: Any) -> set[Any]:
    """The marks of fields that have an end: the text after a begin without one is no instruction."""
    opened: list[list[Any]] = []
    found: set[Any] = set()
    for mark in _marks(root):
        kind = attribute(mark, "w:fldCharType")
        if kind == "begin":
            opened.append([mark])
        elif opened:
            opened[-1].append(mark)
            if kind == "end":
                found.update(opened.pop())
    return found


def _marks(root: Any) -> Iterable[Any]:
    return (one for one in root.iter() if name_of(one.tag) == "w:fldChar")
