import json

import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.openai_completions import (
    CompletionWriter,
    add_usages,
    read_completions,
    write_whole,
)
from trireme.providers.chat import Finished, Started, TextDelta, Usage

ENVELOPE = Envelope("1", 5, "m")


def read(**fields):
    return read_completions({"model": "m", "prompt": "Oars"} | fields)


def events(text, count=1, reason="stop"):
    return [Started("m"), TextDelta(text), Usage(2, count), Finished(reason)]


def stream_of(calls, answers):
    writer = CompletionWriter(calls, ENVELOPE)
    return b"".join(writer.write(event) for answer in answers for event in answer) + writer.end()


def test_each_prompt_is_a_call_of_its_own():
    calls = read(
        prompt=["Oars", "Sails"], max_tokens=3, n=2, stop=["a", "b"], logprobs=0, echo=True, best_of=None
    )
    assert [call.prompt for call in calls] == ["Oars", "Sails"]
    assert {(call.max_tokens, call.choices, call.stop, call.logprobs) for call in calls} == {
        (3, 2, ("a", "b"), 0)
    }
    assert calls[0].unknown == ("echo",)
    assert calls[0].messages == ()


@pytest.mark.parametrize("prompt", [None, "", 7, [], [1, 2], ["a", 3], [["a"]], ["x"] * 129])
def test_what_is_no_prompt_is_refused(prompt):
    if prompt == "":
        assert read(prompt="")[0].prompt == ""
        return
    with pytest.raises(InvalidInputError) as caught:
        read(prompt=prompt)
    assert caught.value.param == "prompt"


def test_a_stream_has_chunks_of_text_and_one_end():
    raw = stream_of(read(stream=True), [events("fir")]).decode()
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in raw.split("\n\n")[:-2]]
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["fir", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert raw.endswith("data: [DONE]\n\n")
    assert "usage" not in raw


def test_prompts_that_are_streamed_keep_their_places_and_their_usage_is_one():
    calls = read(prompt=["Oars", "Sails"], n=2, stream=True, stream_options={"include_usage": True})
    answers = [[*events("fir"), Finished("length", 1)], [*events("linen", 3), Finished("stop", 1)]]
    raw = stream_of(calls, answers).decode()
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in raw.split("\n\n")[:-2]]
    ends = {
        one["index"]: one["finish_reason"]
        for chunk in chunks
        for one in chunk["choices"]
        if one["finish_reason"]
    }
    assert ends == {0: "stop", 1: "length", 2: "stop", 3: "stop"}
    assert chunks[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    assert raw.count("[DONE]") == 1


def test_a_whole_answer_has_the_choices_of_all_prompts():
    calls = read(prompt=["Oars", "Sails"])
    answer = write_whole(calls, ENVELOPE, [events("fir"), events("linen", 3, "length")])
    assert [(one["index"], one["text"], one["finish_reason"]) for one in answer["choices"]] == [
        (0, "fir", "stop"),
        (1, "linen", "length"),
    ]
    assert answer["usage"]["total_tokens"] == 8


def test_usage_that_one_answer_lacks_is_unknown_for_all():
    assert add_usages([Usage(1, 2), None]) is None
    assert add_usages([]) is None
    assert add_usages([Usage(1, None), Usage(1, 2)]) == Usage(2, None)


ROWS = [
    {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}
    for token in ("Fir", " é", "x")
]
TABLE = {
    "tokens": ["Fir", " é", "x"],
    "token_logprobs": [-0.5, -0.5, -0.5],
    "top_logprobs": [{"Fir": -0.5}, {" é": -0.5}, {"x": -0.5}],
    "text_offset": [0, 3, 5],
}
LOGGED = [
    Started("m"),
    TextDelta("Fir é", logprobs=tuple(ROWS[:2])),
    TextDelta("x", logprobs=(ROWS[2],)),
    Finished("stop"),
]


def test_entries_of_a_chat_become_the_table_of_this_endpoint():
    [choice] = write_whole(read(logprobs=0), ENVELOPE, [LOGGED])["choices"]
    assert (choice["text"], choice["logprobs"]) == ("Fir éx", TABLE)
    raw = stream_of(read(stream=True, logprobs=0), [LOGGED]).decode()
    chunks = [json.loads(frame.removeprefix("data: "))["choices"][0] for frame in raw.split("\n\n")[:-2]]
    assert [chunk["logprobs"] and chunk["logprobs"]["text_offset"] for chunk in chunks] == [[0, 3], [5], None]
    assert [token for chunk in chunks[:2] for token in chunk["logprobs"]["tokens"]] == TABLE["tokens"]


def test_the_table_of_a_provider_is_passed_on_as_it_is():
    [choice] = write_whole(read(logprobs=0), ENVELOPE, [[TextDelta("Fir éx", logprobs=(TABLE,))]])["choices"]
    assert choice["logprobs"] == TABLE
