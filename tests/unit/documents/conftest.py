import io
import zipfile
from pathlib import Path

import pytest

from trireme.documents.load import Limits, Skipped, load, open_all
from trireme.errors import DocumentError
from trireme.types import Document


def _pdf(*pages: str) -> bytes:
    """A small valid PDF with one line of text per page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return (out + f"xref\n0 {size}\n0000000000 65535 f \n{table}" + end).encode()


def _encrypted_pdf(path: Path, password: str) -> None:
    from io import BytesIO

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(_pdf("Locked text"))))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    writer.write(path)


def _docx_file(path: Path, **parts: str | bytes) -> None:
    """A DOCX of python-docx; `parts` replace or add files in its archive (__ stands for /)."""
    import docx

    document = docx.Document()
    document.add_heading("Oars", 1)
    document.add_paragraph("Three banks of oars.")
    document.add_heading("Rowers", 2)
    table = document.add_table(2, 2)
    for cell, text in zip(
        (c for row in table.rows for c in row.cells), ("bank", "men", "upper", "62"), strict=True
    ):
        cell.text = text
    document.add_paragraph("")
    document.add_paragraph("After the table.")
    plain = io.BytesIO()
    document.save(plain)
    given = {name.replace("__", "/"): data for name, data in parts.items()}
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if entry.filename not in given:
                new.writestr(entry, old.read(entry))
        for name, data in given.items():
            new.writestr(name, data)


def _documents_of(path: Path, skipped: Skipped | None = None) -> list[Document]:
    skipped = Skipped() if skipped is None else skipped
    return list(open_all(load(path, skipped), skipped))


def _reason_of(path: Path, **limits: int) -> str:
    """Why the one source of `path` cannot be read, be it at opening or in the middle."""
    (source,) = load(path, limits=Limits(**limits))
    with pytest.raises(DocumentError) as caught:
        for _ in source.open().parts:
            pass
    return str(caught.value)


@pytest.fixture
def pdf():
    return _pdf


@pytest.fixture
def encrypted_pdf():
    return _encrypted_pdf


@pytest.fixture
def docx_file():
    return _docx_file


@pytest.fixture
def documents_of():
    return _documents_of


@pytest.fixture
def reason_of():
    return _reason_of
