"""What says that it does not know."""

import pytest

from trireme.rag.answer import NOTHING_FOUND
from trireme.refusals import OPENINGS, is_refusal, may_open_refusal, opens_refusal, plain_words


@pytest.mark.parametrize(
    "text",
    [
        "The passages do not say.",
        "the passages do not say",
        "The passages do not say. [1]",
        NOTHING_FOUND.format(collection="docs"),
        "",
        "  \n",
        "I don't know.",
        "I don’t know the answer to that.",
        "I do not have enough information to answer this question.",
        "I'm sorry, but I cannot find that in the passages.",
        "I am not sure.",
        "I'm unable to answer that.",
        "Sorry, I can't help with that.",
        "Unfortunately, the provided context does not mention the year.",
        "The passage does not explicitly state who won.",
        "The text doesn't say [2].",
        "These passages do not contain the answer.",
        "There is no information about this in the passages.",
        "Not enough information.",
        "The answer is not mentioned in the context.",
        "It is not specified.",
        "It cannot be determined from the text.",
        "As an AI language model, I have no access to that.",
        "Based on the passages, the answer is unknown.",
        "Unanswerable",
        "N/A",
        "Not mentioned.",
        "None of the passages mention it.",
        "[1]",
        "  ...",
    ],
)
def test_what_says_that_it_does_not_know_is_a_refusal(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Port 8000 [1].",
        "Scientists do not know why the sky darkened.",
        "Luther said: I do not know where he is.",
        "The information age began in 1970.",
        "The text of the treaty was signed in 1951 [1].",
        "No information is needed to start the server.",
        "None of the ships returned [1].",
        "Unknown Pleasures was released in 1979.",
        "No answer came from the king until 1810.",
        "It is not only the largest city but also the oldest [2].",
        "I have a dream.",
        "The document was signed in 1215 [1].",
        "From the north, the river does not reach the sea.",
        "In 1066. The passages do not say more.",
        "The sources of the Rhine do not freeze in winter.",
        "Say that the passages do not matter.",
        "The passages do note that it is 9000.",
    ],
)
def test_what_answers_is_no_refusal(text):
    assert not is_refusal(text)


def test_a_refusal_is_found_in_front_of_a_text_of_any_length():
    assert is_refusal("I don't know. " + "But let me tell you of the sea. " * 100_000)
    assert not is_refusal("In the passages, " * 100_000 + "I do not know.")


@pytest.mark.parametrize("opening", OPENINGS)
def test_what_a_stream_is_known_for_a_refusal_by_is_one_however_it_goes_on(opening):
    assert is_refusal(f"{opening} care for [1] whales.")
    assert opens_refusal(opening) and opens_refusal(f"{opening} care")
    assert all(may_open_refusal(opening[:end]) for end in range(len(opening) + 1))
    assert not opens_refusal(opening[:-1]) and not opens_refusal(f"{opening}ed")


def test_plain_words_have_no_marks_and_no_capitals():
    assert plain_words("The PASSAGES don\u2019t [1, 2] say!") == "the passages don t say"
