"""WHATWG's table of labels, written down here by hand, against what pages of each label are read as."""

import codecs

import pytest

from trireme.documents.formats.encodings import BROWSER, codec_of
from trireme.documents.load import load
from trireme.errors import DocumentError

LABELS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8 UTF8 utf-16"
    " utf-16le utf-16be"
    " csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff unicodefffe",
    "cp866": "866 cp866 csibm866 ibm866",
    "iso8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5"
    " iso_8859-5:1988",
    "iso8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e"
    " iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7"
    " iso88597 iso_8859-7"
    " iso_8859-7:1987 sun_eu_greek",
    "iso8859-8": "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8"
    " iso88598 iso_8859-8"
    " iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical",
    "iso8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8-u": "koi8-ru koi8-u",
    "mac-roman": "csmacintosh mac macintosh x-mac-roman",
    "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "cp1250": "cp1250 windows-1250 x-cp1250",
    "cp1251": "cp1251 windows-1251 x-cp1251",
    "cp1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591"
    " iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252 x-user-defined",
    "cp1253": "cp1253 windows-1253 x-cp1253",
    "cp1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9"
    " iso_8859-9:1989 l5 latin5"
    " windows-1254 x-cp1254",
    "cp1255": "cp1255 windows-1255 x-cp1255",
    "cp1256": "cp1256 windows-1256 x-cp1256",
    "cp1257": "cp1257 windows-1257 x-cp1257",
    "cp1258": "cp1258 windows-1258 x-cp1258",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "gb18030": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc_jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "iso2022_jp_ext": "csiso2022jp iso-2022-jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "cp949": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601"
    " windows-949",
}


@pytest.mark.parametrize(("codec", "labels"), LABELS.items(), ids=LABELS)
def test_every_label_of_the_table_is_read_as_browsers_read_it(codec, labels):
    for label in labels.split():
        assert codecs.lookup(codec_of(f" {label.upper()}\n")).name == codecs.lookup(codec).name, label


@pytest.mark.parametrize(
    "label", ["hz-gb-2312", "iso-2022-kr", "iso-2022-cn", "utf-7", "klingon", "", "rot13", "zlib"]
)
def test_labels_that_browsers_do_not_decode_are_not_known(label):
    assert codec_of(label) == ""


@pytest.fixture
def page(tmp_path):
    """page(data): title and text of a page of these bytes."""

    def read(data: bytes) -> tuple[str, str]:
        (tmp_path / "page.html").write_bytes(data)
        (source,) = load(tmp_path / "page.html")
        document = source.open()
        return document.title, document.text

    return read


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("gb2312", "朱镕基".encode("gbk"), "朱镕基"),
        ("gb2312", "㐂".encode("gb18030"), "㐂"),
        ("gbk", b"\x80 5", "€ 5"),
        ("shift_jis", "①㈱髙".encode("cp932"), "①㈱髙"),
        ("euc-kr", "똠방각하".encode("cp949"), "똠방각하"),
        ("big5", "嘅".encode("big5hkscs"), "嘅"),
        ("big5", b"\xa3\xe1", "€"),
        ("euc-jp", b"\xad\xa1 \xb9\xe2 \xfc\xe2", "① 高 髙"),
        ("iso-2022-jp", b"\x1b$B-!El5~\x1b(B x", "①東京 x"),
        ("iso-2022-jp", b"\x1b(I1\x1b(B", "ｱ"),
        ("iso-8859-1", b"\x93caf\xe9\x94 \x80 \x81x", "“café” € \x81x"),
        ("us-ascii", b"caf\xe9", "café"),
        ("iso-8859-9", b"\xfeey \x9e", "şey \x9e"),
        ("iso-8859-11", b"\xa1 \x80", "ก €"),
        ("windows-1253", b"\xe1\x81", "α\x81"),
        ("x-user-defined", b"caf\xe9", "café"),
        ("koi8-r", "море".encode("koi8-r"), "море"),
    ],
)
def test_pages_are_decoded_as_the_superset_that_browsers_use(page, label, data, text):
    assert page(f"<meta charset={label}><p>".encode() + data)[1] == text


@pytest.mark.parametrize(
    ("label", "data"),
    [("gbk", b"\xff"), ("shift_jis", b"\x81\x39"), ("euc-kr", b"\xff"), ("big5", b"\xff\xff"),
     ("euc-jp", b"\xff\xff"),
     ("iso-2022-jp", b"\xff"), ("windows-1253", b"\xd2"), ("euc-jp", b"\xff")],
)  # fmt: skip
def test_bytes_that_no_browser_decodes_are_named(page, label, data):
    with pytest.raises(DocumentError, match=r"text \(byte"):
        page(f"<meta charset={label}><p>".encode() + b"text " + data)
    with pytest.raises(UnicodeDecodeError):
        data.decode(codec_of(label), BROWSER)


@pytest.mark.parametrize(
    "declaration",
    [
        '<meta http-equiv="Content-Type" content="text/html; charset=gb2312">',
        "<META HTTP-EQUIV=content-type CONTENT='text/html;charset = \"gb2312\"'>",
        "<meta charset='gb2312'/>",
        '<?xml version="1.0" encoding="gb2312"?>\n<html>',
        "<!-- <meta charset=utf-8> --><meta charset=gb2312>",
        "<script charset=utf-8 src=x></script><meta charset=GB2312>",
        "<meta charset=klingon><meta charset=gb2312>",
        "<meta name=x content='charset=utf-8'><meta charset=gb2312>",
        "<!-- " + "x" * 3000 + " --><meta charset=gb2312>",
    ],
)
def test_what_a_page_says_is_found_where_browsers_find_it(page, declaration):
    assert page(declaration.encode() + "<title>朱镕基</title><p>夜间关闭".encode("gbk")) == (
        "朱镕基",
        "夜间关闭",
    )


def test_a_mark_counts_before_what_the_page_says(page):
    said = "<meta charset=gb2312><p>夜间"
    assert page(said.encode("utf-16"))[1] == "夜间"
    assert page(said.encode("utf-8-sig"))[1] == "夜间"
    with pytest.raises(DocumentError, match="not UTF-8 text"):
        page(codecs.BOM_UTF8 + said.encode("gbk"))


def test_a_page_that_is_utf8_is_read_as_that_whatever_it_says(page):
    text = "港口在夜间关闭，早晨开放。" * 3
    for label in ("gb2312", "iso-8859-1", "shift_jis", "utf-16", "klingon"):
        assert page(f"<meta charset={label}><p>{text}".encode())[1] == text
    assert page("<meta charset=iso-8859-1><p>café".encode())[1] == "café"


def test_a_few_letters_that_are_utf8_by_chance_are_what_the_page_says(page):
    by_chance = bytes((0xC2, 0xA9, 0xD0, 0xA1))
    assert by_chance.decode()
    assert page(b"<meta charset=gb2312><p>" + by_chance)[1] == by_chance.decode("gbk")


def test_a_page_that_says_nothing_and_is_not_utf8_is_named(page):
    with pytest.raises(DocumentError, match="not UTF-8 text"):
        page(b"<p>caf\xe9")
    with pytest.raises(DocumentError, match="hz-gb-2312, which browsers do not know"):
        page(b"<meta charset=hz-gb-2312><p>caf\xe9")
