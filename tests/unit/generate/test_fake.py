import math

import pytest

from trireme.errors import SettingError
from trireme.generate.engine import EngineOptions
from trireme.generate.fake import FakeEngine, fake_logprobs


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
