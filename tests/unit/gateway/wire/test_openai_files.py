import base64
import json
import re

import pytest

from trireme.errors import InvalidInputError, NotFoundError, UnsupportedError
from trireme.gateway.forms import Form, FormFile
from trireme.gateway.wire.openai_files import (
    COLLECTION_HEADER,
    PREFIX,
    FileFacts,
    FileRef,
    decode_file_id,
    deleted_file_body,
    encode_file_id,
    file_body,
    new_document_id,
    page_body,
    page_of,
    read_facts,
    read_file_upload,
    store_body,
)
from trireme.ingest.catalog import JobNumbers
from trireme.types import CollectionInfo, Embedder

FACTS = FileFacts("über.md", "user_data", 1234, 1_790_000_000)
# Its random part stands still: names of tests hold it.
REF = FileRef("notes", re.sub(r"[0-9a-f]{16}/", "0123456789abcdef/", new_document_id(FACTS)))


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "ref",
    [REF, FileRef("c", "d"), FileRef("x" * 512, "ü" * 1000), FileRef('"', "a/b\\?\n"), FileRef("", "")],
)
def test_an_id_says_what_it_was_made_of(ref):
    key = encode_file_id(ref)
    assert decode_file_id(key) == ref
    assert key.removeprefix(PREFIX).replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file-",
        "17",
        "file-abc",
        "file-!!!!",
        "file-é",
        encode_file_id(REF).removeprefix(PREFIX),
        encode_file_id(REF) + "=",
        encode_file_id(REF) + "A",
        encode_file_id(REF)[:-1],
        encoded(b"\xff\xfe"),
        encoded({}),
        encoded({"notes": 1, "d": 2}),
        encoded([]),
        encoded("no"),
        encoded(["notes"]),
        encoded(["notes", "d", "e"]),
        encoded(["notes", 1]),
        encoded([None, "d"]),
        encoded([["notes"], "d"]),
        encoded(b'["notes", "d"]'),
        encoded(b'["\\ud800","d"]'),
        encoded(b"[" * 3000),
        encoded(b'["notes",' + b"9" * 5000 + b"]"),
        PREFIX + "A" * 9000,
    ],
)
def test_any_other_text_is_no_file(text):
    with pytest.raises(NotFoundError, match="no file"):
        decode_file_id(text)


@pytest.mark.parametrize(
    "facts",
    [FACTS, FileFacts("a/b", "assistants", 0, 0), FileFacts("x" * 255, "assistants", 1 << 40, 1 << 33)],
)
def test_the_id_of_an_uploaded_document_says_what_its_sender_said(facts):
    assert read_facts(new_document_id(facts)) == facts
    assert new_document_id(facts) != new_document_id(facts)


@pytest.mark.parametrize(
    "document", ["a.md", "upload.1.2.x.0123456789abcdef/a.md", "upload.1.2.a.0123/a.md", "x\ny"]
)
def test_any_other_document_is_a_file_of_its_own_name(document):
    assert read_facts(document) == FileFacts(document, "assistants", 0, 0)


def test_a_file_shows_how_far_it_is():
    assert file_body(REF, "waiting") == {
        "id": encode_file_id(REF),
        "object": "file",
        "bytes": 1234,
        "created_at": 1_790_000_000,
        "filename": "über.md",
        "purpose": "user_data",
        "status": "uploaded",
        "status_details": None,
    }
    assert file_body(REF, "stored")["status"] == "processed"
    dead = file_body(REF, "dead", "its model is gone")
    assert (dead["status"], dead["status_details"]) == ("error", "its model is gone")
    with pytest.raises(NotFoundError, match=r"no file 'über\.md' in collection 'notes'"):
        file_body(REF, "absent")


def read(tmp_path, fields, headers=None):
    path = tmp_path / "upload"
    path.write_text("x")
    return read_file_upload(Form(fields, FormFile("file", "a.md", "", path, 1)), headers or {}, 17)


def test_a_file_becomes_a_document_of_its_own_id_and_batch(tmp_path):
    upload, collection = read(tmp_path, {"purpose": "user_data", "title": "A", "metadata": '{"page": 3}'})
    assert (upload.name, upload.title, upload.metadata, collection) == ("a.md", "A", {"page": 3}, None)
    assert read_facts(upload.key) == FileFacts("a.md", "user_data", 1, 17)
    assert upload.batch == upload.key


def test_the_collection_comes_from_the_field_or_else_the_header(tmp_path):
    headers = {COLLECTION_HEADER: "of-header"}
    assert read(tmp_path, {"purpose": "user_data"}, headers)[1] == "of-header"
    assert read(tmp_path, {"purpose": "user_data", "collection": "of-field"}, headers)[1] == "of-field"


@pytest.mark.parametrize("purpose", ["batch", "fine-tune", "vision", "evals", "x"])
def test_another_purpose_is_refused_by_name(tmp_path, purpose):
    with pytest.raises(
        UnsupportedError, match=f"'{purpose}' is not supported; send one of: assistants, user_data"
    ):
        read(tmp_path, {"purpose": purpose})


def test_a_missing_purpose_and_an_unknown_field_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="purpose is missing") as refused:
        read(tmp_path, {})
    assert refused.value.param == "purpose"
    with pytest.raises(InvalidInputError, match=r"unknown field 'expires_after\[anchor\]'"):
        read(tmp_path, {"purpose": "assistants", "expires_after[anchor]": "created_at"})


def test_a_collection_is_a_store_that_invents_nothing():
    info = CollectionInfo("acme", "notes", Embedder("d" * 64, 4), 12)
    body = store_body(info, JobNumbers("notes", waiting=2, running=1, done=9, dead=4))
    assert (body["id"], body["name"], body["object"]) == ("notes", "notes", "vector_store")
    assert (body["status"], body["passages"]) == ("in_progress", 12)
    assert body["file_counts"] == {
        "in_progress": 3,
        "completed": None,
        "failed": 4,
        "cancelled": None,
        "total": None,
    }
    assert (body["created_at"], body["usage_bytes"]) == (None, None)
    assert store_body(info, JobNumbers("notes"))["status"] == "completed"


def test_pages_of_stores_go_on_where_the_last_one_ended():
    names = ["d", "a", "c", "b"]
    assert page_of(names, {}) == (["a", "b", "c", "d"], False)
    assert page_of(names, {"limit": "3"}) == (["a", "b", "c"], True)
    assert page_of(names, {"limit": "3", "after": "c"}) == (["d"], False)
    assert page_of([], {}) == ([], False)
    assert page_body([{"id": "a"}, {"id": "b"}], has_more=True) == {
        "object": "list",
        "data": [{"id": "a"}, {"id": "b"}],
        "first_id": "a",
        "last_id": "b",
        "has_more": True,
    }
    assert page_body([], has_more=False)["first_id"] is None


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"limit": "9" * 5000}, {"order": "asc"}]
)
def test_other_parameters_of_pages_are_refused(query):
    with pytest.raises(InvalidInputError) as refused:
        page_of(["a"], query)
    assert refused.value.param == next(iter(query))


def test_a_deleted_file_says_so():
    assert deleted_file_body("file-x") == {"id": "file-x", "object": "file", "deleted": True}


@pytest.mark.parametrize(
    "limit", ["000000001" + "9" * 5000, "1" * 5000, "\u0661", "\u00b2", "", "-1", "1e1", "+5"]
)
def test_a_limit_of_any_signs_is_a_number_or_refused(limit):
    with pytest.raises(InvalidInputError, match="1 to 100"):
        page_of(["a"], {"limit": limit})
