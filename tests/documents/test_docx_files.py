"""DOCX files as Word, LibreOffice, Google Docs and pandoc write them, and the text that each shows."""

import io
import zipfile

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
NAMES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": OFFICE,
        "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "w14": "http://schemas.microsoft.com/office/word/2010/wordml",
        "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "v": "urn:schemas-microsoft-com:vml",
        "o": "urn:schemas-microsoft-com:office:office",
    }.items()
)
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"
STYLE = '<w:style w:type="paragraph" w:styleId="{}"><w:name w:val="{}"/>{}</w:style>'


def package(body: str, styles: str, title: str = "", links: str = "", **parts: str) -> bytes:
    """A package with the parts that all of them write; `parts` are more of the folder word."""
    overrides = "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="{WORD}.{kind}+xml"/>'
        for name, kind in {
            "document": "document.main",
            "styles": "styles",
            **{name: name for name in parts},
        }.items()
    )
    relations = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/{name}" Target="{name}.xml"/>'
        for number, name in enumerate(("styles", *parts), 1)
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels"'
        f' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{overrides}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1"'
        f' Type="{OFFICE}/officeDocument" Target="word/document.xml"/><Relationship Id="rId2"'
        f' Type="{PACKAGE}/relationships/metadata/core-properties" Target="docProps/core.xml"/></Relationships>',
        "docProps/core.xml": f'<cp:coreProperties xmlns:cp="{PACKAGE}/metadata/core-properties"'
        f' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></cp:coreProperties>',
        "word/document.xml": f'<w:document {NAMES} mc:Ignorable="w14"><w:body>{body}</w:body></w:document>',
        "word/styles.xml": f"<w:styles {NAMES}>{styles}</w:styles>",
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{relations}{links}'
        "</Relationships>",
        **{f"word/{name}.xml": content for name, content in parts.items()},
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n' + content)
    return data.getvalue()


WORD_STYLES = (
    STYLE.format("Normal", "Normal", "")
    + STYLE.format(
        "Heading1", "heading 1", '<w:basedOn w:val="Normal"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr>'
    )
    + STYLE.format(
        "Heading2", "heading 2", '<w:basedOn w:val="Normal"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr>'
    )
    + STYLE.format(
        "TOCHeading", "TOC Heading", '<w:basedOn w:val="Heading1"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>'
    )
    + STYLE.format("TOC1", "toc 1", "")
)
FIELD = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
WORD_BODY = f"""
<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr>
<w:sdtContent>
<w:p w14:paraId="1A2B3C4D"><w:pPr><w:pStyle w:val="TOCHeading"/></w:pPr><w:r><w:t>Contents</w:t></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="TOC1"/></w:pPr>{FIELD.format("begin")}
<w:r><w:instrText xml:space="preserve"> TOC \\o "1-3" \\h \\z \\u </w:instrText></w:r>{FIELD.format("separate")}
<w:hyperlink w:anchor="_Toc1"><w:r><w:t>Tides</w:t></w:r><w:r><w:rPr><w:webHidden/></w:rPr><w:tab/>
</w:r>{FIELD.format("begin")}
<w:r><w:instrText xml:space="preserve"> PAGEREF _Toc1 \\h </w:instrText></w:r>{FIELD.format("separate")}<w:r>
<w:t>1</w:t></w:r>
{FIELD.format("end")}</w:hyperlink></w:p><w:p>{FIELD.format("end")}</w:p></w:sdtContent></w:sdt>
<w:p w:rsidR="00A1"><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:bookmarkStart w:id="0" w:name="_Toc1"/>
<w:r><w:t>Tides</w:t></w:r><w:bookmarkEnd w:id="0"/></w:p>
<w:p><w:r><w:t xml:space="preserve">Allow 1</w:t></w:r><w:r><w:noBreakHyphen/></w:r><w:r><w:t>24 hours</w:t>
</w:r>
<w:proofErr w:type="spellStart"/><w:r><w:t xml:space="preserve"> at the har</w:t></w:r><w:r><w:softHyphen/>
<w:t>bour</w:t></w:r>
<w:proofErr w:type="spellEnd"/><w:r><w:rPr><w:rStyle w:val="FootnoteReference"/></w:rPr>
<w:footnoteReference w:id="1"/></w:r>
<w:r><w:t>.</w:t></w:r></w:p>
<w:p><w:r><w:t xml:space="preserve">The speed is </w:t></w:r><m:oMath><m:r><m:rPr><m:sty m:val="p"/></m:rPr>
<w:rPr/><m:t>v=</m:t></m:r>
<m:f><m:fPr><m:ctrlPr><w:rPr/></m:ctrlPr></m:fPr><m:num><m:r><m:t>d</m:t></m:r></m:num><m:den><m:r>
<m:t>t</m:t></m:r></m:den></m:f>
</m:oMath><w:r><w:t xml:space="preserve"> knots.</w:t></w:r></w:p>
<w:p><w:r><w:t xml:space="preserve">It </w:t></w:r><w:del w:id="5" w:author="A"><w:r>
<w:delText>fell</w:delText></w:r></w:del>
<w:ins w:id="6" w:author="A"><w:r><w:t>rose</w:t></w:r></w:ins><w:r><w:rPr><w:vanish/></w:rPr>
<w:t> (secret)</w:t></w:r>
<w:r><w:t xml:space="preserve"> twice.</w:t></w:r><w:commentRangeEnd w:id="7"/><w:r>
<w:commentReference w:id="7"/></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Heights</w:t></w:r></w:p>
<w:tbl><w:tblPr><w:tblStyle w:val="TableGrid"/></w:tblPr><w:tblGrid><w:gridCol w:w="1"/><w:gridCol w:w="1"/>
</w:tblGrid>
<w:tr><w:tc><w:tcPr><w:tcW w:w="1"/></w:tcPr><w:p><w:r><w:t>port</w:t></w:r></w:p></w:tc>
<w:sdt><w:sdtPr><w:alias w:val="unit"/></w:sdtPr><w:sdtContent><w:tc><w:p><w:r><w:t>metres</w:t></w:r></w:p>
</w:tc></w:sdtContent></w:sdt></w:tr>
<w:sdt><w:sdtPr><w:id w:val="9"/></w:sdtPr><w:sdtContent><w:tr><w:tc><w:p><w:r><w:t>Bay</w:t></w:r></w:p></w:tc>
<w:tc><w:p><w:r><w:t>4.2</w:t></w:r></w:p></w:tc></w:tr></w:sdtContent></w:sdt></w:tbl>
<w:p><w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wp:anchor><wp:positionH>
<wp:posOffset>914</wp:posOffset>
</wp:positionH><wp:docPr id="1" name="Box"/><a:graphic><a:graphicData><wps:wsp><wps:txbx><w:txbxContent><w:p>
<w:r><w:t>Beware.</w:t>
</w:r></w:p></w:txbxContent></wps:txbx></wps:wsp></a:graphicData></a:graphic></wp:anchor></w:drawing>
</mc:Choice><mc:Fallback>
<w:pict><v:shape><v:textbox><w:txbxContent><w:p><w:r><w:t>Beware.</w:t></w:r></w:p></w:txbxContent>
</v:textbox></v:shape></w:pict>
</mc:Fallback></mc:AlternateContent></w:r></w:p>
<w:p><w:r><w:drawing><wp:inline><a:graphic><a:graphicData><pic:pic><pic:blipFill><a:blip r:embed="rId40"/>
</pic:blipFill></pic:pic>
</a:graphicData></a:graphic></wp:inline></w:drawing></w:r><w:r><w:sym w:font="Symbol" w:char="F0B1"/>
<w:t>0.1 m</w:t></w:r></w:p>
<w:sectPr><w:headerReference w:type="default" r:id="rId41"/></w:sectPr>"""
WORD_NOTES = (
    f'<w:footnotes {NAMES}><w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:separator/></w:r></w:p>'
    "</w:footnote>"
    '<w:footnote w:id="1"><w:p><w:r><w:footnoteRef/></w:r><w:r><w:t xml:space="preserve"> At low water.</w:t></w:r>'
    "</w:p></w:footnote></w:footnotes>"
)


def test_a_document_of_word(read):
    links = (
        f'<Relationship Id="rId40" Type="{OFFICE}/image" Target="NULL"/>'
        f'<Relationship Id="rId41" Type="{OFFICE}/header" Target="header1.xml"/>'
    )
    data = package(WORD_BODY.replace("\n", ""), WORD_STYLES, "Tide tables", links, footnotes=WORD_NOTES)
    assert read("word.docx", data) == (
        "Tide tables",
        {},
        [
            ("", "Contents"),
            ("", "Tides\t1"),
            ("Tides", "Allow 1-24 hours at the harbour."),
            ("Tides", "At low water."),
            ("Tides", "The speed is v=d/t knots."),
            ("Tides", "It rose twice."),
            ("Tides > Heights", "port | metres\nBay | 4.2"),
            ("Tides > Heights", "Beware."),
            ("Tides > Heights", "±0.1 m"),
        ],
    )


LIBREOFFICE_STYLES = (
    STYLE.format("Normal", "Normal", "")
    + STYLE.format("Heading", "Heading", '<w:basedOn w:val="Normal"/><w:next w:val="TextBody"/>')
    + STYLE.format(
        "Heading1", "Heading 1", '<w:basedOn w:val="Heading"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr>'
    )
    + STYLE.format("TextBody", "Body Text", '<w:basedOn w:val="Normal"/>')
    + STYLE.format("TableContents", "Table Contents", "")
)
LIBREOFFICE_BODY = """
<w:p><w:pPr><w:pStyle w:val="Heading1"/><w:bidi w:val="0"/><w:rPr></w:rPr></w:pPr><w:r><w:rPr></w:rPr>
<w:t>Gezeiten</w:t></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="TextBody"/><w:rPr></w:rPr></w:pPr><w:r><w:rPr></w:rPr>
<w:t xml:space="preserve">Hoch</w:t></w:r>
<w:r><w:rPr></w:rPr><w:t>wasser im Ha\u00adfen um</w:t></w:r><w:r><w:rPr></w:rPr><w:br/><w:t>zwölf</w:t></w:r>
<w:r><w:rPr></w:rPr><w:t xml:space="preserve"> Uhr, Seite </w:t></w:r><w:r><w:rPr></w:rPr>
<w:fldChar w:fldCharType="begin"></w:fldChar></w:r>
<w:r><w:rPr></w:rPr><w:instrText xml:space="preserve"> PAGE </w:instrText></w:r><w:r><w:rPr></w:rPr>
<w:fldChar w:fldCharType="separate"/></w:r>
<w:r><w:rPr></w:rPr><w:t>1</w:t></w:r><w:r><w:rPr></w:rPr><w:fldChar w:fldCharType="end"/></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="TextBody"/></w:pPr><m:oMath><m:r><m:t>𝑣</m:t></m:r><m:r>
<m:t xml:space="preserve">=</m:t></m:r>
<m:sSup><m:e><m:r><m:t>𝑎</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:oMath></w:p>
<w:tbl><w:tblPr><w:tblW w:w="9638" w:type="dxa"/></w:tblPr><w:tr><w:trPr></w:trPr><w:tc><w:tcPr/><w:p><w:pPr>
<w:pStyle w:val="TableContents"/></w:pPr>
<w:r><w:t>Hafen</w:t></w:r></w:p></w:tc><w:tc><w:p><w:pPr><w:pStyle w:val="TableContents"/></w:pPr><w:r>
<w:t>Höhe</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
<w:p><w:r><w:rPr></w:rPr><w:ruby><w:rubyPr/><w:rt><w:r><w:t>しお</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>潮</w:t>
</w:r></w:rubyBase></w:ruby></w:r></w:p>
<w:sectPr><w:type w:val="nextPage"/></w:sectPr>"""


def test_a_document_of_libreoffice(read):
    data = package(LIBREOFFICE_BODY.replace("\n", ""), LIBREOFFICE_STYLES)
    assert read("writer.docx", data) == (
        "Gezeiten",
        {},
        [
            ("Gezeiten", "Hochwasser im Hafen um\nzwölf Uhr, Seite 1"),
            ("Gezeiten", "v=a^2"),
            ("Gezeiten", "Hafen | Höhe"),
            ("Gezeiten", "潮(しお)"),
        ],
    )


GOOGLE_STYLES = (
    STYLE.format("Normal", "normal", "")
    + STYLE.format("Title", "Title", '<w:basedOn w:val="Normal"/>')
    + STYLE.format("Subtitle", "Subtitle", '<w:basedOn w:val="Normal"/>')
    + STYLE.format("Heading2", "heading 2", '<w:basedOn w:val="Normal"/>')
)
GOOGLE_RUN = '<w:r><w:rPr><w:rtl w:val="0"/></w:rPr><w:t xml:space="preserve">{}</w:t></w:r>'
GOOGLE_TAG = '<w:sdt><w:sdtPr><w:tag w:val="goog_rdk_{}"/></w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>'
GOOGLE_CELL = f"<w:tc><w:p>{GOOGLE_RUN}</w:p></w:tc>"


def test_a_document_of_google_docs(read):
    def paragraph(text: str, style: str = "Normal") -> str:
        return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{GOOGLE_RUN.format(text)}</w:p>'

    row = GOOGLE_TAG.format(1, GOOGLE_CELL.format("port")) + GOOGLE_TAG.format(
        2, GOOGLE_CELL.format("height")
    )
    see = GOOGLE_RUN.format("See the ")
    link = f'<w:hyperlink r:id="rId7">{GOOGLE_RUN.format("table")}</w:hyperlink>'
    body = (
        paragraph("Tides", "Title")
        + paragraph("of the bay", "Subtitle")
        + paragraph("Low water", "Heading2")
        + GOOGLE_TAG.format(
            0,
            f"<w:p>{see}{GOOGLE_TAG.format(3, link)}{GOOGLE_RUN.format('.')}</w:p>",
        )
        + f"<w:tbl><w:tr>{row}</w:tr>{GOOGLE_TAG.format(4, f'<w:tr>{row}</w:tr>')}</w:tbl>"
        + "<w:p><w:r><w:br w:type='page'/></w:r></w:p>"
        + paragraph("☐ checked")
    )
    links = (
        f'<Relationship Id="rId7" Type="{OFFICE}/hyperlink" Target="https://x.org" TargetMode="External"/>'
    )
    assert read("google.docx", package(body, GOOGLE_STYLES, links=links)) == (
        "Tides",
        {},
        [
            ("Tides", "of the bay"),
            ("Tides > Low water", "See the table."),
            ("Tides > Low water", "port | height\nport | height"),
            ("Tides > Low water", "☐ checked"),
        ],
    )


PANDOC_STYLES = (
    STYLE.format("Title", "Title", "")
    + STYLE.format("Author", "Author", "")
    + STYLE.format("Heading1", "heading 1", "")
    + STYLE.format("FirstParagraph", "First Paragraph", '<w:basedOn w:val="BodyText"/>')
    + STYLE.format("SourceCode", "Source Code", "")
)
PANDOC_CODE = '<w:r><w:rPr><w:rStyle w:val="VerbatimChar"/></w:rPr><w:t xml:space="preserve">{}</w:t></w:r>'


def test_a_document_of_pandoc(read):
    def paragraph(style: str, content: str) -> str:
        return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{content}</w:p>'

    def text(words: str) -> str:
        return f'<w:r><w:t xml:space="preserve">{words}</w:t></w:r>'

    equation = (
        '<m:oMathPara><m:oMathParaPr><m:jc m:val="center"/></m:oMathParaPr><m:oMath><m:nary><m:naryPr>'
        '<m:chr m:val="∑"/></m:naryPr><m:sub><m:r><m:t>i=1</m:t></m:r></m:sub><m:sup>'
        "<m:r><m:t>n</m:t></m:r></m:sup>"
        "<m:e><m:sSub><m:e><m:r><m:t>h</m:t></m:r></m:e><m:sub><m:r><m:t>i</m:t></m:r></m:sub></m:sSub></m:e>"
        "</m:nary></m:oMath></m:oMathPara>"
    )
    code = PANDOC_CODE.format("# a comment") + "<w:r><w:br/></w:r>" + PANDOC_CODE.format("tides --port")
    body = (
        paragraph("Title", text("Tides"))
        + paragraph("Author", text("A. Sailor"))
        + '<w:bookmarkStart w:id="20" w:name="use"/>'
        + paragraph("Heading1", text("Use") + PANDOC_CODE.format(" of __init__"))
        + paragraph(
            "FirstParagraph",
            text("Run ") + "<w:hyperlink w:anchor='x'>" + text("this") + "</w:hyperlink>" + text(":"),
        )
        + paragraph("SourceCode", code)
        + paragraph("BodyText", equation)
        + '<w:bookmarkEnd w:id="20"/><w:sectPr/>'
    )
    assert read("pandoc.docx", package(body, PANDOC_STYLES, "Tides")) == (
        "Tides",
        {},
        [
            ("Tides", "A. Sailor"),
            ("Use of __init__", "Run this:"),
            ("Use of __init__", "# a comment\ntides --port"),
            ("Use of __init__", "∑_(i=1)^n h_i"),
        ],
    )
