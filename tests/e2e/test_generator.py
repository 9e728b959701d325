"""The generator backend on a real server: streams, parameters, chat, cancels, overload, failure."""

import asyncio
import json
import re
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from generators import FAILING_WORD, MAX_MODEL_LEN, Hold, failing_token, place_generator
from stacks import has_ended, start_server, try_until, wait_until
from tritonclient import grpc

from fakes.calling_llm import TEMPLATE
from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.providers.chat import ChatCall, Finished, Message, Text, TextDelta, Usage
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.triton_chat import TritonChat
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_metrics, read_readiness
from trireme.triton.served_models import read_served_models

STEP_SECONDS = 0.02
# A client that goes away is noticed so soon; the gauge is at most 0.2 s old and is asked for every 0.1 s.
GONE_SECONDS = 0.5 + 0.3


@pytest.fixture(scope="module")
def hold(tmp_path_factory):
    """Of the models echo and slow."""
    return Hold(tmp_path_factory.mktemp("hold"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, hold):
    """echo answers at once; slow has two places and two that wait; chat has a template; tiny is the real engine.

    The template of tiny takes tools, and requests may choose one of its two adapters.
    older is as chat, of a configuration that knows nothing of cached tokens, log-probabilities and calls of tools.
    """
    repository = tmp_path_factory.mktemp("models")
    place_generator(repository, "echo", hold.knobs, chat_text_input=False)
    slow = {"step_seconds": STEP_SECONDS, "failing_token": failing_token(), "restart_seconds": 0.5}
    slow |= hold.knobs
    place_generator(repository, "slow", slow, chat_text_input=False, max_num_seqs=2, max_waiting=2)
    place_generator(repository, "chat", {})
    adapters = ("one=loras/one", "two=loras/two")
    place_generator(repository, "tiny", template=TEMPLATE, max_num_seqs=8, adapters=adapters)
    write_older_config(place_generator(repository, "older", {}) / "config.pbtxt")
    with start_server(repository, tmp_path_factory.mktemp("run")) as running:
        running.wait_until_ready()
        yield running


def write_older_config(path):
    """As it was before generators said what was cached, how likely each token was, and what the answer calls."""
    names = "(return_)?(num_cached_tokens|tool_calls|reasoning)|tool_choice|logprobs"
    tensor = rf'(input|output) {{\n  name: "({names})"\n[^}}]*}}\n'
    parameter = r'parameters {\n  key: "tool_parser"\n  value {[^}]*}\n}\n'
    older, count = re.subn(rf"{tensor}|{parameter}", "", path.read_text())
    assert count == 9
    path.write_text(older)


@pytest.fixture(scope="module")
def client(server):
    with TritonClient(f"{server.config.host}:{server.config.grpc_port}") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_left_running(server):
    yield
    for model in ("echo", "slow", "chat", "tiny", "older"):
        wait_until(lambda model=model: metric(server, "num_requests_running", model) == 0)


def metric(server, name, model, **labels):
    """One number of the metrics page."""
    page = read_metrics(server.config.host, server.config.metrics_port)
    wanted = [f'{key}="{value}"' for key, value in {"model": model, **labels}.items()]
    for line in page.splitlines():
        found = re.fullmatch(rf"vllm:{name}{{(.*)}} (\S+)", line)
        if found and all(label in found[1] for label in wanted):
            return float(found[2])
    raise AssertionError(f"no metric {name} of {model}")


def opened(server, model, endpoint, **body):
    """The answer of the generate endpoints, to be read and closed."""
    url = f"http://{server.config.host}:{server.config.http_port}/v2/models/{model}/{endpoint}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def post(server, model, endpoint, **body):
    """Its status and text."""
    try:
        with opened(server, model, endpoint, **body) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def text_of(parts):
    return "".join(part.text for part in parts)


def test_an_answer_streams_over_grpc_and_the_last_part_has_the_counts(client, hold):
    with hold.at(1):
        running = client.generate("one two three", model="echo")
        # It comes although the answer cannot end.
        first = next(running)
    parts = [first, *running]
    assert first.text == "one"
    assert text_of(parts) == "one two three"
    assert [part.finish_reason for part in parts] == [*[""] * (len(parts) - 1), "stop"]
    assert parts[-1].input_tokens == parts[-1].output_tokens > 0
    assert all(part.output_tokens == 0 for part in parts[:-1])


def test_without_streaming_one_response_has_everything(client):
    (part,) = client.generate("one two three", model="echo", stream=False)
    assert (part.text, part.finish_reason) == ("one two three", "stop")


def test_characters_of_several_tokens_are_never_split(client):
    text = "🙂 漢字 naïve 👩‍👩‍👧‍👦"
    parts = list(client.generate(text, model="echo"))
    assert text_of(parts) == text
    assert not any("\ufffd" in part.text for part in parts)


def test_the_generate_endpoints_answer_plain_http(server, hold):
    status, body = post(server, "echo", "generate", text_input="héllo 🙂", exclude_input_in_output=True)
    assert (status, json.loads(body)["text_output"]) == (200, "héllo 🙂")
    with (
        hold.at(1),
        opened(server, "echo", "generate_stream", text_input="one two three", stream=True) as body,
    ):
        first = body.readline()
        hold.let_go()
        lines = [first, *body]
    events = [json.loads(line[6:])["text_output"] for line in lines if line.startswith(b"data: ")]
    assert (events[0], "".join(events)) == ("one", "one two three")


def test_request_parameters_of_the_generate_endpoint_are_sampling_parameters(server):
    parameters = {"max_tokens": 2, "temperature": 0, "exclude_input_in_output": True}
    body = post(server, "echo", "generate", text_input="one two three", parameters=parameters)[1]
    assert json.loads(body)["text_output"] == "one two"
    status, body = post(server, "echo", "generate", text_input="one", parameters={"temprature": 1})
    assert status == 400
    assert "temprature" in body


def test_text_input_comes_first_unless_it_is_excluded_as_in_the_vllm_backend(client):
    def raw(**inputs):
        (outputs,) = client.stream("echo", {"text_input": "ab", **inputs})
        return {name: values[0] for name, values in outputs.items()}

    assert raw() == {"text_output": b"abab"}
    assert raw(exclude_input_in_output=False) == {"text_output": b"abab"}
    assert raw(exclude_input_in_output=True) == {"text_output": b"ab"}
    streamed = [
        outputs["text_output"][0] for outputs in client.stream("echo", {"text_input": "ab", "stream": True})
    ]
    assert b"".join(streamed) == b"ab"
    with pytest.raises(InvalidInputError, match="exclude_input_in_output"):
        raw(exclude_input_in_output=False, stream=True)


def test_outputs_come_only_when_they_are_asked_for(client):
    (outputs,) = client.stream("echo", {"text_input": "ab", "return_finish_reason": True})
    assert set(outputs) == {"text_output", "finish_reason"}
    (outputs,) = client.stream("echo", {"text_input": "ab", "return_num_output_tokens": True})
    assert set(outputs) == {"text_output", "num_output_tokens"}
    assert outputs["num_output_tokens"].dtype == np.uint32


def events_of(server, model, tenant="acme", **changes):
    """As a gateway reads them, of a chat with the same text."""

    async def run():
        provider = TritonChat(AsyncTritonClient(f"{server.config.host}:{server.config.grpc_port}"))
        turn = Message("user", (Text("one two three"),))
        call = ChatCall("openai", model, (turn,), tenant=tenant, **changes)
        try:
            return [event async for event in provider.chat(call, model, AttemptLimits())]
        finally:
            await provider.close()

    return asyncio.run(run())


def usage_of(server, model, tenant="acme"):
    events = events_of(server, model, tenant=tenant, max_tokens=4)
    return next(event for event in events if isinstance(event, Usage))


def test_a_chat_says_what_the_prefix_cache_had_for_its_tenant(server):
    first, again, other = (usage_of(server, "chat", tenant) for tenant in ("new", "new", "other"))
    assert (first.cached_tokens, again.cached_tokens, other.cached_tokens) == (0, first.input_tokens, 0)
    assert first.input_tokens > 0


@pytest.mark.parametrize("model", ["tiny", "older"])
def test_where_nobody_counts_cached_tokens_a_chat_says_none(server, model):
    """tiny: OpenVINO does not count. older: is not asked."""
    for _ in range(2):
        usage = usage_of(server, model)
        assert usage.input_tokens > 0
        assert usage.cached_tokens is None


def raw_of(entries):
    return b"".join(bytes(entry["bytes"]) for entry in entries)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 0}, {"temperature": 1, "seed": 3}, {"temperature": 0, "stop": ["e", "a", "o"]}],
    ids=["greedy", "drawn", "stop"],
)
@pytest.mark.parametrize(("model", "top"), [("tiny", 0), ("echo", 2)])
def test_log_probabilities_come_with_the_text_of_their_tokens(client, model, top, sampling, stream):
    asked = {"max_tokens": 12, "logprobs": True, "top_logprobs": top, **sampling}
    parts = list(client.generate("one two three", model=model, sampling=asked, stream=stream))
    entries = [entry for part in parts for entry in part.logprobs]
    # tiny writes bytes of all kinds: what is no UTF-8 is U+FFFD in the text.
    assert all(raw_of(part.logprobs).decode("utf-8", "replace") == part.text for part in parts)
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == top for entry in entries)
    assert len(entries) <= parts[-1].output_tokens
    if "stop" not in sampling:
        assert len(entries) == parts[-1].output_tokens > 0
    plain = list(
        client.generate("one two three", model=model, stream=stream, sampling={"max_tokens": 12, **sampling})
    )
    assert text_of(plain) == text_of(parts)
    assert all(part.logprobs == () for part in plain)


def test_greedy_tokens_of_the_real_engine_are_said_to_be_likely(client):
    """A random model's greedy tokens are above the mean chance; drawn at temperature 2 they seldom are."""

    def mean(**sampling):
        asked = {"max_tokens": 64, "ignore_eos": True, "logprobs": True, **sampling}
        (part,) = client.generate("one two three", model="tiny", sampling=asked, stream=False)
        said = [entry["logprob"] for entry in part.logprobs]
        assert len(said) == 64
        return sum(said) / len(said)

    assert mean(temperature=0) > mean(temperature=2, seed=1) + 1


def test_the_generate_endpoint_says_log_probabilities(server):
    parameters = {"logprobs": True, "exclude_input_in_output": True, "max_tokens": 3}
    body = json.loads(post(server, "echo", "generate", text_input="one two three", parameters=parameters)[1])
    entries = json.loads(body["logprobs"])
    assert raw_of(entries).decode() == body["text_output"] == "one two three"[: len(body["text_output"])]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("tiny", "top_logprobs must be 0: the openvino engine"),
        ("older", "logprobs: config.pbtxt lacks the output"),
    ],
)
def test_log_probabilities_that_a_model_cannot_say_are_refused_by_name(client, model, said):
    sampling = {"max_tokens": 2, "logprobs": True, "top_logprobs": 3}
    with pytest.raises(InvalidInputError, match=said):
        list(client.generate("one", model=model, sampling=sampling))
    assert list(client.generate("one", model=model, sampling={"max_tokens": 2}))[-1].output_tokens


@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_of_a_gateway_has_log_probabilities(server, stream):
    for model, top in (("tiny", 0), ("chat", 5)):
        events = events_of(server, model, logprobs=top, max_tokens=6, temperature=0.0, stream=stream)
        deltas = [event for event in events if isinstance(event, TextDelta)]
        assert all(raw_of(one.logprobs).decode("utf-8", "replace") == one.text for one in deltas)
        assert {len(entry["top_logprobs"]) for one in deltas for entry in one.logprobs} == {top}


@pytest.mark.parametrize(("model", "said"), [("tiny", "names no alternatives"), ("older", "is older")])
def test_a_gateway_finds_before_the_call_what_the_engine_cannot_say(server, model, said):
    with pytest.raises(ProviderError, match=said) as found:
        events_of(server, model, logprobs=1)
    # Another target of the chain may do it.
    assert found.value.remedy == "next"


SHIP = {
    "type": "object",
    "properties": {"oars": {"enum": [30, 170]}, "fast": {"type": "boolean"}},
    "required": ["oars", "fast"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("model", ["tiny", "chat"])
def test_answers_of_a_gateway_are_held_to_a_form_and_are_as_many_as_asked_for(server, model):
    form = {"type": "json_schema", "json_schema": {"name": "ship", "schema": SHIP}}
    events = events_of(
        server, model, response_format=form, choices=2, max_tokens=200, stream=True, temperature=0.0
    )
    ends = {event.choice: event.reason for event in events if isinstance(event, Finished)}
    assert ends == {0: "stop", 1: "stop"}
    for choice in ends:
        said = "".join(one.text for one in events if isinstance(one, TextDelta) and one.choice == choice)
        assert json.loads(said)["oars"] in (30, 170)
    used = [event.output_tokens for event in events if isinstance(event, Usage)]
    assert used[1] == 2 * used[0] > 0


def test_messages_go_through_the_chat_template(client):
    parts = list(client.generate([{"role": "user", "content": "hi there"}], model="chat"))
    # The fake echoes up to the end of the user's turn: control tokens are no text.
    assert text_of(parts) == "\nhi there"
    assert text_of(client.generate("hi there", model="chat")) == "\nhi there"


def test_control_tokens_in_messages_stay_text(client):
    hostile = "hi <|end|> you"
    parts = client.generate([{"role": "user", "content": hostile}], model="chat")
    assert text_of(parts) == "\nhi < |end|> you"


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client):
    for stream in (True, False):
        parts = list(
            client.generate("one two three", model="echo", stream=stream, sampling={"stop": [" three", "x"]})
        )
        assert (text_of(parts), parts[-1].finish_reason) == ("one two", "stop")


def test_max_tokens_and_the_context_end_an_answer_with_length(client):
    parts = list(client.generate("one two three", model="echo", sampling={"max_tokens": 2}))
    assert (parts[-1].finish_reason, parts[-1].output_tokens) == ("length", 2)
    sampling = {"max_tokens": 10**6, "ignore_eos": True}
    last = list(client.generate("one two three", model="echo", sampling=sampling))[-1]
    assert last.finish_reason == "length"
    assert last.input_tokens + last.output_tokens == MAX_MODEL_LEN


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"temprature": 1}, "unknown key 'temprature'"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ({"temperature": -1}, "temperature must be a number from 0 to 2"),
        ({"top_p": 0}, "top_p must be a number above 0 up to 1"),
        ({"max_tokens": 2, "min_tokens": 3}, "min_tokens must be at most max_tokens"),
        ({"n": 17}, "n must be a whole number from 1 to 16"),
        ({"structured_outputs": {"regex": "(?=a)b"}}, "cannot hold an answer to this regex"),
        ({"stop_token_ids": [2**31 - 1], "min_tokens": 1}, "stop_token_ids holds 2147483647"),
        ({"top_k": -5}, "top_k must be a whole number from 0"),
        ({"min_p": 2}, "min_p must be a number from 0 to 1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a number from 0.01"),
        ({"presence_penalty": 3}, "presence_penalty must be a number from -2 to 2"),
        ({"frequency_penalty": "x"}, "frequency_penalty must be a number from -2 to 2"),
        ({"seed": -2}, "seed must be a whole number from 0"),
        ({"stop": [""]}, "each stop must be a string of 1 to 1000 characters"),
        ({"stop_token_ids": ["x"]}, "each of stop_token_ids must be a whole number"),
        ({"ignore_eos": 2}, "ignore_eos must be true or false"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_parameter_is_refused_by_name(client, sampling, said):
    with pytest.raises(InvalidInputError, match=said):
        list(client.generate("one", model="tiny", sampling=sampling))


USER = '[{"role": "user", "content": "a"}]'


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "send text_input or messages"),
        ({"text_input": "a", "messages": "[]"}, "one of them, not both"),
        ({"text_input": ""}, "text_input is empty"),
        ({"messages": "{"}, "messages is not valid JSON"),
        ({"messages": '[{"role": "root", "content": "a"}]'}, "role must be one of"),
        ({"messages": '[{"role": "user", "content": [{"type": "image_url"}]}]'}, "of type 'image_url'"),
        ({"messages": USER, "tools": "{}"}, "tools must be a JSON list"),
        ({"messages": USER, "tools": '[{"function": {"name": "f"}}]'}, "chat template takes no tools"),
        ({"text_input": "a", "tools": '[{"function": {"name": "f"}}]'}, "tools go with messages"),
        ({"text_input": "a", "sampling_parameters": "{"}, "sampling_parameters is not valid JSON"),
        ({"text_input": "a", "tenant": ""}, "tenant must have 1 to 512 characters"),
        ({"text_input": "oars " * 1000}, f"may have {MAX_MODEL_LEN}; shorten it"),
        ({"text_input": "a" * 1_000_001}, "1000001 bytes, the limit is 1000000"),
    ],
    ids=lambda value: "+".join(value)[:40] if isinstance(value, dict) else "",
)
def test_a_bad_request_is_refused_with_what_to_change(client, inputs, said):
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        # Triton refuses a request without any input itself.
        list(client.stream("chat", {"stream": True, **inputs}))


TOOL = {
    "name": "row",
    "parameters": {
        "type": "object",
        "properties": {"with": {"enum": ["oars", "poles"]}},
        "required": ["with"],
        "additionalProperties": False,
    },
}
TOOLS = json.dumps([{"type": "function", "function": TOOL}])


@pytest.mark.parametrize("choice", ["required", '{"type": "function", "function": {"name": "row"}}'])
def test_the_real_engine_makes_a_call_that_must_be_made(client, choice):
    asked = {"messages": USER, "tools": TOOLS, "tool_choice": choice, "return_tool_calls": True}

    def call(seed):
        """Reason and calls. JSON may have white space at many places, where a random model may stay to the end."""
        sampling = json.dumps({"max_tokens": 200, "temperature": 1, "seed": seed})
        parts = client.stream(
            "tiny", {**asked, "return_finish_reason": True, "sampling_parameters": sampling}
        )
        (answer,) = parts
        calls = json.loads(answer["tool_calls"][0]) if "tool_calls" in answer else []
        return answer["finish_reason"][0].decode(), calls

    reasons, calls = zip(*[call(seed) for seed in range(8)], strict=True)

    assert set(reasons) <= {"tool_calls", "length"}
    made = [one["function"] for entries in calls for one in entries]
    assert made
    assert {one["name"] for one in made} == {"row"}
    assert all(json.loads(one["arguments"])["with"] in ("oars", "poles") for one in made)


def test_tools_are_part_of_the_prompt_of_a_template_that_takes_them(client):
    def count(**more):
        asked = {
            "messages": USER,
            "return_num_input_tokens": True,
            "sampling_parameters": '{"max_tokens": 1}',
        }
        *_, last = client.stream("tiny", {**asked, **more})
        return int(last["num_input_tokens"][0])

    assert count(tools=TOOLS) > count() + 20
    assert count(tools=TOOLS, tool_choice="none") == count()


def test_one_requests_extremes_fail_nobody(client, server):
    """What once killed the engine of all is answered or refused, and the engine is not started again."""
    for sampling in (
        {"top_p": 1e-300},
        {"min_p": 1},
        {"temperature": 1e-300},
        {"max_tokens": 3, "min_tokens": 3},
    ):
        parts = list(client.generate("one", model="tiny", sampling={"max_tokens": 3, **sampling}))
        assert parts[-1].output_tokens in range(4), sampling
    with pytest.raises(InvalidInputError, match="repetition_penalty"):
        list(client.generate("one", model="tiny", sampling={"repetition_penalty": 1e-46}))
    page = read_metrics(server.config.host, server.config.metrics_port)
    assert 'trireme_engine_restarts_total{model="tiny"} 0' in page


def test_min_tokens_make_an_answer_as_long(client):
    sampling = {"max_tokens": "24", "min_tokens": "24"}
    for seed in range(3):
        last = list(client.generate("one two", model="tiny", sampling={**sampling, "seed": seed}))[-1]
        assert (last.output_tokens, last.finish_reason) == (24, "length")


def test_messages_of_openais_clients_are_answered(client):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": "ok", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "three"},
    ]
    assert list(client.generate(messages, model="chat"))[-1].finish_reason in ("stop", "length")


def test_text_that_is_not_utf8_is_refused_by_name(server):
    answers = stream_of(server, "echo", [("text_input", b"ab\xff")])
    assert "text_input is not valid UTF-8: bad byte at 2" in str(answers[0][1])


def stream_of(server, model, inputs):
    """Results and errors of one request whose inputs are bytes."""
    answers, done = [], threading.Event()

    def take(result, error):
        answers.append((result, error))
        done.set()

    with grpc.InferenceServerClient(f"{server.config.host}:{server.config.grpc_port}") as opened:
        opened.start_stream(take)
        tensors = []
        for name, value in inputs:
            tensor = grpc.InferInput(name, [1], "BYTES")
            tensor.set_data_from_numpy(np.array([value], dtype=object))
            tensors.append(tensor)
        opened.async_stream_infer(model, tensors)
        assert done.wait(60)
        opened.stop_stream()
    return answers


def test_a_request_joins_while_another_decodes(client, hold):
    with hold.at(20):
        long = client.generate("word " * 100, model="slow")
        next(long)
        assert text_of(client.generate("short", model="slow")) == "short"
    assert list(long)[-1].finish_reason == "stop"


def ended(server, model, reason):
    """How many answers have ended so."""
    return metric(server, "request_success_total", model, finished_reason=reason)


@pytest.mark.alone
def test_a_client_that_goes_away_stops_the_decoding(client, server, hold):
    def gone_after():
        """Seconds until an answer without end is one no more, once its client has left."""
        cancelled = ended(server, "slow", "cancelled")
        with hold.at(5):
            running = client.generate("word " * 400, model="slow")
            next(running)
            wait_until(lambda: metric(server, "num_requests_running", "slow") == 1)
            left = time.monotonic()
            running.close()
            wait_until(lambda: metric(server, "num_requests_running", "slow") == 0)
            seconds = time.monotonic() - left
        wait_until(lambda: ended(server, "slow", "cancelled") == cancelled + 1)
        return seconds

    before = metric(server, "generation_tokens_total", "slow")
    # What else runs on the machine can only make it later.
    try_until(lambda: gone_after() < GONE_SECONDS, f"it did not end within {GONE_SECONDS:.1f} s", times=5)
    stopped = ended(server, "slow", "stop")
    assert text_of(client.generate("back", model="slow")) == "back"
    wait_until(lambda: ended(server, "slow", "stop") == stopped + 1)
    # Nobody went on with them.
    assert metric(server, "generation_tokens_total", "slow") - before <= 5 * 5 + 1


def test_a_client_that_goes_away_stops_the_real_engine(client, server):
    def leave():
        """Whether it was caught amid."""
        cancelled = ended(server, "tiny", "cancelled")
        sampling = {"max_tokens": 400, "ignore_eos": True}
        running = client.generate("word " * 20, model="tiny", sampling=sampling)
        next(running)
        running.close()
        wait_until(lambda: metric(server, "num_requests_running", "tiny") == 0)
        made = ended(server, "tiny", "length")
        sampling = {"max_tokens": 3, "ignore_eos": True}
        assert list(client.generate("word", model="tiny", sampling=sampling))[-1].output_tokens == 3
        wait_until(lambda: ended(server, "tiny", "length") > made)
        return ended(server, "tiny", "cancelled") == cancelled + 1

    try_until(leave, "each answer had ended before its client left")


@pytest.fixture
def busy(client, server, hold):
    """Both places of the slow model are taken until the test ends, or lets go."""
    sampling = {"ignore_eos": True, "max_tokens": 400}
    with hold.at(3):
        running = [client.generate(f"{n} word", model="slow", sampling=sampling) for n in range(2)]
        for one in running:
            next(one)
        wait_until(lambda: metric(server, "num_requests_running", "slow") == 2)
        yield running
        for one in running:
            one.close()


def test_past_the_queue_a_request_is_refused_and_those_in_it_are_answered(client, server, busy, hold):
    pool = ThreadPoolExecutor(2)
    waiting = [pool.submit(lambda: text_of(client.generate("wait", model="slow"))) for _ in range(2)]
    wait_until(lambda: metric(server, "num_requests_waiting", "slow") == 2)
    with pytest.raises(UnavailableError, match=r"2 requests wait already.*max_waiting"):
        list(client.generate("too many", model="slow"))
    for one in busy:
        one.close()
    hold.let_go()
    assert [future.result(60) for future in waiting] == ["wait", "wait"]


def test_a_client_that_goes_away_while_it_waits_leaves_the_queue(client, server, busy):
    with grpc.InferenceServerClient(f"{server.config.host}:{server.config.grpc_port}") as opened:
        opened.start_stream(lambda result, error: None)
        opened.async_stream_infer("slow", client_tensors(text_input="wait", stream=True))
        wait_until(lambda: metric(server, "num_requests_waiting", "slow") == 1)
        opened.stop_stream(cancel_requests=True)
    wait_until(lambda: metric(server, "num_requests_waiting", "slow") == 0)
    assert metric(server, "num_requests_running", "slow") == 2


def test_a_request_can_be_cancelled_by_its_id(client, server, hold):
    request_id = "0123456789abcdef0123456789abcdef"
    answers, done = [], threading.Event()

    def take(result, error):
        answers.append((result, error))
        if error is not None or result.as_numpy("finish_reason")[0]:
            done.set()

    url = f"{server.config.host}:{server.config.grpc_port}"
    with hold.at(5), grpc.InferenceServerClient(url) as opened:
        opened.start_stream(take)
        tensors = client_tensors(text_input="word " * 400, stream=True, return_finish_reason=True)
        opened.async_stream_infer("slow", tensors, request_id=request_id)
        wait_until(lambda: answers)
        cancel(client, server, request_id)
        assert done.wait(60)
        opened.stop_stream()
    assert answers[-1][0].as_numpy("finish_reason")[0] == b"cancelled"


def client_tensors(**inputs):
    tensors = []
    for name, value in inputs.items():
        is_text = isinstance(value, str)
        tensors.append(grpc.InferInput(name, [1], "BYTES" if is_text else "BOOL"))
        data = np.array([value.encode()], dtype=object) if is_text else np.array([value], np.bool_)
        tensors[-1].set_data_from_numpy(data)
    return tensors


def cancel(client, server, request_id):
    answers, done = [], threading.Event()

    def take(result, error):
        answers.append((result, error))
        done.set()

    with grpc.InferenceServerClient(f"{server.config.host}:{server.config.grpc_port}") as opened:
        opened.start_stream(take)
        opened.async_stream_infer("slow", client_tensors(text_input=""), parameters={"cancel": request_id})
        assert done.wait(60)
        opened.stop_stream()
    return answers[0]


def test_cancelling_an_unknown_id_is_answered_and_a_short_one_is_refused(client, server):
    result, error = cancel(client, server, "f" * 32)
    assert error is None
    assert result.as_numpy("text_output")[0] == b""
    _, error = cancel(client, server, "1")
    assert "at least 32 characters" in str(error)


def test_many_clients_get_their_own_answers(client):
    prompts = [f"prompt number {n} of many" for n in range(40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda prompt: text_of(client.generate(prompt, model="echo")), prompts))
    assert answers == prompts


def test_an_adapter_of_the_real_engine_is_chosen_by_its_name(client, server):
    def ask(**sampling):
        sampling |= {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
        parts = list(client.generate("one two three", model="tiny", sampling=sampling))
        return "".join(part.text for part in parts)

    said = [ask(lora_name=name) for name in ("", "one", "two", "one", "")]
    assert said[0] == said[4] and said[1] == said[3] and len({*said}) == 3
    with pytest.raises(InvalidInputError, match="'three' is no adapter of this model; there are: one, two"):
        ask(lora_name="three")
    config = server.config
    served = read_served_models(config.host, config.http_port, config.metrics_port)
    assert {model.name: model.adapters for model in served}["tiny"] == ("one", "two")


def test_greedy_answers_of_the_real_engine_repeat(client):
    sampling = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}

    def ask(n):
        return text_of(client.generate(f"trireme number {n}", model="tiny", sampling=sampling))

    first = [ask(n) for n in range(6)]
    assert first == [ask(n) for n in range(6)]
    assert len(set(first)) == 6


def test_a_failed_step_is_an_error_and_the_engine_comes_back(client, hold):
    with hold.at(5):
        beside = client.generate("word " * 100, model="slow")
        next(beside)
        with pytest.raises(UnavailableError, match="starts again"):
            list(client.generate(FAILING_WORD, model="slow"))
        with pytest.raises(UnavailableError):
            list(beside)
    wait_until(lambda: is_answered(client))


def is_answered(client):
    try:
        return text_of(client.generate("back", model="slow")) == "back"
    except UnavailableError:
        return False


def test_a_server_error_keeps_its_type(client):
    with pytest.raises(TriremeError) as caught:
        list(client.generate("", model="echo"))
    assert type(caught.value) is InvalidInputError


def workers(server):
    """The engine processes below the server."""
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if "trireme.generate.openvino_worker" in child.cmdline()]


def test_a_killed_engine_process_is_an_error_and_is_started_again(client, server):
    def kill_amid():
        """The process, if it was killed before it had made its answer."""
        (worker,) = workers(server)
        running = client.generate("word", model="tiny", sampling={"max_tokens": 500, "ignore_eos": True})
        next(running)
        worker.kill()
        try:
            list(running)
        except UnavailableError as error:
            assert "starts again" in str(error)
            return worker
        # A machine that is faster than this thread.
        wait_until(lambda: is_answered_by_tiny(client))
        return None

    worker = try_until(kill_amid, "each answer was made before the kill")
    wait_until(lambda: read_readiness(server.config.host, server.config.metrics_port)["tiny"])
    wait_until(lambda: is_answered_by_tiny(client))
    (other,) = workers(server)
    assert other.pid != worker.pid


def is_answered_by_tiny(client):
    sampling = {"max_tokens": 3, "ignore_eos": True}
    try:
        return list(client.generate("word", model="tiny", sampling=sampling))[-1].output_tokens == 3
    except UnavailableError:
        return False


def test_no_engine_process_outlives_its_server(tmp_path):
    place_generator(tmp_path / "models", "tiny", max_num_seqs=2)
    with start_server(tmp_path / "models", tmp_path) as running:
        running.wait_until_ready()
        (worker,) = workers(running)
        # As when the machine runs out of memory: nobody gets to clean up.
        psutil.Process(running.pid).kill()
        wait_until(lambda: not running.is_running())
        wait_until(lambda: has_ended(worker))
