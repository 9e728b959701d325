import json
import os
from pathlib import Path

import pytest

from trireme.errors import InvalidInputError, NotFoundError
from trireme.ingest.load import Skipped, load
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


def test_a_text_file_is_a_document_named_by_its_file(tmp_path):
    (tmp_path / "oars.txt").write_bytes(b"\xef\xbb\xbfThree\r\nbanks")
    assert list(load(tmp_path / "oars.txt")) == [Document("oars.txt", "oars", "Three\nbanks", "oars.txt")]


def test_the_title_of_markdown_is_its_first_heading(tmp_path):
    (tmp_path / "a.md").write_text("intro\n\n# The title\n\ntext")
    assert next(load(tmp_path)).title == "The title"


def test_html_keeps_title_headings_and_text_and_leaves_out_scripts_and_navigation(tmp_path):
    (tmp_path / "page.html").write_text(HTML)
    (document,) = load(tmp_path)
    assert document.title == "A page"
    assert document.text.split("\n\n") == ["# Oars", "Three banks of", "oars.", "## Rowers", "one", "two"]


def test_a_pdf_gives_the_text_of_its_pages(tmp_path):
    (tmp_path / "two.pdf").write_bytes(pdf("The dynamic batcher", "waits for requests"))
    (document,) = load(tmp_path)
    assert document.text.split("\n\n") == ["The dynamic batcher", "waits for requests"]


def test_a_pdf_that_needs_no_password_to_be_read_is_read(tmp_path):
    encrypted_pdf(tmp_path / "open.pdf", "")
    assert [document.text for document in load(tmp_path)] == ["Locked text"]


def test_xhtml_is_read_without_complaint(tmp_path):
    (tmp_path / "x.html").write_text('<?xml version="1.0"?><html><body><p>text</p></body></html>')
    assert "text" in next(load(tmp_path)).text


def test_a_folder_is_read_recursively_in_sorted_order_with_relative_ids(tmp_path):
    for name in ("b/z.txt", "b/a.md", "a.txt", ".git/config.txt", "b/.hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [document.id for document in load(tmp_path)] == ["a.txt", "b/a.md", "b/z.txt"]


def test_files_that_cannot_be_read_are_named_with_the_reason_and_the_others_are_loaded(tmp_path):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "torn.pdf").write_bytes(pdf("text")[:150])
    (tmp_path / "not.pdf").write_bytes(b"this is no PDF")
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    encrypted_pdf(tmp_path / "locked.pdf", "secret")
    skipped = Skipped()
    assert [document.id for document in load(tmp_path, skipped)] == ["good.txt"]
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
    assert [document.id for document in load(tmp_path, skipped)] == ["c.TXT"]
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
    assert [document.id for document in load(root)] == ["inside.txt", "real.txt"]


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
    documents = list(load(tmp_path / name, skipped))
    assert [(d.id, d.title, d.text, d.whole) for d in documents] == [
        ("d1", "T", "one", True),
        ("7", "", "seven", True),
        ("d3", "only a title", "", True),
    ]
    assert [name for name, _ in skipped.files] == [f"corpus.jsonl:{n}" for n in range(5, 10)]


def test_text_that_no_database_stores_is_cleaned(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "x\\u0000y\\ud800z"}')
    assert next(load(tmp_path)).text == "xy?z"


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="missing"):
        list(load(tmp_path / "missing"))


def test_a_single_file_of_unknown_type_is_refused(tmp_path):
    (tmp_path / "a.docx").write_text("text")
    with pytest.raises(InvalidInputError, match=r"a\.docx.*\.pdf"):
        list(load(tmp_path / "a.docx"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_skipped(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    skipped = Skipped()
    assert list(load(tmp_path, skipped)) == []
    assert skipped.files[0][0] == "a.txt"
