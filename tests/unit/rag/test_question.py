import pytest

from trireme.rag.question import asks_for_fact, is_code


@pytest.mark.parametrize(
    "question",
    [
        "Which port does gRPC use?",
        "what is the port?",
        "On which port does it listen?",
        "How long does a start take?",
        "How many ports are there?",
        "Where are the logs?",
        "Why is it off?",
        "  Who wrote it?",
    ],
)
def test_a_sentence_answers_who_where_which_and_how_long(question):
    assert asks_for_fact(question)


@pytest.mark.parametrize(
    "question",
    [
        "How do I change the port?",
        "How can I start it?",
        "how to index a folder",
        "How should it be started?",
        "Can I change the port?",
        "What is the command that starts the server?",
        "Which curl example is there?",
        "change the port",
        "Wie starte ich den Server?",
        "Whichever port",
        "",
    ],
)
def test_code_may_answer_everything_else(question):
    assert not asks_for_fact(question)


@pytest.mark.parametrize(
    "text", ["```sh\nmake serve\n```", "~~~\nx\n~~~", "`make serve`", " `make serve`. ", "`a b`,"]
)
def test_code_alone_is_told_from_sentences(text):
    assert is_code(text)


@pytest.mark.parametrize(
    "text", ["Run `make serve`.", "`a` and `b`", "Start it:\n```sh\nmake serve\n```", "`x` is set."]
)
def test_a_sentence_around_code_is_a_sentence(text):
    assert not is_code(text)
