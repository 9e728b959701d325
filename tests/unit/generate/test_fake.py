import pytest

from trireme.errors import SettingError
from trireme.generate.engine import EngineOptions
from trireme.generate.fake import FakeEngine


def test_an_unknown_knob_is_named(tmp_path):
    (tmp_path / "fake.json").write_text('{"speed": 1}')
    with pytest.raises(SettingError, match="'speed'"):
        FakeEngine(EngineOptions(tmp_path, (1,), 64))
