import pytest


def test_docx_gives_headings_paragraphs_and_table_rows(tmp_path, docx_file, documents_of):
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


def test_docx_keeps_links_insertions_and_content_controls_and_leaves_out_what_was_deleted(
    tmp_path, docx_file, documents_of
):
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = (
        f"<w:document {w}><w:body><w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:hyperlink><w:r><w:t>a link</w:t>"
        "</w:r></w:hyperlink><w:ins><w:r><w:t> kept</w:t></w:r></w:ins><w:del><w:r><w:delText> gone</w:delText>"
        "</w:r></w:del></w:p><w:sdt><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "</w:body></w:document>"
    )
    docx_file(tmp_path / "a.docx", word__document=b"", **{"word__document.xml": body})
    assert documents_of(tmp_path)[0].text == "a link kept\n\ncontrol"


def test_a_zip_bomb_disguised_as_docx_is_named_before_it_is_unpacked(tmp_path, docx_file, reason_of):
    docx_file(tmp_path / "bomb.docx", **{"word__document.xml": b" " * 20_000_000})
    assert "zip bomb" in reason_of(tmp_path)
    docx_file(tmp_path / "bomb.docx", **{"word__extra.xml": b" " * 40_000_000})
    assert "TRIREME_MAX_PARSED_BYTES" in reason_of(tmp_path)


def test_a_zip_bomb_whose_directory_lies_about_its_size_is_named(tmp_path, docx_file, reason_of):
    file = tmp_path / "liar.docx"
    docx_file(file, **{"word__document.xml": b" " * 20_000_000})
    size = (20_000_000).to_bytes(4, "little")
    assert file.read_bytes().count(size) == 2
    file.write_bytes(file.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    assert reason_of(tmp_path)


def test_what_is_not_text_in_a_docx_is_not_unpacked(tmp_path, docx_file, documents_of):
    docx_file(tmp_path / "a.docx", **{"word__media__huge.png": b"\x00" * 50_000_000})
    (document,) = documents_of(tmp_path)
    assert document.title == "Oars"


def test_a_docx_of_many_files_is_named(tmp_path, docx_file, reason_of):
    docx_file(tmp_path / "a.docx", **{f"word__x{n}.bin": b"" for n in range(10_001)})
    assert "files, more than" in reason_of(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_docx_with_external_entities_is_refused(tmp_path, encoding, docx_file, reason_of):
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
def test_a_docx_of_broken_parts_is_named(tmp_path, parts, reason, docx_file, reason_of):
    docx_file(tmp_path / "a.docx", **parts)
    assert reason in reason_of(tmp_path)


def test_a_file_that_is_no_docx_or_a_torn_one_is_named(tmp_path, docx_file, reason_of):
    (tmp_path / "a.docx").write_text("no archive")
    assert "not a DOCX" in reason_of(tmp_path)
    docx_file(tmp_path / "a.docx")
    data = (tmp_path / "a.docx").read_bytes()
    for place in (100, len(data) // 2, len(data) - 30):
        (tmp_path / "a.docx").write_bytes(data[:place])
        assert "not a DOCX" in reason_of(tmp_path)
    (tmp_path / "a.docx").write_bytes(data[:200] + b"\xff" * 200 + data[400:])
    assert reason_of(tmp_path)
