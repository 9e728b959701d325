from pathlib import Path

import pytest

from trireme.documents.load import SUFFIXES
from trireme.errors import InvalidInputError
from trireme.gateway.forms import Form, FormFile
from trireme.gateway.wire.documents import (
    MOST_TEXTS,
    published_body,
    read_texts,
    read_upload,
)
from trireme.ingest.queue import Published


@pytest.fixture
def received(tmp_path):
    """received(name, content_type, field): a file that came with a form."""

    def make(name="a.md", content_type="", field="file"):
        path = tmp_path / "upload"
        path.write_text("x")
        return FormFile(field, name, content_type, path, 1)

    return make


def test_one_text_and_a_list_of_texts_are_read():
    one, collection = read_texts(
        {"document_id": "a", "text": "T", "metadata": {"page": 3}, "collection": "notes"}
    )
    assert [(text.key, text.text, text.title, text.metadata) for text in one] == [("a", "T", "", {"page": 3})]
    assert collection == "notes"
    many, collection = read_texts(
        {"documents": [{"document_id": "a", "text": "T", "title": None}, {"document_id": "b", "text": "U"}]}
    )
    assert [text.key for text in many] == ["a", "b"]
    assert collection is None


@pytest.mark.parametrize(
    ("body", "field", "wanted"),
    [
        ({}, "", "document_id"),
        ({"document_id": "a"}, "", "text"),
        ({"document_id": 1, "text": "T"}, "document_id", "Expected `str`"),
        ({"document_id": "a", "text": None}, "text", "Expected `str`"),
        ({"document_id": "a", "text": "T", "metadata": []}, "metadata", "Expected `object | null`"),
        ({"document_id": "a", "text": "T", "tenant": "other"}, "", "tenant"),
        ({"documents": []}, "documents", f"1 to {MOST_TEXTS} values, got 0"),
        ({"documents": [{"document_id": "a", "text": "T"}] * (MOST_TEXTS + 1)}, "documents", "got 501"),
        ({"documents": {}}, "documents", "Expected `array`"),
        ({"documents": [{"document_id": "a"}]}, "documents[0]", "text"),
        ({"documents": [{"document_id": "a", "text": "T", "collection": "x"}]}, "documents[0]", "collection"),
        ({"documents": [{"document_id": "a", "text": "T"}], "text": "T"}, "", "text"),
    ],
)
def test_a_body_of_another_shape_is_refused_by_its_field(body, field, wanted):
    with pytest.raises(InvalidInputError) as refused:
        read_texts(body)
    assert refused.value.param == field
    assert wanted in str(refused.value)


def test_a_file_has_its_name_for_an_id_unless_one_is_given(received):
    upload, collection = read_upload(Form({}, received("report.md")))
    assert (upload.key, upload.name, upload.title, upload.metadata, collection) == (
        "report.md",
        "report.md",
        "",
        {},
        None,
    )
    fields = {"document_id": "r/1", "title": "R", "metadata": '{"page": 3}', "collection": "notes"}
    upload, collection = read_upload(Form(fields, received("report.md")))
    assert (upload.key, upload.title, upload.metadata, collection) == ("r/1", "R", {"page": 3}, "notes")


@pytest.mark.parametrize(
    ("name", "content_type", "suffix"),
    [
        ("a.PDF", "application/octet-stream", ".pdf"),
        ("a.b.html", "", ".html"),
        ("README", "text/markdown; charset=utf-8", ".md"),
        ("a", "application/pdf", ".pdf"),
        ("notes.txt", "application/pdf", ".txt"),
    ],
)
def test_a_file_is_read_by_its_suffix_or_else_by_its_type(received, name, content_type, suffix):
    upload, _ = read_upload(Form({}, received(name, content_type)))
    assert upload.path.suffix == suffix
    assert upload.path.read_text() == "x"
    assert upload.name == name


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.exe", "text/plain"), ("a", ""), ("corpus.jsonl", "text/plain"), (".pdf", ""), ("a.", "image/png")],
)
def test_a_file_of_an_unknown_kind_is_refused_with_the_known_ones(received, name, content_type):
    with pytest.raises(InvalidInputError) as refused:
        read_upload(Form({}, received(name, content_type)))
    assert str(refused.value) == f"cannot read {name}: known files are {', '.join(SUFFIXES)}"


@pytest.mark.parametrize(
    ("fields", "field", "wanted"),
    [
        ({"tenant": "other"}, "tenant", "unknown field 'tenant'; known fields: file, document_id"),
        ({"metadata": "{"}, "metadata", "metadata is not JSON"),
        ({"metadata": "[]"}, "metadata", "metadata must be a JSON object"),
        ({"metadata": '{"a": NaN}'}, "metadata", "metadata is not JSON"),
    ],
)
def test_fields_of_a_form_are_checked(received, fields, field, wanted):
    with pytest.raises(InvalidInputError) as refused:
        read_upload(Form(fields, received()))
    assert refused.value.param == field
    assert str(refused.value).startswith(wanted)


def test_the_file_must_be_a_file_under_its_field(received):
    with pytest.raises(InvalidInputError, match=r"no file under the field 'file'$"):
        read_upload(Form({"title": "T"}))
    with pytest.raises(InvalidInputError, match="send it as a file, with a filename"):
        read_upload(Form({"file": "text"}))
    with pytest.raises(InvalidInputError, match="not 'document'"):
        read_upload(Form({}, received(field="document")))


def test_rows_say_what_became_of_each_document():
    assert published_body([Published("a", "7"), Published("b", error="its text is empty")]) == {
        "object": "list",
        "data": [
            {"document_id": "a", "job_id": "7", "state": "waiting", "error": None},
            {"document_id": "b", "job_id": None, "state": "refused", "error": "its text is empty"},
        ],
    }


def test_documents_that_are_all_refused_are_an_error():
    with pytest.raises(InvalidInputError, match=r"^its text is empty$"):
        published_body([Published("a", error="its text is empty")])
    with pytest.raises(InvalidInputError, match=r"^documents\[0\]: its text is empty$"):
        published_body([Published("a", error="its text is empty")] * 2)


def test_no_name_of_a_file_leads_out_of_its_folder(received):
    file = received("x.md")
    upload, _ = read_upload(Form({}, file))
    assert upload.path.parent == Path(file.path).parent
