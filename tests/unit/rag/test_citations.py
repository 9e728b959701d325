import unicodedata

import pytest

from fakes.rag import hit
from trireme.rag.citations import check_citations, content_words, infer_citations

PASSAGES = [
    hit(
        "a",
        "Ships\nA trireme had three banks of oars. It was fast.",
        0.9,
        '{"source": "ships.md", "title": "Ships"}',
    ),
    hit("b", "Simmer the lentils with garlic.", 0.5, '{"source": "cooking.txt"}'),
]


def test_a_citation_names_the_sentence_that_it_rests_on():
    [cited] = check_citations("The trireme had three banks. [1]", PASSAGES).citations
    assert (cited.number, cited.id, cited.source, cited.score) == (1, "a", "ships.md", 0.9)
    assert cited.text == "A trireme had three banks of oars." == PASSAGES[0].text[cited.start : cited.end]
    assert cited.support == 1.0


def test_a_mark_belongs_to_the_sentence_that_it_follows():
    checked = check_citations("Triremes had oars [1]. Lentils take garlic. [2]", PASSAGES)
    assert [cited.number for cited in checked.citations] == [1, 2]
    assert [cited.support for cited in checked.citations] == [1.0, pytest.approx(2 / 3)]


def test_a_number_without_a_passage_is_dropped_and_flagged():
    checked = check_citations("A trireme had oars [1], [3]. It was fast [0].", PASSAGES)
    assert [cited.number for cited in checked.citations] == [1]
    assert checked.unknown == (3, 0)


def test_a_passage_that_shares_no_word_does_not_support():
    checked = check_citations("Paris is a city [2].", PASSAGES)
    assert checked.citations == ()
    assert checked.unsupported == (2,)


def test_a_passage_cited_twice_counts_once_with_its_best_support():
    checked = check_citations("Paris is big [1]. A trireme had oars [1].", PASSAGES)
    assert [cited.support for cited in checked.citations] == [1.0]
    assert checked.unsupported == ()


def test_several_numbers_may_share_brackets():
    checked = check_citations("Oars and garlic [1, 2].", PASSAGES)
    assert [cited.number for cited in checked.citations] == [1, 2]


@pytest.mark.parametrize("answer", ["", "No citation here.", "An array[i] and [x].", "[1]"])
def test_an_answer_without_citations_has_none(answer):
    assert check_citations(answer, PASSAGES).citations == ()


def test_word_endings_do_not_keep_words_apart():
    assert content_words("The ships sailed") == content_words("a ship sails") == {"ship", "sail"}


def test_only_whole_common_words_are_left_out():
    assert content_words("the hen is ill") == {"hen", "ill"}
    # "here" loses its ending, which makes it no common word.
    assert content_words("Here she had an id, an int and a hat of the heir") == {
        "her",
        "id",
        "int",
        "hat",
        "heir",
    }
    assert content_words("Vitamin C, plan b") == {"vitamin", "c", "plan", "b"}


def test_what_an_apostrophe_joins_is_no_word_of_its_own():
    assert content_words("It's the ship’s; we don't, they've") == content_words("ship don")
    passage = hit("a", "It's the captain's.", 0.5)
    assert check_citations("The dog's bone [1].", [passage]).unsupported == (1,)


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("The trireme had three banks of oars.", [1]),
        ("A trireme had banks. Lentils simmer with garlic.", [1, 2]),
        ("A trireme had banks. It was fast.", [1]),
        # A name or a number that the passage lacks: the words around it do not count.
        ("The Olympias had three banks of oars.", []),
        ("A trireme had 170 banks of oars.", []),
        ("Rowers sat below the deck of a trireme.", []),
        ("It is so.", []),
        ("", []),
    ],
)
def test_an_answer_without_marks_is_cited_by_what_supports_it(answer, numbers):
    assert [cited.number for cited in infer_citations(answer, PASSAGES)] == numbers


def test_an_inferred_citation_says_what_it_rests_on():
    [cited] = infer_citations("Three banks of oars", PASSAGES)
    assert (cited.id, cited.support, cited.text) == ("a", 1.0, "A trireme had three banks of oars.")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_compared_in_one_form_of_unicode(form):
    passage = hit("c", unicodedata.normalize(form, "The Caf\u00e9 Zo\u00eb is shut."))
    for other in ("NFC", "NFD"):
        said = unicodedata.normalize(other, "Caf\u00e9 Zo\u00eb [1]")
        assert [one.support for one in check_citations(said, [passage]).citations] == [1.0]
        assert [one.support for one in infer_citations(said, [passage])] == [1.0]


def test_a_citation_names_the_document_that_its_passage_was_cut_from():
    passages = [hit("a/b.md#12", "Oars are of fir.", 0.5, '{"source": "shelf", "position": 12}')]
    (cited,) = check_citations("Oars are of fir [1].", passages).citations
    assert (cited.id, cited.document) == ("a/b.md#12", "a/b.md")
    (inferred,) = infer_citations("Oars are of fir.", passages)
    assert inferred.document == "a/b.md"
