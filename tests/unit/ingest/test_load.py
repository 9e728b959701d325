import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trireme.errors import DocumentError, InvalidInputError, NotFoundError
from trireme.ingest.load import Limits, Skipped, Source, load, open_all
from trireme.types import Document

HTML = """<html><head><title>A page</title><script>var hidden = 1</script></head>
<body><nav>Home | About</nav><h1>Oars</h1><p>Three <b>banks</b> of<br>oars.</p>
<script>alert("hidden")</script><style>p {}</style><h2>Rowers</h2><ul><li>one</li><li>two</li></ul>
<footer>hidden</footer></body></html>"""


def pdf(*pages: str) -> bytes:
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


def encrypted_pdf(path: Path, password: str) -> None:
    from io import BytesIO

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf("Locked text"))))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    writer.write(path)


def docx_file(path: Path, **parts: str | bytes) -> None:
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


def documents_of(path: Path, skipped: Skipped | None = None) -> list[Document]:
    skipped = Skipped() if skipped is None else skipped
    return list(open_all(load(path, skipped), skipped))


def reason_of(path: Path, **limits: int) -> str:
    """Why the one source of `path` cannot be read, be it at opening or in the middle."""
    (source,) = load(path, limits=Limits(**limits))
    with pytest.raises(DocumentError) as caught:
        for _ in source.open().parts:
            pass
    return str(caught.value)


def test_a_text_file_is_a_document_named_by_its_file(tmp_path):
    (tmp_path / "oars.txt").write_bytes(b"\xef\xbb\xbfThree\r\nbanks")
    (source,) = load(tmp_path / "oars.txt")
    assert source.open() == Document("oars.txt", "oars", ("Three\nbanks",), "oars.txt", digest=source.digest)


def test_the_title_of_markdown_is_its_first_heading(tmp_path):
    (tmp_path / "a.md").write_text("intro\n\n# The title\n\ntext")
    assert documents_of(tmp_path)[0].title == "The title"


def test_html_keeps_title_headings_and_text_and_leaves_out_scripts_and_navigation(tmp_path):
    (tmp_path / "page.html").write_text(HTML)
    (document,) = documents_of(tmp_path)
    assert document.title == "A page"
    assert document.text.split("\n\n") == ["# Oars", "Three banks of", "oars.", "## Rowers", "one", "two"]


def test_a_pdf_gives_the_text_of_its_pages(tmp_path):
    (tmp_path / "two.pdf").write_bytes(pdf("The dynamic batcher", "waits for requests"))
    (document,) = documents_of(tmp_path)
    assert document.text.split("\n\n") == ["The dynamic batcher", "waits for requests"]


def test_a_pdf_that_needs_no_password_to_be_read_is_read(tmp_path):
    encrypted_pdf(tmp_path / "open.pdf", "")
    assert [document.text for document in documents_of(tmp_path)] == ["Locked text"]


def test_xhtml_is_read_without_complaint(tmp_path):
    (tmp_path / "x.html").write_text('<?xml version="1.0"?><html><body><p>text</p></body></html>')
    assert "text" in documents_of(tmp_path)[0].text


def test_a_folder_is_read_recursively_in_sorted_order_with_relative_ids(tmp_path):
    for name in ("b/z.txt", "b/a.md", "a.txt", ".git/config.txt", "b/.hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [document.id for document in documents_of(tmp_path)] == ["a.txt", "b/a.md", "b/z.txt"]


def test_files_that_cannot_be_read_are_named_with_the_reason_and_the_others_are_loaded(tmp_path):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "torn.pdf").write_bytes(pdf("text")[:150])
    (tmp_path / "not.pdf").write_bytes(b"this is no PDF")
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    encrypted_pdf(tmp_path / "locked.pdf", "secret")
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["good.txt"]
    reasons = dict(skipped.files)
    assert set(reasons) == {"latin1.txt", "empty.md", "torn.pdf", "not.pdf", "scan.pdf", "locked.pdf"}
    assert "UTF-8" in reasons["latin1.txt"]
    assert "encrypted" in reasons["locked.pdf"]
    assert "no text" in reasons["empty.md"]
    assert "no text" in reasons["scan.pdf"]
    assert any(line.startswith("latin1.txt: ") for line in skipped.lines())


def test_unknown_suffixes_are_counted(tmp_path):
    for name in ("a.png", "b.PNG", "Makefile", "c.TXT"):
        (tmp_path / name).write_text("text")
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["c.TXT"]
    assert skipped.unknown_suffixes == {".png": 2, "(none)": 1}
    assert skipped.count == 3


def test_links_that_leave_the_folder_are_not_followed(tmp_path):
    root = tmp_path / "root"
    outside = tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    (outside / "secret.txt").write_text("secret")
    (root / "real.txt").write_text("text")
    (root / "file-out.txt").symlink_to(outside / "secret.txt")
    (root / "folder-out").symlink_to(outside)
    (root / "inside.txt").symlink_to(root / "real.txt")
    (root / "dangling.txt").symlink_to(root / "missing.txt")
    (root / "round.txt").symlink_to(root / "round.txt")
    (root / "folder-in").symlink_to(root)
    skipped = Skipped()
    assert [document.id for document in documents_of(root, skipped)] == ["inside.txt", "real.txt"]
    reasons = dict(skipped.files)
    assert set(reasons) == {"file-out.txt", "folder-out", "dangling.txt", "round.txt"}
    assert "leads out of the folder" in reasons["file-out.txt"]
    assert "leads out of the folder" in reasons["folder-out"]


@pytest.mark.parametrize("name", ["", "corpus.jsonl"])
def test_a_beir_corpus_gives_whole_documents_under_their_own_ids(tmp_path, name):
    rows = [
        {"_id": "d1", "title": "T", "text": "one"},
        {"_id": 7, "text": "seven", "metadata": {}},
        {"_id": "d3", "title": "only a title", "text": ""},
    ]
    bad = ["{torn", "[]", json.dumps({"_id": "x"}), json.dumps({"_id": "y", "text": ""}), '"\\ud800"']
    lines = [*map(json.dumps, rows), "", *bad]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    (tmp_path / "queries.jsonl").write_text("{}")
    skipped = Skipped()
    documents = documents_of(tmp_path / name, skipped)
    assert [(d.id, d.title, d.text, d.whole) for d in documents] == [
        ("d1", "T", "one", True),
        ("7", "", "seven", True),
        ("d3", "only a title", "", True),
    ]
    assert [name for name, _ in skipped.files] == [f"corpus.jsonl:{n}" for n in range(5, 10)]


def test_text_that_no_database_stores_is_cleaned(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "x\\u0000y\\ud800z"}')
    assert documents_of(tmp_path)[0].text == "xy?z"


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="missing"):
        list(load(tmp_path / "missing"))


def test_a_single_file_of_unknown_type_is_refused(tmp_path):
    (tmp_path / "a.odt").write_text("text")
    with pytest.raises(InvalidInputError, match=r"a\.odt.*\.docx.*\.pdf"):
        list(load(tmp_path / "a.odt"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_skipped(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    assert "Permission denied" in reason_of(tmp_path)


def test_docx_gives_headings_paragraphs_and_table_rows(tmp_path):
    docx_file(tmp_path / "a.docx")
    (document,) = documents_of(tmp_path)
    assert document.title == "Oars"
    assert document.text.split("\n\n") == [
        "# Oars",
        "Three banks of oars.",
        "## Rowers",
        "bank | men\nupper | 62",
        "After the table.",
    ]


def test_docx_keeps_links_insertions_and_content_controls_and_leaves_out_what_was_deleted(tmp_path):
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = (
        f"<w:document {w}><w:body><w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:hyperlink><w:r><w:t>a link</w:t>"
        "</w:r></w:hyperlink><w:ins><w:r><w:t> kept</w:t></w:r></w:ins><w:del><w:r><w:delText> gone</w:delText>"
        "</w:r></w:del></w:p><w:sdt><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "</w:body></w:document>"
    )
    docx_file(tmp_path / "a.docx", word__document=b"", **{"word__document.xml": body})
    assert documents_of(tmp_path)[0].text == "a link kept\n\ncontrol"


def test_a_page_in_another_encoding_is_read_as_it_says(tmp_path):
    (tmp_path / "old.html").write_bytes(
        b'<meta charset="iso-8859-1"><title>caf\xe9</title><p>\x93caf\xe9\x94'
    )
    (document,) = documents_of(tmp_path)
    assert (document.title, document.text) == ("café", "“café”")
    (tmp_path / "old.html").write_bytes(b'<meta charset="klingon"><p>caf\xe9')
    assert "klingon" in reason_of(tmp_path)


def test_a_page_of_a_hundred_thousand_nested_or_open_tags_is_read(tmp_path):
    (tmp_path / "deep.html").write_text("<div>" * 100_000 + "deep" + "</div>" * 50_000)
    (tmp_path / "flat.html").write_text("<p>flat <b>text" * 100_000)
    deep, flat = documents_of(tmp_path)
    assert deep.text == "deep"
    assert flat.text.count("flat text") == 100_000


def test_utf16_with_a_mark_is_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("Drei Bänke\r\nRuder".encode("utf-16"))
    assert documents_of(tmp_path)[0].text == "Drei Bänke\nRuder"


def test_large_text_comes_in_parts_that_join_to_the_whole(tmp_path):
    text = "".join(f"Line {n} is of ship {n} – ünd so fort.\n" for n in range(120_000))
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode())
    (document,) = documents_of(tmp_path)
    parts = list(document.parts)
    assert len(parts) > 3
    assert all(part.endswith("\n") for part in parts)
    assert "".join(parts) == text


def test_a_long_line_of_many_byte_letters_is_cut_between_them(tmp_path):
    text = "a" + "漢" * 2_000_000
    (tmp_path / "a.txt").write_text(text)
    assert documents_of(tmp_path)[0].text == text


def test_the_digest_is_known_without_parsing_and_changes_with_the_bytes_and_the_fingerprint(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("trireme.ingest.load._READERS", {".pdf": None, ".txt": None})
    (tmp_path / "a.pdf").write_bytes(b"never parsed")

    def digest(fingerprint: str = "256 tokens") -> str:
        (source,) = load(tmp_path, fingerprint=fingerprint)
        return source.digest

    first = digest()
    assert len(first) == 64
    assert digest() == first
    assert digest("512 tokens") != first
    os.utime(tmp_path / "a.pdf", (0, 0))
    assert digest() == first
    (tmp_path / "a.pdf").write_bytes(b"never parsed.")
    assert digest() != first


def test_the_digest_of_a_corpus_line_is_its_own(tmp_path):
    def digests(*texts: str) -> list[str]:
        lines = [json.dumps({"_id": str(n), "text": text}) for n, text in enumerate(texts)]
        (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
        return [source.digest for source in load(tmp_path)]

    first, second = digests("a", "b"), digests("a", "c")
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_the_metadata_of_a_corpus_line_is_kept(tmp_path):
    rows = [
        {"_id": "a", "text": "t", "metadata": {"year": 2024, "x\u0000": "\ud800"}},
        {"_id": "b", "text": "t", "metadata": {"year": float("nan")}},
        {"_id": "c", "text": "t", "metadata": "words"},
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skipped = Skipped()
    documents = documents_of(tmp_path, skipped)
    assert [document.extra for document in documents] == [{"year": 2024, "x": "?"}, {"metadata": "words"}]
    assert skipped.files == [("corpus.jsonl:2", "it is not JSON")]


def test_bad_sources_have_an_id_no_digest_and_a_reason(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (source,) = load(tmp_path)
    assert (source.id, source.digest, source.size) == ("empty.txt", "", 0)
    for _ in range(2):
        with pytest.raises(DocumentError, match="it is empty"):
            source.open()


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.pdf", "a.docx"])
def test_an_empty_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert reason_of(tmp_path) == "it is empty"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_a_file_of_white_space_holds_no_text(tmp_path, name):
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
def test_binary_with_the_name_of_text_is_named_with_the_place(tmp_path, content, reason):
    (tmp_path / "a.txt").write_bytes(content)
    assert reason in reason_of(tmp_path)


@pytest.mark.parametrize("name", ["pipe.txt", "pipe.pdf", "pipe.docx"])
def test_a_pipe_in_the_folder_does_not_block(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / "z.txt").write_text("text")
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["z.txt"]
    assert skipped.files == [(name, "it is not a regular file")]


def test_sockets_and_devices_are_named(tmp_path):
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "held.txt"))
        (tmp_path / "zero.txt").symlink_to("/dev/zero")
        skipped = Skipped()
        assert documents_of(tmp_path, skipped) == []
    assert dict(skipped.files)["held.txt"] == "it is not a regular file"
    assert "leads out" in dict(skipped.files)["zero.txt"]


def test_a_pipe_that_takes_the_place_of_a_file_between_looking_and_opening_does_not_block(
    tmp_path, monkeypatch
):
    (tmp_path / "a.txt").write_text("text")
    look = Path.lstat

    def swap(path: Path) -> os.stat_result:
        found = look(path)
        if path.name == "a.txt":
            path.unlink()
            os.mkfifo(path)
        return found

    monkeypatch.setattr(Path, "lstat", swap)
    (source,) = load(tmp_path)
    with pytest.raises(DocumentError, match="not a regular file"):
        source.open()


def test_a_file_that_vanishes_before_it_is_opened_is_named(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text")
    sources = list(load(tmp_path))
    (tmp_path / "a.txt").unlink()
    skipped = Skipped()
    assert [document.id for document in open_all(iter(sources), skipped)] == ["b.txt"]
    assert skipped.files == [("a.txt", "it cannot be read: No such file or directory")]


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("text\n" * 1_000_000)
    (source,) = load(tmp_path)
    parts = iter(source.open().parts)
    next(parts)
    with file.open("a") as more:
        more.write("more")
    with pytest.raises(DocumentError, match="changed while it was read"):
        list(parts)
    (source,) = load(tmp_path)
    file.write_text("other")
    with pytest.raises(DocumentError, match="changed while it was read"):
        list(source.open().parts)


def test_an_error_of_the_disk_names_that_file_alone(tmp_path, monkeypatch):
    """Root reads every file, so the system's refusal is played."""
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_text("text")
    real = os.open

    def refuse(path, *arguments, **options):
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["b.txt"]
    assert skipped.files == [("a.txt", "it cannot be read: Permission denied")]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("text")
    real = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["b.txt"]
    assert skipped.files == [("a", "it cannot be read: Permission denied")]


def test_names_that_are_not_utf8_or_too_long_are_named(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("text")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/x.\xe9")).write_text("text")
    deep = tmp_path.joinpath(*(letter * 250 for letter in "abcdefghi"))
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_text("text")
    skipped = Skipped()
    assert documents_of(tmp_path, skipped) == []
    (name, reason), (long_name, long_reason) = skipped.files
    assert name == "caf\\xe9.txt"
    assert "not UTF-8" in reason
    assert "bytes" in long_reason
    assert long_name.endswith("deep.txt")
    assert skipped.unknown_suffixes == {".\\xe9": 1}
    "".join(skipped.lines()).encode()


def test_more_bytes_than_the_limit_are_refused_by_size_alone_naming_the_setting(tmp_path):
    with (tmp_path / "huge.txt").open("wb") as sparse:
        sparse.truncate(2 << 30)
    reason = reason_of(tmp_path)
    assert "2,147,483,648 bytes" in reason
    assert "TRIREME_MAX_DOCUMENT_BYTES" in reason


@pytest.mark.parametrize("place", [0, 150, 400, 550])
def test_a_torn_pdf_is_named(tmp_path, place):
    (tmp_path / "torn.pdf").write_bytes(pdf("one", "two")[:place] + b"\xff" * 40)
    assert "PDF" in reason_of(tmp_path)


def test_any_single_flaw_in_a_pdf_ends_in_text_or_a_typed_error(tmp_path):
    data = pdf("one", "two")
    for place in range(0, len(data), 23):
        (tmp_path / "a.pdf").write_bytes(data[:place] + b"<<[(" + data[place + 4 :])
        for source in load(tmp_path):
            try:
                assert isinstance(source.open().text, str)
            except DocumentError as error:
                assert str(error)


def test_a_pdf_whose_page_tree_turns_in_a_circle_is_named(tmp_path):
    circle = pdf("one").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")
    (tmp_path / "circle.pdf").write_bytes(circle)
    assert "PDF" in reason_of(tmp_path)


def test_a_pdf_of_too_many_pages_is_named(tmp_path):
    (tmp_path / "many.pdf").write_bytes(pdf(*["page"] * 30))
    assert reason_of(tmp_path, pdf_pages=29) == "it has 30 pages, more than 29; split it"
    assert reason_of(tmp_path, pdf_seconds=-1.0).startswith("reading 0 of its 30 pages took")
    (document,) = documents_of(tmp_path)
    assert document.text.split("\n\n") == ["page"] * 30


def test_a_pdf_that_unpacks_without_end_is_named(tmp_path):
    import zlib

    bomb = zlib.compress(b" " * 300_000_000, 9)
    data = pdf("X")
    stream = b"BT /F1 12 Tf 72 720 Td (X) Tj ET"
    old = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
    assert old in data
    new = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(bomb), bomb)
    (tmp_path / "bomb.pdf").write_bytes(data.replace(old, new))
    reason_of(tmp_path)


def test_a_zip_bomb_disguised_as_docx_is_named_before_it_is_unpacked(tmp_path):
    docx_file(tmp_path / "bomb.docx", **{"word__document.xml": b" " * 20_000_000})
    assert "zip bomb" in reason_of(tmp_path)
    docx_file(tmp_path / "bomb.docx", **{"word__extra.xml": b" " * 40_000_000})
    assert "TRIREME_MAX_PARSED_BYTES" in reason_of(tmp_path)


def test_a_zip_bomb_whose_directory_lies_about_its_size_is_named(tmp_path):
    file = tmp_path / "liar.docx"
    docx_file(file, **{"word__document.xml": b" " * 20_000_000})
    size = (20_000_000).to_bytes(4, "little")
    assert file.read_bytes().count(size) == 2
    file.write_bytes(file.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    assert reason_of(tmp_path)


def test_what_is_not_text_in_a_docx_is_not_unpacked(tmp_path):
    docx_file(tmp_path / "a.docx", **{"word__media__huge.png": b"\x00" * 50_000_000})
    (document,) = documents_of(tmp_path)
    assert document.title == "Oars"


def test_a_docx_of_many_files_is_named(tmp_path):
    docx_file(tmp_path / "a.docx", **{f"word__x{n}.bin": b"" for n in range(10_001)})
    assert "files, more than" in reason_of(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_docx_with_external_entities_is_refused(tmp_path, encoding):
    secret = tmp_path / "secret"
    secret.write_text("secret words")
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    xml = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE d [<!ENTITY e SYSTEM "file://{secret}">]>'
        f"<w:document {w}><w:body><w:p><w:r><w:t>&e;</w:t></w:r></w:p></w:body></w:document>"
    )
    docx_file(tmp_path / "a.docx", **{"word__document.xml": xml.encode(encoding)})
    assert "DOCTYPE" in reason_of(tmp_path / "a.docx")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"word__document.xml": "<w:document"}, "broken"),
        ({"word__document.xml": "<other/>"}, "damaged"),
        ({"[Content_Types].xml": "<Types/>"}, "damaged"),
        ({"_rels__.rels": "<x"}, "broken"),
        ({"docProps__core.xml": "<x"}, "broken"),
    ],
)
def test_a_docx_of_broken_parts_is_named(tmp_path, parts, reason):
    docx_file(tmp_path / "a.docx", **parts)
    assert reason in reason_of(tmp_path)


def test_a_file_that_is_no_docx_or_a_torn_one_is_named(tmp_path):
    (tmp_path / "a.docx").write_text("no archive")
    assert "not a DOCX" in reason_of(tmp_path)
    docx_file(tmp_path / "a.docx")
    data = (tmp_path / "a.docx").read_bytes()
    for place in (100, len(data) // 2, len(data) - 30):
        (tmp_path / "a.docx").write_bytes(data[:place])
        assert "not a DOCX" in reason_of(tmp_path)
    (tmp_path / "a.docx").write_bytes(data[:200] + b"\xff" * 200 + data[400:])
    assert reason_of(tmp_path)


def test_a_duplicate_id_in_a_corpus_names_both_lines_and_the_first_one_stays(tmp_path):
    rows = [{"_id": identity, "text": f"text {n}"} for n, identity in enumerate(["a", "b", "a", 7, "7", "c"])]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skipped = Skipped()
    assert [(d.id, d.text) for d in documents_of(tmp_path, skipped)] == [
        ("a", "text 0"),
        ("b", "text 1"),
        ("7", "text 3"),
        ("c", "text 5"),
    ]
    assert [name for name, _ in skipped.files] == ["corpus.jsonl:3", "corpus.jsonl:5"]
    assert "line 1 already" in skipped.files[0][1]


def test_a_corpus_line_too_long_to_hold_is_named_and_the_next_one_is_read(tmp_path):
    lines = [
        {"_id": "a", "text": "x" * 9_000_000},
        {"_id": "b", "text": "text"},
        {"_id": "i" * 3000, "text": "t"},
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["b"]
    assert [name for name, _ in skipped.files] == ["corpus.jsonl:1", "corpus.jsonl:3"]


def test_only_the_first_of_many_bad_lines_are_kept_by_name(tmp_path):
    (tmp_path / "corpus.jsonl").write_text("{torn\n" * 1500)
    skipped = Skipped()
    assert documents_of(tmp_path, skipped) == []
    assert skipped.count == 1500
    assert len(skipped.files) == 1000
    assert "500 more" in skipped.lines()


MEMORY = """
import resource, sys
from pathlib import Path
from trireme.ingest.chunk import chunk
from trireme.ingest.load import load

def read(path):
    count = 0
    for source in load(path):
        count += sum(1 for _ in (chunk(source.open()) if sys.argv[1] == "chunk" else source.open().parts))
    return count

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

read(Path(sys.argv[2]))
before = peak()
print(read(Path(sys.argv[3])), peak() - before)
"""
SENTENCES = "A trireme has three banks of oars and a ram. " * 20


def measure(what: str, small: Path, large: Path) -> tuple[int, int]:
    """Parts or passages of `large`, and the megabytes by which reading it raised a process's peak."""
    command = [sys.executable, "-c", MEMORY, what, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    return count, grown


def write_twice(folder: Path, name: str, unit: str, megabytes: int) -> tuple[Path, Path]:
    """A file of about 3 MB and one of `megabytes`, made of the same text."""
    files = []
    for size in (3, megabytes):
        file = folder / str(size) / name
        file.parent.mkdir()
        with file.open("w") as opened:
            for _ in range(size):
                opened.write(unit * (1_000_000 // len(unit)))
        files.append(file)
    return files[0], files[1]


@pytest.mark.parametrize(
    ("name", "unit", "megabytes"),
    [
        ("a.txt", SENTENCES + "\n\n", 200),
        ("one-line.md", SENTENCES, 200),
        ("a.html", "<div><p>" + SENTENCES, 30),
    ],
)
def test_a_large_file_is_read_in_the_memory_of_a_small_one(tmp_path, name, unit, megabytes):
    small, large = write_twice(tmp_path, name, unit, megabytes)
    assert large.stat().st_size > 0.9 * megabytes * 1_000_000
    parts, grown = measure("read", small, large)
    assert parts >= megabytes // 2
    assert grown < 16


@pytest.mark.parametrize("unit", [SENTENCES + "\n\n", SENTENCES, "漢字" * 500 + "。"])
def test_a_large_file_is_cut_in_the_memory_of_a_small_one(tmp_path, unit):
    passages, grown = measure("chunk", *write_twice(tmp_path, "a.txt", unit, 8))
    assert passages > 7_000
    assert grown < 16


def test_a_million_documents_of_one_line_are_read_in_constant_memory(tmp_path):
    for size, name in ((10_000, "small.jsonl"), (1_000_000, "large.jsonl")):
        with (tmp_path / name).open("w") as lines:
            for start in range(0, size, 10_000):
                lines.writelines(
                    f'{{"_id": "d{n}", "text": "line {n}"}}\n' for n in range(start, start + 10_000)
                )
    documents, grown = measure("read", tmp_path / "small.jsonl", tmp_path / "large.jsonl")
    assert documents == 1_000_000
    assert grown < 16


def test_a_source_is_frozen():
    with pytest.raises(AttributeError):
        Source("a", "", 0, lambda: Document("a", "", (), "a")).id = "b"
