"""Cascades as clients see them: one answer, of the first step that is sure enough, and never two beginnings."""

import asyncio
import dataclasses
import http.client
import json
import time

import pytest

from fakes.cascade_gateways import (
    FILE,
    PROVIDERS,
    SURE,
    UNSURE,
    V1,
    Steps,
    gateway_of,
    last_line,
    place,
    said,
    whole,
)
from fakes.gateways import ANN, SECRET, Models
from trireme.gateway.cascades import versions
from trireme.gateway.cascades.versions import KNOWN_SECONDS
from trireme.gateway.ports import ServedModels
from trireme.providers.attempts import AttemptPolicy
from trireme.providers.chat import Finished, Started, TextDelta, ThinkingDelta, ToolStart
from trireme.providers.models import ServedModel
from trireme.providers.port import ProviderError

TURNS = [{"role": "user", "content": "hi"}]
BODIES = {
    "/v1/chat/completions": {"model": "careful", "messages": TURNS},
    "/v1/completions": {"model": "careful", "prompt": "hi"},
    "/v1/responses": {"model": "careful", "input": "hi"},
    "/v1/messages": {"model": "careful", "messages": TURNS, "max_tokens": 9},
}
CHAT = "/v1/chat/completions"
FIRST_TWO = FILE.replace(
    '[[models.careful.steps]]\nname = "small"', 'decide_after = 2\n[[models.careful.steps]]\nname = "small"'
).replace("small.json", "first.json")
LONG = said("one two three four", -0.1, -0.2, -5.0, -0.1)
assert "decide_after" in FIRST_TWO


@pytest.fixture
def open_gateway(tmp_path):
    """Makes a gateway whose small step is judged by its least log-probability, -1 being enough."""
    place(tmp_path, versions=PROVIDERS)
    place(tmp_path, "first.json", versions=PROVIDERS, decide_after=2)

    def opened(provider=None, text=FILE, **more):
        return gateway_of(tmp_path, provider or Steps(), text, **more)

    return opened


@pytest.fixture(autouse=True)
def knowledge_does_not_age(monkeypatch):
    """A busy machine may ask the fake Triton late."""
    monkeypatch.setattr(versions, "KNOWN_SECONDS", 600.0)


def ask(gateway, path=CHAT, secret=SECRET, **fields):
    status, headers, raw = gateway.ask("POST", path, {**BODIES[path], **fields}, secret=secret)
    return status, {name.lower(): value for name, value in headers.items()}, raw.decode()


def metric(gateway, outcome, step="small", model="careful"):
    labels = {"model": model, "step": step, "outcome": outcome}
    return gateway.ports.metrics._page.registry.get_sample_value("trireme_cascade_steps_total", labels)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_sure_enough_is_the_clients_and_nobody_else_is_asked(open_gateway, path, stream):
    provider = Steps()
    with open_gateway(provider) as gateway:
        status, headers, text = ask(gateway, path, stream=stream)
        assert metric(gateway, "kept") == 1
    assert (status, provider.asked, provider.open) == (200, ["small"], 0)
    assert headers["x-trireme-step"] == "small"
    assert headers["x-trireme-served-by"] == "p:small"
    assert headers["x-trireme-attempts"] == "1"
    assert "x-trireme-escalated" not in headers
    assert "sure" in text and "enough" in text
    # Asked for by the decision, not by the client.
    assert provider.calls[0].logprobs == 0
    assert "-0.1" not in text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_not_is_never_shown_and_the_next_step_answers(open_gateway, path, stream):
    provider = Steps(small=UNSURE)
    with open_gateway(provider) as gateway:
        status, headers, text = ask(gateway, path, stream=stream)
        assert (metric(gateway, "unsure"), metric(gateway, "kept", "big")) == (1, 1)
        line = last_line(gateway)
    assert (status, provider.asked) == (200, ["small", "big"])
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "small=unsure")
    assert headers["x-trireme-served-by"] == "p:big"
    assert "truly" in text and "perhaps" not in text
    assert line["attempts"] == ["p:small escalated", "p:big ok"]
    # The last step is asked as the client asked.
    assert provider.calls[1].logprobs is None
    assert "logprobs" not in provider.calls[1].body


def test_a_provider_of_the_clients_format_is_asked_for_log_probabilities_in_its_body(open_gateway, tmp_path):
    provider = Steps()
    with open_gateway(provider) as gateway:
        ask(gateway)
        ask(gateway, "/v1/completions")
    chat, completion = provider.calls
    assert (chat.body["logprobs"], chat.body["top_logprobs"]) == (True, 0)
    assert completion.body["logprobs"] == 0


def test_a_client_that_asks_for_log_probabilities_gets_as_many_as_it_asked_for(open_gateway, tmp_path):
    place(tmp_path, features=("margin_p10",), center=0.5, versions=PROVIDERS)
    tops = ((-0.1, -2.0), (-0.2, -3.0))
    provider = Steps(small=whole(*said("sure enough", -0.1, -0.2, tops=tops), model="small-1"))
    with open_gateway(provider) as gateway:
        _, headers, text = ask(gateway, logprobs=True, top_logprobs=1)
        _, _, plain = ask(gateway)
    entries = json.loads(text)["choices"][0]["logprobs"]["content"]
    assert headers["x-trireme-step"] == "small"
    assert [len(entry["top_logprobs"]) for entry in entries] == [1, 1]
    assert json.loads(plain)["choices"][0]["logprobs"] is None
    assert [call.logprobs for call in provider.calls] == [2, 2]


FAULTS = {
    "overloaded": ProviderError("busy", "again", "overloaded"),
    "connect": ProviderError("nobody there", "next", "connect"),
    "too_long": ProviderError("the prompt is too long", "larger", "too_long"),
    "timeout": ProviderError("slow", "next", "timeout"),
    "invalid": ProviderError("not like this", "give_up", "invalid"),
    "not_found": ProviderError("no such model", "give_up", "not_found"),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_step_that_fails_is_one_more_reason_to_ask_the_next(open_gateway, kind, stream):
    provider = Steps(small=[FAULTS[kind]])
    with open_gateway(provider) as gateway:
        status, headers, text = ask(gateway, stream=stream)
        assert metric(gateway, kind) == 1
    assert (status, headers["x-trireme-step"]) == (200, "big")
    assert headers["x-trireme-escalated"] == f"small={kind}"
    assert "truly" in text


def test_an_answer_that_breaks_off_before_the_decision_is_shown_to_nobody(open_gateway):
    provider = Steps(small=[*SURE[:2], ProviderError("cut", "again", "cut")])
    with open_gateway(provider) as gateway:
        status, headers, text = ask(gateway, stream=True)
    assert (status, headers["x-trireme-escalated"]) == (200, "small=cut")
    assert "sure" not in text


def test_of_all_errors_the_client_is_told_the_last_steps(open_gateway):
    provider = Steps(
        small=[ProviderError("of the small one", "next", "timeout")],
        big=[ProviderError("of the big one", "next", "quota", status=402)],
        spare=[ProviderError("of the spare one", "next", "connect")],
    )
    with open_gateway(provider, policy=AttemptPolicy(pause=0.0)) as gateway:
        status, _, text = ask(gateway)
        line = last_line(gateway)
        assert metric(gateway, "quota", "big") == 1
    assert status == 502
    assert "of the big one" in text
    assert line["attempts"] == ["p:small timeout", "p:big quota", "p:spare connect"]


def test_the_last_steps_chain_falls_back_as_any_does(open_gateway):
    provider = Steps(small=UNSURE, big=[ProviderError("busy", "next", "overloaded")])
    with open_gateway(provider) as gateway:
        status, headers, _ = ask(gateway)
    assert (status, headers["x-trireme-served-by"]) == (200, "p:spare")
    assert headers["x-trireme-attempts"] == "3"


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}
                ]
            },
            "image",
        ),
    ],
)
def test_a_step_that_cannot_take_the_call_is_passed_over(open_gateway, fields, refused):
    def refuse(call):
        has_image = any(not hasattr(part, "text") for message in call.messages for part in message.parts)
        is_refused = call.tools or call.response_format or has_image
        return f"{refused}: not here" if is_refused else ""

    provider = Steps()
    provider.refuses["small"] = refuse
    with open_gateway(provider) as gateway:
        status, headers, _ = ask(gateway, **fields)
        assert metric(gateway, "unable") == 1
    assert (status, provider.asked) == (200, ["big"])
    assert headers["x-trireme-escalated"] == "small=unable"


def test_several_answers_at_once_are_not_judged(open_gateway):
    provider = Steps(
        big=[Started("big-1"), TextDelta("a"), TextDelta("b", 1), Finished("stop"), Finished("stop", 1)]
    )
    with open_gateway(provider) as gateway:
        status, headers, _ = ask(gateway, n=2)
    assert (status, provider.asked, headers["x-trireme-escalated"]) == (200, ["big"], "small=unable")


def test_a_text_that_repeats_its_prompt_is_not_judged_by_the_prompts_tokens(open_gateway):
    provider = Steps()
    with open_gateway(provider) as gateway:
        _, headers, _ = ask(gateway, "/v1/completions", echo=True)
        _, plain, _ = ask(gateway, "/v1/completions", echo=False)
    assert headers["x-trireme-escalated"] == "small=unable"
    assert plain["x-trireme-step"] == "small"


def test_where_no_step_can_take_the_call_its_client_is_told_why(open_gateway):
    provider = Steps()
    provider.refuses = dict.fromkeys(("small", "big", "spare"), "seed: not here")
    with open_gateway(provider) as gateway:
        status, _, text = ask(gateway, seed=1)
    assert (status, provider.asked) == (400, [])
    assert "seed: not here" in text


def test_an_answer_is_judged_without_what_the_model_thinks_before_it(open_gateway):
    provider = Steps(small=[SURE[0], ThinkingDelta("hm"), *SURE[1:]])
    with open_gateway(provider) as gateway:
        _, headers, text = ask(gateway)
    assert headers["x-trireme-step"] == "small"
    assert "hm" in text


def test_a_call_of_a_tool_is_no_answer_that_can_be_judged(open_gateway):
    provider = Steps(small=[*SURE[:3], ToolStart(0, "call_1", "f"), Finished("tool_use")])
    with open_gateway(provider) as gateway:
        assert ask(gateway)[1]["x-trireme-escalated"] == "small=no_text"


class Gate:
    """Holds an answer until it is opened."""

    def __init__(self):
        self.is_open = False
        self.is_reached = False

    async def wait(self):
        self.is_reached = True
        while not self.is_open:
            await asyncio.sleep(0.001)


def gated(gate, events, count):
    """So many events, then a wait at the gate, then the others."""
    yield from events[:count]
    yield gate.wait()
    yield from events[count:]


def test_the_first_tokens_decide_and_the_rest_is_streamed_as_it_comes(open_gateway):
    gate = Gate()
    events = whole(*LONG, model="small-1")
    # The third token would not be sure enough; it comes too late to be asked.
    provider = Steps(small=lambda: gated(gate, events, 3))
    with open_gateway(provider, FIRST_TWO) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        headers = {"authorization": f"Bearer {SECRET}"}
        connection.request("POST", CHAT, json.dumps({**BODIES[CHAT], "stream": True}), headers)
        answer = connection.getresponse()
        seen = b""
        while b"two" not in seen:
            seen += answer.readline()
        assert answer.headers["x-trireme-step"] == "small"
        assert b"three" not in seen
        gate.is_open = True
        rest = answer.read()
        connection.close()
    assert b"three" in rest and b"[DONE]" in rest
    assert provider.asked == ["small"]


@pytest.mark.parametrize("stream", [False, True])
def test_first_tokens_that_are_not_sure_enough_end_the_small_answer_at_once(open_gateway, stream):
    gate = Gate()
    events = whole(*said("one two three", -5.0, -0.1, -0.1), model="small-1")
    # Never opened: the decision does not wait for the rest.
    provider = Steps(small=lambda: gated(gate, events, 3))
    with open_gateway(provider, FIRST_TWO) as gateway:
        status, headers, text = ask(gateway, stream=stream)
    assert (status, headers["x-trireme-escalated"]) == (200, "small=unsure")
    assert "one" not in text and "truly" in text
    assert provider.open == 0
    assert provider.calls[0].stream


def test_an_answer_shorter_than_the_first_tokens_is_judged_whole(open_gateway):
    with open_gateway(Steps(small=whole(*said("yes", -0.1), model="small-1")), FIRST_TWO) as gateway:
        assert ask(gateway, stream=True)[1]["x-trireme-step"] == "small"


def test_what_breaks_off_behind_the_decision_is_told_in_a_stream_and_mended_else(open_gateway):
    events = whole(*LONG, model="small-1")
    provider = Steps(small=[*events[:3], ProviderError("cut", "again", "cut")])
    with open_gateway(provider, FIRST_TWO) as gateway:
        status, headers, text = ask(gateway, stream=True)
        assert (status, headers["x-trireme-step"]) == (200, "small")
        assert '"error"' in text and "[DONE]" not in text and "truly" not in text
        assert last_line(gateway)["attempts"] == ["p:small cut"]
        status, headers, text = ask(gateway)
    assert (status, headers["x-trireme-escalated"]) == (200, "small=cut")
    assert "truly" in text and "one" not in text


@pytest.mark.parametrize(
    ("rest", "why"),
    [([Finished("filter")], "filtered"), ([ToolStart(0, "call_1", "f"), Finished("tool_use")], "no_text")],
)
def test_what_shows_behind_the_first_tokens_counts_where_nobody_has_seen_them(open_gateway, rest, why):
    with open_gateway(Steps(small=[Started("small-1"), *LONG, *rest]), FIRST_TWO) as gateway:
        _, headers, text = ask(gateway)
    assert headers["x-trireme-escalated"] == f"small={why}"
    assert "truly" in text


@pytest.mark.parametrize("text", [FILE, FIRST_TWO])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_decision_ends_the_steps_call(open_gateway, text, stream):
    gate = Gate()
    provider = Steps(small=lambda: gated(gate, SURE, 2))
    with open_gateway(provider, text) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        headers = {"authorization": f"Bearer {SECRET}"}
        connection.request("POST", CHAT, json.dumps({**BODIES[CHAT], "stream": stream}), headers)
        wait_until(lambda: gate.is_reached)
        connection.close()
        assert last_line(gateway)["outcome"] == "client_gone"
        assert provider.open == 0
    assert provider.asked == ["small"]


def wait_until(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


OWN = FILE.replace('"p:small"', '"llm"')


def llm(version=V1):
    return ServedModel("llm", "chat", True, "load", alternatives=20, versions=(("llm", version),))


def test_a_model_that_was_loaded_anew_as_another_is_passed_over_and_said_so(open_gateway, tmp_path):
    place(tmp_path)
    provider, served = Steps(), [llm()]
    with open_gateway(provider, OWN, models=served) as gateway:
        assert ask(gateway)[1]["x-trireme-step"] == "small"
        assert "details" not in json.loads(gateway.ask("GET", "/readyz")[2])
        served[:] = [llm("2" * 64)]
        # Readiness asks Triton anew.
        ready = gateway.ask("GET", "/readyz")
        for _ in range(2):
            status, headers, text = ask(gateway)
            assert (status, headers["x-trireme-escalated"]) == (200, "small=version")
            assert "truly" in text
        page = gateway.ask("GET", "/metrics")[2].decode()
        assert provider.asked == ["llm", "big", "big"]
        served[:] = [llm()]
        assert "details" not in json.loads(gateway.ask("GET", "/readyz")[2])
        assert ask(gateway)[1]["x-trireme-step"] == "small"
        said_ = [line["message"] for line in gateway.lines() if "step small" in line.get("message", "")]
    assert ready[0] == 200
    (detail,) = json.loads(ready[2])["details"]
    assert "step small of model careful is not used" in detail
    assert 'trireme_cascade_step_refused{model="careful",step="small"} 1.0' in page
    assert [text.endswith("may be used") for text in said_] == [True, False, True]


def test_a_triton_that_answers_slowly_does_not_cost_its_steps_until_half_a_minute_is_over(
    open_gateway, tmp_path, monkeypatch
):
    place(tmp_path)
    ages = [0.0]

    class Slow(Models):
        """Says once what it serves, and nothing behind that."""

        async def models(self):
            if hasattr(self, "asked"):
                await asyncio.Event().wait()
            self.asked = True
            return self.served

    monkeypatch.setattr(versions, "KNOWN_SECONDS", KNOWN_SECONDS)
    monkeypatch.setattr(ServedModels, "age", property(lambda _: ages[0]))
    provider = Steps()
    with open_gateway(provider, OWN, server=Slow([llm()])) as gateway:
        for ages[0] in (2.5, KNOWN_SECONDS):
            assert ask(gateway)[1]["x-trireme-step"] == "small"
        ages[0] = KNOWN_SECONDS + 1
        assert ask(gateway)[1]["x-trireme-escalated"] == "small=unknown_version"


def test_a_model_that_is_another_at_the_start_is_passed_over_from_then_on(open_gateway, tmp_path):
    place(tmp_path)
    with open_gateway(Steps(), OWN, models=[llm("2" * 64)]) as gateway:
        assert ask(gateway)[1]["x-trireme-escalated"] == "small=version"


def test_an_answer_of_another_version_than_was_fitted_on_is_not_kept(open_gateway):
    with open_gateway(Steps(small=[Started("small-2"), *SURE[1:]])) as gateway:
        _, headers, text = ask(gateway)
        details = json.loads(gateway.ask("GET", "/readyz")[2])["details"]
    assert headers["x-trireme-escalated"] == "small=version"
    assert "sure" not in text
    assert "answers as 'small-2'" in details[0]


def test_a_model_that_changes_while_it_answers_is_not_kept(open_gateway, tmp_path):
    place(tmp_path)
    served = [llm()]

    async def change():
        served[:] = [llm("2" * 64)]
        await gateway.ports.served.read()

    provider = Steps(llm=lambda: [SURE[0], change(), *SURE[1:]])
    with open_gateway(provider, OWN, models=served) as gateway:
        _, headers, _ = ask(gateway)
    assert headers["x-trireme-escalated"] == "small=version"


RULES = '\n[tenants.acme]\nforbid_providers = ["q"]\n[providers.q]\nkind = "openai"\n'


def test_a_step_that_the_tenant_forbids_is_passed_over(open_gateway, tmp_path):
    place(tmp_path, versions=(("q:small", "small-1"),))
    with open_gateway(Steps(), FILE.replace('target = "p:small"', 'target = "q:small"') + RULES) as gateway:
        _, headers, _ = ask(gateway)
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "small=forbidden")
    assert headers["x-trireme-forbidden"] == "q:small"


def test_where_the_last_step_is_forbidden_an_answer_that_is_not_sure_enough_stays_unshown(open_gateway):
    text = FILE.replace('["p:big", "p:spare"]', '["q:big"]') + RULES
    provider = Steps()
    with open_gateway(provider, text) as gateway:
        assert ask(gateway)[1]["x-trireme-step"] == "small"
        provider.scripts["small"] = UNSURE
        status, _, said_ = ask(gateway)
        provider.refuses["small"] = "n: no"
        unable = ask(gateway)
    assert (status, unable[0]) == (403, 403)
    assert "forbids every provider of step 'big'" in said_
    assert "perhaps" not in said_


def test_a_step_has_no_more_than_its_own_seconds(open_gateway):
    text = FILE.replace('name = "small"', 'name = "small"\nseconds = 0.05')

    class Patient(Steps):
        async def chat(self, call, model, limits):
            async for event in super().chat(call, model, limits):
                if model == "small":
                    assert limits.total <= 0.05
                    raise ProviderError("slow", "next", "timeout")
                yield event

    with open_gateway(Patient(small=SURE), text) as gateway:
        assert ask(gateway)[1]["x-trireme-escalated"] == "small=timeout"


THREE = FILE.replace(
    '[[models.careful.steps]]\nname = "big"',
    '[[models.careful.steps]]\nname = "middle"\ntarget = "p:middle"\ncalibration = "middle.json"\n'
    '[[models.careful.steps]]\nname = "big"',
)


def test_steps_are_tried_in_their_order(open_gateway, tmp_path):
    place(tmp_path, "middle.json", versions=(("p:middle", "small-1"),))
    provider = Steps(small=UNSURE, middle=SURE)
    with open_gateway(provider, THREE) as gateway:
        _, headers, text = ask(gateway)
        assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("middle", "small=unsure")
        assert headers["x-trireme-attempts"] == "2"
        provider.scripts["middle"] = UNSURE
        _, headers, _ = ask(gateway, stream=True)
    assert headers["x-trireme-escalated"] == "small=unsure, middle=unsure"
    assert "sure" in text


def test_each_prompt_of_one_request_climbs_by_itself(open_gateway):
    answers = [SURE, UNSURE]
    provider = Steps(small=answers.pop)
    with open_gateway(provider) as gateway:
        _, headers, text = ask(gateway, "/v1/completions", prompt=["a", "b"], stream=True)
    assert "truly" in text and "sure" in text and "perhaps" not in text
    # A stream's head is sent with its first answer.
    assert headers["x-trireme-step"] == "big"


def test_a_cascade_is_a_model_as_any_other(open_gateway):
    keys = {SECRET: ANN, "tr-other": dataclasses.replace(ANN, id="key_o", models=("other",))}
    provider = Steps()
    provider.refuses["small"] = "never"
    with open_gateway(provider, keys=keys) as gateway:
        listed = json.loads(gateway.ask("GET", "/v1/models")[2])
        one = json.loads(gateway.ask("GET", "/v1/models/careful")[2])
        body = {"model": "careful", "messages": TURNS}
        counted = gateway.ask("POST", "/v1/messages/count_tokens", body)
        refused = ask(gateway, secret="tr-other")[0]
    assert [row["id"] for row in listed["data"]] == ["careful", "llm"]
    assert one["owned_by"] == "p"
    assert json.loads(counted[2]) == {"input_tokens": 1}
    assert refused == 403


def test_a_clients_own_answer_mode_is_not_another_ones(open_gateway, tmp_path):
    place(tmp_path, features=("sentence_score",), versions=(("rag", V1),))
    text = FILE.replace('target = "p:small"', 'target = "rag"\nanswer_mode = "extractive"')
    rag = ServedModel("rag", "answer", True, "load", versions=(("rag", V1),))
    provider = Steps(rag=SURE)
    with open_gateway(provider, text, models=[rag]) as gateway:
        other = ask(gateway, trireme={"answer_mode": "generative"})
        same = ask(gateway, trireme={"answer_mode": "extractive"})
        none = ask(gateway)
    # This rag gives no scores: nobody can tell.
    reasons = [one[1]["x-trireme-escalated"] for one in (other, same, none)]
    assert reasons == ["small=unable", "small=no_evidence", "small=no_evidence"]
    assert [call.answer_mode for call in provider.calls if call.answer_mode] == [
        "generative",
        "extractive",
        "extractive",
        "extractive",
    ]


def test_the_last_step_answers_in_the_mode_that_the_client_asks_for(open_gateway, tmp_path):
    place(tmp_path, features=("sentence_score",), versions=(("rag", V1),))
    text = FILE.replace('target = "p:small"', 'target = "rag"\nanswer_mode = "extractive"')
    text = text.replace('chain = ["p:big", "p:spare"]', 'target = "rag"\nanswer_mode = "generative"')
    rag = ServedModel("rag", "answer", True, "load", versions=(("rag", V1),))
    provider = Steps(rag=SURE)
    with open_gateway(provider, text, models=[rag]) as gateway:
        for mode in ("extractive", "auto", None):
            assert ask(gateway, trireme={"answer_mode": mode})[1]["x-trireme-step"] == "big"
    # Its own mode where the client leaves it open.
    asked = [call.answer_mode for call in provider.calls]
    assert asked == ["extractive", "extractive", "auto", "extractive", "generative"]


def test_plain_chains_say_nothing_of_steps(open_gateway):
    with open_gateway(Steps(), FILE + '\n[models.plain]\nchain = ["p:big"]\n') as gateway:
        _, headers, text = ask(gateway, model="plain")
    assert "truly" in text
    assert not {"x-trireme-step", "x-trireme-escalated", "x-trireme-cost"} & headers.keys()
