import json

import pytest

from trireme.errors import DocumentError
from trireme.ingest.submitted import file_document, read_metadata, text_document
from trireme.types import Document

LOADED = Document("a.md", "A", iter(["Text."]), "a.md", extra={"lang": "en", "page": 1}, digest="d1")


def test_metadata_is_a_json_object_and_blank_text_is_none():
    assert read_metadata(' {"page": 3} ') == {"page": 3}
    assert read_metadata(" ") == {}


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"a": NaN}', "[" * 100_000, '{"a": "\x00"}'])
def test_other_metadata_is_refused(text):
    with pytest.raises(DocumentError, match="its metadata"):
        read_metadata(text)


@pytest.mark.parametrize(
    "extra",
    [
        {"a": "\x00"},
        {"\ud800": 1},
        {"a": float("inf")},
        {"a": b"x"},
        {"a": json.loads("[" * 150 + "]" * 150)},
    ],
    ids=["nul", "surrogate", "infinity", "bytes", "deep"],
)
def test_metadata_that_no_database_keeps_is_refused_of_texts_and_files(extra):
    with pytest.raises(DocumentError, match="its metadata"):
        text_document("a", "Text.", "", extra)
    with pytest.raises(DocumentError, match="its metadata"):
        file_document(LOADED, "a", "", extra)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", "empty"), (" \n", "empty"), ("a\x00", "NUL"), ("\ud800", "surrogate"), ("ääää", "more than 7")],
)
def test_a_text_that_cannot_be_kept_is_refused(text, wanted):
    with pytest.raises(DocumentError, match=wanted):
        text_document("a", text, "", {}, most_bytes=7)


def test_a_text_without_a_bound_may_be_long():
    assert text_document("a", "x" * 100_000, "", {}).text == "x" * 100_000


def test_a_document_says_where_it_comes_from():
    assert text_document("a", "Text.", "", {}).source == "a"
    assert text_document("a", "Text.", "", {"source": None}).source == "a"
    assert text_document("a", "Text.", "", {"source": 7}).source == "7"
    assert file_document(LOADED, "key", "", {}).source == "a.md"
    assert file_document(LOADED, "key", "", {"source": "shelf"}).source == "shelf"


def test_what_a_request_says_of_a_file_wins():
    made = file_document(LOADED, "key", "T", {"page": 2})
    assert (made.id, made.title, made.extra) == ("key", "T", {"lang": "en", "page": 2})
    assert file_document(LOADED, "key", "", {}).title == "A"
    assert made.parts is LOADED.parts


def test_the_digest_covers_what_passages_depend_on_and_not_the_id():
    def text(key="a", text="Text.", title="", **extra):
        return text_document(key, text, title, extra).digest

    def file(key="a", title="", **extra):
        return file_document(LOADED, key, title, extra).digest

    assert text() == text()
    assert file() == file(key="b") == file(title="A")
    others = {
        text(text="Other."),
        text(title="T"),
        text(page=3),
        text(source="x"),
        file(),
        file(title="T"),
        file(page=3),
    }
    assert len(others | {text()}) == 8
