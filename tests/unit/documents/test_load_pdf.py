import pytest

from trireme.documents.load import load
from trireme.errors import DocumentError


def test_a_pdf_gives_the_text_of_its_pages(tmp_path, pdf, documents_of):
    (tmp_path / "two.pdf").write_bytes(pdf("The dynamic batcher", "waits for requests"))
    (document,) = documents_of(tmp_path)
    assert document.text.split("\n\n") == ["The dynamic batcher", "waits for requests"]


def test_a_pdf_that_needs_no_password_to_be_read_is_read(tmp_path, encrypted_pdf, documents_of):
    encrypted_pdf(tmp_path / "open.pdf", "")
    assert [document.text for document in documents_of(tmp_path)] == ["Locked text"]


@pytest.mark.parametrize("place", [0, 150, 400, 550])
def test_a_torn_pdf_is_named(tmp_path, place, pdf, reason_of):
    (tmp_path / "torn.pdf").write_bytes(pdf("one", "two")[:place] + b"\xff" * 40)
    assert "PDF" in reason_of(tmp_path)


def test_any_single_flaw_in_a_pdf_ends_in_text_or_a_typed_error(tmp_path, pdf):
    data = pdf("one", "two")
    for place in range(0, len(data), 23):
        (tmp_path / "a.pdf").write_bytes(data[:place] + b"<<[(" + data[place + 4 :])
        for source in load(tmp_path):
            try:
                assert isinstance(source.open().text, str)
            except DocumentError as error:
                assert str(error)


def test_a_pdf_whose_page_tree_turns_in_a_circle_is_named(tmp_path, pdf, reason_of):
    circle = pdf("one").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")
    (tmp_path / "circle.pdf").write_bytes(circle)
    assert "PDF" in reason_of(tmp_path)


def test_a_pdf_of_too_many_pages_is_named(tmp_path, pdf, documents_of, reason_of):
    (tmp_path / "many.pdf").write_bytes(pdf(*["page"] * 30))
    assert reason_of(tmp_path, pdf_pages=29) == "it has 30 pages, more than 29; split it"
    assert reason_of(tmp_path, pdf_seconds=-1.0).startswith("reading 0 of its 30 pages took")
    (document,) = documents_of(tmp_path)
    assert document.text.split("\n\n") == ["page"] * 30


def test_a_pdf_that_unpacks_without_end_is_named(tmp_path, pdf, reason_of):
    import zlib

    bomb = zlib.compress(b" " * 300_000_000, 9)
    data = pdf("X")
    stream = b"BT /F1 12 Tf 72 720 Td (X) Tj ET"
    old = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
    assert old in data
    new = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(bomb), bomb)
    (tmp_path / "bomb.pdf").write_bytes(data.replace(old, new))
    reason_of(tmp_path)
