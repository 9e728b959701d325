import queue
import threading
from pathlib import Path

import pytest

from trireme.errors import InvalidInputError, UnavailableError
from trireme.generate.chat import ChatTemplate
from trireme.generate.engine import EngineOptions, Sampling
from trireme.generate.fake import FakeEngine, Knobs, fake_logprobs
from trireme.generate.messages import Message
from trireme.generate.sampling import Parameters
from trireme.generate.service import GenerateRequest, Generator, ServiceOptions
from trireme.generate.tokenizer import LlmTokenizer
from trireme.generate.warm_up import WarmUp

ROOT = Path(__file__).parents[3]
EOS = 2
SECONDS = 30.0


class Answer:
    """What one request's receiver got."""

    def __init__(self):
        self.pieces = []
        self.done = threading.Event()

    def __call__(self, piece):
        self.pieces.append(piece)
        if piece.is_last:
            self.done.set()

    def wait(self):
        assert self.done.wait(SECONDS)
        return self

    @property
    def text(self):
        return "".join(piece.text for piece in self.pieces)

    @property
    def last(self):
        return self.pieces[-1]


@pytest.fixture
def make(byte_level):
    """Makes a generator over a fake engine; closes it after the test."""
    opened = []

    def made(knobs=None, template=None, options=None, **engine):
        values = {
            "model_dir": ROOT / "tests/chat_tokenizer",
            "eos_token_ids": (EOS,),
            "max_model_len": 64,
        } | engine
        fake = FakeEngine(EngineOptions(**values), knobs or Knobs())
        limits = options or ServiceOptions(values["max_model_len"], chat_text_input=template is not None)
        generator = Generator(fake, byte_level, template, limits)
        opened.append(generator)
        return generator, fake

    yield made
    for generator in opened:
        generator.close()


def ask(generator, text="one two three", *, stream=True, stop=(), messages=None, tenant="t", **sampling):
    answer = Answer()
    shows_stop = sampling.pop("shows_stop", False)
    parameters = Parameters(Sampling(**({"max_tokens": 1000} | sampling)), tuple(stop), shows_stop)
    request = GenerateRequest(parameters, None if messages else text, messages, stream, tenant)
    answer.id = generator.accept(request, answer)
    return answer


def test_a_streamed_answer_comes_in_pieces_and_ends_once(make):
    answer = ask(make()[0]).wait()
    assert answer.text == "one two three"
    assert len(answer.pieces) > 2
    assert [piece.is_last for piece in answer.pieces].count(True) == 1
    assert (answer.last.finish_reason, answer.last.input_tokens) == ("stop", answer.last.output_tokens)


def test_an_answer_that_is_not_streamed_comes_as_one_piece(make):
    answer = ask(make()[0], "漢字 🙂 oars", stream=False).wait()
    assert [(piece.text, piece.finish_reason) for piece in answer.pieces] == [("漢字 🙂 oars", "stop")]


def test_pieces_hold_whole_characters(make):
    answer = ask(make()[0], "🙂漢字é").wait()
    assert answer.text == "🙂漢字é"
    assert all("\ufffd" not in piece.text for piece in answer.pieces)


def test_a_stop_string_ends_the_answer_before_it_and_frees_the_engine(make):
    generator, fake = make(Knobs(step_seconds=0.001))
    for stream in (True, False):
        answer = ask(generator, "one two three four five", stream=stream, stop=["three"]).wait()
        assert (answer.text, answer.last.finish_reason) == ("one two ", "stop")
        shown = ask(generator, "one two three four", stream=stream, stop=["three"], shows_stop=True).wait()
        assert (shown.text, shown.last.finish_reason) == ("one two three", "stop")
        assert shown.last.text.endswith("three")
    wait_until(lambda: fake.stats().running == 0)
    later = ask(generator, "and again").wait()
    assert later.text == "and again"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stop", [(), ("three",)])
def test_the_last_piece_says_what_the_prefix_cache_had_for_the_tenant(make, stream, stop):
    generator, _ = make()

    def cached(text, tenant):
        return ask(generator, text, stream=stream, stop=stop, tenant=tenant).wait().last.cached_tokens

    said = [cached("one two three", tenant) for tenant in ("a", "a", "b")]
    whole = generator.count_tokens(GenerateRequest(Parameters(Sampling(1)), "one two three"))
    assert said == [0, whole, 0]
    assert 0 < cached("one two four", "a") < whole


def test_pieces_before_the_last_say_nothing_of_the_cache(make):
    answer = ask(make()[0]).wait()
    assert {piece.cached_tokens for piece in answer.pieces[:-1]} == {None}


def wait_until(condition):
    done = threading.Event()
    for _ in range(3000):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("did not happen in time")


def test_max_tokens_are_capped_by_the_context(make):
    answer = ask(make()[0], ignore_eos=True).wait()
    assert answer.last.finish_reason == "length"
    assert answer.last.input_tokens + answer.last.output_tokens == 64


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(make):
    with pytest.raises(InvalidInputError, match=r"has \d+ tokens.* may have 64"):
        ask(make()[0], "oars and more oars " * 40)


def test_a_text_of_which_the_tokenizer_leaves_nothing_is_refused(make, monkeypatch):
    generator, _ = make()
    monkeypatch.setattr(LlmTokenizer, "encode", lambda self, text, *, add_special_tokens: ())
    with pytest.raises(InvalidInputError, match="the prompt has no token that the model knows"):
        ask(generator, "  ", ignore_eos=True)
    monkeypatch.undo()
    assert ask(generator).wait().text == "one two three"


def test_a_text_over_the_byte_limit_is_refused_before_it_is_tokenized(make):
    generator, _ = make(options=ServiceOptions(64, max_text_bytes=10))
    with pytest.raises(InvalidInputError, match="11 bytes, the limit is 10"):
        ask(generator, "漢字漢ab")
    with pytest.raises(InvalidInputError, match="text_input is empty"):
        ask(generator, "")


def test_messages_go_through_the_template_and_text_too_when_asked(make, byte_level):
    template = ChatTemplate("{{ messages[0].role }}: {{ messages[0].content }}", byte_level)
    generator, _ = make(template=template)
    assert ask(generator, messages=(Message("user", "hi"),)).wait().text == "user: hi"
    assert ask(generator, "hi").wait().text == "user: hi"
    plain, _ = make(template=template, options=ServiceOptions(64, chat_text_input=False))
    assert ask(plain, "hi").wait().text == "hi"


def test_messages_without_a_template_are_refused(make):
    with pytest.raises(InvalidInputError, match="no chat template; send text_input"):
        ask(make()[0], messages=(Message("user", "hi"),))


def test_a_cancelled_request_says_so_and_makes_no_more(make):
    generator, fake = make(Knobs(step_seconds=0.002))
    answer = ask(generator, ignore_eos=True, max_tokens=1000)
    wait_until(lambda: answer.pieces)
    generator.cancel(answer.id)
    assert answer.wait().last.finish_reason == "cancelled"
    count = len(answer.pieces)
    wait_until(lambda: fake.stats().running == 0)
    ask(generator).wait()
    assert len(answer.pieces) == count


def test_a_full_queue_is_refused_and_leaves_nothing_behind(make):
    generator, fake = make(max_num_seqs=1, max_waiting=1)
    fake.pause()
    first, second = ask(generator), ask(generator)
    with pytest.raises(UnavailableError, match="max_waiting"):
        ask(generator)
    fake.resume()
    assert first.wait().text == second.wait().text == "one two three"


def test_a_failed_step_gives_its_requests_the_error_and_the_next_ones_an_answer(make, byte_level):
    bad = byte_level.encode("☠", add_special_tokens=False)[-1]
    generator, fake = make(Knobs(failing_token=bad))
    failed = ask(generator, "☠").wait()
    assert isinstance(failed.last.error, UnavailableError)
    wait_until(lambda: fake.stats().is_ready)
    assert ask(generator).wait().text == "one two three"
    assert fake.stats().restarts == 1


def test_a_receiver_that_fails_harms_no_other(make):
    generator, fake = make(Knobs(step_seconds=0.001))

    def broken(piece):
        raise ValueError("receiver is gone")

    parameters = Parameters(Sampling(max_tokens=1000, ignore_eos=True))
    generator.accept(GenerateRequest(parameters, "one"), broken)
    assert ask(generator).wait().text == "one two three"
    wait_until(lambda: fake.stats().running == 0)
    assert generator.is_ready()


def test_tenants_do_not_share_prefixes_and_salts_tell_no_names(make):
    generator, fake = make()
    salts = []
    submit = fake.submit
    fake.submit = lambda request: (salts.append(request.cache_salt), submit(request))[1]
    for tenant in ("one", "two", "one"):
        ask(generator, tenant=tenant).wait()
    assert salts[0] == salts[2] != salts[1]
    assert fake.stats().prefix_cache_hits == fake.stats().prefix_cache_queries // 3
    other, other_fake = make()
    submit_other = other_fake.submit
    other_fake.submit = lambda request: (salts.append(request.cache_salt), submit_other(request))[1]
    ask(other, tenant="one").wait()
    assert salts[3] not in salts[:3]
    assert not any("one" in salt for salt in salts)


def test_each_request_is_observed_once_and_the_warm_up_is_not(make):
    generator, _ = make(Knobs(step_seconds=0.001))
    generator.warm_up()
    assert (generator.totals().input_tokens, generator.observations.empty()) == (0, True)
    answer = ask(generator).wait()
    assert generator.totals().output_tokens == answer.last.output_tokens
    seen = generator.observations.get(timeout=SECONDS)
    assert seen.outcome == "stop"
    assert 0 < seen.time_to_first_token <= seen.seconds
    assert seen.seconds_per_token > 0
    with pytest.raises(queue.Empty):
        generator.observations.get_nowait()


def test_its_work_is_what_was_offered_what_of_it_was_refused_and_what_waits(make):
    generator, fake = make(max_num_seqs=1, max_waiting=2)
    runs = ask(generator, max_tokens=5).wait()
    tokens = runs.last.input_tokens
    share = generator.work.input_token_work
    # The answer had three tokens; five were expected, and two were made good.
    assert generator.work_totals().offered == pytest.approx(share * tokens + runs.last.output_tokens)
    fake.pause()
    before = generator.work_totals()
    for most in (4, 6, 8):
        ask(generator, max_tokens=most)
    with pytest.raises(UnavailableError):
        ask(generator, max_tokens=9)
    totals = generator.work_totals()
    costs = [share * tokens + most for most in (4, 6, 8, 9)]
    assert totals.offered - before.offered == pytest.approx(sum(costs))
    assert totals.refused == pytest.approx(costs[3])
    assert totals.input_tokens == 4 * tokens
    waiting = generator.waiting()
    # Paused before it took any, or with the oldest in its one place.
    assert waiting.cost == pytest.approx(sum(costs[:3][-waiting.requests :]))
    assert waiting.requests in (2, 3)


def test_a_prompt_that_is_refused_as_wrong_is_no_work(make):
    generator, _ = make(max_model_len=16)
    with pytest.raises(InvalidInputError):
        ask(generator, "one " * 40)
    assert generator.work_totals().offered == 0


@pytest.mark.parametrize("is_short", [False, True], ids=["warm-up and measure", "a short measure alone"])
def test_the_warm_up_measures_the_rate_and_is_no_work(make, monkeypatch, is_short):
    runs = []
    monkeypatch.setattr(WarmUp, "run", lambda self, run=WarmUp.run: (runs.append(self), run(self)))
    generator, _ = make(options=ServiceOptions(64, chat_text_input=False, max_num_seqs=4), max_num_seqs=4)
    generator.warm_up(is_short=is_short)
    assert len(runs) == (not is_short)
    assert generator.work.rate.value > 0
    totals = generator.work_totals()
    assert (totals.offered, totals.input_tokens, totals.output_tokens) == (0, 0, 0)


def test_close_ends_open_requests_as_cancelled(make):
    generator, fake = make()
    fake.pause()
    answer = ask(generator)
    generator.close()
    assert answer.wait().last.finish_reason == "cancelled"
    assert not generator.is_ready()


def test_below_min_tokens_neither_eos_nor_a_stop_string_ends_the_answer(make, byte_level):
    generator, _ = make()
    text = "one two three"
    size = len(byte_level.encode(text, add_special_tokens=True))
    free, kept = Answer(), Answer()
    generator.accept(GenerateRequest(Parameters(Sampling(60), ("two",)), text), free)
    sampling = Sampling(60, min_tokens=size + 1)
    generator.accept(GenerateRequest(Parameters(sampling, ("two",)), text), kept)
    assert (free.wait().last.finish_reason, "two" in free.text) == ("stop", False)
    assert kept.wait().last.output_tokens > size
    assert "two" in kept.text
    assert kept.last.finish_reason == "stop"


def test_min_tokens_are_capped_by_the_context_as_max_tokens_are(make):
    generator, _ = make(max_model_len=16)
    answer = Answer()
    generator.accept(GenerateRequest(Parameters(Sampling(60, min_tokens=60)), "one two"), answer)
    last = answer.wait().last
    assert (last.error, last.finish_reason) == (None, "length")
    assert last.input_tokens + last.output_tokens == 16


def test_a_stop_token_that_the_model_does_not_have_is_refused(make, byte_level):
    generator, _ = make()
    size = byte_level.vocabulary_size
    for token in (size, 2**31 - 1):
        sampling = Sampling(4, stop_token_ids=(token,))
        with pytest.raises(InvalidInputError, match=f"stop_token_ids holds {token}, .* end at {size - 1}"):
            generator.accept(GenerateRequest(Parameters(sampling), "one"), Answer())
    answer = Answer()
    generator.accept(GenerateRequest(Parameters(Sampling(4, stop_token_ids=(size - 1,))), "one"), answer)
    assert answer.wait().last.error is None


def entries_of(answer):
    return [entry for piece in answer.pieces for entry in piece.logprobs]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("stop", "shows_stop", "shown"),
    [
        ((), False, "one two 漢字 🙂 three"),
        (("漢字",), False, "one two "),
        (("漢字",), True, "one two 漢字"),
        (("wo",), False, "one t"),
        (("never",), False, "one two 漢字 🙂 three"),
        ((" thr",), False, "one two 漢字 🙂"),
    ],
)
def test_every_piece_has_the_log_probabilities_of_its_tokens(make, stream, stop, shows_stop, shown):
    answer = ask(
        make()[0], "one two 漢字 🙂 three", stream=stream, stop=stop, shows_stop=shows_stop, logprobs=2
    ).wait()
    assert answer.text == shown
    for piece in answer.pieces:
        assert b"".join(entry.raw for entry in piece.logprobs).decode() == piece.text
    assert all(len(entry.top) == 2 for entry in entries_of(answer))


def test_log_probabilities_are_the_engines_in_order(make, byte_level):
    text = "one two three"
    tokens = byte_level.encode(text, add_special_tokens=True)
    answer = ask(make()[0], text, logprobs=0).wait()
    assert [entry.logprob for entry in entries_of(answer)] == [fake_logprobs(one, 1)[0][1] for one in tokens]
    assert {entry.top for entry in entries_of(answer)} == {()}


def test_without_asking_there_are_no_log_probabilities(make):
    assert entries_of(ask(make()[0]).wait()) == []


def test_asking_for_log_probabilities_changes_no_text(make):
    for text in ("one two three", "🙂漢字é"):
        assert ask(make()[0], text, logprobs=1).wait().text == text


def test_a_character_that_is_cut_off_has_its_bytes(make, byte_level):
    answer = ask(
        make()[0], "🙂", max_tokens=len(byte_level.encode("🙂", add_special_tokens=True)) - 1, logprobs=0
    )
    raw = b"".join(entry.raw for entry in entries_of(answer.wait()))
    assert raw
    assert raw.decode("utf-8", "replace") == answer.text


def test_a_stop_string_below_min_tokens_keeps_its_entries(make):
    answer = ask(make()[0], "one two one two", stop=["two"], min_tokens=3, logprobs=0).wait()
    assert answer.text.startswith("one two")
    assert b"".join(entry.raw for entry in entries_of(answer)).decode() == answer.text


def test_a_cancelled_answer_has_the_entries_of_its_text(make):
    generator, _ = make(Knobs(step_seconds=0.001))
    answer = ask(generator, ignore_eos=True, stop=["never"], logprobs=0)
    wait_until(lambda: answer.pieces)
    generator.cancel(answer.id)
    assert b"".join(entry.raw for entry in entries_of(answer.wait())).decode() == answer.text
