"""Lines of corpora: their metadata, and where the file may be."""

import json

import pytest

from trireme.documents.load import load
from trireme.errors import DocumentError, InvalidInputError


def write(folder, *lines):
    folder.mkdir(exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "corpus.jsonl").write_text("\n".join(texts))
    return folder


def extra_of(folder, metadata):
    line = f'{{"_id": "a", "text": "t", "metadata": {metadata}}}'
    (source,) = load(write(folder, line))
    return source.open().extra


@pytest.mark.parametrize(
    "metadata",
    [
        {"source": "handbook.pdf", "title": "other", "heading": ["x"], "position": 7},
        {"source": 7, "a b/'": [None, True, 0.1, 10**30, {"": "\u2028"}], "n": "7", "x": "\\u0000"},
        {"trireme": {"deep": [[["x"]]]}},
    ],
)
def test_metadata_is_kept_as_it_is(tmp_path, metadata):
    assert extra_of(tmp_path, json.dumps(metadata)) == metadata


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("null", {}),
        ("{}", {}),
        ('""', {}),
        ('"words"', {"metadata": "words"}),
        ("[1, 2]", {"metadata": [1, 2]}),
        ("0", {"metadata": 0}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a\\u0000": "b\\u0000\\ud800"}', {"a": "b?"}),
    ],
)
def test_metadata_that_is_no_object_or_holds_odd_texts_is_kept_as_far_as_it_can_be(tmp_path, text, kept):
    assert extra_of(tmp_path, text) == kept


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1e400}', "metadata"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "not JSON"),
        (json.dumps({"a": "x" * 70_000}), "bytes"),
    ],
    ids=["beyond a double", "NaN", "deep", "large"],
)
def test_metadata_that_cannot_be_stored_leaves_its_line_out_by_name(tmp_path, text, reason):
    with pytest.raises(DocumentError, match=reason):
        extra_of(tmp_path, text)


def test_a_corpus_that_is_a_link_out_of_its_folder_is_not_read(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", {"_id": "secret", "text": "t"})
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "corpus.jsonl").symlink_to(elsewhere / "corpus.jsonl")
    with pytest.raises(InvalidInputError, match="leads out of the folder"):
        list(load(folder))
    # Who names the link itself means what it leads to.
    assert [source.id for source in load(folder / "corpus.jsonl")] == ["secret"]
