from time import process_time

import pytest

from trireme.documents.formats.hyphens import Joiner


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("the infor-\nmation is", "the information\nis"),
        ("a client-\nserver system", "a client-server\nsystem"),
        ("a well-\nknown fact", "a well-known\nfact"),
        ("self-\nattention", "self-attention"),
        ("the data-\nbase, and", "the database,\nand"),
        ("Infor-\nmation", "Information"),
        ("INFOR-\nMATION ON SARS-\nCOV", "INFORMATION\nON SARS-COV"),
        ("Nord-\nOstsee", "Nord-Ostsee"),
        ("GPT-\n4 and 1939-\n1945", "GPT-4\nand 1939-1945"),
        ("e-\nmail", "e-mail"),
        ("Vor-\nund Nachteile", "Vor-\nund Nachteile"),
        ("short-\nand long-term", "short-\nand long-term"),
        ("Schiff-\nfahrtsgesellschaft", "Schifffahrtsgesellschaft"),
        ("infor\u00ad\nmation, har\u00adbour", "information,\nharbour"),
        ("infor\u2010\nmation", "information"),
        ("trailing infor-  \n   mation here", "trailing information\nhere"),
        ("config/settings-\nlocal.toml", "config/settings-local.toml"),
        ("a dash -\nand more", "a dash -\nand more"),
        ("a list:-\n- item", "a list:-\n- item"),
        ("ends with infor-", "ends with infor-"),
        ("infor-\n\nmation", "infor-\n\nmation"),
        ("anti-\ncon-\nstitu-\ntional", "anti-constitutional"),
        ("", ""),
        ("one\n\n\ntwo", "one\n\n\ntwo"),
    ],
)
def test_a_word_broken_over_lines_is_whole_on_the_first_of_them(text, joined):
    assert Joiner().join(text) == joined


def test_what_the_document_writes_elsewhere_decides():
    joiner = Joiner()
    assert joiner.join("Overfitting and a re-sign. The over-\nfitting and re-\nsign") == (
        "Overfitting and a re-sign. The overfitting\nand re-sign"
    )
    assert Joiner().join("over-\nfitting") == "over-fitting"
    assert joiner.join("over-\nfitting") == "overfitting"


@pytest.mark.parametrize("sign", ["a", "-", "a-", "漢", "a-\n", "- ", "-\n", "a\u00ad", "\u00ad\n", "a-\n\n"])
def test_no_text_takes_more_than_its_share_of_time(sign):
    began = process_time()
    Joiner().join(sign * (200_000 // len(sign)))
    assert process_time() - began < 10
