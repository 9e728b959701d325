"""PDF, one page at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from trireme.errors import DocumentError
from trireme.ingest.formats.content import Content
from trireme.ingest.formats.text import clean, clean_title
from trireme.ingest.source import Limits

if TYPE_CHECKING:
    from pypdf import PdfReader

# Fonts are shared by pages: the parsed objects are dropped only now and then.
PAGES_KEPT = 50


def read_pdf(file: BinaryIO, limits: Limits) -> Content:
    """Title and the text of the pages, with an empty line between two.

    Raises DocumentError, also from the parts; pypdf itself bounds what one page may unpack to.
    """
    from pypdf import PdfReader

    # It complains of every flaw it can read past; what it cannot read is reported by name.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    with _typed_errors():
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("it is encrypted; save a copy without a password")
        title = str(reader.metadata.title or "") if reader.metadata else ""
        pages = len(reader.pages)
    if pages > limits.pdf_pages:
        raise DocumentError(f"it has {pages:,} pages, more than {limits.pdf_pages:,}; split it")
    return Content(clean_title(title), _pages(reader, pages, limits))


def _pages(reader: PdfReader, count: int, limits: Limits) -> Iterator[str]:
    end = time.monotonic() + limits.pdf_seconds
    is_blank = True
    for number in range(count):
        if time.monotonic() > end:
            raise DocumentError(
                f"reading {number} of its {count} pages took {limits.pdf_seconds:.0f} s; split it"
            )
        with _typed_errors():
            text = clean(reader.pages[number].extract_text())
        is_blank = is_blank and not text.strip()
        yield text if number + 1 == count else text + "\n\n"
        if number % PAGES_KEPT == PAGES_KEPT - 1:
            reader.resolved_objects.clear()
    if is_blank:
        raise DocumentError("its pages hold no text; if it is a scan, recognize its text first")


@contextmanager
def _typed_errors() -> Iterator[None]:
    from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError

    try:
        yield
    except (DependencyError, FileNotDecryptedError):
        raise DocumentError("it is encrypted; save a copy without a password") from None
    except LimitReachedError as error:
        raise DocumentError(f"it asks for more than a PDF may: {clean(str(error))}") from None
    except (PyPdfError, RecursionError):
        raise DocumentError("it is not a PDF that can be read") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, AssertionError):
        # pypdf meets broken files with whatever its parser happened to do.
        raise DocumentError("it is a damaged PDF") from None
