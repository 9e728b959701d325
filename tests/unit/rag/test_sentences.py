import pytest

from trireme.rag.sentences import split_sentences


def texts(passage, begin=0):
    return [sentence.text for sentence in split_sentences(passage, begin)]


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. J. R. Smith paid $3.5 million. He left.", ["Dr. J. R. Smith paid $3.5 million.", "He left."]),
        ("It is in the U.S. today. The U.S. In 1990 it grew.",
         ["It is in the U.S. today.", "The U.S.", "In 1990 it grew."]),
        ("See Fig. 3, No. 5 and e.g. this. Is it so? No. It is not.",
         ["See Fig. 3, No. 5 and e.g. this.", "Is it so?", "No.", "It is not."]),
        ('"What?" he said. "Nothing." She left.', ['"What?" he said.', '"Nothing."', "She left."]),
        ("Version 2.51.0 of x.py runs... slowly. Good.", ["Version 2.51.0 of x.py runs... slowly.", "Good."]),
        ("`top_k` is 3. top_k is 4. (Five.) Six.", ["`top_k` is 3.", "top_k is 4.", "(Five.)", "Six."]),
        ("日本語です。次の文。", ["日本語です。", "次の文。"]),
        ("Lines wrapped\nat a width. Next\none.", ["Lines wrapped\nat a width.", "Next\none."]),
        ("No mark at the end", ["No mark at the end"]),
        ("- - -\n\n...\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_would_end_them(passage, expected):
    assert texts(passage) == expected


def test_sentences_of_another_language_end_by_its_rules():
    passage = "- Das Treffen ist am 3. Mai, z. B. um 10 Uhr. Er kommt.\n\n```\na = 1. B\n```\n"
    found = split_sentences(passage, language="de")
    expected = ["Das Treffen ist am 3. Mai, z. B. um 10 Uhr.", "Er kommt.", "```\na = 1. B\n```"]
    assert [sentence.text for sentence in found] == expected
    assert all(passage[one.start : one.end] == one.text for one in found)
    text = "Mr. Smith left. He paid $3.5 million."
    assert split_sentences(text, language="en") == split_sentences(text)


def test_spans_are_places_in_the_whole_passage():
    passage = "Title > Part\nFirst one.  Second\none.\n\n- Third.\n"
    found = split_sentences(passage, begin=13)
    assert [sentence.text for sentence in found] == ["First one.", "Second\none.", "Third."]
    assert all(passage[one.start : one.end] == one.text for one in found)


def test_headings_are_no_sentences():
    assert texts("# Top\nText here.\n## Sub. Part\nMore.") == ["Text here.", "More."]


def test_list_items_stand_alone_without_their_marks():
    passage = "Intro:\n- one item. Two here\n- wrapped\n  item\n\n1. First do it.\n2) Then that."
    assert texts(passage) == [
        "one item.", "Two here", "wrapped\n  item", "First do it.", "Then that.",
    ]  # fmt: skip


def test_a_row_of_a_table_is_one_sentence_and_its_header_none():
    passage = (
        "Before.\n| key | what |\n| --- | --- |\n| a | the first of two |\n| d | the second of two |\nAfter."
    )
    assert texts(passage) == ["Before.", "| a | the first of two |", "| d | the second of two |", "After."]


def test_a_row_of_names_and_numbers_is_no_sentence():
    assert texts("| fp32 | 1 | 55.7 |\n| int8 | 2 | as near as wanted |") == [
        "| int8 | 2 | as near as wanted |"
    ]


def test_a_line_that_only_announces_a_list_is_no_sentence():
    assert texts("It has two. These are not taken:\n\n- the first of them") == [
        "It has two.",
        "the first of them",
    ]


def test_code_stays_whole():
    assert texts("Run it. Now.\n\n```\nmake. it\n\n# so\n```\nDone.") == [
        "Run it.", "Now.", "```\nmake. it\n\n# so\n```", "Done.",
    ]  # fmt: skip


def test_code_keeps_the_line_that_announces_it():
    assert texts("Stop it. Run this:\n\n```\nmake\n```") == ["Stop it.", "Run this:\n\n```\nmake\n```"]
    assert texts("Run this:\n~~~\nmake\n~~~") == ["Run this:\n~~~\nmake\n~~~"]


def test_code_without_an_end_reaches_to_the_end():
    assert texts("So.\n```\nmake. it\nnow") == ["So.", "```\nmake. it\nnow"]


@pytest.mark.timeout(10)
def test_hostile_text_is_split_in_time_that_grows_with_its_length():
    for piece in (". ", "a.", "[[[[", "| ", "```\n", "- ", '."', "- - ", "A. "):
        passage = piece * (100_000 // len(piece))
        assert all(passage[one.start : one.end] == one.text for one in split_sentences(passage))


def test_a_sentence_may_begin_with_a_name_that_begins_small():
    text = "On a CPU it is OpenVINO. vLLM runs it on a GPU. iPhones do not. a list goes on."
    assert [one.text for one in split_sentences(text)] == [
        "On a CPU it is OpenVINO.",
        "vLLM runs it on a GPU.",
        "iPhones do not. a list goes on.",
    ]
