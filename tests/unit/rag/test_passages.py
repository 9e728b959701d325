import json

import pytest

from fakes.rag import hit
from trireme.rag.passages import find_context, find_openings, sentences_of, source_of


def passage(text, title="", heading=""):
    return hit("a", text, metadata=json.dumps({"title": title, "heading": heading}))


@pytest.mark.parametrize(
    ("title", "heading", "first"),
    [
        ("Settings", "Ports > HTTP", "Settings > Ports > HTTP"),
        ("Settings", "Settings > Ports", "Settings > Ports"),
        ("A very long title", "Ports", "Ports"),
        ("Oil crisis", "", "Oil crisis"),
    ],
)
def test_title_and_headings_are_context_and_no_sentence(title, heading, first):
    one = passage(f"{first}\nThe port is 8000.", title, heading)
    assert find_context(one) == first
    [found] = sentences_of(one)
    assert found.text == "The port is 8000." == one.text[found.start : found.end]


def test_the_context_is_as_long_as_was_stored_whatever_the_title_is():
    metadata = json.dumps({"title": None, "source": "a", "trireme_lead": len("Ships\nand oars\n")})
    one = hit("a", "Ships\nand oars\nThey have oars.", metadata=metadata)
    assert find_context(one) == "Ships\nand oars"
    assert [found.text for found in sentences_of(one)] == ["They have oars."]
    none = hit("a", "Ships\nThey have oars.", metadata=json.dumps({"title": "Ships", "trireme_lead": 0}))
    assert find_context(none) == ""


def test_a_first_line_that_is_no_heading_is_a_sentence():
    found = sentences_of(passage("Triremes are ships.\nThey have oars.", "Boats"))
    assert [one.text for one in found] == ["Triremes are ships.", "They have oars."]


def test_headings_with_nothing_below_them_are_all_there_is():
    assert [one.text for one in sentences_of(passage("Ports", "Ports"))] == ["Ports"]


@pytest.mark.parametrize("metadata", ["", "[1]", "null", "{}", '{"source": null}'])
def test_a_passage_without_a_source_is_named_by_its_id(metadata):
    assert source_of(hit("docs/a.md#3", "text", metadata=metadata)) == "docs/a.md#3"


def test_a_passage_opens_its_section_unless_an_earlier_piece_of_it_is_there():
    def piece(heading, position, source="a.md"):
        metadata = {"source": source, "heading": heading, "position": position}
        return hit("a", "text", metadata=json.dumps(metadata))

    passages = [
        piece("Ports", 3),
        piece("Ports", 2),
        piece("Logs", 4),
        piece("Ports", 1, "b.md"),
        hit("c", "x"),
    ]
    assert find_openings(passages) == {1, 2, 3, 4}
