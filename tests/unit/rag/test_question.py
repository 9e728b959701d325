import pytest

from trireme.rag.question import asks_for_fact, is_code, is_pointer, lacks_quantity


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
        "Does it need a GPU?",
        "Is Windows supported?",
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


@pytest.mark.parametrize(
    ("question", "sentence", "lacks"),
    [
        ("How many banks had it?", "It had three banks.", False),
        ("How many banks had it?", "It had banks of oars.", True),
        ("how fast is it", "It makes 9 knots.", False),
        ("Which port is it on?", "It is on the usual port.", True),
        ("In what year was it built?", "It was built of fir.", True),
        ("Which engine runs it?", "OpenVINO runs it.", False),
        ("How do I start it?", "With a key.", False),
        ("Wie viele Ruder?", "Viele.", False),
    ],
)
def test_a_quantity_is_answered_by_a_number(question, sentence, lacks):
    assert lacks_quantity(question, sentence) is lacks


@pytest.mark.parametrize(
    ("before", "entry", "points"),
    [
        ("- ", "[Settings](settings.md): ports, folders", True),
        ("Pages:\n1. ", "[Running by hand](hand.md), in a container too", True),
        ("* ", "[Settings](settings.md)", True),
        ("- ", "[Marie Curie](curie.md) discovered radium.", False),
        ("", "[Settings](settings.md): ports, folders", False),
        ("- see ", "[Settings](settings.md): ports", False),
        ("- ", "Ports: see [settings](settings.md).", False),
    ],
)
def test_an_entry_of_a_list_of_links_is_told_apart(before, entry, points):
    assert is_pointer(before + entry + "\nAnd more.", len(before)) is points
