"""The rag backend over models whose responses a person can predict."""

import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from trireme.errors import InvalidInputError, NotFoundError, TriremeError, UnavailableError
from trireme.rag.ports import Question
from trireme.triton.backends.client_watch import Client, ClientWatch
from trireme.triton.backends.rag import RagModel, write_sampling
from trireme.triton.backends.rag_steps import GoneError, StepNames, TritonSteps

NAMES = StepNames("embedding", "search__retrieve", "reranker", "llm")
QUESTION = Question("what?", "auto", 3, "ours", "handbook")
PROMPT = 'system = "Be true."\npassage = "{number} {text}"\nuser = "{passages} {question}"\n'
RELEVANCE = 'bias = -50\nsentence = 100\nmissing = 0\ncommon_words = ""\n'
PARAMETERS = {
    "steps": "embedding,search__retrieve,reranker,llm",
    "default_top_k": 5,
    "max_top_k": 50,
    "context_passages": 4,
    "extractive_threshold": 0.6,
    "relevance_threshold": 0.5,
    "default_max_tokens": 64,
}


class Response:
    """One response of another model: tensors by name, or an error."""

    def __init__(self, error=None, **tensors):
        self._error, self._tensors = error, tensors

    def has_error(self):
        return self._error is not None

    def error(self):
        return SimpleNamespace(message=lambda: self._error)

    def output_tensors(self):
        return [
            SimpleNamespace(name=lambda name=name: name, as_numpy=lambda array=array: array)
            for name, array in self._tensors.items()
        ]


def words(*texts):
    return np.array([text.encode() for text in texts], dtype=object)


def piece(text, reason="", **counts):
    return {"text_output": words(text), "finish_reason": words(reason), **counts}


class Call:
    """A request to the LLM: says `pieces` one by one, "cancelled" once it was ended."""

    def __init__(self, pieces):
        self._pieces, self.ended = pieces, threading.Event()

    def responses(self):
        is_over = False
        try:
            yield from self._pieces(self) if callable(self._pieces) else self._pieces
            is_over = True
        finally:
            if not is_over:
                self.end()

    def is_silent(self):
        return False

    def end(self):
        self.ended.set()


class Port:
    """The LLM behind the server's own port."""

    def __init__(self, pieces=(), inputs=()):
        self.pieces, self.inputs, self.asked, self.calls = pieces, frozenset(inputs), [], []

    def inputs_of(self, model):
        return self.inputs

    def is_ready(self):
        return True

    def close(self):
        """As of the server's own."""

    def call(self, model, inputs, parameters=()):
        self.asked.append((model, inputs))
        self.calls.append(Call(self.pieces))
        return self.calls[-1]


@pytest.fixture
def bls(pb, monkeypatch):
    """Answers by model, and the requests that came."""
    asked, answers = [], {}

    class InferenceRequest:
        def __init__(self, model_name, requested_output_names, inputs, parameters=None):
            self.model = model_name
            self.inputs = {tensor.name: tensor.array for tensor in inputs}

        def exec(self):
            asked.append(self)
            return answers[self.model]

    monkeypatch.setattr(pb, "InferenceRequest", InferenceRequest, raising=False)
    return SimpleNamespace(asked=asked, answers=answers)


@pytest.fixture
def watch():
    opened = ClientWatch()
    yield opened
    opened.close()


def steps_of(pb, watch, is_gone=lambda: False, port=None):
    return TritonSteps(
        pb,
        NAMES,
        sampling_parameters='{"max_tokens": 9}',
        tenant="ours",
        is_gone=is_gone,
        watch=watch,
        port=port or Port(),
    )


def test_the_retriever_is_asked_for_the_tenants_collection(pb, bls, watch):
    texts = {name: words(f"{name} 1") for name in ("id", "text", "metadata")}
    bls.answers["search__retrieve"] = Response(**texts, score=np.array([[0.5]], np.float32))
    (hit,) = steps_of(pb, watch).retrieve(QUESTION, np.ones(2, np.float32))
    assert (hit.id, hit.text, hit.metadata, hit.score) == ("id 1", "text 1", "metadata 1", 0.5)
    inputs = bls.asked[0].inputs
    assert inputs["tenant"].tolist() == [[b"ours"]]
    assert inputs["collection"].tolist() == [[b"handbook"]]
    assert inputs["top_k"].tolist() == [[3]]


def test_the_prior_goes_to_the_reranker(pb, bls, watch):
    bls.answers["reranker"] = Response(score=np.array([[0.1, 0.2]], np.float32))
    scores = steps_of(pb, watch).rank("what?", ["a", "b"], np.array([0.3, 0.4], np.float32))
    assert scores.tolist() == pytest.approx([0.1, 0.2])
    assert bls.asked[0].inputs["prior"].tolist() == [pytest.approx([0.3, 0.4])]


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ("[NOT_FOUND] no collection 'x'", NotFoundError, "model search__retrieve: no collection 'x'"),
        ("[INVALID_ARG] top_k is 0", InvalidInputError, "model search__retrieve: top_k is 0"),
        ("broken", TriremeError, "model search__retrieve: broken"),
        ("Model 'search__retrieve' is not ready.", UnavailableError, "model search__retrieve is not loaded"),
    ],
)
def test_an_error_keeps_its_code_and_names_the_model(pb, bls, watch, message, kind, said):  # noqa: PLR0917
    bls.answers["search__retrieve"] = Response(error=message)
    with pytest.raises(TriremeError, match=said) as raised:
        steps_of(pb, watch).retrieve(QUESTION, np.ones(2, np.float32))
    assert type(raised.value) is kind


def test_an_empty_answer_of_the_response_cache_is_an_error(pb, bls, watch):
    bls.answers["embedding"] = Response()
    with pytest.raises(TriremeError, match="response cache"):
        steps_of(pb, watch).embed("what?")


def test_the_llm_streams_and_is_not_cancelled_at_its_end(pb, bls, watch):
    counts = {"num_input_tokens": np.array([7]), "num_output_tokens": np.array([2])}
    port = Port([piece("a"), piece("b", "stop", **counts)])
    pieces = list(steps_of(pb, watch, port=port).generate([{"role": "user", "content": "x"}]))
    assert [one.text for one in pieces] == ["a", "b"]
    last = pieces[-1]
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("stop", 7, 2)
    [(model, inputs)] = port.asked
    assert (model, inputs["tenant"], inputs["stream"]) == ("llm", "ours", True)
    assert json.loads(inputs["messages"]) == [{"role": "user", "content": "x"}]
    assert json.loads(inputs["sampling_parameters"]) == {"max_tokens": 9}
    assert not port.calls[0].ended.is_set()


@pytest.mark.parametrize("is_newer", [False, True])
def test_the_llm_is_asked_for_cached_tokens_where_it_knows_the_question(pb, bls, watch, is_newer):
    counts = {"num_cached_tokens": np.array([5])} if is_newer else {}
    port = Port([piece("b", "stop", **counts)], ["return_num_cached_tokens"] if is_newer else ["messages"])
    (last,) = steps_of(pb, watch, port=port).generate([])
    assert last.cached_tokens == (5 if is_newer else None)
    assert port.asked[0][1].get("return_num_cached_tokens", False) is is_newer


def test_the_llms_log_probabilities_come_with_its_text(pb, bls, watch):
    entries = [{"token": "a", "logprob": -0.123456}, {"token": "b", "logprob": -2}]
    port = Port([piece("ab", logprobs=words(json.dumps(entries))), piece("", "stop", logprobs=words("[]"))])
    first, last = steps_of(pb, watch, port=port).generate([])
    assert (first.logprobs, last.logprobs) == ((-0.1235, -2.0), ())


def test_who_stops_reading_ends_the_llms_request(pb, bls, watch):
    port = Port([piece("a"), piece("b", "stop")])
    pieces = steps_of(pb, watch, port=port).generate([])
    next(pieces)
    pieces.close()
    assert port.calls[0].ended.is_set()


def test_a_client_that_goes_away_while_the_llm_is_silent_ends_its_request(pb, bls, watch):
    gone = threading.Event()

    def silent(call):
        yield piece("a")
        assert call.ended.wait(60)
        yield piece("", "cancelled")

    pieces = steps_of(pb, watch, gone.is_set, Port(silent)).generate([])
    next(pieces)
    gone.set()
    with pytest.raises(GoneError):
        list(pieces)


def test_an_error_of_the_llm_after_its_first_token_ends_the_answer(pb, bls, watch):
    def failing(call):
        yield piece("a")
        raise UnavailableError("model llm: the LLM engine failed")

    pieces = steps_of(pb, watch, port=Port(failing)).generate([])
    next(pieces)
    with pytest.raises(UnavailableError, match="engine failed"):
        next(pieces)


def test_no_step_begins_for_a_client_that_is_gone(pb, bls, watch):
    with pytest.raises(GoneError):
        steps_of(pb, watch, lambda: True).embed("what?")
    assert bls.asked == []


def test_after_its_last_response_nothing_is_asked_of_triton():
    class Sender:
        def is_cancelled(self):
            raise AssertionError("freed memory was read")

        def send(self, response, flags):
            sent.append(response)

    sent = []
    client = Client(Sender())
    client.send("last", 1, is_last=True)
    client.send("late", 0, is_last=False)
    assert client.is_gone()
    assert sent == ["last"]


@pytest.mark.parametrize("text", ["[]", "{", "1", "[" * 100_000])
def test_sampling_parameters_that_are_no_object_are_refused(text):
    with pytest.raises(InvalidInputError, match="must be a JSON object"):
        write_sampling(text, 64)


def test_an_answer_is_greedy_unless_it_is_told_otherwise():
    assert json.loads(write_sampling(None, 64)) == {"max_tokens": 64, "temperature": 0}
    assert json.loads(write_sampling('{"temperature": 1, "max_tokens": 3}', 64)) == {
        "max_tokens": 3, "temperature": 1,
    }  # fmt: skip


class Sender:
    """Keeps responses until the last."""

    def __init__(self):
        self.responses, self.done = [], threading.Event()

    def is_cancelled(self):
        return False

    def send(self, response=None, flags=0):
        self.responses.append(response)
        if flags:
            self.done.set()


class Request(dict):
    def __init__(self, **inputs):
        super().__init__(inputs)
        self.sender = Sender()

    def get_response_sender(self):
        return self.sender


@pytest.fixture
def model(pb, bls, tmp_path, monkeypatch):
    from fakes import fake_pb

    monkeypatch.setattr(pb, "TRITONSERVER_RESPONSE_COMPLETE_FINAL", 1, raising=False)
    folder = tmp_path / "rag"
    (folder / "1").mkdir(parents=True)
    (folder / "prompt.toml").write_text(PROMPT)
    (folder / "relevance.toml").write_text(RELEVANCE)
    opened = RagModel()
    opened.initialize(fake_pb.arguments(folder, ("text_input",), **PARAMETERS))
    yield opened
    opened.finalize()


def answer_of(model, **inputs):
    request = Request(**inputs)
    assert model.execute([request]) is None
    assert request.sender.done.wait(60)
    return request.sender.responses


@pytest.fixture
def found(bls):
    """One passage of two sentences, of which the second is the answer."""
    bls.answers |= {
        "embedding": Response(
            embedding=np.ones((1, 2), np.float32),
            token_count=np.array([[3]]),
            truncated_tokens=np.array([[0]]),
        ),
        "search__retrieve": Response(
            id=words("a"),
            text=words("Oars. Sails."),
            metadata=words("{}"),
            score=np.array([[0.5]], np.float32),
        ),
    }
    ranked = iter(([0.7], [0.8, 0.9]))

    class Ranked(Response):
        def output_tensors(self):
            score = np.array([next(ranked)], np.float32)
            return [SimpleNamespace(name=lambda: "score", as_numpy=lambda: score)]

    bls.answers["reranker"] = Ranked()


def test_a_question_is_answered_in_one_last_response(model, found):
    (response,) = answer_of(model, text_input=words("what?"))
    assert set(response.outputs) == {"text_output", "citations", "usage", "finish_reason"}
    assert response.outputs["text_output"].tolist() == [b"Sails."]
    assert json.loads(response.outputs["citations"][0])[0]["id"] == "a"
    assert json.loads(response.outputs["usage"][0])["answer_mode"] == "extractive"


YES = np.array([True])
ENTRIES = [[{"logprob": -0.5}], [{"logprob": -0.25}]]


def written(model, monkeypatch, **inputs):
    """The responses to a question that the LLM answers in two pieces."""
    pieces = [
        piece(text, logprobs=words(json.dumps(one)))
        for text, one in zip(("Oars", " it had."), ENTRIES, strict=True)
    ]
    counts = {"num_input_tokens": np.array([7]), "num_output_tokens": np.array([2])}
    port = Port([*pieces, piece("", "stop", **counts)])
    monkeypatch.setattr(model, "_port", port)
    return answer_of(model, text_input=words("what?"), answer_mode=words("generative"), **inputs)


def test_each_part_says_what_it_is_judged_by_and_the_first_the_prompt_where_that_is_asked(
    model, found, monkeypatch
):
    first, second, last = written(model, monkeypatch, stream=YES, return_evidence=YES, return_prompt=YES)
    assert set(first.outputs) == {"text_output", "evidence", "prompt"}
    assert set(second.outputs) == {"text_output", "evidence"}
    assert set(last.outputs) == {"text_output", "citations", "usage", "finish_reason"}
    evidence = [json.loads(part.outputs["evidence"][0]) for part in (first, second)]
    assert [one["token_logprobs"] for one in evidence] == [[-0.5], [-0.25]]
    usage = json.loads(last.outputs["usage"][0])
    assert {one["passage_score"] for one in evidence} == {usage["passage_score"]} != {None}
    assert usage["token_logprobs"] == [-0.5, -0.25]
    system, user = json.loads(first.outputs["prompt"][0])
    assert system == {"role": "system", "content": "Be true."}
    assert user == {"role": "user", "content": "1 Oars. Sails. what?"}


def test_parts_are_as_they_always_were_where_nothing_is_asked(model, found, monkeypatch):
    *parts, last = written(model, monkeypatch, stream=YES)
    assert [set(part.outputs) for part in parts] == [{"text_output"}] * 2
    assert set(last.outputs) == {"text_output", "citations", "usage", "finish_reason"}


def test_an_answer_in_one_response_has_the_prompt_too(model, found, monkeypatch):
    (only,) = written(model, monkeypatch, return_evidence=YES, return_prompt=YES)
    assert only.outputs["text_output"].tolist() == [b"Oars it had."]
    assert json.loads(only.outputs["prompt"][0])[1]["content"] == "1 Oars. Sails. what?"
    # All of its evidence is in the usage.
    assert "evidence" not in only.outputs


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"text_input": words(" ")}, "[INVALID_ARG] text_input is empty"),
        ({"text_input": words("a"), "answer_mode": words("x")}, "[INVALID_ARG] answer_mode must be one of"),
        ({"text_input": words("a"), "top_k": np.array([0], np.int32)}, "[INVALID_ARG] top_k must be from 1 to 50"),
    ],
)  # fmt: skip
def test_a_bad_request_gets_its_error_as_its_only_response(model, inputs, said):
    (response,) = answer_of(model, **inputs)
    assert response.error.message.startswith(said)


def test_a_bug_reaches_the_log_and_not_the_client(model, pb):
    (response,) = answer_of(model, text_input=words("what?"))
    assert "internal error in model rag" in response.error.message
    assert any("KeyError" in line for line in pb.Logger.errors)


def test_what_it_was_asked_is_offered_and_what_it_has_no_place_for_is_refused(model, monkeypatch):
    class NoPlaces:
        def acquire(self, blocking):
            return False

        def release(self):
            raise AssertionError("it had none")

    monkeypatch.setattr(model, "_places", NoPlaces())
    request = Request(text_input=words("what?"))
    model.execute([request])
    assert request.sender.done.wait(30)
    totals = model.work.totals()
    assert (totals.offered, totals.refused, totals.waits) == (1, 1, 0)


def test_an_answer_that_no_thread_has_yet_waits(model, monkeypatch):
    given = []
    monkeypatch.setattr(model, "_threads", SimpleNamespace(submit=lambda *task: given.append(task)))
    for _ in range(3):
        model.execute([Request(text_input=words("what?"))])
    source = model.work_source()
    assert (source.waiting().requests, source.totals().offered) == (3, 3)
    monkeypatch.undo()
    for task, *values in given:
        task(*values)
    assert (source.waiting().requests, source.totals().waits) == (0, 3)
    assert source.rate.value > 0


@pytest.mark.parametrize(
    "given", [{"n": 2}, {"response_format": {"type": "json_object"}}, {"structured_outputs": {"regex": "a"}}]
)
def test_an_answer_is_one_text_of_no_form(given):
    with pytest.raises(InvalidInputError, match=f"{next(iter(given))}: an answer from passages is one text"):
        write_sampling(json.dumps(given), 64)
    usual = {"n": 1, "response_format": {"type": "text"}, "structured_outputs": {}}
    assert json.loads(write_sampling(json.dumps(usual), 64)).keys() >= usual.keys()
