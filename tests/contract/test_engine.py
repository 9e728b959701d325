"""One suite for every Engine: the fake, OpenVINO on CPU, and vLLM on a GPU must pass it.

vLLM runs where it is installed and ENGINE_TEST_MODEL names a checkpoint's folder:
ENGINE_TEST_MODEL=folder pytest tests/contract/test_engine.py -k vllm
"""

import importlib.util
import itertools
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trireme.artifacts.contracts import LOGPROBS, most_alternatives
from trireme.errors import InvalidInputError, SettingError, TriremeError, UnavailableError
from trireme.generate.engine import Chunk, Engine, EngineOptions, EngineRequest, Sampling
from trireme.generate.fake import fake_logprobs
from trireme.generate.registry import open_engine
from trireme.generate.sampling import RANGES, parse_parameters
from trireme.generate.tokenizer import LlmTokenizer

sys.path.insert(0, str(Path(__file__).parent))

from tiny_llm import write_ascii_tokenizer, write_tiny_llm, write_tiny_loras

SECONDS = 60.0
MAX_MODEL_LEN = 512
MAX_NUM_SEQS = 8
MAX_WAITING = 16
PROMPT = tuple(range(10, 42))
GREEDY = Sampling(max_tokens=16, temperature=0.0, ignore_eos=True)
LONG = Sampling(max_tokens=400, temperature=0.0, ignore_eos=True)


class Driver:
    """Consumes an engine's stream and keeps what came for each request."""

    def __init__(self, engine: Engine, options: EngineOptions) -> None:
        self.engine, self.options = engine, options
        self.chunks: dict[str, list[Chunk]] = {}
        self.lists: list[list[str]] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()
        self._count = 0

    def _consume(self) -> None:
        for chunks in self.engine.stream():
            with self._changed:
                self.lists.append([chunk.request_id for chunk in chunks])
                for chunk in chunks:
                    self.chunks.setdefault(chunk.request_id, []).append(chunk)
                self._changed.notify_all()
        with self._changed:
            self.chunks["end of stream"] = []
            self._changed.notify_all()

    def submit(self, prompt=PROMPT, sampling: Sampling = GREEDY, salt: str = "", adapter: str = "") -> str:
        self._count += 1
        request_id = f"request-{self._count}"
        self.engine.submit(EngineRequest(request_id, tuple(prompt), sampling, salt, adapter))
        return request_id

    def wait_for(self, condition) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, SECONDS), "did not happen in time"

    def is_done(self, request_id: str) -> bool:
        return any(chunk.is_last for chunk in self.chunks.get(request_id, []))

    def tokens(self, request_id: str) -> tuple[int, ...]:
        return tuple(token for chunk in self.chunks.get(request_id, []) for token in chunk.tokens)

    def finish(self, request_id: str) -> tuple[tuple[int, ...], Chunk]:
        """All tokens of a request, and its last chunk."""
        self.wait_for(lambda: self.is_done(request_id))
        return self.tokens(request_id), self.chunks[request_id][-1]

    def run(self, *args, **kwargs) -> tuple[tuple[int, ...], Chunk]:
        return self.finish(self.submit(*args, **kwargs))

    def has_ended(self) -> bool:
        return "end of stream" in self.chunks

    def wait_until_idle(self) -> None:
        wait_until(lambda: (stats := self.engine.stats()).running == 0 and stats.waiting == 0)


def wait_until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def until_amid(scenario) -> None:
    """Tries a scenario until it returns true: it was amid an answer. An engine may be done before a test looks."""
    for _ in range(10):
        if scenario():
            return
    raise AssertionError("each answer had ended too soon, 10 times")


@pytest.fixture(scope="module", params=["fake", "openvino", "vllm"])
def engine_kind(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[str, Path, int]:
    """Name of the engine, a model's folder, and its eos token."""
    folder = tmp_path_factory.mktemp("model")
    if request.param == "fake":
        write_ascii_tokenizer(folder)
        return "fake", folder, 1
    if request.param == "openvino":
        pytest.importorskip("openvino_genai")
        write_ascii_tokenizer(folder)
        return "openvino", folder, write_tiny_llm(folder)
    if importlib.util.find_spec("vllm") is None or "ENGINE_TEST_MODEL" not in os.environ:
        pytest.skip("vLLM runs where it is installed, with ENGINE_TEST_MODEL=folder and a GPU")
    folder = Path(os.environ["ENGINE_TEST_MODEL"])
    eos = json.loads((folder / "config.json").read_text())["eos_token_id"]
    return "vllm", folder, eos[0] if isinstance(eos, list) else eos


def options_of(kind: tuple[str, Path, int], **changes) -> EngineOptions:
    values = {
        "model_dir": kind[1],
        "eos_token_ids": (kind[2],),
        "max_model_len": MAX_MODEL_LEN,
        "max_num_seqs": MAX_NUM_SEQS,
        "max_num_batched_tokens": 256 if kind[0] != "vllm" else MAX_MODEL_LEN,
        "max_waiting": MAX_WAITING,
        "kv_cache_gb": 0.1,
        "gpu_memory_utilization": 0.3,
        "threads": 1,
    }
    return EngineOptions(**(values | changes))


def opened(kind: tuple[str, Path, int], **changes) -> Driver:
    options = options_of(kind, **changes)
    return Driver(open_engine(kind[0], options), options)


@pytest.fixture(scope="module")
def shared(engine_kind) -> Iterator[Driver]:
    """One engine for all tests that leave it as it was."""
    running = opened(engine_kind)
    # The fake would be done before a test could look.
    slow_down(running)
    yield running
    running.engine.close()


def slow_down(running: Driver) -> None:
    if hasattr(running.engine, "_knobs"):
        from trireme.generate.fake import Knobs

        running.engine._knobs = Knobs(step_seconds=0.002)


@pytest.fixture
def driver(shared: Driver) -> Iterator[Driver]:
    yield shared
    shared.wait_until_idle()


@pytest.fixture
def own(engine_kind, request) -> Iterator[Driver]:
    """An engine for this test alone."""
    running = opened(engine_kind, **getattr(request, "param", {}))
    slow_down(running)
    yield running
    running.engine.close()


def test_max_tokens_ends_an_answer_with_length(driver):
    for count in (1, 2, 7):
        tokens, last = driver.run(sampling=Sampling(max_tokens=count, temperature=0.0, ignore_eos=True))
        assert (len(tokens), last.finish_reason, last.error) == (count, "length", None)


def test_tokens_come_in_order_and_the_last_chunk_comes_once(driver):
    ids = [driver.submit(PROMPT[: 8 + n]) for n in range(6)]
    answers = [driver.finish(request_id)[0] for request_id in ids]
    driver.wait_until_idle()
    alone = [driver.run(PROMPT[: 8 + n])[0] for n in range(6)]
    assert [len(answer) for answer in answers] == [len(answer) for answer in alone] == [16] * 6
    for request_id in ids:
        assert [chunk.is_last for chunk in driver.chunks[request_id]].count(True) == 1
        assert driver.chunks[request_id][-1].is_last


def test_greedy_answers_repeat(driver):
    assert driver.run()[0] == driver.run()[0]


def test_a_seed_repeats_its_answer_and_another_one_does_not(driver):
    # Alone: beside others a matrix has other rows, and bfloat16 rounds otherwise.
    sampled = Sampling(max_tokens=16, temperature=1.0, seed=7, ignore_eos=True)
    first = driver.run(sampling=sampled)[0]
    assert driver.run(sampling=sampled)[0] == first
    other_seed = Sampling(max_tokens=16, temperature=1.0, seed=8, ignore_eos=True)
    assert driver.run(sampling=other_seed)[0] != first


def test_without_a_seed_answers_differ(driver):
    if isinstance_of(driver, "FakeEngine"):
        pytest.skip("the fake draws only with a seed")
    sampled = Sampling(max_tokens=16, temperature=1.0, ignore_eos=True)
    assert driver.run(sampling=sampled)[0] != driver.run(sampling=sampled)[0]


def test_a_short_request_ends_while_a_long_one_decodes(driver):
    def joins():
        long = driver.submit(sampling=LONG)
        driver.wait_for(lambda: driver.tokens(long))
        driver.run(sampling=Sampling(max_tokens=2, temperature=0.0, ignore_eos=True))
        was_over = driver.is_done(long)
        driver.engine.cancel(long)
        return driver.finish(long)[1].finish_reason == "cancelled" and not was_over

    until_amid(joins)


def test_one_step_can_make_tokens_for_several_requests(driver):
    def share():
        first = driver.submit(sampling=LONG)
        second = driver.submit(PROMPT[1:], sampling=LONG)

        def did():
            return any({first, second} <= set(ids) for ids in driver.lists)

        driver.wait_for(lambda: did() or driver.is_done(first))
        driver.engine.cancel(first)
        driver.engine.cancel(second)
        driver.finish(second)
        return did()

    until_amid(share)


def test_a_cancelled_request_makes_no_more_tokens(driver):
    def cancel():
        request_id = driver.submit(sampling=LONG)
        driver.wait_for(lambda: len(driver.tokens(request_id)) >= 3)
        driver.engine.cancel(request_id)
        tokens, last = driver.finish(request_id)
        driver.wait_until_idle()
        count = len(driver.chunks[request_id])
        driver.run()
        assert len(driver.chunks[request_id]) == count
        if last.finish_reason == "length":
            return False
        assert last.finish_reason == "cancelled"
        assert len(tokens) < LONG.max_tokens
        return True

    until_amid(cancel)


def test_cancelling_twice_or_an_unknown_or_ended_request_does_nothing(driver):
    def cancel():
        request_id = driver.submit(sampling=LONG)
        driver.engine.cancel("nobody")
        driver.engine.cancel(request_id)
        driver.engine.cancel(request_id)
        reason = driver.finish(request_id)[1].finish_reason
        driver.engine.cancel(request_id)
        driver.run()
        assert [chunk.is_last for chunk in driver.chunks[request_id]].count(True) == 1
        return reason == "cancelled"

    until_amid(cancel)


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(driver):
    free = driver.run()[0]
    stop = next(token for token in free if token != driver.options.eos_token_ids[0])
    stopped = Sampling(max_tokens=16, temperature=0.0, stop_token_ids=(stop,), ignore_eos=True)
    tokens, last = driver.run(sampling=stopped)
    assert tokens == free[: free.index(stop)]
    assert last.finish_reason == "stop"


@pytest.mark.parametrize("extra_stops", [(), (3,)])
def test_eos_ends_the_answer_unless_it_is_ignored(engine_kind, shared, extra_stops):
    free = shared.run()[0]
    eos = free[2]
    running = opened((engine_kind[0], engine_kind[1], eos))
    try:
        stops = tuple(token for token in extra_stops if token not in free)
        tokens, last = running.run(sampling=Sampling(max_tokens=16, temperature=0.0, stop_token_ids=stops))
        assert (tokens, last.finish_reason) == (free[: free.index(eos)], "stop")
        ignored = Sampling(max_tokens=16, temperature=0.0, stop_token_ids=stops, ignore_eos=True)
        tokens, last = running.run(sampling=ignored)
        assert (tokens, last.finish_reason) == (free, "length")
    finally:
        running.engine.close()


def test_penalties_change_a_repetitive_answer(driver):
    if isinstance_of(driver, "FakeEngine"):
        pytest.skip("the fake echoes whatever the penalties are")
    plain = driver.run()[0]
    for name, value in (("repetition_penalty", 1.9), ("presence_penalty", 2.0), ("frequency_penalty", 2.0)):
        sampling = Sampling(max_tokens=16, temperature=0.0, ignore_eos=True, **{name: value})
        tokens = driver.run(sampling=sampling)[0]
        assert len(tokens) == 16
        assert len(set(tokens)) >= len(set(plain))


@pytest.mark.parametrize(
    "change",
    [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 0.01}],
    ids=lambda change: next(iter(change)),
)
def test_sampling_narrowed_to_one_token_is_greedy(driver, change):
    if isinstance_of(driver, "FakeEngine"):
        pytest.skip("the fake draws from the prompt")
    values = {"max_tokens": 8, "temperature": 1.0, "seed": 3, "ignore_eos": True} | change
    assert driver.run(sampling=Sampling(**values))[0] == driver.run()[0][:8]


# Beside the ends: what only 64 bits can tell from them, and what has a meaning of its own.
ODD_VALUES = {
    "top_p": (1e-300, 1e-45, 1 - 1e-9),
    "top_k": (-1, 1, 127, 128, 129),
    "min_p": (1e-300, 1e-40, 1 - 1e-9),
    "temperature": (1e-300, 0.01),
    "presence_penalty": (1e-300, -1e-40),
    "frequency_penalty": (1e-300, -1e-40),
    "repetition_penalty": (1 + 1e-9,),
    "seed": (-1, 2**31, 2**32, 2**53 + 1),
}
EXTREMES = {key: (*ends, *ODD_VALUES.get(key, ())) for key, ends in RANGES.items() if "tokens" not in key}


def extreme_requests() -> Iterator[dict]:
    """Each extreme alone, greedy and sampled, then with every extreme of every other parameter."""
    for key, values in EXTREMES.items():
        for value in values:
            yield {key: value}
            yield {"temperature": 0, key: value}
    for (first, values), (second, others) in itertools.combinations(EXTREMES.items(), 2):
        for value, other in itertools.product(values[:2], others[:2]):
            yield {first: value, second: other}
    for side in (0, 1):
        yield {key: values[side] for key, values in EXTREMES.items()}
        yield {key: values[side] for key, values in EXTREMES.items()} | {"temperature": 2}


def test_every_extreme_of_every_documented_range_is_answered(driver):
    restarts = driver.engine.stats().restarts
    vocabulary = 128 if isinstance_of(driver, "OpenVinoEngine") else 2**31
    for given in extreme_requests():
        sampling = parse_parameters(json.dumps({"max_tokens": 3, "min_tokens": 2} | given), 64).sampling
        tokens, last = driver.run(PROMPT[:8], sampling)
        assert last.error is None, given
        assert 2 <= len(tokens) <= 3, given
        assert all(0 <= token < vocabulary for token in tokens), given
    assert driver.engine.stats().restarts == restarts


def test_below_min_tokens_neither_eos_nor_a_stop_token_ends_an_answer(driver):
    free = driver.run()[0]
    for changes in ({"ignore_eos": False}, {"ignore_eos": True}):
        # The first of the free answer would end it at once.
        stops = (free[0], driver.options.eos_token_ids[0])
        stopped = Sampling(max_tokens=16, temperature=0.0, stop_token_ids=stops, **changes)
        assert driver.run(sampling=stopped)[0] == ()
        for least in (1, 7, 16):
            tokens, last = driver.run(sampling=replace(stopped, min_tokens=least))
            assert least <= len(tokens) <= 16
            assert not set(stops) & set(tokens)
            assert last.finish_reason in ("stop", "length")


def test_min_tokens_hold_for_drawn_answers_too(driver):
    if isinstance_of(driver, "FakeEngine"):
        pytest.skip("the fake's end does not depend on the draw")
    # Nearly every token would end the answer, and the distribution is flat: a free draw takes one at once.
    stops = tuple(range(8, 128))
    for seed in range(12):
        drawn = Sampling(max_tokens=12, min_tokens=10, temperature=2.0, seed=seed, stop_token_ids=stops)
        tokens, last = driver.run(sampling=drawn)
        assert 10 <= len(tokens) <= 12, seed
        assert not set(stops) & set(tokens)
        assert last.error is None
        assert driver.run(sampling=drawn)[0] == tokens


def test_min_tokens_changes_nothing_where_the_answer_is_longer(driver):
    assert driver.run(sampling=replace(GREEDY, min_tokens=5))[0] == driver.run()[0]


def isinstance_of(driver: Driver, name: str) -> bool:
    return type(driver.engine).__name__ == name


@pytest.mark.parametrize("own", [{"max_num_seqs": 2, "max_waiting": 3}], indirect=True)
def test_a_full_queue_refuses_and_names_the_setting(own):
    def fill():
        ids = [own.submit(PROMPT[n:], LONG) for n in range(5)]
        try:
            own.finish(own.submit())
        except UnavailableError as error:
            refused = str(error)
        else:
            refused = ""
        stats = own.engine.stats()
        own.engine.cancel(ids[0])
        wait_until(lambda: sum((own.engine.stats().running, own.engine.stats().waiting)) < 5)
        late = own.submit(sampling=Sampling(max_tokens=1, temperature=0.0))
        for request_id in ids:
            own.engine.cancel(request_id)
        own.finish(late)
        reasons = {own.finish(request_id)[1].finish_reason for request_id in ids}
        own.wait_until_idle()
        if not refused or reasons != {"cancelled"}:
            return False
        assert re.search(r"requests wait already.*max_waiting", refused)
        assert (stats.running + stats.waiting, stats.running <= 2) == (5, True)
        return True

    until_amid(fill)


@pytest.mark.parametrize("own", [{"max_num_seqs": 1, "max_waiting": 4}], indirect=True)
def test_each_request_that_has_run_is_counted_with_the_time_that_it_waited(own):
    before = own.engine.stats()
    for request_id in [own.submit(PROMPT[n:]) for n in range(3)]:
        own.finish(request_id)
    wait_until(lambda: own.engine.stats().waits - before.waits == 3)
    # The second waited for the first.
    assert own.engine.stats().wait_seconds > before.wait_seconds


@pytest.mark.parametrize("own", [{"max_num_seqs": 1, "max_waiting": 4}], indirect=True)
def test_a_request_says_once_how_long_it_waited(own):
    requests = [own.submit(PROMPT[n:]) for n in range(2)]
    for request_id in requests:
        own.finish(request_id)
    first, second = (
        [chunk.waited for chunk in own.chunks[one] if chunk.waited is not None] for one in requests
    )
    assert (len(first), len(second)) == (1, 1)
    # The second waited for the first.
    assert second[0] > first[0] >= 0


@pytest.mark.parametrize("own", [{"max_num_seqs": 1, "max_waiting": 4}], indirect=True)
def test_a_waiting_request_can_be_cancelled_and_the_next_one_runs(own):
    def cancel():
        long, waiting = own.submit(sampling=LONG), own.submit(PROMPT[1:])
        last = own.submit(PROMPT[2:])
        own.wait_for(lambda: own.tokens(long))
        own.engine.cancel(waiting)
        tokens, chunk = own.finish(waiting)
        own.engine.cancel(long)
        assert own.finish(last)[1].finish_reason == "length"
        if own.finish(long)[1].finish_reason != "cancelled":
            return False
        assert (tokens, chunk.finish_reason) == ((), "cancelled")
        return True

    until_amid(cancel)


def test_an_id_in_use_is_refused(driver):
    def repeat():
        request_id = driver.submit(sampling=LONG)
        try:
            driver.engine.submit(EngineRequest(request_id, PROMPT, GREEDY))
        except InvalidInputError as error:
            said = str(error)
        else:
            said = ""
        driver.engine.cancel(request_id)
        driver.finish(request_id)
        driver.wait_until_idle()
        assert "in use" in said or not said
        return bool(said)

    until_amid(repeat)


def test_more_requests_than_places_all_end(driver):
    ids = [driver.submit(PROMPT[n % 20 :]) for n in range(MAX_NUM_SEQS + MAX_WAITING)]
    assert all(driver.finish(request_id)[1].finish_reason == "length" for request_id in ids)
    assert all(len(driver.tokens(request_id)) == 16 for request_id in ids)


def test_a_prompt_longer_than_one_step_may_hold_is_answered(driver):
    long = tuple(5 + n % 50 for n in range(MAX_MODEL_LEN - 20))
    tokens, last = driver.run(long)
    assert (len(tokens), last.finish_reason) == (16, "length")


def test_counts_return_to_zero(driver):
    ids = [driver.submit(PROMPT[n:]) for n in range(4)]
    for request_id in ids:
        driver.finish(request_id)
    driver.wait_until_idle()
    stats = driver.engine.stats()
    assert (stats.is_ready, stats.waiting, stats.running) == (True, 0, 0)
    wait_until(lambda: driver.engine.stats().kv_cache_usage == 0.0)


def test_requests_of_many_threads_get_their_own_answers(driver):
    expected = {
        n: driver.run(PROMPT[n:], Sampling(max_tokens=4, temperature=0.0, ignore_eos=True))[0]
        for n in range(4)
    }
    failures: list[str] = []

    def ask(number: int) -> None:
        for round_ in range(3):
            request_id = f"thread-{number}-{round_}"
            sampling = Sampling(max_tokens=4, temperature=0.0, ignore_eos=True)
            driver.engine.submit(EngineRequest(request_id, PROMPT[number:], sampling))
            tokens, last = driver.finish(request_id)
            if last.finish_reason != "length" or len(tokens) != len(expected[number]):
                failures.append(request_id)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert failures == []


def test_close_cancels_what_runs_and_ends_the_stream(engine_kind):
    def close():
        own = opened(engine_kind)
        slow_down(own)
        ids = [own.submit(PROMPT[n:], LONG) for n in range(MAX_NUM_SEQS + 2)]
        own.wait_for(lambda: own.tokens(ids[0]))
        own.engine.close()
        own.wait_for(own.has_ended)
        reasons = {own.finish(request_id)[1].finish_reason for request_id in ids}
        with pytest.raises(TriremeError):
            own.submit()
        own.engine.close()
        assert reasons <= {"cancelled", "length"}
        return reasons == {"cancelled"}

    until_amid(close)


def test_prompts_that_begin_alike_are_answered_with_prefix_caching(engine_kind, own):
    long = tuple(5 + (7 * n) % 50 for n in range(200))
    answers = [own.run((*long, *end)) for end in ((), (), (9,), (9, 11))]
    assert all((len(tokens), last.finish_reason) == (16, "length") for tokens, last in answers)
    stats = own.engine.stats()
    assert 0 <= stats.prefix_cache_hits <= stats.prefix_cache_queries


def merge(model, folder: Path) -> None:
    """Adds a LoRA to the weights of transformers' model: alpha / rank * B A."""
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            up = tensors[name.replace("lora_A", "lora_B")]
            layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            model.get_submodule(layer).weight.data += config["lora_alpha"] / config["r"] * up @ down


# Engines that say of each request what their prefix cache had.
COUNTING = ("FakeEngine", "VllmEngine")


def said_cached(driver: Driver, request_id: str) -> int | None:
    """What the first chunk of a request says; checks that no later one says anything else."""
    said = [chunk.cached_tokens for chunk in driver.chunks[request_id]]
    assert set(said[1:]) <= {said[0], None}
    return said[0]


def cached_of(driver: Driver, *args, **kwargs) -> int | None:
    request_id = driver.submit(*args, **kwargs)
    assert driver.finish(request_id)[1].error is None
    return said_cached(driver, request_id)


def test_a_prompt_that_comes_again_was_cached_and_for_another_salt_it_was_not(own):
    long = tuple(5 + (7 * n) % 50 for n in range(200))
    said = [cached_of(own, long, salt=salt) for salt in ("a", "a", "b", "b")]
    if not any(isinstance_of(own, name) for name in COUNTING):
        assert said == [None] * 4
        return
    assert said[0] == said[2] == 0
    assert 0 < said[1] == said[3] <= len(long)
    begun_alike = cached_of(own, (*long[:100], *range(60, 100)), salt="a")
    assert 0 < begun_alike <= 100
    assert own.engine.stats().prefix_cache_hits == said[1] + said[3] + begun_alike


@pytest.mark.parametrize("own", [{"prefix_caching": False}], indirect=True)
def test_without_prefix_caching_nothing_is_cached(own):
    counts = any(isinstance_of(own, name) for name in COUNTING)
    assert [cached_of(own) for _ in range(2)] == [0 if counts else None] * 2


@pytest.mark.parametrize("own", [{"max_num_seqs": 1}], indirect=True)
def test_a_request_whose_prompt_was_never_read_says_nothing_of_the_cache(own):
    def cancel():
        long = own.submit(sampling=LONG)
        own.wait_for(lambda: own.tokens(long))
        waiting = own.submit()
        own.engine.cancel(waiting)
        own.finish(waiting)
        own.engine.cancel(long)
        if own.finish(long)[1].finish_reason != "cancelled":
            return False
        assert said_cached(own, waiting) is None
        return True

    until_amid(cancel)


LOGGED = replace(GREEDY, logprobs=0)
DRAWN = Sampling(max_tokens=16, temperature=0.7, top_p=0.9, seed=5, ignore_eos=True, logprobs=0)
# bfloat16 and 16 bits of KV cache against float32; 0.19 was the most in 5,120 tokens drawn at temperatures 1 and 2.
LOGPROB_ERROR = 0.4


def logged(driver: Driver, *args, **kwargs) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Tokens of an answer and their log-probabilities."""
    request_id = driver.submit(*args, **kwargs)
    tokens, _ = driver.finish(request_id)
    chunks = driver.chunks[request_id]
    assert all(len(one.logprobs) == len(one.top_logprobs) == len(one.tokens) for one in chunks)
    return tokens, tuple(one for chunk in chunks for one in chunk.logprobs)


def expected_logprobs(kind: tuple[str, Path, int], prompt, tokens, adapter: str = "") -> list[float]:
    """What the model itself gives the tokens: the fake by its rule, the others by transformers in float32.

    adapter: merged into the weights."""
    if kind[0] == "fake":
        return [fake_logprobs(token, 1)[0][1] for token in tokens]
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(kind[1], dtype=torch.float32).eval()
    if adapter:
        merge(model, kind[1] / "adapters" / adapter)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.float(), -1)[range(len(tokens)), list(tokens)].tolist()


@pytest.mark.parametrize(
    "sampling",
    [
        LOGGED,
        DRAWN,
        replace(DRAWN, temperature=2.0, top_p=1.0, top_k=40),
        replace(LOGGED, repetition_penalty=1.8, presence_penalty=1.5),
        replace(LOGGED, min_tokens=16, ignore_eos=False),
    ],
    ids=["greedy", "drawn", "hot", "penalties", "min_tokens"],
)
def test_log_probabilities_are_those_of_the_model_whatever_the_sampling_is(engine_kind, driver, sampling):
    for prompt in (PROMPT, PROMPT[:9]):
        tokens, said = logged(driver, prompt, sampling)
        assert len(tokens) == 16
        assert all(one <= 0 for one in said)
        assert said == pytest.approx(expected_logprobs(engine_kind, prompt, tokens), abs=LOGPROB_ERROR)


@pytest.mark.parametrize("sampling", [LOGGED, DRAWN], ids=["greedy", "drawn"])
def test_log_probabilities_in_a_batch_are_those_of_each_token_alone(engine_kind, driver, sampling):
    ids = [driver.submit(PROMPT[n:], sampling) for n in range(4)]
    ids += [driver.submit(PROMPT, replace(sampling, logprobs=None))]
    for n, request_id in enumerate(ids[:4]):
        tokens, _ = driver.finish(request_id)
        said = [one for chunk in driver.chunks[request_id] for one in chunk.logprobs]
        assert said == pytest.approx(expected_logprobs(engine_kind, PROMPT[n:], tokens), abs=LOGPROB_ERROR)
    driver.finish(ids[4])
    assert all(chunk.logprobs == chunk.top_logprobs == () for chunk in driver.chunks[ids[4]])


def test_asking_for_log_probabilities_changes_no_answer(driver):
    for sampling in (LOGGED, DRAWN):
        assert (
            logged(driver, sampling=sampling)[0] == driver.run(sampling=replace(sampling, logprobs=None))[0]
        )


def test_the_token_that_ends_an_answer_has_no_log_probability(driver):
    free = driver.run()[0]
    tokens, said = logged(driver, sampling=replace(LOGGED, stop_token_ids=(free[5],)))
    assert tokens == free[: free.index(free[5])]
    assert len(said) == len(tokens)


# Engines that name alternatives of a token.
NAMING = ("FakeEngine", "VllmEngine")


def test_alternatives_are_named_likeliest_first_or_refused(driver):
    asked = replace(GREEDY, logprobs=3)
    if not any(isinstance_of(driver, name) for name in NAMING):
        with pytest.raises(InvalidInputError, match=r"top_logprobs must be 0.* got 3"):
            driver.submit(sampling=asked)
        return
    request_id = driver.submit(sampling=asked)
    tokens, _ = driver.finish(request_id)
    chunks = driver.chunks[request_id]
    said = [one for chunk in chunks for one in chunk.logprobs]
    rows = [row for chunk in chunks for row in chunk.top_logprobs]
    assert len(rows) == len(tokens) == 16
    for token, logprob, row in zip(tokens, said, rows, strict=True):
        chances = [one for _, one in row]
        assert len(row) == len(dict(row)) == 3
        assert chances == sorted(chances, reverse=True)
        # Greedy: the chosen one is the likeliest.
        assert row[0] == (token, logprob)
        assert sum(math.exp(one) for one in chances) <= 1.001


def test_the_table_of_contracts_says_how_many_alternatives_an_engine_names(engine_kind, driver):
    most = most_alternatives([LOGPROBS], engine_kind[0])
    assert most == (20 if any(isinstance_of(driver, name) for name in NAMING) else 0)
    driver.run(sampling=replace(GREEDY, max_tokens=1, logprobs=most))


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "is": {"type": "boolean"}},
    "required": ["name", "is"],
    "additionalProperties": False,
}


def form_of(**structured) -> Sampling:
    given = json.dumps({"max_tokens": 200, "temperature": 0, "structured_outputs": structured})
    return parse_parameters(given, 64).sampling


def text_of(driver: Driver, tokens) -> str:
    return LlmTokenizer.load(driver.options.model_dir).decode(tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_is_held_to_its_form_and_ends_with_it(driver, temperature):
    wanted = {
        "choice": (
            ["rood", "de blauwe", 'a "b" \\ c'],
            lambda text: text in ("rood", "de blauwe", 'a "b" \\ c'),
        ),
        "json": (PERSON, lambda text: set(json.loads(text)) == {"name", "is"}),
    }
    if not isinstance_of(driver, "FakeEngine"):
        wanted |= {
            "regex": ("[a-f]{3,5}-(yes|no)", lambda text: re.fullmatch("[a-f]{3,5}-(yes|no)", text)),
            "grammar": ('root ::= "x" more\nmore ::= "y" | "z"', lambda text: text in ("xy", "xz")),
        }
    for kind, (form, holds) in wanted.items():
        sampling = replace(form_of(**{kind: form}), temperature=temperature, seed=3)
        tokens, last = driver.run(sampling=sampling)
        assert (last.error, last.finish_reason) == (None, "stop"), kind
        assert holds(text_of(driver, tokens)), (kind, text_of(driver, tokens))


def test_held_answers_are_free_of_each_other_and_of_free_ones(driver):
    free = driver.run()[0]
    ids = [driver.submit(sampling=form_of(choice=[f"answer {n}"])) for n in range(4)]
    beside = driver.submit()
    assert [text_of(driver, driver.finish(one)[0]) for one in ids] == [f"answer {n}" for n in range(4)]
    assert driver.finish(beside)[0][:4] == free[:4]


def test_max_tokens_cuts_an_answer_that_has_not_its_form_yet(driver):
    sampling = replace(form_of(choice=["one of several words"]), max_tokens=3)
    tokens, last = driver.run(sampling=sampling)
    assert (len(tokens), last.finish_reason) == (3, "length")
    assert "one of several words".startswith(text_of(driver, tokens))


def test_a_form_that_the_engine_cannot_hold_fails_its_request_alone(driver):
    restarts = driver.engine.stats().restarts
    beside = driver.submit(sampling=LONG)
    for form in (form_of(regex="(?=a)b"), form_of(grammar="root ::= nothing"), form_of(regex="(((")):
        error = driver.run(sampling=form)[1].error
        assert isinstance(error, InvalidInputError)
        assert form.structured.kind in str(error)
    assert driver.finish(beside)[1].finish_reason == "length"
    assert driver.run(sampling=form_of(choice=["still here"]))[1].finish_reason == "stop"
    assert driver.engine.stats().restarts == restarts


def test_log_probabilities_of_a_held_answer_are_the_models(engine_kind, driver):
    tokens, said = logged(driver, PROMPT, replace(form_of(choice=["red", "blue"]), logprobs=0))
    assert len(tokens) == len(said)
    assert said == pytest.approx(expected_logprobs(engine_kind, PROMPT, tokens), abs=LOGPROB_ERROR)


def test_a_held_request_can_be_cancelled_while_its_form_is_tried(driver):
    ids = [driver.submit(sampling=form_of(choice=[f"word {n}"])) for n in range(3)]
    for request_id in ids:
        driver.engine.cancel(request_id)
    assert {driver.finish(request_id)[1].finish_reason for request_id in ids} <= {"cancelled", "stop"}
    driver.wait_until_idle()


def test_an_unknown_engine_is_refused_with_the_known_ones(engine_kind):
    with pytest.raises(SettingError, match="fake, openvino, vllm"):
        open_engine("steam", options_of(engine_kind))


ADAPTERS = ("one", "two")


@pytest.fixture(scope="module")
def adapted_kind(engine_kind, tmp_path_factory) -> tuple[str, Path, int]:
    """As engine_kind, with a model that has ADAPTERS."""
    name, folder, eos = engine_kind
    if name == "openvino":
        folder = tmp_path_factory.mktemp("adapted")
        write_ascii_tokenizer(folder)
        write_tiny_loras(folder)
        write_tiny_llm(folder, adapters=ADAPTERS)
    elif name == "vllm" and not all((folder / "adapters" / one).is_dir() for one in ADAPTERS):
        pytest.skip(f"ENGINE_TEST_MODEL has no adapters named {' and '.join(ADAPTERS)}")
    return name, folder, eos


@pytest.fixture(scope="module")
def adapted(adapted_kind) -> Iterator[Driver]:
    running = opened(adapted_kind, adapters=ADAPTERS, adapter_rank=8)
    yield running
    running.engine.close()


def test_an_adapter_answers_as_it_does_alone_whatever_was_cached_before(adapted_kind, adapted):
    order = ("", "one", "two", "one", "", "two", "")
    said = [adapted.run(adapter=adapter)[0] for adapter in order]
    assert len({*said}) == 3
    # Where nothing is cached, nobody's prefix is another's.
    bare = opened(adapted_kind, adapters=ADAPTERS, adapter_rank=8, prefix_caching=False)
    try:
        alone = {adapter: bare.run(adapter=adapter)[0] for adapter in ("two", "", "one")}
    finally:
        bare.engine.close()
    assert said == [alone[adapter] for adapter in order]


def test_requests_with_different_adapters_in_one_batch_are_answered_as_each_alone(adapted):
    wanted = [(PROMPT[start:], adapter) for adapter in ("", *ADAPTERS) for start in (0, 3)]
    alone = [adapted.run(prompt, adapter=adapter)[0] for prompt, adapter in wanted]
    ids = [adapted.submit(prompt, adapter=adapter) for prompt, adapter in wanted]
    assert [adapted.finish(one)[0] for one in ids] == alone


def test_a_prompt_that_was_cached_for_one_adapter_is_not_for_another(adapted):
    long = tuple(6 + (5 * n) % 50 for n in range(200))
    said = [cached_of(adapted, long, adapter=adapter) for adapter in ("one", "two", "", "two", "one")]
    if any(isinstance_of(adapted, name) for name in COUNTING):
        assert said[:3] == [0, 0, 0] and min(said[3:]) > 0
    else:
        assert said == [None] * 5


@pytest.mark.parametrize("adapter", ["", *ADAPTERS])
def test_log_probabilities_are_those_of_the_adapter_merged_into_the_model(adapted_kind, adapted, adapter):
    tokens, said = logged(adapted, PROMPT, LOGGED, adapter=adapter)
    expected = expected_logprobs(adapted_kind, PROMPT, tokens, adapter)
    assert said == pytest.approx(expected, abs=LOGPROB_ERROR)


def test_an_adapter_that_is_not_there_is_refused_with_those_that_are(adapted, driver):
    with pytest.raises(InvalidInputError, match="'three' is no adapter of this model; there are: one, two"):
        adapted.submit(adapter="three")
    with pytest.raises(InvalidInputError, match="'one' is no adapter of this model; it has none"):
        driver.submit(adapter="one")
    assert adapted.run(adapter="one")[1].error is None


def test_an_id_beyond_the_vocabulary_chooses_no_adapter(adapted_kind, adapted):
    """To a graph of ours the first token's id says which adapter counts."""
    if not isinstance_of(adapted, "OpenVinoEngine"):
        pytest.skip("the choice is no part of the prompt")
    size = json.loads((adapted_kind[1] / "config.json").read_text())["vocab_size"]
    for prompt in ((PROMPT[0] + size, *PROMPT[1:]), (*PROMPT, PROMPT[0] + 2 * size)):
        for adapter in ("", "one"):
            with pytest.raises(InvalidInputError, match=f"the ids of the model's tokens end at {size - 1}"):
                adapted.submit(prompt, adapter=adapter)
    assert adapted.run((size - 1, *PROMPT))[1].error is None


def test_an_adapter_goes_with_every_penalty_or_the_one_in_the_way_is_named(adapted):
    repeating = replace(GREEDY, repetition_penalty=1.5)
    if isinstance_of(adapted, "OpenVinoEngine"):
        with pytest.raises(InvalidInputError, match="repetition_penalty must be 1 with an adapter"):
            adapted.submit(sampling=repeating, adapter="one")
        assert adapted.run(sampling=repeating)[1].error is None
    else:
        assert adapted.run(sampling=repeating, adapter="one")[1].error is None
    others = replace(GREEDY, presence_penalty=1.5, frequency_penalty=0.5, min_p=0.1, temperature=0.8, seed=3)
    assert adapted.run(sampling=others, adapter="one")[1].error is None
