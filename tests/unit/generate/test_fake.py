import math

import pytest

from trireme.errors import SettingError
from trireme.generate.engine import EngineOptions, EngineRequest, Sampling
from trireme.generate.fake import FakeEngine, Knobs, fake_logprobs


def test_an_unknown_knob_is_named(tmp_path):
    (tmp_path / "fake.json").write_text('{"speed": 1}')
    with pytest.raises(SettingError, match="'speed'"):
        FakeEngine(EngineOptions(tmp_path, (1,), 64))


def test_its_chances_are_those_of_a_distribution():
    for token in range(20):
        rows = fake_logprobs(token, 20)
        assert [one for one, _ in rows] == list(range(token, token + 20))
        chances = [math.exp(logprob) for _, logprob in rows]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1


def test_while_its_file_is_there_no_answer_has_more_tokens_than_it_says(tmp_path):
    hold = tmp_path / "hold"
    hold.write_text("2")
    engine = FakeEngine(EngineOptions(tmp_path, (1,), 64), Knobs(hold_file=str(hold)))
    for name, prompt in (("long", (5, 6, 7)), ("short", (8,))):
        engine.submit(EngineRequest(name, prompt, Sampling(max_tokens=16, temperature=0.0)))
    chunks, made = engine.stream(), []
    # The short one has its end as well; the long one does not.
    while sum(len(some) for some in made) < 4:
        made.append(next(chunks))
    assert engine.stats().running == 1
    hold.unlink()
    while not any(chunk.request_id == "long" and chunk.is_last for some in made for chunk in some):
        made.append(next(chunks))
    engine.close()
    long = [chunk.tokens for some in made for chunk in some if chunk.request_id == "long"]
    assert long == [(5,), (6,), (7,), ()]
