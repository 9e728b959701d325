"""Cascades whose small step is a rag model: judged while it writes, and what it found goes on to the last step."""

import asyncio
import http.client
import json

import pytest

from fakes.cascade_gateways import BIG, FILE, V1, Steps, gateway_of, last_line, place
from fakes.gateways import SECRET
from fakes.spending import World, cap
from trireme.gateway.cascades import versions
from trireme.gateway.spending.estimates import input_bound
from trireme.providers.chat import (
    ChatCall,
    Findings,
    Finished,
    Message,
    Source,
    Sources,
    Started,
    Text,
    TextDelta,
    Usage,
)
from trireme.providers.models import ServedModel
from trireme.providers.port import ProviderError

CHAT = "/v1/chat/completions"
QUESTION = "how many banks of oars?"
TURNS = [{"role": "user", "content": QUESTION}]
BODIES = {
    CHAT: {"model": "careful", "messages": TURNS},
    "/v1/responses": {"model": "careful", "input": QUESTION},
    "/v1/messages": {"model": "careful", "messages": TURNS, "max_tokens": 9},
}
PASSAGE = "A trireme had three banks of oars."
PROMPT = (
    {"role": "system", "content": "Answer from the passages."},
    {"role": "user", "content": f"[1] {PASSAGE}\n{QUESTION}"},
)
RAG = ServedModel("rag", "answer", True, "load", versions=(("rag", V1),), says_findings=True)
OF_RAG = FILE.replace('target = "p:small"', 'target = "rag"\nanswer_mode = "generative"')
FIRST_TWO = OF_RAG.replace('exact = "all"', 'decide_after = 2\nexact = "all"').replace(
    "small.json", "first.json"
)
SOURCE = Source(1, "a#0", "a.md", 0, len(PASSAGE), 0.5, 1.0, PASSAGE)


def found(*logprobs, prompt=PROMPT, end=True):
    """What rag says: a word for each log-probability, and its end."""
    events = [Started("rag")]
    for number, logprob in enumerate(logprobs):
        details = {"passage_score": 0.5, "passage_gap": 0.25, "best_score": None}
        events += [Findings((logprob,), details, () if number else prompt), TextDelta(f"Word{number}. ")]
    details = {"passage_score": 0.5, "passage_gap": 0.25, "token_logprobs": list(logprobs)}
    return (
        [*events, Sources((SOURCE,), details), Usage(9, len(logprobs)), Finished("stop")] if end else events
    )


SURE, UNSURE = found(-0.1, -0.2, -0.3, -0.1), found(-0.1, -9.0, -0.3, -0.1)


@pytest.fixture(autouse=True)
def calibrations(tmp_path, monkeypatch):
    place(tmp_path, versions=(("rag", V1),))
    place(tmp_path, "first.json", versions=(("rag", V1),), decide_after=2)
    monkeypatch.setattr(versions, "KNOWN_SECONDS", 600.0)


def ask(gateway, path=CHAT, **fields):
    status, headers, raw = gateway.ask("POST", path, {**BODIES[path], **fields}, secret=SECRET)
    return status, {name.lower(): value for name, value in headers.items()}, raw.decode()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_the_last_step_is_asked_with_the_passages_that_were_found(tmp_path, path, stream):
    provider = Steps(rag=UNSURE)
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        status, headers, text = ask(gateway, path, stream=stream)
    assert (status, headers["x-trireme-step"], headers["x-trireme-escalated"]) == (200, "big", "small=unsure")
    small, big = provider.calls
    assert (small.asks_evidence, small.asks_prompt, small.tenant) == (True, True, "acme")
    assert [(one.role, one.text) for one in big.messages] == [(one["role"], one["content"]) for one in PROMPT]
    assert (big.asks_evidence, big.asks_prompt) == (False, False)
    # Of the answer's own text, and nothing of the prompt.
    assert "truly" in text and "Word0" not in text and PASSAGE not in text
    if path != "/v1/responses":
        assert PASSAGE in json.dumps(big.body) and big.body["messages"][-1]["content"] == PROMPT[1]["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_answer_shows_nothing_of_the_prompt_or_of_what_it_was_judged_by(tmp_path, stream):
    provider = Steps(rag=SURE)
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        _, headers, text = ask(gateway, stream=stream)
    assert headers["x-trireme-step"] == "small"
    assert "Word3" in text and "a.md" in text
    assert "Answer from the passages" not in text and "token_logprobs" not in text


def test_a_step_gets_the_question_alone_where_the_file_says_so(tmp_path):
    provider = Steps(rag=UNSURE)
    text = OF_RAG.replace('name = "big"', 'name = "big"\npassages = false')
    with gateway_of(tmp_path, provider, text, models=[RAG]) as gateway:
        ask(gateway)
    small, big = provider.calls
    assert small.asks_prompt is False
    assert (
        [one.text for one in big.messages] == [QUESTION] == [one["content"] for one in big.body["messages"]]
    )


def test_a_step_between_gets_passages_only_where_the_file_says_so(tmp_path):
    place(tmp_path, "middle.json", features=("tokens",), center=1000.0, versions=(("p:middle", "big-1"),))
    for more, texts in (("", [QUESTION]), ("passages = true\n", [one["content"] for one in PROMPT])):
        row = f'[[models.careful.steps]]\nname = "middle"\ntarget = "p:middle"\ncalibration = "middle.json"\n{more}'
        text = OF_RAG.replace(
            '[[models.careful.steps]]\nname = "big"', f'{row}[[models.careful.steps]]\nname = "big"'
        )
        provider = Steps(rag=UNSURE, middle=BIG)
        with gateway_of(tmp_path, provider, text, models=[RAG]) as gateway:
            assert ask(gateway)[1]["x-trireme-escalated"] == "small=unsure, middle=unsure"
        _, middle, big = provider.calls
        assert [one.text for one in middle.messages] == texts
        assert [one.text for one in big.messages] == [one["content"] for one in PROMPT]


def test_a_target_that_cannot_take_the_prompt_is_asked_the_question_alone(tmp_path):
    provider = Steps(rag=UNSURE)
    provider.refuses["spare"] = lambda call: "messages: one at a time" if len(call.messages) > 1 else ""
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        assert ask(gateway)[1]["x-trireme-step"] == "big"
    assert [one.text for one in provider.calls[1].messages] == [QUESTION]


def test_where_the_prompt_is_too_long_for_every_target_the_question_goes_alone(tmp_path):
    class Short(Steps):
        async def chat(self, call, model, limits):
            async for event in super().chat(call, model, limits):
                if len(call.messages) > 1:
                    raise ProviderError("the prompt is too long", "larger", "too_long")
                yield event

    provider = Short(rag=UNSURE)
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        status, headers, _ = ask(gateway)
        line = last_line(gateway)
    assert (status, headers["x-trireme-step"]) == (200, "big")
    tried = ["local:rag escalated", "p:big too_long", "p:spare too_long", "p:big ok"]
    assert line["attempts"] == tried and headers["x-trireme-attempts"] == "4"


def test_where_nothing_was_found_the_question_goes_alone(tmp_path):
    provider = Steps(rag=found(-9.0, prompt=()))
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        assert ask(gateway)[1]["x-trireme-escalated"] == "small=unsure"
    assert [one.text for one in provider.calls[1].messages] == [QUESTION]


def test_what_chose_the_passages_is_not_told_to_a_chat_model(tmp_path):
    provider = Steps(rag=UNSURE)
    provider.refuses["big"] = provider.refuses["spare"] = lambda call: (
        "collection: no" if call.collection else ""
    )
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        status, headers, _ = ask(gateway, trireme={"collection": "docs"})
    assert (status, headers["x-trireme-step"]) == (200, "big")
    small, big = provider.calls
    assert (small.collection, big.collection) == ("docs", None)


class Gate:
    """Holds an answer for ever, or until it is opened."""

    def __init__(self):
        self.opened = False

    async def wait(self):
        while not self.opened:
            await asyncio.sleep(0.001)


def held(gate, events, count):
    yield from events[:count]
    yield gate.wait()
    yield from events[count:]


@pytest.mark.parametrize("stream", [False, True])
def test_the_decision_falls_while_rag_writes(tmp_path, stream):
    # Two tokens with their text; the third never comes.
    provider = Steps(rag=lambda: held(Gate(), UNSURE, 5))
    with gateway_of(tmp_path, provider, FIRST_TWO, models=[RAG]) as gateway:
        _, headers, text = ask(gateway, stream=stream)
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "small=unsure")
    assert "truly" in text and "Word" not in text
    assert provider.open == 0
    assert provider.calls[0].stream
    assert [one.text for one in provider.calls[1].messages] == [one["content"] for one in PROMPT]


def stream_of(gateway, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    headers = {"authorization": f"Bearer {SECRET}"}
    connection.request("POST", CHAT, json.dumps({**BODIES[CHAT], "stream": True, **fields}), headers)
    return connection, connection.getresponse()


def test_what_is_kept_by_its_first_tokens_is_streamed_on_with_its_sources(tmp_path):
    gate = Gate()
    provider = Steps(rag=lambda: held(gate, SURE, 5))
    with gateway_of(tmp_path, provider, FIRST_TWO, models=[RAG]) as gateway:
        connection, answer = stream_of(gateway)
        seen = b""
        while b"Word1" not in seen:
            seen += answer.readline()
        assert answer.headers["x-trireme-step"] == "small"
        gate.opened = True
        rest = answer.read().decode()
        connection.close()
    assert "Word3" in rest and "a.md" in rest and "[DONE]" in rest
    assert "token_logprobs" not in rest


STOPPED = {"stop_when": {"sentences": 1}}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_stopped_early_is_judged_by_all_of_it_and_shown_up_to_the_stop(tmp_path, stream):
    # The evidence of its citations comes with its end.
    place(tmp_path, features=("logprob_least", "citation_support"), versions=(("rag", V1),))
    provider = Steps(rag=SURE)
    with gateway_of(tmp_path, provider, OF_RAG, models=[RAG]) as gateway:
        _, headers, text = ask(gateway, stream=stream, trireme=STOPPED)
        provider.scripts["rag"] = found(-0.1, -0.2, -0.3, -9.0)
        _, later, _ = ask(gateway, stream=stream, trireme=STOPPED)
    assert headers["x-trireme-step"] == "small"
    assert "Word0" in text and "Word1" not in text and "a.md" in text
    # What would not have been shown was as unsure as it was when it was labelled.
    assert later["x-trireme-escalated"] == "small=unsure"


def test_a_models_own_stop_ends_an_answer_that_was_kept_by_its_first_tokens(tmp_path):
    text = FIRST_TWO.replace('exact = "all"', 'exact = "all"\nstop_when = {sentences = 3}')
    provider = Steps(rag=lambda: held(Gate(), SURE, 9))
    with gateway_of(tmp_path, provider, text, models=[RAG]) as gateway:
        # The third sentence is over when the fourth begins; behind that nothing comes.
        _, headers, said = ask(gateway, stream=True)
    assert headers["x-trireme-step"] == "small"
    assert "Word2" in said and "Word3" not in said and "[DONE]" in said
    assert provider.open == 0


def test_a_client_that_leaves_a_kept_stream_with_a_stop_ends_the_call(tmp_path):
    provider = Steps(rag=lambda: held(Gate(), SURE, 5))
    with gateway_of(tmp_path, provider, FIRST_TWO, models=[RAG]) as gateway:
        connection, answer = stream_of(gateway, trireme={"stop_when": {"sentences": 9}})
        seen = b""
        while b"Word1" not in seen:
            seen += answer.readline()
        assert provider.open == 1
        # The answer holds the socket too.
        answer.close()
        connection.close()
        assert last_line(gateway)["outcome"] == "client_gone"
        assert provider.open == 0


def test_a_step_whose_time_is_over_before_it_is_judged_is_left(tmp_path):
    text = FIRST_TWO.replace('name = "small"', 'name = "small"\nseconds = 0.5')
    world = World(cap(10_000_000), file=text)
    provider = Steps(rag=lambda: held(Gate(), SURE, 3))
    with gateway_of(tmp_path, provider, text, models=[RAG], spending=world.spending) as gateway:
        _, headers, _ = ask(gateway, stream=True)
        line = last_line(gateway)
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "small=timeout")
    # Where the machine is slow, before its first token.
    assert line["attempts"] in (["local:rag escalated", "p:big ok"], ["local:rag timeout", "p:big ok"])
    outcomes = {one.row.step: one.row.outcome for one in world.ledger.rows.values()}
    assert outcomes.pop("small", "timeout") == "timeout" and outcomes == {"big": "ok"}
    assert provider.open == 0


def test_what_streams_on_behind_the_decision_has_the_requests_time(tmp_path):
    totals = []

    class Timed(Steps):
        async def chat(self, call, model, limits):
            totals.append(limits.total)
            async for event in super().chat(call, model, limits):
                yield event

    text = FIRST_TWO.replace('name = "small"', 'name = "small"\nseconds = 20')
    with gateway_of(tmp_path, Timed(rag=SURE), text, models=[RAG]) as gateway:
        ask(gateway, stream=True)
        ask(gateway)
    assert totals[0] > 20 >= totals[1]


def test_the_budget_holds_for_the_passages_too(tmp_path):
    def bound(prompt):
        call = ChatCall("openai", "m", tuple(Message(one["role"], (Text(one["content"]),)) for one in prompt))
        return input_bound(call)

    # Nano-dollars of the question with 50 tokens of an answer, and of the whole prompt.
    alone, with_passages = ((bound(one) + 50) * 100_000 for one in (TURNS, PROMPT))
    for most, status in ((with_passages, 200), (with_passages - 1, 429)):
        assert most > alone
        provider = Steps(rag=UNSURE)
        free = OF_RAG + '\n[prices."local:rag"]\ninput = 0.0\noutput = 0.0\n'
        world = World(cap(None, most), file=free)
        with gateway_of(tmp_path, provider, free, models=[RAG], spending=world.spending) as gateway:
            assert ask(gateway, max_tokens=50)[0] == status
