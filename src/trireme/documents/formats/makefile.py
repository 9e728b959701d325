"""Makefiles: what their targets do, as far as they say so in comments of two hash signs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from trireme.documents.formats.content import Content
from trireme.documents.formats.text import decode_blocks, read_blocks
from trireme.documents.source import Limits

# As the `help` target of many Makefiles reads them: a rule with a comment behind its prerequisites.
_TARGET = re.compile(r"(?P<name>[A-Za-z0-9][\w./-]*)\s*::?(?![:=])[^#\n]*##\s+(?P<does>\S.*)")
TITLE = "Make targets"


def read_makefile(file: BinaryIO, _: Limits) -> Content:
    """A table of the targets that have a `##` comment; the rest of the file says nothing to a reader.

    The parts raise DocumentError where the bytes are no text.
    """
    return Content(
        TITLE, _table(line for part in decode_blocks(read_blocks(file)) for line in part.split("\n"))
    )


def _table(lines: Iterable[str]) -> Iterator[str]:
    head = "| command | what it does |\n| --- | --- |\n"
    for line in lines:
        if found := _TARGET.match(line):
            does = found["does"].strip().replace("|", "\\|")
            yield f"{head}| `make {found['name']}` | {does} |\n"
            head = ""
