import json
from itertools import pairwise

import pytest

from trireme.errors import InvalidInputError
from trireme.ingest.chunk import chunk, estimate_tokens
from trireme.types import Document


def words(text: str) -> int:
    return len(text.split())


def document(text: str, title: str = "Ships", **fields: object) -> Document:
    return Document("docs/ships.md", title, text, "docs/ships.md", **fields)


SENTENCES = [f"Sentence number {n} tells of ship {n}." for n in range(60)]


def test_passages_start_with_title_and_headings_and_never_cross_a_heading():
    text = "intro\n\n# Oars\n\nabout oars\n\n## Upper bank\n\nabout upper\n\n# Sails\n\nabout sails"
    found = chunk(document(text))
    assert [passage.text for passage in found] == [
        "Ships\nintro",
        "Ships > Oars\nabout oars",
        "Ships > Oars > Upper bank\nabout upper",
        "Ships > Sails\nabout sails",
    ]
    assert [json.loads(passage.metadata) for passage in found][2] == {
        "source": "docs/ships.md",
        "title": "Ships",
        "heading": "Oars > Upper bank",
        "position": 2,
    }


def test_ids_are_the_source_and_a_number_and_stay_the_same():
    text = "\n\n".join(SENTENCES)
    found = chunk(document(text), max_tokens=50)
    assert [passage.id for passage in found] == [f"docs/ships.md#{n}" for n in range(len(found))]
    assert chunk(document(text), max_tokens=50) == found


def test_a_heading_that_is_the_title_is_said_once():
    assert chunk(document("# Ships\n\ntext"))[0].text == "Ships\ntext"


def test_a_hash_in_a_code_fence_is_no_heading():
    found = chunk(document("before\n\n```sh\n# comment\nls\n```\n\nafter"))
    assert len(found) == 1
    assert "# comment" in found[0].text


@pytest.mark.parametrize("separator", [" ", "\n\n", "\n"])
def test_passages_fit_the_budget_and_together_hold_every_sentence(separator):
    found = chunk(document(separator.join(SENTENCES)), max_tokens=64, count_tokens=words)
    assert len(found) > 3
    assert all(words(passage.text) <= 64 for passage in found)
    for sentence in SENTENCES:
        assert any(sentence in passage.text for passage in found)


def test_a_passage_repeats_the_end_of_the_one_before():
    found = chunk(document(" ".join(SENTENCES)), max_tokens=64, count_tokens=words)
    for before, after in pairwise(found):
        first = after.text.split("\n")[1].split(".")[0] + "."
        assert first in before.text


def test_overlap_does_not_cross_a_heading():
    found = chunk(document("# A\n\nonly in a.\n\n# B\n\nonly in b."))
    assert "only in a" not in found[1].text


def test_words_are_never_cut():
    text = " ".join(f"word{n}" for n in range(400))
    found = chunk(document(text), max_tokens=64, count_tokens=words)
    known = {*text.split(), "Ships"}
    assert all(set(passage.text.split()) <= known for passage in found)
    assert {word for passage in found for word in passage.text.split()} == known


@pytest.mark.parametrize("text", ["漢字" * 2000, "x" * 50_000, "a/" * 5000])
def test_one_endless_word_is_cut_to_fit(text):
    found = chunk(document(text))
    assert all(estimate_tokens(passage.text) <= 256 for passage in found)
    joined = "".join(passage.text.removeprefix("Ships\n") for passage in found)
    assert len(joined) >= len(text)


def test_a_long_title_leaves_room_for_text():
    found = chunk(document("short text", title="long title " * 500))
    assert len(found) == 1
    assert found[0].text.endswith("\nshort text")
    assert estimate_tokens(found[0].text) <= 256


def test_a_whole_document_is_one_passage_under_its_own_id():
    (passage,) = chunk(Document("d1", "Title", "text " * 5000, "d1", whole=True))
    assert passage.id == "d1"
    assert passage.text.startswith("Title\ntext text")
    assert chunk(Document("d2", "", "text", "d2", whole=True))[0].text == "text"
    assert chunk(Document("d3", "Title", "", "d3", whole=True))[0].text == "Title"


def test_a_document_of_headings_alone_is_still_found():
    (passage,) = chunk(document("# Oars\n\n## Sails"))
    assert "Oars" in passage.text
    assert "Sails" in passage.text


def test_metadata_keeps_what_the_loader_added():
    (passage,) = chunk(document("text", extra={"language": "en", "source": "wrong"}))
    assert json.loads(passage.metadata)["language"] == "en"
    assert json.loads(passage.metadata)["source"] == "docs/ships.md"


def test_the_given_counter_decides():
    text = " ".join(SENTENCES)
    few = chunk(document(text), count_tokens=words)
    many = chunk(document(text), count_tokens=lambda text: 4 * words(text))
    assert len(many) > len(few)


def test_a_budget_too_small_for_anything_is_refused():
    with pytest.raises(InvalidInputError, match="max_tokens"):
        chunk(document("text"), max_tokens=3)
