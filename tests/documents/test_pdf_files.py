"""PDF files as pdfTeX, Chrome, Word and LibreOffice write them, and the text that each shows."""

CMAP = """/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CMapType 2 def
1 begincodespacerange
<{low}> <{high}>
endcodespacerange
{entries}
endcmap
end end"""


def stream(content: str, head: str = "") -> str:
    return f"<< /Length {len(content)} {head} >>\nstream\n{content}\nendstream"


def pdf(pages: list[str], fonts: dict[str, str], extra: list[str], info: str = "") -> bytes:
    """Pages of these contents; fonts by name, further objects from number 10 on."""
    names = " ".join(f"/{name} {font}" for name, font in fonts.items())
    numbers = [10 + len(extra) + 2 * n for n in range(len(pages))]
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{n} 0 R' for n in numbers)}] >>",
        3: f"<< {info} >>",
        **dict(enumerate(extra, 10)),
    }
    for number, content in zip(numbers, pages, strict=True):
        objects[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << {names} >> >>"
            f" /Contents {number + 1} 0 R >>"
        )
        objects[number + 1] = stream(content)
    body, table = "%PDF-1.5\n%\xd0\xd4\xc5\xd8\n", {}
    for number, content in sorted(objects.items()):
        table[number] = len(body)
        body += f"{number} 0 obj\n{content}\nendobj\n"
    size = max(objects) + 1
    rows = "".join(
        f"{table[n]:010d} 00000 n \n" if n in table else "0000000000 65535 f \n" for n in range(size)
    )
    end = f"trailer\n<< /Size {size} /Root 1 0 R /Info 3 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return (body + f"xref\n0 {size}\n{rows}{end}").encode("latin-1")


# pdfTeX: Type 1 fonts with TeX's own order of glyphs, words apart by moves, no table for Unicode.
TEX_FONT = (
    "<< /Type /Font /Subtype /Type1 /BaseFont /QXYZAB+CMR10 /FirstChar 11 /LastChar 123 /Encoding"
    " << /Type /Encoding /Differences [11 /ff /fi /fl /ffi /ffl 39 /quoteright 45 /hyphen 92 /quotedblleft"
    " 123 /endash] >> >>"
)
TEX_PAGE = """BT /F8 9.9626 Tf 133.768 707.125 Td [(1)-1000(T)83(ides)]TJ
0 -21.918 Td [(The)-333(o\\016ce)-333(measures)-333(the)-333(\\015o)28(w)
-333(of)-333(w)27(ater,)-333(with)
-333(infor-)]TJ
0 -11.955 Td [(mation)-333(from)-333(a)-333(clien)28(t-)]TJ
0 -11.955 Td [(serv)27(er)-333(system,)-333(pages)-333(3{5,)-333(of)-333(di\\013eren)28(t)
-333(\\014elds)-333(and)
-333(ba\\017es.)-333(A)-333(w)28(ell-)]TJ
0 -11.955 Td [(kno)28(wn)-333(harb)-28(our')]TJ
157.6 -500 Td [(1)]TJ ET"""


def test_an_article_of_pdftex(read):
    pages = [TEX_PAGE.replace("harb)-28(our')", "harb)-28(our's)-333(engi-)").replace("157.6 -500 Td [(1)]TJ ", ""),
             "BT /F8 9.9626 Tf 133.768 707.125 Td [(neers)-333(agree.)]TJ ET"]  # fmt: skip
    data = pdf(pages, {"F8": TEX_FONT}, [], "/Producer (pdfTeX-1.40.25) /Creator (TeX) /Title ()")
    assert read("article.pdf", data) == (
        "article",
        {},
        [
            (
                "",
                "1 Tides\nThe office measures the flow of water, with information\nfrom a client-server\n"
                "system, pages 3–5, of different fields and baffles. A well-known\nharbour’s engineers",
            ),
            ("", "agree."),
        ],
    )


def unicode_font(first: int) -> list[str]:
    """Objects of a Type 0 font whose glyph numbers say nothing; the third is its table for Unicode."""
    return [
        f"<< /Type /Font /Subtype /Type0 /BaseFont /AAAAAA+Arial /Encoding /Identity-H /DescendantFonts"
        f" [{first + 1} 0 R] /ToUnicode {first + 2} 0 R >>",
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /AAAAAA+Arial /CIDSystemInfo << /Registry (Adobe)"
        " /Ordering (Identity) /Supplement 0 >> /DW 500 /CIDToGIDMap /Identity >>",
    ]


LETTERS = {sign: number for number, sign in enumerate(" #Tabcdefghiklmnorstuwy.-é", 3)}
LIGATURE = 0x0100


def glyphs(text: str) -> str:
    """Hexadecimal glyph numbers; | stands for the ligature of f, f and i."""
    return "".join(f"{LIGATURE if sign == '|' else LETTERS[sign]:04X}" for sign in text)


def unicode_table() -> str:
    rows = [f"<{number:04X}> <{ord(sign):04X}>" for sign, number in LETTERS.items()]
    rows.append(f"<{LIGATURE:04X}> <006600660069>")
    entries = f"{len(rows)} beginbfchar\n" + "\n".join(rows) + "\nendbfchar"
    return stream(CMAP.format(low="0000", high="FFFF", entries=entries))


def test_a_page_printed_by_chrome(read):
    lines = ["Tides of the bay", "The o|ce is known ", "# in a line of the café"]
    content = "\n".join(
        f"q .75 0 0 .75 0 0 cm BT /F4 16 Tf 1 0 0 -1 64 {100 + 24 * number} Tm <{glyphs(line)}> Tj ET Q"
        for number, line in enumerate(lines)
    )
    page = "1 0 0 -1 0 842 cm\n" + content
    data = pdf([page], {"F4": "10 0 R"}, [*unicode_font(10), unicode_table()],
               "/Creator (Chromium) /Producer (Skia/PDF m120) /Title (Tides of the bay)")  # fmt: skip
    assert read("page.pdf", data) == (
        "Tides of the bay",
        {},
        [("", "Tides of the bay\nThe office is known\n# in a line of the café")],
    )


WORD_FONT = (
    "<< /Type /Font /Subtype /TrueType /BaseFont /Times#20New#20Roman,Bold /Encoding /WinAnsiEncoding >>"
)


def test_a_document_saved_by_word(read):
    content = """/P <</MCID 0>> BDC
q BT /F1 11.04 Tf 1 0 0 1 72 760 Tm [(The ta)-3(ble \\226 of the har\\255)] TJ ET Q
q BT /F1 11.04 Tf 1 0 0 1 72 746 Tm [(bour\\222s st)4(ate-)] TJ ET Q
q BT /F1 11.04 Tf 1 0 0 1 72 732 Tm (of-the-art o) Tj
/F2 11.04 Tf <0100> Tj /F1 11.04 Tf (ce.) Tj ET Q EMC
/Artifact <</Type /Pagination>> BDC EMC"""
    data = pdf(
        [content],
        {"F1": WORD_FONT, "F2": "10 0 R"},
        [*unicode_font(10), unicode_table()],
        "/Title <FEFF00540069006400650073> /Creator (Microsoft Word)",
    )
    assert read("word.pdf", data) == (
        "Tides",
        {},
        [("", "The table – of the harbour’s\nstate-of-the-art\noffice.")],
    )


def test_a_document_exported_by_libreoffice(read):
    codes = {sign: number for number, sign in enumerate("Thafen hochwsrigbi-.", 1)}
    rows = [f"<{number:02X}> <{ord(sign):04X}>" for sign, number in codes.items()]
    rows.append("<40> <FB03>")
    entries = f"{len(rows)} beginbfchar\n" + "\n".join(rows) + "\nendbfchar"
    font = "<< /Type /Font /Subtype /TrueType /BaseFont /BAAAAA+LiberationSerif /ToUnicode 10 0 R >>"

    def line(text: str) -> str:
        return "[<" + "".join(f"{0x40 if sign == '|' else codes[sign]:02X}" for sign in text) + ">]TJ"

    content = (
        f"0.1 w q 0 0.028 595 841 re W* n BT 56.8 773.989 Td /F1 12 Tf {line('hafen o|ce')} ET"
        f" BT 56.8 760 Td /F1 12 Tf {line('hoch-')} ET BT 56.8 746 Td /F1 12 Tf {line('wasser.')} ET Q"
    )
    data = pdf([content], {"F1": font}, [stream(CMAP.format(low="00", high="FF", entries=entries))],
               "/Creator <FEFF005700720069007400650072>")  # fmt: skip
    assert read("writer.pdf", data) == ("writer", {}, [("", "hafen office\nhochwasser.")])
