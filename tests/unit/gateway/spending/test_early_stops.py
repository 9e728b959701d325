"""Conditions that end an answer: where they end it, however it is cut, and what they never cut."""

import json
import random

import pytest

from trireme.errors import InvalidInputError, SettingError
from trireme.gateway.file import StopWhen, parse_gateway_file
from trireme.gateway.spending.early_stops import (
    SENTENCE_TIMES,
    WORD_TIMES,
    CitationClosed,
    FirstOf,
    JsonClosed,
    Repetition,
    Sentences,
    open_condition,
    parse_stop_when,
    stop_of,
    watch_early,
)
from trireme.gateway.wire import anthropic, openai_chat, openai_completions, responses
from trireme.providers.chat import (
    ChatCall,
    Finished,
    RefusalDelta,
    Sources,
    Started,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolDelta,
    ToolStart,
    Usage,
)


def answer(condition, pieces) -> tuple[str, bool]:
    """What is left of the answer, and whether it was stopped."""
    said = ""
    for piece in pieces:
        end = condition.feed(piece)
        if end is not None:
            assert 0 <= end <= len(piece)
            return said + piece[:end], True
        said += piece
    return said, False


def ends(make, text: str) -> str | None:
    """The stopped answer, the same for every cut of the text; None where it is not stopped."""
    whole = answer(make(), [text])
    assert answer(make(), list(text)) == whole
    for cut in range(1, len(text)):
        assert answer(make(), [text[:cut], text[cut:]]) == whole, (text[:cut], text[cut:])
    chance = random.Random(len(text))
    for _ in range(5):
        cuts = sorted(chance.randrange(len(text) + 1) for _ in range(4))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert answer(make(), pieces) == whole
    return whole[0] if whole[1] else None


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('{"a": 1} and more', '{"a": 1}'),
        ('  \n{"a": {"b": [1, 2]}}{', '  \n{"a": {"b": [1, 2]}}'),
        ("[1, [2], {}]\n\n[3]", "[1, [2], {}]"),
        (r'{"a": "}\"]\\"} x', r'{"a": "}\"]\\"}'),
        (r'"a \" b" c', r'"a \" b"'),
        ('```json\n{"a": 1}\n```\nThat is it.', '```json\n{"a": 1}\n```'),
        ("~~~~\n[1]~~~~ x", "~~~~\n[1]~~~~"),
        ('```\n{"a": 1}\nNot closed', '```\n{"a": 1}\n'),
        ('Sure! {"a": 1} x', None),
        ('{"a": 1', None),
        ('{"a": ]} {"b": 1} x', None),
        ("12 {} x", None),
        ("`{}` x", None),
        ("", None),
        ('{"a": "\u00e9\U0001f600"}x', '{"a": "\u00e9\U0001f600"}'),
    ],
)
def test_json_is_closed_with_its_first_value(text, end):
    assert ends(JsonClosed, text) == end


def test_every_value_that_json_writes_is_whole_where_it_is_stopped():
    chance = random.Random(1)

    def make(depth):
        kind = chance.randrange(6 if depth < 4 else 4)
        if kind == 4:
            return [make(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 5:
            return {chance.choice('a"\\}{'): make(depth + 1) for _ in range(chance.randrange(4))}
        return [1.5, None, 'x"}]\\', "\n[{é"][kind]

    for indent in (None, 2):
        for _ in range(200):
            value = [make(0)]
            text = json.dumps(value, indent=indent, ensure_ascii=chance.random() < 0.5)
            said, stopped = answer(JsonClosed(), [text + " and so on"])
            assert stopped
            assert json.loads(said) == value


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Oars are of fir [1]. Sails are", "Oars are of fir [1]. "),
        ("Oars are of fir. [1] Sails are", "Oars are of fir. [1] "),
        ("Oars are of fir. [1, 2][3]. Sails", "Oars are of fir. [1, 2][3]. "),
        ("Oars are of fir [1][2].\n\nSails", "Oars are of fir [1][2].\n\n"),
        ("- of fir [1]\n- of linen [2]\n", "- of fir [1]\n"),
        ("Fir [1] is light. It floats [2]. Yes", "Fir [1] is light. It floats [2]. "),
        ("See [the page]. Then a[0]. More text", None),
        ("Fir [1] is light, and so is pine", None),
        ("Oars are of fir [1].", None),
        (
            "About 3.5 [1] m, e.g. [2] that of Dr. Smith [3]. Now",
            "About 3.5 [1] m, e.g. [2] that of Dr. Smith [3]. ",
        ),
        ("木です [1]。次は", "木です [1]。"),
    ],
)
def test_a_citation_is_closed_with_the_sentence_that_it_ends(text, end):
    assert ends(CitationClosed, text) == end


@pytest.mark.parametrize(
    ("text", "most", "end"),
    [
        ("One. Two. Three.", 1, "One. "),
        ("One. Two! Three? Four", 3, "One. Two! Three? "),
        ('He said "no." Then he left.', 1, 'He said "no." '),
        ("Pi is 3.14 and e is 2.7. Next", 1, "Pi is 3.14 and e is 2.7. "),
        ("Dr. A. Smith, e.g. that one, came. Next", 1, "Dr. A. Smith, e.g. that one, came. "),
        ("Wait... what? Yes. No", 1, "Wait... what? "),
        ("1. Fir is light.\n2. Oak is not.\n3. Pine", 2, "1. Fir is light.\n2. Oak is not.\n"),
        ("Fir is light. [1] Oak is not.", 1, "Fir is light. [1] "),
        ("それは木です。次の文です。", 1, "それは木です。"),
        ("«Oui.» Non.", 1, "«Oui.» "),
        ("No end here", 1, None),
        ("The end.", 1, None),
        ("... ! ? Now then. Go", 1, "... ! ? Now then. "),
    ],
)
def test_an_answer_ends_behind_so_many_sentences(text, most, end):
    assert ends(lambda: Sentences(most), text) == end


def test_the_same_sentence_again_and_again_is_a_repetition():
    sentence = "The oars are of fir. "
    kept = ends(Repetition, "It is known. " + sentence * 12)
    assert kept is not None
    assert kept.count(sentence.strip()) == SENTENCE_TIMES
    assert ends(Repetition, sentence * (SENTENCE_TIMES - 1)) is None


def test_the_same_paragraph_or_word_again_and_again_is_a_repetition():
    paragraph = " ".join(f"word{place}" for place in range(100)) + "\n\n"
    said, stopped = answer(Repetition(), [paragraph * 9])
    assert stopped
    assert len(said) <= SENTENCE_TIMES * len(paragraph)
    assert ends(Repetition, "ha " * (WORD_TIMES + 5)) is not None
    assert ends(Repetition, "ha " * (WORD_TIMES - 1)) is None
    assert answer(Repetition(), ["ab" * 20_000])[1]
    assert answer(Repetition(), ["-" * 100_000])[1]
    assert answer(Repetition(), ["これは木の船です。" * 8])[1]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"{n}. The oar of the {name} is of fir." for n, name in enumerate("abcdefghijklmnop", 1)),
        "| ship | oars |\n| --- | --- |\n"
        + "\n".join(f"| ship {n} | of fir | yes | no |" for n in range(60)),
        "| a | b | c | d | e | f |\n"
        + "| --- | --- | --- | --- | --- | --- |\n"
        + "| 0 | 0 | 0 | 0 | 0 | 0 |\n" * 9,
        "- yes\n- yes\n- no\n" * 4,
        "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" * 12,
        "    x = f(x)\n    y = g(y)\n" * 4,
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream. "
        * 3,
        "=" * 120,
        " ".join(str(n) for n in range(500)),
    ],
)
def test_lists_tables_and_rhymes_are_no_repetition(text):
    assert answer(Repetition(), [text]) == (text, False)


def test_of_several_conditions_the_first_counts():
    def both():
        return FirstOf([JsonClosed(), Sentences(1)])

    assert ends(both, '{"a": "One. Two."} Three') == '{"a": "One. '
    assert ends(both, '{"a": 1} One. Two') == '{"a": 1}'


def test_what_is_asked_for_is_checked_and_a_wrong_key_is_named():
    assert parse_stop_when({"json": True, "sentences": 3}, "trireme.stop_when") == StopWhen(
        json=True, sentences=3
    )
    for raw, param in (
        ({"jsn": True}, "trireme.stop_when.jsn"),
        ({"sentences": 0}, "trireme.stop_when.sentences"),
        ({"citation": "yes"}, "trireme.stop_when.citation"),
    ):
        with pytest.raises(InvalidInputError) as found:
            parse_stop_when(raw, "trireme.stop_when")
        assert found.value.param == param
    assert open_condition(StopWhen()) is None


def test_a_wrong_key_in_the_file_stops_the_start_and_is_named():
    row = b'[models.m]\nchain = ["llm"]\n[models.m.stop_when]\n'
    assert parse_gateway_file(row + b"citation = true\n", "x").models["m"].stop_when == StopWhen(
        citation=True
    )
    with pytest.raises(SettingError, match="jsn"):
        parse_gateway_file(row + b"jsn = true\n", "x")


USER = [{"role": "user", "content": "hi"}]
SURFACES = {
    "openai": lambda ours: openai_chat.read({"model": "m", "messages": USER, **ours}, {}),
    "completions": lambda ours: openai_completions.read_completions({"model": "m", "prompt": "hi", **ours})[
        0
    ],
    "responses": lambda ours: responses.read({"model": "m", "input": "hi", "store": False, **ours}, {}),
    "anthropic": lambda ours: anthropic.read({"model": "m", "max_tokens": 9, "messages": USER, **ours}, {}),
}


@pytest.mark.parametrize("surface", SURFACES)
def test_every_surface_reads_it(surface):
    read = SURFACES[surface]
    assert read({}).stop_when is None
    assert read({"trireme": {"stop_when": {}}}).stop_when == {}
    assert read({"trireme": {"stop_when": {"json": True, "citation": False}}}).stop_when == {"json": True}
    with pytest.raises(InvalidInputError) as found:
        read({"trireme": {"stop_when": {"sentence": 3}}})
    assert found.value.param == "trireme.stop_when.sentence"


def test_the_requests_word_takes_the_place_of_the_models():
    of_model = StopWhen(citation=True)
    assert stop_of(ChatCall("openai", "m"), of_model) == of_model
    assert stop_of(ChatCall("openai", "m", stop_when={}), of_model) is None
    assert stop_of(ChatCall("openai", "m", stop_when={"json": True}), of_model) == StopWhen(json=True)
    assert stop_of(ChatCall("openai", "m"), None) is None


def test_a_call_that_may_use_tools_is_not_stopped():
    call = ChatCall("openai", "m", tools=(Tool("look"),), stop_when={"sentences": 1})
    assert stop_of(call, None) is None
    assert (
        stop_of(ChatCall("anthropic", "m", unknown=("tools.web_search",), stop_when={"json": True}), None)
        is None
    )
    closed = ChatCall("openai", "m", tools=(Tool("look"),), tool_choice="none", stop_when={"sentences": 1})
    assert stop_of(closed, None) == StopWhen(sentences=1)


class Upstream:
    def __init__(self, events):
        self.events, self.sent, self.is_closed = events, 0, False

    async def run(self):
        try:
            for event in self.events:
                self.sent += 1
                yield event
        finally:
            self.is_closed = True


async def watch(upstream, stop, choices=1):
    call = ChatCall("openai", "m", choices=choices)
    return [event async for event in watch_early(upstream.run(), call, stop)]


def run(coroutine):
    import asyncio

    return asyncio.run(coroutine)


ONE = StopWhen(sentences=1)


def test_the_text_is_cut_the_upstream_closed_and_the_choice_finished():
    upstream = Upstream(
        [Started("m"), TextDelta("One. Tw"), TextDelta("o."), Finished("length"), Usage(1, 2)]
    )
    assert run(watch(upstream, ONE)) == [Started("m"), TextDelta("One. "), Finished("stop")]
    assert upstream.is_closed
    assert upstream.sent == 2


def test_an_end_at_the_beginning_of_a_piece_leaves_no_empty_piece():
    upstream = Upstream([Started("m"), TextDelta("One. "), TextDelta("Two."), Finished("stop")])
    assert run(watch(upstream, ONE)) == [Started("m"), TextDelta("One. "), Finished("stop")]


def test_an_answer_that_ends_by_itself_is_passed_on_as_it_is():
    events = [
        Started("m"),
        ThinkingDelta("One. Two. Three."),
        RefusalDelta("One. Two."),
        TextDelta("One."),
        Sources(()),
        Usage(1, 2),
        Finished("stop_sequence", stop_sequence="x"),
    ]
    assert run(watch(Upstream(events), ONE)) == events


def test_each_choice_ends_by_itself_and_the_upstream_with_the_last():
    upstream = Upstream(
        [
            Started("m"),
            TextDelta("One. Two", 0),
            TextDelta("Eins", 1),
            TextDelta(" more", 0),
            Finished("length", 0),
            TextDelta(". Zwei", 1),
            Finished("stop", 1),
            Usage(1, 2),
        ]
    )
    assert run(watch(upstream, ONE, choices=2)) == [
        Started("m"),
        TextDelta("One. ", 0),
        Finished("stop", 0),
        TextDelta("Eins", 1),
        TextDelta(". ", 1),
        Finished("stop", 1),
    ]
    assert upstream.is_closed
    assert upstream.sent == 6


def test_a_choice_that_ended_by_itself_counts_as_over():
    upstream = Upstream([TextDelta("a", 0), Finished("length", 0), TextDelta("One. Two", 1), Usage(1, 2)])
    assert run(watch(upstream, ONE, choices=2))[-1] == Finished("stop", 1)
    assert upstream.sent == 3


def test_calls_of_tools_are_never_cut():
    events = [
        TextDelta("I look"),
        ToolStart(0, "c1", "look"),
        TextDelta(". One. Two."),
        ToolDelta(0, '{"a": 1}'),
        Finished("tool_use"),
    ]
    assert run(watch(Upstream(events), ONE)) == events


def test_log_probabilities_are_cut_with_their_text():
    entries = tuple({"token": token, "logprob": -1.0} for token in ("One", ".", " ", "Two"))
    upstream = Upstream([TextDelta("One. Two", logprobs=entries)])
    assert run(watch(upstream, ONE))[0] == TextDelta("One. ", logprobs=entries[:3])


def test_closing_it_closes_the_upstream():
    upstream = Upstream([Started("m"), TextDelta("One"), Finished("stop")])

    async def leave():
        events = watch_early(upstream.run(), ChatCall("openai", "m"), ONE)
        async for _ in events:
            break
        await events.aclose()

    run(leave())
    assert upstream.is_closed
    assert upstream.sent == 1


@pytest.mark.parametrize(
    "make",
    [JsonClosed, CitationClosed, Repetition, lambda: Sentences(2)],
    ids=["json", "citation", "repetition", "sentences"],
)
def test_no_text_ends_elsewhere_when_it_is_cut_otherwise(make):
    chance = random.Random(7)
    letters = [*'.!?。 \n[]{}"\\`12,0aIJb漢)', "[1]", "[1, 2]", ". ", "word "]
    stopped = 0
    for _ in range(150):
        text = "".join(chance.choice(letters) for _ in range(chance.randrange(40)))
        text = (text[:3] * 40) if chance.random() < 0.2 else text
        text = chance.choice(("", "{", "```\n[")) + text
        stopped += ends(make, text) is not None
    assert 0 < stopped < 150


def test_of_an_answer_that_is_there_already_what_comes_behind_the_stop_stays():
    behind = [Sources((), {"passages": 3}), Usage(3, 9), Finished("length")]
    upstream = Upstream([Started("m"), TextDelta("One. Two"), TextDelta(" more."), *behind])

    async def read():
        events = watch_early(upstream.run(), ChatCall("openai", "m"), ONE, reads_on=True)
        return [event async for event in events]

    assert run(read()) == [Started("m"), TextDelta("One. "), *behind[:2], Finished("stop")]
    upstream = Upstream([Started("m"), TextDelta("One."), *behind])
    assert run(read()) == [Started("m"), TextDelta("One."), *behind]
