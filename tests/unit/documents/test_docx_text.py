"""What Word shows of each element of WordprocessingML, in packages written by hand."""

import io
import zipfile

import pytest

from trireme.documents.blocks import blocks
from trireme.documents.formats.docx import read_docx
from trireme.documents.source import Limits
from trireme.errors import DocumentError

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMES = (
    f'xmlns:r="{OFFICE}" xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
    ' xmlns:v="urn:schemas-microsoft-com:vml"'
)
MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"


def package(
    body: str, parts: dict[str, str | bytes] | None = None, links: str = "", kind: str = MAIN, space: str = W
) -> bytes:
    """A DOCX of this body; `links` are relationships of the document, `parts` further files."""
    base = OFFICE if space == W else "http://purl.oclc.org/ooxml/officeDocument/relationships"
    files: dict[str, str | bytes] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{RELATIONS}"><Relationship Id="rId1" Type="{base}/officeDocument"'
        ' Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{space}" {NAMES}><w:body>{body}<w:sectPr/></w:body>'
        "</w:document>",
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{RELATIONS}">{links}</Relationships>',
        **(parts or {}),
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def link(identity: str, kind: str, target: str, mode: str = "") -> str:
    mode = f' TargetMode="{mode}"' if mode else ""
    return f'<Relationship Id="{identity}" Type="{OFFICE}/{kind}" Target="{target}"{mode}/>'


def texts_of(data: bytes) -> list[str]:
    return [block.text for block in blocks(read_docx(io.BytesIO(data), Limits()).parts)]


def shown(body: str, **options) -> list[str]:
    return texts_of(package(body, **options))


def p(*runs: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}{''.join(runs)}</w:p>"


def r(content: str, properties: str = "") -> str:
    """A run of this XML, or of a plain text."""
    content = content if "<" in content else f'<w:t xml:space="preserve">{content}</w:t>'
    return f"<w:r>{properties and f'<w:rPr>{properties}</w:rPr>'}{content}</w:r>"


def field(kind: str) -> str:
    return r(f'<w:fldChar w:fldCharType="{kind}"/>')


def instruction(text: str) -> str:
    return r(f"<w:instrText>{text}</w:instrText>")


CELL = "<w:tc>" + p(r("{}")) + "</w:tc>"


@pytest.mark.parametrize(
    ("inline", "text"),
    [
        (r("<w:t>1</w:t><w:noBreakHyphen/><w:t>24 hours</w:t>"), "1-24 hours"),
        (r("<w:t>har</w:t><w:softHyphen/><w:t>bour</w:t>"), "harbour"),
        (r("har\u00adbour"), "harbour"),
        (r("<w:t>a</w:t><w:tab/><w:t>b</w:t><w:ptab/><w:t>c</w:t>"), "a\tb\tc"),
        (r("<w:t>a</w:t><w:br/><w:t>b</w:t><w:cr/><w:t>c</w:t><w:br w:type='page'/><w:t>d</w:t>"), "a\nb\nc\nd"),
        (r('<w:t>5 </w:t><w:sym w:font="Symbol" w:char="F06D"/><w:t>m</w:t>'), "5 μm"),
        (r('<w:sym w:font="Wingdings" w:char="F0FC"/><w:t> done</w:t>'), "✓ done"),
        (r('<w:sym w:font="Calibri" w:char="2192"/><w:t> on</w:t>'), "→ on"),
        (r('<w:sym w:font="Webdings" w:char="F061"/><w:t>on</w:t>'), "on"),
        (r('<w:sym w:font="Symbol" w:char="what"/><w:t>on</w:t>'), "on"),
        ("<w:ins>" + r("new") + "</w:ins><w:del>" + r("<w:delText>old</w:delText>") + "</w:del>", "new"),
        ("<w:moveTo>" + r("to") + "</w:moveTo><w:moveFrom>" + r("from") + "</w:moveFrom>", "to"),
        ("<w:smartTag>" + r("Athens") + "</w:smartTag><w:customXml>" + r(" port") + "</w:customXml>",
         "Athens port"),
        ("<w:sdt><w:sdtPr><w:alias w:val='x'/></w:sdtPr><w:sdtContent>" + r("in it") + "</w:sdtContent></w:sdt>",
         "in it"),
        ('<w:hyperlink r:id="rId9">' + r("a link") + "</w:hyperlink>", "a link"),
        ("<w:dir w:val='rtl'><w:bdo>" + r("both ways") + "</w:bdo></w:dir>", "both ways"),
        ('<w:fldSimple w:instr=" PAGE ">' + r("7") + "</w:fldSimple>", "7"),
        (field("begin") + instruction(" DATE ") + field("separate") + r("1 May") + field("end") + r(" on"),
         "1 May on"),
        (field("begin") + instruction(" XE ") + field("end") + r("text"), "text"),
        (field("begin") + instruction("IF ") + field("begin") + instruction("PAGE") + field("separate") + r("3")
         + field("end") + instruction(" = 1") + field("separate") + r("yes") + field("end"), "yes"),
        (field("begin") + r("never ends"), "never ends"),
        (field("end") + r("never began") + field("separate"), "never began"),
        (r("seen") + r(" hidden", "<w:vanish/>") + r(" too", '<w:vanish w:val="0"/>'), "seen too"),
        ("<w:r><w:ruby><w:rubyPr/><w:rt>" + r("とうきょう") + "</w:rt><w:rubyBase>" + r("東京")
         + "</w:rubyBase></w:ruby></w:r>" + r("へ"), "東京(とうきょう)へ"),
        (r("note") + '<w:r><w:commentReference w:id="1"/></w:r>', "note"),
        (r("two\nlines"), "two lines"),
    ],
)  # fmt: skip
def test_a_paragraph_reads_as_word_shows_it(inline, text):
    assert shown(p(inline)) == [text]


def test_the_mark_of_a_deleted_paragraph_joins_it_to_the_next():
    deleted = f"<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>{r('One ')}</w:p>"
    assert shown(deleted + p(r("sentence."))) == ["One sentence."]
    assert shown(deleted) == ["One"]


def test_a_field_may_go_over_paragraphs_and_tables():
    begin = p(field("begin"), instruction("TOC"), field("separate"), r("Oars 1"))
    table = f"<w:tbl><w:tr>{CELL.format('cell')}</w:tr></w:tbl>"
    assert shown(begin + table + p(r("Rams 2"), field("end")) + p(r("text"))) == [
        "Oars 1",
        "cell",
        "Rams 2",
        "text",
    ]


def sdt(content: str) -> str:
    return f"<w:sdt><w:sdtPr/><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def test_content_controls_around_cells_rows_tables_and_paragraphs_hide_nothing():
    cells = CELL.format("a") + sdt(CELL.format("b")) + f"<w:customXml>{CELL.format('c')}</w:customXml>"
    rows = f"<w:tr>{cells}</w:tr>" + sdt(sdt(f"<w:tr>{CELL.format('d')}{CELL.format('e')}</w:tr>"))
    assert shown(sdt(p(r("first"))) + sdt(f"<w:tbl><w:tblPr/>{rows}</w:tbl>")) == [
        "first",
        "a | b | c\nd | e",
    ]


def test_deleted_rows_and_cells_are_gone_and_nested_tables_stay():
    inner = f"<w:tc><w:tbl><w:tr>{CELL.format('x')}{CELL.format('y')}</w:tr></w:tbl>{p()}</w:tc>"
    gone = f"<w:tr><w:trPr><w:del/></w:trPr>{CELL.format('gone')}</w:tr>"
    cell = f"<w:tc><w:tcPr><w:cellDel/></w:tcPr>{p(r('gone'))}</w:tc>"
    two = f"<w:tc>{p(r('two'))}{p(r('paragraphs'))}</w:tc>"
    assert shown(f"<w:tbl><w:tr>{two}{cell}{inner}</w:tr>{gone}</w:tbl>") == ["two paragraphs | x | y"]


def test_an_equation_stands_in_its_paragraph_or_is_one():
    base, raised = (
        f"<m:{name}><m:r><m:t>{sign}</m:t></m:r></m:{name}>" for name, sign in (("e", "v"), ("sup", "2"))
    )
    equation = f"<m:oMath><m:sSup>{base}{raised}</m:sSup></m:oMath>"
    assert shown(p(r("The speed is "), equation, r(" knots."))) == ["The speed is v^2 knots."]
    assert shown(p(f"<m:oMathPara>{equation}</m:oMathPara>")) == ["v^2"]
    assert shown(f"<m:oMathPara>{equation}</m:oMathPara>") == ["v^2"]


def test_a_text_box_is_read_once_after_its_paragraph():
    box = f"<w:txbxContent>{p(r('boxed'))}</w:txbxContent>"
    both = (
        f'<mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:txbx>{box}</wps:txbx></w:drawing>'
        f"</mc:Choice><mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent>"
    )
    assert shown(p(r("before "), r(both), r("after"))) == ["before after", "boxed"]
    assert shown(p(r(f"<w:pict><v:textbox>{box}</v:textbox></w:pict>"))) == ["boxed"]
    old = f'<mc:Choice Requires="new"/><mc:Fallback>{r("old")}</mc:Fallback>'
    assert shown(p(f"<mc:AlternateContent>{old}</mc:AlternateContent>")) == ["old"]
    block = f'<mc:AlternateContent><mc:Choice Requires="x">{p(r("block"))}</mc:Choice></mc:AlternateContent>'
    assert shown(block) == ["block"]


def test_notes_are_read_below_the_paragraph_that_refers_to_them_and_comments_are_not():
    notes = (
        f'<w:footnotes xmlns:w="{W}"><w:footnote w:type="separator" w:id="-1">{p(r("line"))}</w:footnote>'
        f'<w:footnote w:id="2">{p(r("<w:footnoteRef/>"), r("See Thucydides."))}</w:footnote></w:footnotes>'
    )
    ends = notes.replace("footnote", "endnote").replace("Thucydides", "Xenophon")
    body = p(
        r("Rowers"),
        r('<w:footnoteReference w:id="2"/>'),
        r(" were free men."),
        r('<w:endnoteReference w:id="2"/>'),
    )
    found = shown(
        body + p(r("again"), r('<w:footnoteReference w:id="2"/>'), r('<w:footnoteReference w:id="99"/>')),
        parts={"word/footnotes.xml": notes, "word/endnotes.xml": ends},
        links=link("rId1", "footnotes", "footnotes.xml") + link("rId2", "endnotes", "/word/endnotes.xml"),
    )
    assert found == ["Rowers were free men.", "See Thucydides.", "See Xenophon.", "again"]


STYLES = f"""<w:styles xmlns:w="{W}">
<w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Chapter"/><w:basedOn w:val="H1"/></w:style>
<w:style w:type="paragraph" w:styleId="TOCHeading"><w:name w:val="TOC Heading"/><w:basedOn w:val="H1"/>
<w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="Überschrift 2"/>
<w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="Round"><w:name w:val="Round"/><w:basedOn w:val="Round"/></w:style>
<w:style w:type="character" w:styleId="Secret"><w:name w:val="Secret"/><w:rPr><w:vanish/></w:rPr></w:style>
<w:style w:type="paragraph" w:styleId="Hidden"><w:name w:val="Hidden"/><w:rPr><w:vanish/></w:rPr></w:style>
<w:style w:type="paragraph" w:styleId="H9"><w:name w:val="heading 9"/></w:style></w:styles>"""


def styled(*paragraphs: str) -> list[tuple[tuple[str, ...], str]]:
    data = package(
        "".join(paragraphs), parts={"word/styles.xml": STYLES}, links=link("rId1", "styles", "styles.xml")
    )
    return [(block.heading, block.text) for block in blocks(read_docx(io.BytesIO(data), Limits()).parts)]


@pytest.mark.parametrize("style", ["H1", "Mine", "Title", "berschrift2", "H9"])
def test_a_style_is_a_heading_by_its_name_its_level_or_the_style_that_it_is_based_on(style):
    assert styled(p(r("Oars"), style=style), p(r("text"))) == [(("Oars",), "text")]


def test_an_outline_level_of_the_paragraph_itself_makes_a_heading():
    direct = f'<w:p><w:pPr><w:outlineLvl w:val="0"/></w:pPr>{r("Oars")}</w:p>'
    assert styled(direct, p(r("text"))) == [(("Oars",), "text")]
    body = direct.replace('"0"', '"9"')
    assert styled(body, p(r("text"))) == [((), "Oars"), ((), "text")]


@pytest.mark.parametrize("style", ["TOCHeading", "Round", "missing"])
def test_other_styles_are_text(style):
    assert styled(p(r("Oars"), style=style), p(r("text"))) == [((), "Oars"), ((), "text")]


def test_text_that_a_style_hides_is_left_out():
    assert styled(
        p(r("seen"), r("gone", '<w:rStyle w:val="Secret"/>')),
        p(r("gone"), r("shown", '<w:vanish w:val="false"/>'), style="Hidden"),
    ) == [((), "seen"), ((), "shown")]


@pytest.mark.parametrize("text", [
    "# 1 in sales", "```", "~~~", "-----", "=====", "[1]: http://x.org", "<!-- shown -->", "<div>", "> said",
    "\\# x",
])  # fmt: skip
def test_a_paragraph_that_looks_like_markdown_is_text(text):
    xml = text.replace("<", "&lt;").replace(">", "&gt;")
    found = styled(
        p(r("Oars"), style="H1"), p(f"<w:r><w:t>{xml}</w:t></w:r>"), p(r("Rams"), style="H1"), p(r("end"))
    )
    assert found == [(("Oars",), text), (("Rams",), "end")]
    assert styled(p(f"<w:r><w:t>{xml} __x__</w:t></w:r>", style="H1"), p(r("end"))) == [
        ((f"{text} __x__",), "end")
    ]


@pytest.mark.parametrize(
    "links",
    [
        link("rId5", "image", "NULL"),
        link("rId5", "image", "../NULL"),
        link("rId5", "image", "media/missing.png"),
        link("rId5", "styles", "styles.xml") + link("rId6", "numbering", "numbering.xml"),
        link("rId5", "footnotes", "footnotes.xml") + link("rId6", "aFChunk", "afchunk.mht"),
        link("rId5", "hyperlink", "https://x.org/a%20b#c", "External"),
        link("rId5", "attachedTemplate", "file:///C:\\Normal.dotm", "External"),
        link("rId5", "subDocument", "chapter.docx", "External"),
        link("rId5", "image", ""),
        '<Relationship Target="media/x.png"/>',
        "<Odd/>",
    ],
)
def test_a_relationship_that_leads_to_nothing_hurts_nobody(links):
    body = (
        p(r("text"), '<w:r><w:drawing r:embed="rId5"/></w:r>')
        + '<w:altChunk r:id="rId6"/><w:subDoc r:id="rId5"/>'
    )
    assert shown(body, links=links) == ["text"]


def test_dangling_relationships_of_the_package_hurt_nobody():
    rels = (
        f'<Relationships xmlns="{RELATIONS}"><Relationship Id="a" Type="x/core-properties" Target="NULL"/>'
        f'<Relationship Id="b" Type="{OFFICE}/officeDocument" Target="/word/document.xml"/>'
        '<Relationship Id="c" Type="x/thumbnail" Target="docProps/thumbnail.jpeg"/></Relationships>'
    )
    assert shown(p(r("text")), parts={"_rels/.rels": rels}) == ["text"]
    assert shown(p(r("text")), parts={"_rels/.rels": rels.replace("/word/document.xml", "gone.xml")}) == [
        "text"
    ]


def test_the_strict_form_of_iso_is_read():
    assert shown(p(r("strict")), space=STRICT) == ["strict"]


@pytest.mark.parametrize("kind", [
    "application/vnd.ms-word.document.macroEnabled.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
    "application/vnd.ms-word.template.macroEnabledTemplate.main+xml",
])  # fmt: skip
def test_templates_and_documents_with_macros_are_read(kind):
    assert shown(p(r("text")), kind=kind) == ["text"]


def test_a_package_of_another_program_is_named():
    sheet = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    with pytest.raises(DocumentError, match="not a Word document"):
        shown(p(r("text")), kind=sheet)


def test_names_of_parts_may_differ_in_case_and_slashes():
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package(p(r("text"))))) as old, zipfile.ZipFile(data, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename.replace("/", "\\").replace("word", "Word"), old.read(entry))
    assert texts_of(data.getvalue()) == ["text"]


def test_an_encrypted_document_or_one_of_old_word_is_named():
    with pytest.raises(DocumentError, match=r"encrypted, or a \.doc of old Word"):
        texts_of(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(5000))


MHT = b"""MIME-Version: 1.0
Content-Type: multipart/related; boundary="b"

--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<h1>Oars</h1><p>Three b=C3=A4nks</p>
--b--
"""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("chunk.mht", MHT),
        ("chunk.html", "<h1>Oars</h1><p>Three bänks</p>".encode()),
        ("chunk.xhtml", "<html><h1>Oars</h1><p>Three bänks</p></html>".encode()),
        ("chunk.txt", "Oars\n\nThree bänks".encode()),
        ("chunk.docx", package(p(r("Oars")) + p(r("Three bänks")) + '<w:altChunk r:id="rId1"/>')),
    ],
)
def test_a_file_that_the_document_includes_whole_is_read(name, data):
    found = shown(
        p(r("before")) + '<w:altChunk r:id="rId3"/>' + p(r("after")),
        parts={f"word/{name}": data},
        links=link("rId3", "aFChunk", name),
    )
    assert [text for text in found if text != "Oars"] == ["before", "Three bänks", "after"]


def test_a_file_that_is_included_and_cannot_be_read_is_named():
    with pytest.raises(DocumentError, match=r"it includes word/chunk\.rtf, which is no HTML"):
        shown(
            '<w:altChunk r:id="rId3"/>',
            parts={"word/chunk.rtf": b"{\\rtf1 Oars}"},
            links=link("rId3", "aFChunk", "chunk.rtf"),
        )


def test_a_document_of_deep_frames_is_read_or_refused_by_name():
    deep = "<w:sdt><w:sdtContent>" * 60 + p(r("deep")) + "</w:sdtContent></w:sdt>" * 60
    assert shown(deep) == ["deep"]
    with pytest.raises(DocumentError):
        shown("<w:smartTag>" * 5000 + p(r("deep")) + "</w:smartTag>" * 5000)


def test_paragraphs_and_tables_are_those_of_python_docx(tmp_path):
    import docx

    document = docx.Document()
    for number in range(20):
        document.add_paragraph(f"Paragraph {number} of\ttabs\nand lines").add_run(" bold").bold = True
    table = document.add_table(3, 3)
    for number, cell in enumerate(one for row in table.rows for one in row.cells):
        cell.text = f"cell {number}"
    document.add_paragraph("item", style="List Bullet")
    document.save(tmp_path / "a.docx")
    again = docx.Document(tmp_path / "a.docx")
    paragraphs = [one.text for one in again.paragraphs]
    rows = "\n".join(" | ".join(cell.text for cell in row.cells) for row in again.tables[0].rows)
    assert texts_of((tmp_path / "a.docx").read_bytes()) == [*paragraphs[:20], rows, *paragraphs[20:]]
