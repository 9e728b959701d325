"""The generator backend without a server: what it sends, and that it always ends a request once."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes.calling_llm import write_calling_llm
from fakes.fake_pb import arguments
from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.triton.backends.generator import GeneratorModel

ROOT = Path(__file__).parents[4]
SECONDS = 30.0
PARAMETERS = {
    "engine": "fake",
    "max_num_seqs": 2,
    "max_num_batched_tokens": 64,
    "max_waiting": 2,
    "prefix_caching": "true",
    "kv_cache_gb": "0.1",
    "gpu_memory_utilization": "0.9",
    "tensor_parallel_size": 1,
    "threads": 1,
    "default_max_tokens": 50,
    "chat_text_input": "false",
    "max_text_bytes": 1000,
}


class Sender:
    """Takes responses as Triton's sender does; refuses any after the final one."""

    def __init__(self):
        self.responses, self.flags = [], []
        self.cancelled = False
        self.done = threading.Event()

    def send(self, response=None, flags=0):
        assert not any(self.flags), "sent after the final response"
        self.responses.append(response)
        self.flags.append(flags)
        if flags:
            self.done.set()

    def is_cancelled(self):
        assert not any(self.flags), "asked after the final response"
        return self.cancelled


class Request:
    """A request whose inputs are bytes or flags."""

    def __init__(self, request_id="", parameters=None, **inputs):
        self.inputs, self.id, self._parameters = inputs, request_id, json.dumps(parameters or {})
        self.sender = Sender()

    def __contains__(self, name):
        return name in self.inputs

    def __getitem__(self, name):
        value = self.inputs[name]
        if isinstance(value, str | bytes):
            return np.array([value.encode() if isinstance(value, str) else value], dtype=object)
        return np.array([value])

    def request_id(self):
        return self.id

    def parameters(self):
        return self._parameters

    def get_response_sender(self):
        return self.sender

    def wait(self):
        assert self.sender.done.wait(SECONDS)
        return self.sender.responses

    @property
    def text(self):
        return b"".join(response.outputs["text_output"][0] for response in self.sender.responses).decode()


@pytest.fixture
def make(pb, tmp_path):
    """A loaded model over the fake engine."""
    version = tmp_path / "llm" / "1"
    version.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "tests/chat_tokenizer" / name, version / name)
    (version / "generation_config.json").write_text(
        '{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}'
    )
    (version / "config.json").write_text("{}")
    files = dict.fromkeys(("model.safetensors", "config.json", "tokenizer.json"), "")
    made = []

    def load(knobs=None, outputs=("logprobs", "index"), **changes):
        from trireme.artifacts.manifest import hash_file

        (version / "model.safetensors").write_bytes(b"")
        (version / "fake.json").write_text(json.dumps(knobs or {}))
        manifest = Manifest(
            model="llm",
            kind="generator",
            source="random",
            revision="",
            precision="fp32",
            dimensions=8192,
            max_length=64,
            files={name: hash_file(version / name) for name in files},
            sizes=dict.fromkeys(files, 1),
        )
        write_manifest(version, manifest)
        model = GeneratorModel()
        model.initialize(arguments(version.parent, outputs=outputs, **{**PARAMETERS, **changes}))
        made.append(model)
        return model

    yield load
    for model in made:
        model.finalize()


def ask(model, **kwargs):
    request = Request(**kwargs)
    model.execute([request])
    return request


def test_a_streamed_request_gets_pieces_and_one_final_flag(make):
    request = ask(make(), text_input="one two three", stream=True)
    assert len(request.wait()) > 2
    assert request.text == "one two three"
    assert [bool(flag) for flag in request.sender.flags].count(True) == 1
    assert request.sender.flags[-1]


def test_what_is_not_streamed_is_one_response_with_the_prompt_in_front(make):
    model = make()
    assert [r.outputs["text_output"].tolist() for r in ask(model, text_input="ab").wait()] == [[b"abab"]]
    (response,) = ask(model, text_input="ab", exclude_input_in_output=True, return_finish_reason=True).wait()
    assert {name: array.tolist() for name, array in response.outputs.items()} == {
        "text_output": [b"ab"],
        "finish_reason": [b"stop"],
    }


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({}, "send text_input or messages"),
        ({"text_input": "a", "sampling_parameters": '{"colour": 1}'}, "'colour'"),
        ({"text_input": "a", "parameters": {"colour": 1}}, "'colour'"),
        ({"text_input": b"\xff"}, "not valid UTF-8"),
        ({"text_input": "oars " * 100}, "may have 64"),
        ({"text_input": "a", "parameters": {"cancel": "1"}}, "at least 32"),
    ],
)
def test_a_refused_request_gets_one_final_error_that_names_its_code(make, kwargs, said):
    (response,) = ask(make(), **kwargs).wait()
    assert response.error.code == "INVALID_ARG"
    assert response.error.message.startswith("[INVALID_ARG] ")
    assert said in response.error.message


def test_parameters_of_triton_itself_are_not_sampling_parameters(make):
    request = ask(
        make(), text_input="ab", stream=True, parameters={"triton_enable_empty_final_response": True}
    )
    assert request.wait()[-1].error is None


def test_parameters_of_the_gateway_are_not_sampling_parameters(make):
    request = ask(make(), text_input="ab", stream=True, parameters={"trireme_user": "ann", "max_tokens": 1})
    assert request.wait()[-1].error is None


@pytest.mark.parametrize("value", [True, "true", "True"])
@pytest.mark.parametrize(
    "prompt",
    [{"text_input": "one two three"}, {"messages": '[{"role": "user", "content": "one two three"}]'}],
)
def test_tokens_are_counted_without_the_engine_as_a_real_request_reports_them(make, pb, prompt, value):
    model = make()
    real = ask(
        model,
        return_num_input_tokens=True,
        exclude_input_in_output=True,
        sampling_parameters='{"max_tokens": 1}',
        **prompt,
    )
    counted = ask(model, parameters={"count_tokens": value, "trireme_user": "ann"}, **prompt)
    (answer,), (count,) = real.wait(), counted.wait()
    assert {name: array.tolist() for name, array in count.outputs.items()} == {
        "text_output": [b""],
        "finish_reason": [b"stop"],
        "num_input_tokens": answer.outputs["num_input_tokens"].tolist(),
    }
    model._generator_metrics.close()
    assert pb.MetricFamily.metrics["vllm:request_success_total/llm/stop"].value == 0
    assert pb.MetricFamily.metrics["vllm:request_success_total/llm/length"].value == 1


def test_cached_tokens_come_with_the_last_response_where_they_are_asked_for(make):
    model = make()

    def cached(**inputs):
        responses = ask(model, text_input="one two three", stream=True, **inputs).wait()
        assert all("num_cached_tokens" not in one.outputs for one in responses[:-1])
        return responses[-1].outputs.get("num_cached_tokens")

    said = [cached(return_num_cached_tokens=True, tenant=tenant) for tenant in ("a", "a", "b")]
    assert [array.dtype for array in said] == [np.uint32] * 3
    first, again, other = (array.tolist() for array in said)
    assert (first, other) == ([0], [0])
    assert again[0] > 0
    assert cached() is None


def test_an_engine_that_does_not_count_says_nothing_of_the_cache(make, monkeypatch):
    model = make()
    taken = model._generator._engine._next_chunk
    monkeypatch.setattr(
        model._generator._engine, "_next_chunk", lambda answer: replace(taken(answer), cached_tokens=None)
    )
    last = ask(model, text_input="one", stream=True, return_num_cached_tokens=True).wait()[-1]
    assert last.error is None
    assert "num_cached_tokens" not in last.outputs


def test_a_count_of_tokens_says_nothing_of_the_cache(make):
    counted = ask(make(), text_input="one", return_num_cached_tokens=True, parameters={"count_tokens": True})
    assert "num_cached_tokens" not in counted.wait()[0].outputs


@pytest.mark.parametrize("stream", [True, False])
def test_log_probabilities_come_with_the_text_where_they_are_asked_for(make, stream):
    asked = json.dumps({"logprobs": True, "top_logprobs": 1})
    request = ask(
        make(), text_input="one two", stream=stream, exclude_input_in_output=True, sampling_parameters=asked
    )
    for response in request.wait():
        entries = json.loads(response.outputs["logprobs"][0])
        assert (
            bytes(byte for entry in entries for byte in entry["bytes"]) == response.outputs["text_output"][0]
        )
        assert all(
            (entry["top_logprobs"][0]["token"], entry["logprob"] < 0) == (entry["token"], True)
            for entry in entries
        )
    assert request.text == "one two"


def test_without_asking_no_response_has_log_probabilities(make):
    assert all("logprobs" not in one.outputs for one in ask(make(), text_input="one", stream=True).wait())


def test_a_configuration_without_the_output_refuses_log_probabilities_and_serves_all_else(make):
    model = make(outputs=())
    (response,) = ask(model, text_input="one", sampling_parameters='{"logprobs": true}').wait()
    assert (
        response.error.message
        == "[INVALID_ARG] logprobs: config.pbtxt lacks the output logprobs; write it again"
    )
    assert ask(model, text_input="one", stream=True).wait()[-1].error is None


def asked_for(count, model, *, stream=True, **sampling):
    return ask(
        model,
        text_input="one two",
        stream=stream,
        exclude_input_in_output=True,
        return_finish_reason=True,
        return_num_output_tokens=True,
        sampling_parameters=json.dumps({"n": count, **sampling}),
    )


@pytest.mark.parametrize("stream", [True, False])
def test_several_answers_are_told_apart_by_their_index_and_end_once(make, stream):
    responses = asked_for(3, make(), stream=stream).wait()
    texts, ends = [""] * 3, []
    for response in responses:
        index = int(response.outputs["index"][0])
        texts[index] += response.outputs["text_output"][0].decode()
        if response.outputs["finish_reason"][0]:
            assert response.outputs["num_output_tokens"][0] > 0
            ends.append(index)
    assert texts == ["one two"] * 3
    assert sorted(ends) == [0, 1, 2]


def test_one_answer_says_no_index(make):
    assert all("index" not in one.outputs for one in asked_for(1, make()).wait())


def test_answers_with_a_seed_differ_and_repeat(make):
    model = make()

    def texts():
        responses = asked_for(
            3, model, stream=False, seed=5, temperature=1, max_tokens=12, ignore_eos=True
        ).wait()
        return {int(one.outputs["index"][0]): one.outputs["text_output"][0] for one in responses}

    first = texts()
    assert len(set(first.values())) > 1
    assert texts() == first


def test_a_client_of_several_answers_that_is_gone_ends_all_of_them(make):
    model = make({"step_seconds": 0.01})
    request = asked_for(2, model, ignore_eos=True)
    request.sender.cancelled = True
    reasons = [one.outputs["finish_reason"][0] for one in request.wait() if one.outputs["finish_reason"][0]]
    assert reasons == [b"cancelled"] * 2


def test_more_answers_than_there_are_places_are_refused_as_one_and_leave_nothing_behind(make):
    model = make({"step_seconds": 0.01})
    responses = asked_for(9, model, ignore_eos=True).wait()
    assert [one.error is None for one in responses][-1] is False
    assert "wait already" in responses[-1].error.message
    # Their places are free again.
    assert asked_for(2, model).wait()[-1].error is None


def test_an_answer_that_fails_ends_the_request_with_its_error(make):
    from trireme.generate.tokenizer import LlmTokenizer

    token = LlmTokenizer.load(ROOT / "tests/chat_tokenizer").encode("one two", add_special_tokens=True)[-1]
    model = make({"failing_token": token, "restart_seconds": 0.01})
    (response,) = asked_for(2, model).wait()
    assert "failed" in response.error.message


def test_a_configuration_without_the_output_gives_one_answer(make):
    model = make(outputs=("logprobs",))
    (response,) = asked_for(2, model).wait()
    assert response.error.message == "[INVALID_ARG] n: config.pbtxt lacks the output index; write it again"
    assert asked_for(1, model).wait()[-1].error is None


def test_a_prompt_that_is_too_long_is_counted_too(make):
    (response,) = ask(make(), text_input="oars " * 100, parameters={"count_tokens": True}).wait()
    assert response.outputs["num_input_tokens"][0] > 64


def test_what_is_no_count_is_answered_or_refused_by_name(make):
    model = make()
    request = ask(model, text_input="ab", stream=True, parameters={"count_tokens": False})
    request.wait()
    assert request.text == "ab"
    (refused,) = ask(model, text_input="ab", parameters={"count_tokens": "much"}).wait()
    assert refused.error.message == "[INVALID_ARG] count_tokens must be true or false, got 'much'"


def test_a_client_that_is_gone_is_cancelled_and_asked_no_more(make):
    model = make({"step_seconds": 0.01})
    sampling = json.dumps({"ignore_eos": True})
    request = ask(
        model, text_input="one two", stream=True, sampling_parameters=sampling, return_finish_reason=True
    )
    request.sender.cancelled = True
    assert request.wait()[-1].outputs["finish_reason"].tolist() == [b"cancelled"]


def test_a_request_is_cancelled_by_the_id_it_was_sent_with(make):
    model = make({"step_seconds": 0.01})
    sampling = json.dumps({"ignore_eos": True})
    request_id = "ab" * 16
    request = ask(
        model,
        request_id=request_id,
        text_input="one two",
        stream=True,
        sampling_parameters=sampling,
        return_finish_reason=True,
    )
    other = ask(model, text_input="", parameters={"cancel": request_id})
    assert [r.outputs["text_output"].tolist() for r in other.wait()] == [[b""]]
    assert request.wait()[-1].outputs["finish_reason"].tolist() == [b"cancelled"]


def test_a_response_that_cannot_be_made_ends_the_request_with_an_error(make, monkeypatch):
    model = make({"step_seconds": 0.005})
    monkeypatch.setattr(model, "_tensors", lambda piece, wanted: 1 / 0)
    request = ask(model, text_input="one two", stream=True)
    (response,) = request.wait()
    assert response.error.code == "INTERNAL"
    assert "division" not in response.error.message


def test_the_metrics_follow_the_requests(make, pb):
    model = make()
    ask(model, text_input="one two three").wait()
    model._generator_metrics.close()
    metrics = {name: metric.value for name, metric in pb.MetricFamily.metrics.items()}
    assert metrics["vllm:generation_tokens_total/llm"] == metrics["vllm:prompt_tokens_total/llm"] > 0
    assert metrics["vllm:num_requests_running/llm"] == 0
    assert metrics["vllm:request_success_total/llm/stop"] == 1
    assert metrics["vllm:request_success_total/llm/error"] == 0
    assert len(pb.MetricFamily.metrics["vllm:time_to_first_token_seconds/llm"].observed) == 1


@pytest.mark.parametrize(
    ("key", "value"), [("engine", "steam"), ("kv_cache_gb", "much"), ("prefix_caching", "yes")]
)
def test_a_malformed_parameter_stops_the_load_and_is_named(make, pb, key, value):
    with pytest.raises(pb.TritonModelException, match=key):
        make(**{key: value})


CALL = '<tool_call>{"name": "say", "arguments": {"text": "oars"}}</tool_call>'
SAY = {"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}}


@pytest.fixture
def calling(pb, tmp_path):
    """A model that calls tools; calling(text, **inputs) is what it answers where a user says the text."""
    write_calling_llm(tmp_path / "caller" / "1")
    model = GeneratorModel()
    model.initialize(
        arguments(
            tmp_path / "caller",
            outputs=("logprobs", "index"),
            **{**PARAMETERS, "max_text_bytes": 9999, "default_max_tokens": 200},
        )
    )

    def asked(text, **inputs):
        messages = json.dumps([{"role": "user", "content": f"say ~{text}~"}])
        wanted = {"return_tool_calls": True, "return_reasoning": True, "return_finish_reason": True}
        given = {"messages": messages, "tools": json.dumps([SAY]), **wanted, **inputs}
        return ask(model, **given)

    yield asked
    model.finalize()


def joined(request, name):
    """Values of an output over all responses."""
    return [r.outputs[name][0].decode() for r in request.wait() if name in r.outputs]


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_and_reasoning_are_outputs_of_their_own(calling, stream):
    request = calling(f"<think>hm, oars</think>I call. {CALL}", stream=stream)

    deltas = [entry for text in joined(request, "tool_calls") for entry in json.loads(text)]

    assert (request.text, "".join(joined(request, "reasoning"))) == ("I call.", "hm, oars")
    assert joined(request, "finish_reason")[-1] == "tool_calls"
    assert deltas[0]["function"]["name"] == "say"
    assert deltas[0]["id"].startswith("call_")
    assert "".join(one["function"]["arguments"] for one in deltas) == '{"text": "oars"}'
    assert {one["index"] for one in deltas} == {0}
    assert (len(deltas) > 1) == stream


def test_an_answer_is_all_text_where_nobody_asks_for_its_parts(calling):
    answer = f"<think>hm</think>{CALL}"
    plain = calling(answer, return_tool_calls=False, return_reasoning=False)
    assert joined(plain, "finish_reason") == ["stop"]
    assert plain.text == answer


def test_a_broken_call_is_text(calling):
    request = calling('<tool_call>{"name": "say", "arguments": {"text"')
    assert joined(request, "finish_reason") == ["stop"]
    assert request.text == '<tool_call>{"name": "say", "arguments": {"text"'


def test_log_probabilities_beside_the_parts_of_an_answer_are_refused(calling):
    (response,) = calling("x", sampling_parameters='{"logprobs": true}').wait()
    assert "logprobs: they go with the whole text" in response.error.message


SHOUT = {"type": "function", "function": {"name": "shout", "parameters": {"type": "object"}}}
BOTH = json.dumps([SAY, SHOUT])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("choice", "name"),
    [("required", "say"), ('{"type": "function", "function": {"name": "shout"}}', "shout")],
)
def test_a_call_that_must_be_made_is_made(calling, choice, name, stream):
    request = calling("no call at all", tools=BOTH, tool_choice=choice, stream=stream)

    deltas = [entry for text in joined(request, "tool_calls") for entry in json.loads(text)]

    assert (deltas[0]["function"]["name"], request.text) == (name, "")
    assert json.loads("".join(one["function"]["arguments"] for one in deltas)) == {}
    assert joined(request, "finish_reason")[-1] == "tool_calls"


def test_a_model_that_may_call_nothing_does_not_know_of_tools(calling):
    assert calling(CALL, tool_choice="none").wait()[0].outputs["text_output"][0].decode() == CALL


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"tool_choice": "always"}, "tool_choice must be auto, none, required"),
        ({"tool_choice": '{"function": {"name": "sing"}}'}, "no tool is named 'sing'"),
        ({"tool_choice": "required", "tools": ""}, "send tools with it"),
        ({"tool_choice": "required", "return_tool_calls": False}, "goes with return_tool_calls"),
        (
            {
                "tool_choice": "required",
                "sampling_parameters": '{"response_format": {"type": "json_object"}}',
            },
            "goes without response_format",
        ),
        ({"tool_choice": "required", "sampling_parameters": '{"min_tokens": 3}'}, "goes without min_tokens"),
    ],
)
def test_a_choice_that_cannot_be_kept_to_is_refused(calling, inputs, said):
    (response,) = calling("x", **inputs).wait()
    assert said in response.error.message


@pytest.mark.parametrize("stream", [True, False])
def test_each_of_several_answers_has_calls_of_its_own(calling, stream):
    request = calling(CALL, sampling_parameters='{"n": 2}', stream=stream)

    made = {0: "", 1: ""}
    for response in request.wait():
        for entry in json.loads(response.outputs.get("tool_calls", ["[]"])[0]):
            made[int(response.outputs["index"][0])] += entry["function"]["arguments"]

    assert made == {0: '{"text": "oars"}', 1: '{"text": "oars"}'}


ADAPTED = {"law": 8, "art": 4}


def test_an_adapter_is_chosen_by_lora_name_and_an_unknown_one_is_refused_with_those_there_are(
    make, monkeypatch
):
    monkeypatch.setattr("trireme.triton.backends.generator.read_manifest", adapted_manifest)
    model = make(adapters="law,art")

    def said(**sampling):
        request = ask(model, text_input="one two three", sampling_parameters=json.dumps(sampling))
        request.wait()
        return request

    texts = [said(**({"lora_name": name} if name else {})).text for name in ("", "law", "art", "")]
    assert texts[0] == texts[3] and len({*texts}) == 3
    (refused,) = said(lora_name="other").sender.responses
    assert "'other' is no adapter of this model; there are: law, art" in refused.error.message


def test_a_configuration_that_names_other_adapters_than_were_built_stops_the_load(make, monkeypatch):
    monkeypatch.setattr("trireme.triton.backends.generator.read_manifest", adapted_manifest)
    with pytest.raises(
        Exception, match=r"names the adapters none, its build has law, art: build the model again"
    ):
        make()


def adapted_manifest(version):
    from trireme.artifacts.manifest import read_manifest

    return replace(read_manifest(version), adapters=ADAPTED)
