"""What a PDF viewer shows: glyphs by name, encrypted files, broken words."""

import io

import pytest
from pypdf import PdfReader, PdfWriter

from trireme.documents.blocks import blocks
from trireme.documents.formats.pdf import read_pdf
from trireme.documents.source import Limits
from trireme.errors import DocumentError

HELVETICA = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def make(pages: list[list[str]], font: str = HELVETICA, *more: str) -> bytes:
    """A PDF of pages of lines, each a PDF string without its brackets; `more` are further objects."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        font,
    ]
    for number, lines in enumerate(pages):
        stream = "BT /F1 12 Tf 14 TL 72 720 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    objects += more
    body, offsets = "%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return (body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}").encode("latin-1")


def text_of(data: bytes) -> str:
    return "".join(read_pdf(io.BytesIO(data), Limits()).parts).strip()


def encrypted(data: bytes, algorithm: str, password: str = "") -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(password, owner_password="owner", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


ALGORITHMS = ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_that_opens_without_a_password_is_read(algorithm):
    data = encrypted(make([["Open text"]]), algorithm)
    assert PdfReader(io.BytesIO(data)).is_encrypted
    assert text_of(data) == "Open text"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_that_needs_a_password_is_named(algorithm):
    with pytest.raises(DocumentError, match="encrypted; save a copy without a password"):
        text_of(encrypted(make([["Locked text"]]), algorithm, "secret"))


def test_a_file_encrypted_for_certificates_is_named():
    data = encrypted(make([["Locked text"]]), "RC4-40").replace(
        b"/Filter /Standard", b"/Filter /Adobe.PubSec"
    )
    with pytest.raises(DocumentError, match="encrypted"):
        text_of(data)


def named(*glyphs: str, kind: str = "Type1") -> str:
    names = " ".join(f"/{glyph}" for glyph in glyphs)
    return (
        f"<< /Type /Font /Subtype /{kind} /BaseFont /ABCDEF+CMR10 /FirstChar 1 /LastChar 9"
        f" /Encoding << /Type /Encoding /Differences [1 {names}] >> >>"
    )


@pytest.mark.parametrize(
    ("glyph", "letters"),
    [
        ("fi", "fi"), ("fl", "fl"), ("ff", "ff"), ("ffi", "ffi"), ("ffl", "ffl"), ("f_i", "fi"), ("f_f_i", "ffi"),
        ("s_t", "st"), ("T_h", "Th"), ("c_t", "ct"), ("uniFB01", "fi"), ("uni00660069", "fi"), ("f_i.alt", "fi"),
        ("fi.liga", "fi"), ("a.sc", "a"), ("uni00AD", ""), ("quoteright", "’"),
    ],
)  # fmt: skip
def test_glyphs_are_read_as_their_letters(glyph, letters):
    assert text_of(make([["o\\001ce"]], named(glyph))) == f"o{letters}ce"


def test_ligatures_of_a_table_for_unicode_are_letters_too():
    table = "begincmap 1 beginbfchar <01> <FB03> endbfchar endcmap"
    font = "<< /Type /Font /Subtype /TrueType /BaseFont /X /FirstChar 1 /LastChar 1 /ToUnicode 6 0 R >>"
    stream = f"<< /Length {len(table)} >>\nstream\n{table}\nendstream"
    assert text_of(make([["\\001"]], font, stream)) == "ffi"


def test_words_broken_over_lines_and_pages_are_whole():
    pages = [
        ["The infor-", "mation of a client-", "server system is well-", "known to engi-"],
        ["neers of every", "harbour."],
    ]
    assert text_of(make(pages)) == (
        "The information\nof a client-server\nsystem is well-known\nto engineers\n\nof every\nharbour."
    )
    assert text_of(make([["har\\255bour, infor\\255", "mation"]])) == "harbour, information"


def test_lines_that_look_like_markdown_are_text():
    lines = ["# 1 in sales", "-----", "[1]: http://x.org", "```", "<!-- shown -->"]
    found = list(blocks(read_pdf(io.BytesIO(make([lines, ["# 2"]])), Limits()).parts))
    assert [(block.heading, block.text) for block in found] == [((), "\n".join(lines)), ((), "# 2")]


def test_a_font_of_odd_parts_is_read_without_its_names():
    for font in (
        "<< /Subtype /Type1 /BaseFont /Helvetica /Encoding << /Differences 7 >> >>",
        "<< /Subtype /Type1 /BaseFont /Helvetica /Encoding << /Differences [1 2 (x) /a_ /_ /. null] >> >>",
        "<< /Subtype /Type1 /BaseFont /Helvetica /Encoding [1] >>",
    ):
        try:
            assert "text" in text_of(make([["text"]], font))
        except DocumentError as error:
            assert str(error)
