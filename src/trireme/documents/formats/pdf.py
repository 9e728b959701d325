"""PDF, one page at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from trireme.documents.formats.content import Content
from trireme.documents.formats.hyphens import Joiner
from trireme.documents.formats.text import clean, clean_title
from trireme.documents.markdown import literal
from trireme.documents.source import Limits
from trireme.errors import DocumentError

if TYPE_CHECKING:
    from pypdf import PdfReader

# Fonts are shared by pages: the parsed objects are dropped only now and then.
PAGES_KEPT = 50
# Forms within forms whose fonts are looked at.
FORM_DEPTH = 8
# Glyphs of two and three letters; a search is typed in letters.
LIGATURES = str.maketrans(
    {
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "st",
        "\ufb06": "st",
    }
)
ENCRYPTED = "it is encrypted; save a copy without a password"


def read_pdf(file: BinaryIO, limits: Limits) -> Content:
    """Title and the text of the pages, with an empty line between two; words broken over lines are joined.

    A file that opens without a password is read, however it is encrypted. Raises DocumentError, also from the
    parts; pypdf itself bounds what one page may unpack to.
    """
    from pypdf import PdfReader

    # It complains of every flaw it can read past; what it cannot read is reported by name.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    with _typed_errors():
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError(ENCRYPTED)
        title = str(reader.metadata.title or "") if reader.metadata else ""
        pages = len(reader.pages)
    if pages > limits.pdf_pages:
        raise DocumentError(f"it has {pages:,} pages, more than {limits.pdf_pages:,}; split it")
    return Content(clean_title(title), _whole_words(_pages(reader, pages, limits)))


def _whole_words(pages: Iterator[str]) -> Iterator[str]:
    """The pages with an empty line between two and no word broken between lines, nor between pages."""
    joiner = Joiner()
    before: str | None = None
    for page in pages:
        text = joiner.join(page)
        if before is not None:
            before, text = joiner.join_lines(before.rstrip(), text)
            yield literal(before) + "\n\n"
        before = text
    yield literal(before or "")


def _pages(reader: PdfReader, count: int, limits: Limits) -> Iterator[str]:
    end = time.monotonic() + limits.pdf_seconds
    is_blank = True
    named: set[int] = set()
    for number in range(count):
        if time.monotonic() > end:
            raise DocumentError(
                f"reading {number} of its {count} pages took {limits.pdf_seconds:.0f} s; split it"
            )
        with _typed_errors():
            page = reader.pages[number]
            _name_glyphs(page.get("/Resources"), named)
            lines = clean(page.extract_text()).translate(LIGATURES).split("\n")
            text = "\n".join(line.rstrip() for line in lines)
        is_blank = is_blank and not text.strip()
        yield text
        if number % PAGES_KEPT == PAGES_KEPT - 1:
            reader.resolved_objects.clear()
            named.clear()
    if is_blank:
        raise DocumentError("its pages hold no text; if it is a scan, recognize its text first")


def _name_glyphs(resources: Any, named: set[int], depth: int = 0) -> None:
    """Gives glyphs whose names pypdf does not know (f_i, a.sc, uni00660069) their letters, in the fonts' encodings.

    `named` holds the ids of fonts and forms that were looked at.
    """
    found = _dictionary(resources)
    for kind in ("/Font", "/XObject") if depth <= FORM_DEPTH else ():
        for one in _dictionary(found.get(kind)).values():
            entry = _dictionary(one)
            if id(entry) in named:
                continue
            named.add(id(entry))
            if kind == "/Font":
                _name_differences(_dictionary(entry.get("/Encoding")).get("/Differences"))
            else:
                _name_glyphs(entry.get("/Resources"), named, depth + 1)


def _name_differences(differences: Any) -> None:
    from fontTools.agl import toUnicode
    from pypdf.generic import NameObject, TextStringObject

    entries = differences.get_object() if differences is not None else []
    for place, name in enumerate(entries):
        if isinstance(name, NameObject) and ("_" in name or "." in name or name.startswith("/uni")):
            letters = toUnicode(name[1:])
            if letters:
                entries[place] = TextStringObject(letters)


def _dictionary(value: Any) -> Any:
    """A dictionary of the file, or an empty one in its place."""
    found = value.get_object() if value is not None else None
    return found if isinstance(found, dict) else {}


@contextmanager
def _typed_errors() -> Iterator[None]:
    from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError

    try:
        yield
    except (DependencyError, FileNotDecryptedError, NotImplementedError):
        raise DocumentError(ENCRYPTED) from None
    except LimitReachedError as error:
        raise DocumentError(f"it asks for more than a PDF may: {clean(str(error))}") from None
    except (PyPdfError, RecursionError):
        raise DocumentError("it is not a PDF that can be read") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, AssertionError):
        # pypdf meets broken files with whatever its parser happened to do.
        raise DocumentError("it is a damaged PDF") from None
