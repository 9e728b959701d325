import json
from itertools import pairwise

import pytest

from trireme.passage_text import LEAD, SENTENCE_END, document_of, find_lead, read_metadata


@pytest.mark.parametrize(
    ("title", "heading", "lead"),
    [
        ("Settings", "Ports > HTTP", "Settings > Ports > HTTP\n"),
        ("Settings", "Settings > Ports", "Settings > Ports\n"),
        ("A very long title", "Ports", "Ports\n"),
        ("A very long title", "", "A very long\n"),
        ("Settings", "", ""),
        ("", "", ""),
    ],
)
def test_without_a_length_the_first_line_is_the_lead_where_title_and_headings_make_it(title, heading, lead):
    metadata = json.dumps({"title": title, "heading": heading})
    assert find_lead(f"{lead}The port is 8000.\nMore.", metadata) == len(lead)


def test_a_lead_has_something_below_it():
    assert find_lead("Ports", json.dumps({"title": "Ports"})) == 0


def test_the_length_that_is_stored_counts_whatever_title_and_text_look_like():
    text = "Two\nlines\nThe port is 8000."
    for lead in (0, 4, 10):
        assert find_lead(text, json.dumps({"title": "Two", LEAD: lead})) == lead


@pytest.mark.parametrize("odd", [-1, 5, 14, 99, True, 4.0, "4", None, [4]])
def test_a_length_that_cannot_be_is_as_good_as_none(odd):
    metadata = {"title": "Two", LEAD: odd}
    assert find_lead("Two\nwords here", json.dumps(metadata)) == 4
    assert find_lead("Two\nwords here", json.dumps(metadata | {"title": "Three"})) == 0


@pytest.mark.parametrize("metadata", ["", "[1]", "null", "{}", "no"])
def test_metadata_that_is_no_object_says_nothing(metadata):
    assert read_metadata(metadata) == {}
    assert find_lead("Two\nlines", metadata) == 0


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", " Two!", " Three?"]),
        (
            "He said “Row.” They rowed (fast.) *Then.* end",
            ["He said “Row.”", " They rowed (fast.)", " *Then.*", " end"],
        ),
        ("Wait... no....x", ["Wait...", " no....x"]),
        ("Version 1.2 of a.b", ["Version 1.2 of a.b"]),
        ("漢字。漢字！」次", ["漢字。", "漢字！」", "次"]),
        ("And so on… Next", ["And so on…", " Next"]),
    ],
)
def test_sentences_end_at_their_marks_with_the_closing_ones_behind_them(text, sentences):
    ends = [0, *(found.end() for found in SENTENCE_END.finditer(text)), len(text)]
    assert [text[a:b] for a, b in pairwise(ends) if a < b] == sentences


@pytest.mark.parametrize(
    ("passage", "metadata", "document"),
    [
        ("a.md#0", '{"position": 0}', "a.md"),
        ("a#1#12", '{"position": 12}', "a#1"),
        ("a.md#3", "{}", "a.md"),
        # What the document brought stands in place of the number.
        ("a.md#3", '{"position": "bow"}', "a.md"),
        # Of a document that is one passage.
        ("MED-10", '{"position": 0}', "MED-10"),
        ("rule#7", '{"position": 0}', "rule#7"),
        ("rule#x", "{}", "rule#x"),
        ("rule#٣", "{}", "rule#٣"),
        ("#3", "{}", "#3"),
        ("", "{}", ""),
    ],
)
def test_a_passage_belongs_to_the_document_that_its_id_begins_with(passage, metadata, document):
    assert document_of(passage, metadata) == document
