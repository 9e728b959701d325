"""Equations of OOXML on one line, as UnicodeMath writes them."""

import pytest
from lxml import etree

from trireme.documents.formats.docx_math import linear

M = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def t(text: str) -> str:
    return f"<m:r><m:rPr/><m:t>{text}</m:t></m:r>"


def e(name: str, text: str) -> str:
    return f"<m:{name}>{text}</m:{name}>"


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        (e("f", e("num", t("d")) + e("den", t("t"))), "d/t"),
        (e("f", e("num", t("a+b")) + e("den", t("2c"))), "(a+b)/2c"),
        (e("f", '<m:fPr><m:type m:val="noBar"/></m:fPr>' + e("num", t("n")) + e("den", t("k"))), "n¦k"),
        (e("sSup", e("e", t("x")) + e("sup", t("2"))), "x^2"),
        (e("sSub", e("e", t("v")) + e("sub", t("max"))), "v_max"),
        (e("sSubSup", e("e", t("x")) + e("sub", t("i+1")) + e("sup", t("2"))), "x_(i+1)^2"),
        (e("sPre", e("sub", t("1")) + e("sup", t("2")) + e("e", t("H"))), "_1^2 H"),
        (e("rad", '<m:radPr><m:degHide m:val="1"/></m:radPr>' + e("deg", "") + e("e", t("x+1"))), "√(x+1)"),
        (e("rad", e("deg", t("3")) + e("e", t("x"))), "∛x"),
        (e("nary", '<m:naryPr><m:chr m:val="∑"/></m:naryPr>' + e("sub", t("i=1")) + e("sup", t("n"))
           + e("e", t("i"))), "∑_(i=1)^n i"),
        (e("nary", e("sub", "") + e("sup", "") + e("e", t("f dx"))), "∫ f dx"),
        (e("d", e("e", t("a")) + e("e", t("b"))), "(a|b)"),
        (e("d", '<m:dPr><m:begChr m:val="["/><m:sepChr m:val=","/><m:endChr m:val="]"/></m:dPr>' + e("e", t("a"))
           + e("e", t("b"))), "[a,b]"),
        (e("func", e("fName", t("sin")) + e("e", t("x"))), "sin x"),
        (e("acc", e("e", t("x"))), "x\u0302"),
        (e("limLow", e("e", t("lim")) + e("lim", t("n→∞"))), "lim_(n→∞)"),
        (e("m", e("mr", e("e", t("a")) + e("e", t("b"))) + e("mr", e("e", t("c")) + e("e", t("d")))), "a, b; c, d"),
        (e("eqArr", e("e", t("x=1")) + e("e", t("y=2"))), "x=1; y=2"),
        (e("phant", '<m:phantPr><m:show m:val="0"/></m:phantPr>' + e("e", t("gone"))) + t("x"), "x"),
        (e("box", e("e", t("x"))) + e("bar", e("e", t("y"))) + e("groupChr", e("e", t("z"))), "xyz"),
        (t("𝑣=𝐹·ℎ"), "v=F·h"),
    ],
)  # fmt: skip
def test_an_equation_is_text_on_one_line(equation, text):
    assert linear(etree.fromstring(f'<m:oMath xmlns:m="{M}">{equation}</m:oMath>')) == text


def test_what_was_deleted_from_an_equation_is_left_out():
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    equation = f"<w:del>{t('old')}</w:del><w:ins>{t('new')}</w:ins>"
    assert linear(etree.fromstring(f'<m:oMath xmlns:m="{M}" xmlns:w="{w}">{equation}</m:oMath>')) == "new"
