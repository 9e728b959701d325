"""VllmEngine over a stand-in for vLLM: the same calls, outputs that a person can predict, steps on demand."""

import asyncio
import dataclasses
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trireme.errors import ArtifactError, InvalidInputError, UnavailableError
from trireme.generate import vllm
from trireme.generate.engine import Chunk, EngineOptions, EngineRequest, Sampling, StructuredOutput
from trireme.generate.vllm import VllmEngine
from trireme.vllm_environment import DEVICES, ENVIRONMENT

OPTIONS = EngineOptions(
    Path("/models/llm"), (7,), 64, max_num_seqs=2, max_num_batched_tokens=1, max_waiting=1
)


class Collector:
    """As vLLM's RequestOutputCollector: outputs are merged until somebody takes them."""

    def __init__(self) -> None:
        self.output: Any = None

    def put(self, output: Any) -> None:
        if self.output is None or isinstance(output, Exception):
            self.output = output
            return
        self.output.outputs[0].token_ids += output.outputs[0].token_ids
        if output.outputs[0].logprobs:
            self.output.outputs[0].logprobs += output.outputs[0].logprobs
        self.output.outputs[0].finish_reason = output.outputs[0].finish_reason
        self.output.finished = output.finished
        # As in vLLM, num_cached_tokens stays that of the first.

    def get_nowait(self) -> Any:
        output, self.output = self.output, None
        if isinstance(output, Exception):
            raise output
        return output


@dataclass
class StandIn:
    """An AsyncLLM. Tests say what a step makes, from their own thread; it happens in the event loop."""

    arguments: dict[str, Any]
    hook: Any
    collectors: dict[str, Collector] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    # LoRARequests: those that were loaded at the start, and each request's.
    loaded: list[Any] = field(default_factory=list)
    adapters: dict[str, Any] = field(default_factory=dict)
    # What an output without tokens carries of an answer that has log-probabilities: the tables of all its tokens.
    whole: dict[str, Any] = field(default_factory=dict)
    errored: bool = False
    tokenizer: Any = None
    is_shut_down: bool = False

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._death = asyncio.Event()
        self.output_handler = self.loop.create_task(self._handle())

    async def _handle(self) -> None:
        await self._death.wait()
        self.errored = True
        for collector in self.collectors.values():
            collector.put(RuntimeError("EngineCore died"))

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    async def add_lora(self, request: Any) -> bool:
        if request.lora_name == "broken":
            raise ValueError("vLLM only supports modules_to_save being None.")
        self.loaded.append(request)
        return True

    async def add_request(
        self, request_id: str, prompt: Any, parameters: Any, lora_request: Any
    ) -> Collector:
        self.adapters[request_id] = lora_request
        if len(prompt["prompt_token_ids"]) > OPTIONS.max_model_len:
            raise ValueError("the prompt is longer than the maximum model length")
        self.prompts[request_id], self.parameters[request_id] = prompt, parameters
        self.collectors[request_id] = Collector()
        if prompt["prompt_token_ids"] == [99]:
            self.collectors[request_id].put(output([1], "length"))
        return self.collectors[request_id]

    async def abort(self, request_ids: str | list[str]) -> None:
        for request_id in [request_ids] if isinstance(request_ids, str) else request_ids:
            self.aborted.append(request_id)
            self.collectors[request_id].put(output([], "abort", tables=self.whole.get(request_id)))

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_shut_down = True
        self._death.set()

    def step(self, outputs: dict[str, Any], **counts: Any) -> None:
        def run() -> None:
            for request_id, made in outputs.items():
                self.collectors[request_id].put(made)
            cache = types.SimpleNamespace(queries=counts.get("queries", 0), hits=counts.get("hits", 0))
            self.hook.record(
                scheduler_stats=types.SimpleNamespace(
                    num_running_reqs=counts.get("running", len(outputs)),
                    kv_cache_usage=counts.get("usage", 0.0),
                    prefix_cache_stats=cache,
                ),
                iteration_stats=counts.get("iteration"),
                mm_cache_stats=None,
                engine_idx=0,
            )

        self.loop.call_soon_threadsafe(run)

    def die(self) -> None:
        self.loop.call_soon_threadsafe(self._death.set)


def output(tokens: list[int], reason: str | None = None, cached: int = 0, tables: Any = None) -> Any:
    """tables: as vLLM's, a dictionary by token id for each token."""
    completion = types.SimpleNamespace(token_ids=list(tokens), finish_reason=reason, logprobs=tables)
    return types.SimpleNamespace(outputs=[completion], finished=reason is not None, num_cached_tokens=cached)


@dataclass(frozen=True)
class LoRARequest:
    """As vLLM's."""

    lora_name: str
    lora_int_id: int
    lora_path: str


def no_tokenizer(name: str, trust_remote_code: bool) -> Any:
    raise ValueError(f"{name} has none")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """Every AsyncLLM that was started, in order; "fail" among `made` makes the next start fail."""
    started: list[Any] = []

    class AsyncLLM:
        @staticmethod
        def from_engine_args(arguments: Any, stat_loggers: list[Any]) -> StandIn:
            if "fail" in started:
                started.remove("fail")
                raise ValueError("no kernel image\nout of memory")
            started.append(StandIn(vars(arguments), stat_loggers[0](None, 0)))
            return started[-1]

    def module(name: str, **content: Any) -> None:
        fake = types.ModuleType(name)
        vars(fake).update(content)
        monkeypatch.setitem(sys.modules, name, fake)

    for package in ("vllm", "vllm.engine", "vllm.inputs", "vllm.v1", "vllm.v1.engine"):
        module(package)
    module("vllm.engine.arg_utils", AsyncEngineArgs=types.SimpleNamespace)
    module("vllm.v1.engine.async_llm", AsyncLLM=AsyncLLM)
    module(
        "vllm.inputs.engine",
        tokens_input=lambda ids, cache_salt: {"prompt_token_ids": ids, "cache_salt": cache_salt},
    )
    module("vllm.tokenizers", get_tokenizer=no_tokenizer)
    module("vllm.lora")
    module("vllm.lora.request", LoRARequest=LoRARequest)
    module(
        "vllm.sampling_params",
        SamplingParams=types.SimpleNamespace,
        StructuredOutputsParams=types.SimpleNamespace,
        RequestOutputKind=types.SimpleNamespace(DELTA="delta"),
    )
    for key in ENVIRONMENT:
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    monkeypatch.setattr(vllm, "RESTART_PAUSE_SECONDS", 0.01)
    return started


class Answers:
    """Consumes the stream in a thread, list by list."""

    def __init__(self, engine: VllmEngine) -> None:
        self.lists: list[list[Chunk]] = []
        self.thread = threading.Thread(target=self._consume, args=(engine,), daemon=True)
        self.thread.start()

    def _consume(self, engine: VllmEngine) -> None:
        for chunks in engine.stream():
            self.lists.append(chunks)

    def of(self, request_id: str) -> list[Chunk]:
        return [chunk for chunks in self.lists for chunk in chunks if chunk.request_id == request_id]

    def last(self, request_id: str) -> Chunk:
        wait_until(lambda: bool(self.of(request_id)) and self.of(request_id)[-1].is_last)
        assert [chunk.is_last for chunk in self.of(request_id)].count(True) == 1
        return self.of(request_id)[-1]

    def tokens(self, request_id: str) -> tuple[int, ...]:
        return tuple(token for chunk in self.of(request_id) for token in chunk.tokens)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


@pytest.fixture
def engine(made: list[StandIn]) -> Iterator[VllmEngine]:
    opened = VllmEngine(OPTIONS)
    yield opened
    opened.close()


@pytest.fixture
def answers(engine: VllmEngine) -> Answers:
    return Answers(engine)


def submit(
    engine: VllmEngine, llm: StandIn, request_id: str, prompt: tuple[int, ...] = (1, 2), **sampling: Any
) -> None:
    engine.submit(EngineRequest(request_id, prompt, Sampling(**{"max_tokens": 9, **sampling}), "salt"))
    wait_until(lambda: request_id in llm.collectors)


def test_the_checkpoint_is_opened_without_pickles_code_or_a_tokenizer_that_cannot_be_read(engine, made):
    arguments = made[0].arguments
    assert arguments["model"] == "/models/llm"
    assert (arguments["load_format"], arguments["trust_remote_code"]) == ("safetensors", False)
    assert arguments["skip_tokenizer_init"] is True
    assert arguments["max_model_len"] == 64
    # A step must have room for one token of each sequence.
    assert arguments["max_num_batched_tokens"] == arguments["max_num_seqs"] == 2


def test_a_step_of_two_requests_is_one_list(engine, made, answers):
    submit(engine, made[0], "a")
    submit(engine, made[0], "b")
    made[0].step({"a": output([11]), "b": output([21], "length")})
    ended = Chunk("b", (21,), "length", cached_tokens=0)
    assert answers.last("b") == ended
    assert answers.lists == [[Chunk("a", (11,), cached_tokens=0), ended]]


def test_tokens_of_steps_that_the_consumer_missed_come_in_one_chunk(engine, made):
    submit(engine, made[0], "a")
    for token in (11, 12):
        made[0].step({"a": output([token])})
    made[0].step({"a": output([13], "length")})
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), made[0].loop).result(60)
    assert next(engine.stream()) == [Chunk("a", (11, 12, 13), "length", cached_tokens=0)]


@pytest.mark.parametrize(
    ("tokens", "reason"), [([11], None), ([7], "stop"), ([11], "length"), ([11], "error")]
)
def test_a_chunk_says_what_the_prefix_cache_had(engine, made, answers, tokens, reason):
    submit(engine, made[0], "a")
    made[0].step({"a": output(tokens, reason, 112)})
    wait_until(lambda: bool(answers.of("a")))
    assert answers.of("a")[0].cached_tokens == 112


def test_an_abort_of_a_request_that_waits_says_nothing_of_the_cache(engine, made, answers):
    submit(engine, made[0], "a")
    engine.cancel("a")
    assert answers.last("a") == Chunk("a", finish_reason="cancelled")


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_end_tokens_are_ours_alone(engine, made, ignore_eos):
    submit(engine, made[0], "a", stop_token_ids=(5,), ignore_eos=ignore_eos)
    given = made[0].parameters["a"]
    assert given.stop_token_ids == ([5] if ignore_eos else [5, 7])
    assert (given.ignore_eos, given.detokenize, given.output_kind) == (True, False, "delta")


def test_the_tokenizer_is_read_for_structured_output_without_code(made, monkeypatch):
    asked = []
    tokenizers = types.SimpleNamespace(get_tokenizer=lambda name, **given: asked.append((name, given)))
    monkeypatch.setitem(sys.modules, "vllm.tokenizers", tokenizers)
    engine = VllmEngine(OPTIONS)
    engine.close()
    assert made[0].arguments["skip_tokenizer_init"] is False
    assert asked == [("/models/llm", {"trust_remote_code": False})]


def test_a_form_reaches_vllm_and_ends_with_the_tokenizers_own_token(engine, made):
    made[0].tokenizer = types.SimpleNamespace(eos_token_id=3)
    for kind in ("json", "regex"):
        submit(engine, made[0], kind, structured=StructuredOutput(kind, "a form"))
        given = made[0].parameters[kind]
        assert vars(given.structured_outputs) == {kind: "a form"}
        assert given.stop_token_ids == [7, 3]
    submit(engine, made[0], "plain")
    assert (made[0].parameters["plain"].structured_outputs, made[0].parameters["plain"].stop_token_ids) == (
        None,
        [7],
    )


def test_the_token_that_ended_the_answer_is_left_out(engine, made, answers):
    submit(engine, made[0], "a")
    made[0].step({"a": output([11])})
    made[0].step({"a": output([12, 7], "stop")})
    assert answers.last("a").finish_reason == "stop"
    assert answers.tokens("a") == (11, 12)


def table(**chances: float) -> dict[int, Any]:
    """t11=-0.5: the token 11. The chosen one comes first, as from vLLM's sampler."""
    return {int(name[1:]): types.SimpleNamespace(logprob=one, rank=1) for name, one in chances.items()}


def test_log_probabilities_come_with_the_likeliest_and_without_the_token_that_ended_it(engine, made, answers):
    submit(engine, made[0], "a", logprobs=2)
    submit(engine, made[0], "plain")
    assert [made[0].parameters[name].logprobs for name in ("a", "plain")] == [2, None]
    made[0].step(
        {"a": output([11], tables=[table(t11=-2.0, t5=-0.5, t6=-1.0)]), "plain": output([1], "length")}
    )
    tables = [table(t12=-0.1, t9=-3.0), table(t7=-0.2, t8=-4.0)]
    made[0].step({"a": output([12, 7], "stop", tables=tables)})
    answers.last("a")
    # A slow consumer gets both steps in one chunk.
    said = [
        row
        for chunk in answers.of("a")
        for row in zip(chunk.tokens, chunk.logprobs, chunk.top_logprobs, strict=True)
    ]
    assert said == [(11, -2.0, ((5, -0.5), (6, -1.0))), (12, -0.1, ((12, -0.1), (9, -3.0)))]
    assert (answers.last("plain").logprobs, answers.last("plain").top_logprobs) == ((), ())


def test_without_alternatives_the_chosen_token_is_said_alone(engine, made, answers):
    submit(engine, made[0], "a", logprobs=0)
    made[0].step({"a": output([11], "length", tables=[table(t11=-2.0)])})
    assert (answers.last("a").logprobs, answers.last("a").top_logprobs) == ((-2.0,), ((),))


@pytest.mark.parametrize("is_merged", [False, True])
def test_an_abort_adds_no_log_probabilities_of_earlier_tokens(engine, made, is_merged):
    submit(engine, made[0], "a", logprobs=0)
    made[0].whole["a"] = [table(t11=-2.0)]
    merged = Answers(engine) if not is_merged else None
    made[0].step({"a": output([11], tables=[table(t11=-2.0)])})
    if merged:
        wait_until(lambda: bool(merged.of("a")))
    engine.cancel("a")
    reader = merged or Answers(engine)
    assert reader.last("a").finish_reason == "cancelled"
    assert [one for chunk in reader.of("a") for one in chunk.logprobs] == [-2.0]
    assert reader.tokens("a") == (11,)


def test_an_output_that_lacks_log_probabilities_fails_its_request_alone(engine, made, answers):
    for name in "ab":
        submit(engine, made[0], name, logprobs=0)
    made[0].step({"a": output([11], "length"), "b": output([12], "length", tables=[table(t12=-1.0)])})
    assert isinstance(answers.last("a").error, UnavailableError)
    assert answers.last("b").logprobs == (-1.0,)


def test_a_request_that_ended_while_it_was_added_is_answered(engine, made, answers):
    submit(engine, made[0], "a", prompt=(99,))
    assert answers.last("a") == Chunk("a", (1,), "length", cached_tokens=0)


def test_the_salt_goes_with_the_prompt(engine, made):
    submit(engine, made[0], "a", prompt=(3, 4))
    assert made[0].prompts["a"] == {"prompt_token_ids": [3, 4], "cache_salt": "salt"}


def test_cancelling_aborts_and_the_last_chunk_says_so_once(engine, made, answers):
    submit(engine, made[0], "a")
    made[0].step({"a": output([11])})
    for name in ("a", "a", "nobody"):
        engine.cancel(name)
    assert answers.last("a").finish_reason == "cancelled"
    assert made[0].aborted == ["a"]
    assert answers.tokens("a") == (11,)


def test_a_request_cancelled_at_once_never_runs_on(engine, made, answers):
    engine.submit(EngineRequest("a", (1,), Sampling(9)))
    engine.cancel("a")
    assert answers.last("a").finish_reason == "cancelled"
    assert engine.stats().waiting == 0


def test_a_full_queue_refuses_and_an_end_makes_room(engine, made, answers):
    for name in "abc":
        submit(engine, made[0], name)
    with pytest.raises(UnavailableError, match=r"requests wait already.*max_waiting"):
        engine.submit(EngineRequest("d", (1,), Sampling(9)))
    made[0].step({"a": output([1], "length")}, running=2)
    answers.last("a")
    submit(engine, made[0], "d")


def test_an_id_in_use_is_refused(engine, made):
    submit(engine, made[0], "a")
    with pytest.raises(InvalidInputError, match="'a' is in use"):
        engine.submit(EngineRequest("a", (1,), Sampling(9)))


def test_what_vllm_refuses_is_that_requests_error_alone(engine, made, answers):
    submit(engine, made[0], "good")
    engine.submit(EngineRequest("long", (1,) * 65, Sampling(9)))
    error = answers.last("long").error
    assert isinstance(error, InvalidInputError)
    assert "longer than the maximum model length" in str(error)
    made[0].step({"good": output([1], "length")})
    assert answers.last("good").finish_reason == "length"


def test_an_unknown_finish_reason_is_an_error(engine, made, answers):
    submit(engine, made[0], "a")
    made[0].step({"a": output([], "error")})
    assert isinstance(answers.last("a").error, UnavailableError)


def test_counts_are_the_schedulers(engine, made):
    for name in "abc":
        submit(engine, made[0], name)
    assert (engine.stats().running, engine.stats().waiting) == (0, 3)
    for _ in range(2):
        made[0].step({}, running=2, usage=0.25, queries=10, hits=4)
    wait_until(lambda: engine.stats().prefix_cache_queries == 20)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.kv_cache_usage, stats.prefix_cache_hits) == (2, 1, 0.25, 8)


def test_a_death_fails_all_and_a_new_engine_takes_over(engine, made, answers):
    for name in "ab":
        submit(engine, made[0], name)
    made[0].die()
    for name in "ab":
        assert isinstance(answers.last(name).error, UnavailableError)
    wait_until(lambda: engine.stats().is_ready)
    assert (engine.stats().restarts, len(made), made[0].is_shut_down) == (1, 2, True)
    submit(engine, made[1], "a")
    made[1].step({"a": output([5], "length")})
    wait_until(lambda: answers.tokens("a") == (5,))


def test_a_start_that_fails_is_tried_again(engine, made, answers):
    made.append("fail")
    made[0].die()
    wait_until(lambda: engine.stats().restarts == 1 and engine.stats().is_ready)
    assert [type(one) for one in made] == [StandIn, StandIn]


def test_while_it_is_down_requests_are_refused(engine, made, monkeypatch):
    again = threading.Event()
    monkeypatch.setattr(vllm, "engine_arguments", lambda options: again.wait(60) and {})
    made[0].die()
    wait_until(lambda: not engine.stats().is_ready)
    with pytest.raises(UnavailableError, match="not running"):
        engine.submit(EngineRequest("a", (1,), Sampling(9)))
    again.set()


def test_a_first_start_that_fails_raises_with_vllms_last_words(made):
    made.append("fail")
    with pytest.raises(ArtifactError, match=r"/models/llm: out of memory; the server's log"):
        VllmEngine(OPTIONS)


def test_without_vllm_the_message_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UnavailableError, match="vLLM cannot be imported"):
        VllmEngine(OPTIONS)


def test_close_cancels_what_runs_ends_the_stream_and_refuses(made):
    engine = VllmEngine(OPTIONS)
    answers = Answers(engine)
    submit(engine, made[0], "a")
    engine.submit(EngineRequest("b", (1,), Sampling(9)))
    engine.close()
    assert answers.last("a").finish_reason == answers.last("b").finish_reason == "cancelled"
    answers.thread.join(60)
    assert (answers.thread.is_alive(), made[0].is_shut_down) == (False, True)
    with pytest.raises(UnavailableError):
        engine.submit(EngineRequest("c", (1,), Sampling(9)))
    engine.close()
    assert not engine.stats().is_ready


def test_vllm_is_told_to_spawn_and_to_report_nothing_unless_the_operator_said_otherwise(made, monkeypatch):
    import os

    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    VllmEngine(OPTIONS).close()
    assert (os.environ["VLLM_WORKER_MULTIPROC_METHOD"], os.environ["VLLM_NO_USAGE_STATS"]) == ("fork", "1")


@pytest.mark.parametrize(
    ("shown", "changes", "expected"),
    [
        (None, {"device_id": 1}, "1"),
        ("", {"device_id": 0}, "0"),
        ("4,5", {"device_id": 1}, "5"),
        ("GPU-a, GPU-b", {"device_id": 1}, "GPU-b"),
        ("4,5", {"device_id": 1, "tensor_parallel_size": 2}, "4,5"),
        ("4,5", {}, "4,5"),
    ],
)
def test_an_engine_sees_the_card_that_triton_chose_or_all_where_it_takes_several(
    made, monkeypatch, shown, changes, expected
):
    # Set and removed, so that what the engine sets is undone.
    monkeypatch.setenv(DEVICES, shown or "")
    if shown is None:
        monkeypatch.delenv(DEVICES)
    options = dataclasses.replace(OPTIONS, **changes)
    opened = VllmEngine(options)
    try:
        assert os.environ[DEVICES] == expected
        assert made[0].arguments["tensor_parallel_size"] == options.tensor_parallel_size
        # A restart asks what was there in the beginning, not what it set itself.
        made[0].die()
        wait_until(lambda: len(made) == 2)
        assert os.environ[DEVICES] == expected
    finally:
        opened.close()


def test_how_long_requests_waited_is_what_vllm_says_of_those_that_have_ended(engine, made):
    ended = types.SimpleNamespace(
        finished_requests=[types.SimpleNamespace(queued_time=s) for s in (0.5, 2.0)]
    )
    submit(engine, made[0], "a")
    made[0].step({}, iteration=ended)
    made[0].step({}, iteration=types.SimpleNamespace(finished_requests=[]))
    made[0].step({}, iteration=None, usage=0.5)
    wait_until(lambda: engine.stats().kv_cache_usage == 0.5)
    assert (engine.stats().waits, engine.stats().wait_seconds) == (2, 2.5)


def test_adapters_are_loaded_at_the_start_and_a_request_goes_with_its_own(made):
    opened = VllmEngine(dataclasses.replace(OPTIONS, adapters=("law", "art"), adapter_rank=20))
    try:
        llm = made[0]
        limits = {name: llm.arguments[name] for name in ("enable_lora", "max_loras", "max_cpu_loras")}
        assert limits == {"enable_lora": True, "max_loras": 2, "max_cpu_loras": 2}
        # vLLM takes certain ranks alone.
        assert llm.arguments["max_lora_rank"] == 32
        law, art = (
            LoRARequest("law", 1, "/models/llm/adapters/law"),
            LoRARequest("art", 2, "/models/llm/adapters/art"),
        )
        assert llm.loaded == [law, art]
        for request_id, adapter in (("a", "art"), ("b", ""), ("c", "law")):
            opened.submit(EngineRequest(request_id, (1,), Sampling(9), adapter=adapter))
        wait_until(lambda: len(llm.adapters) == 3)
        assert llm.adapters == {"a": art, "b": None, "c": law}
        with pytest.raises(InvalidInputError, match="there are: law, art"):
            opened.submit(EngineRequest("d", (1,), Sampling(9), adapter="other"))
    finally:
        opened.close()


def test_without_adapters_vllm_is_not_told_of_any(engine, made):
    assert not [name for name in made[0].arguments if "lora" in name]


@pytest.mark.parametrize(
    ("asked", "said"),
    [("get_supported_tasks", "TimeoutError"), ("add_lora", "ended while it read the adapter law")],
)
def test_a_vllm_that_dies_while_it_starts_is_ended_and_not_waited_for(asked, said, made, monkeypatch):
    async def say_nothing(self, *_):
        if asked == "add_lora":
            self.die()
        await asyncio.Event().wait()

    monkeypatch.setattr(StandIn, asked, say_nothing)
    monkeypatch.setattr(vllm, "ASK_SECONDS", 0.01)
    with pytest.raises(ArtifactError, match=said):
        VllmEngine(dataclasses.replace(OPTIONS, adapters=("law",), adapter_rank=8))
    assert made[0].is_shut_down


def test_an_adapter_that_vllm_cannot_load_stops_the_start_with_its_words(made):
    with pytest.raises(ArtifactError, match="modules_to_save being None"):
        VllmEngine(dataclasses.replace(OPTIONS, adapters=("broken",), adapter_rank=8))
    assert made[0].is_shut_down
