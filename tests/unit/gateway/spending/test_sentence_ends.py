"""Where sentences end while they are written."""

import pytest

from trireme.gateway.spending.sentence_ends import SentenceEnds


def sentences(text):
    """The text at each end, and whether a citation stood there."""
    ends, found, start = SentenceEnds(), [], 0
    for place, letter in enumerate(text):
        if ended := ends.feed(letter):
            found.append((text[start:place].strip(), ended))
            start = place
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "One. Two [2]. Three. [3] Four",
            [("One.", "plain"), ("Two [2].", "cited"), ("Three. [3]", "cited")],
        ),
        (
            "J. R. Smith of the U.S. Navy met (Dr. B.) Jones. He",
            [("J. R. Smith of the U.S. Navy met (Dr. B.) Jones.", "plain")],
        ),
        ("So do I. Then", [("So do I.", "plain")]),
        ("e.g. this, i.e. that. Then", [("e.g. this, i.e. that.", "plain")]),
        ("1. Fir. 2 masts", [("1. Fir.", "plain")]),
        ("Built in 480. The end", [("Built in 480.", "plain")]),
        ("Use a.b.c and x[0]. Then", [("Use a.b.c and x[0].", "plain")]),
        ("See [2 or 3]. Then", [("See [2 or 3].", "plain")]),
        ("See [10, 20]. Then", [("See [10, 20].", "cited")]),
        ("Fir [1]\nlinen [2]\n- x", [("Fir [1]", "cited"), ("linen [2]", "cited")]),
        ("vLLM runs. iPhones too", []),
        ("?! ... \n\n", []),
        ("Ja。」Nein！", [("Ja。」", "plain")]),
    ],
)
def test_sentences_end_where_the_rules_say(text, found):
    assert sentences(text) == found


def test_a_bracket_that_is_no_citation_ends_nothing():
    assert sentences("Fir is light. [See below] More") == []
