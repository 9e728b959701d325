import pytest

from trireme.documents.load import load
from trireme.types import Document


def test_a_text_file_is_a_document_named_by_its_file(tmp_path):
    (tmp_path / "oars.txt").write_bytes(b"\xef\xbb\xbfThree\r\nbanks")
    (source,) = load(tmp_path / "oars.txt")
    assert source.open() == Document("oars.txt", "oars", ("Three\nbanks",), "oars.txt", digest=source.digest)


def test_the_title_of_markdown_is_its_first_heading(tmp_path, documents_of):
    (tmp_path / "a.md").write_text("intro\n\n# The title\n\ntext")
    assert documents_of(tmp_path)[0].title == "The title"


def test_utf16_with_a_mark_is_text(tmp_path, documents_of):
    (tmp_path / "a.txt").write_bytes("Drei Bänke\r\nRuder".encode("utf-16"))
    assert documents_of(tmp_path)[0].text == "Drei Bänke\nRuder"


def test_large_text_comes_in_parts_that_join_to_the_whole(tmp_path, documents_of):
    text = "".join(f"Line {n} is of ship {n} – ünd so fort.\n" for n in range(120_000))
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode())
    (document,) = documents_of(tmp_path)
    parts = list(document.parts)
    assert len(parts) > 3
    assert all(part.endswith("\n") for part in parts)
    assert "".join(parts) == text


def test_a_long_line_of_many_byte_letters_is_cut_between_them(tmp_path, documents_of):
    text = "a" + "漢" * 2_000_000
    (tmp_path / "a.txt").write_text(text)
    assert documents_of(tmp_path)[0].text == text


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_a_file_of_white_space_holds_no_text(tmp_path, name, reason_of):
    (tmp_path / name).write_text(" \n\t\n" * 1000)
    assert reason_of(tmp_path) == "it holds no text"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(range(256)) * 100, "byte"),
        (b"text\x00text", "NUL"),
        (b"a" * 3_000_000 + b"\x00", "NUL"),
        (b"a" * 3_000_000 + "ä".encode()[:1] + b"b", "byte 3000000"),
        (b"a" * (1 << 20) + b"\xc3", f"byte {1 << 20}"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "byte 10"),
        (b"PK\x03\x04\x14\x00", "NUL"),
    ],
)
def test_binary_with_the_name_of_text_is_named_with_the_place(tmp_path, content, reason, reason_of):
    (tmp_path / "a.txt").write_bytes(content)
    assert reason in reason_of(tmp_path)
