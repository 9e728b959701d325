from dataclasses import fields
from pathlib import Path

import pytest

from trireme.errors import SettingError
from trireme.regions.options import RegionOptions, flag_of

FILES = {"values": Path("v"), "endpoints": Path("e")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("port", value) for value in (0, 65536, -1)),
        *(("host", value) for value in ("", " ", " a")),
        *(("window", value) for value in (0, 1001)),
        *(("misses", value) for value in (0, 1001)),
        *(("nearer_percent", value) for value in (0, 100)),
        *((name, 0.0) for name in ("probe", "answer", "nearer", "hold", "resolve")),
        *((name, float("nan")) for name in ("probe", "answer", "nearer", "hold", "resolve")),
        *((name, 86_401.0) for name in ("probe", "answer", "nearer", "hold", "resolve")),
    ],
)
def test_what_cannot_be_is_refused_by_its_flag(name, value):
    with pytest.raises(SettingError, match=rf"{flag_of(name)} must be"):
        RegionOptions(**FILES, **{name: value})


def test_flags_of_seconds_say_so():
    assert {flag_of(one.name) for one in fields(RegionOptions)} >= {"--probe-seconds", "--nearer-percent"}


def test_only_what_is_not_the_default_is_a_flag():
    assert RegionOptions(**FILES).flags() == ["--values", "v", "--endpoints", "e"]
    assert RegionOptions(**FILES, hold=3.0, port=1).flags()[4:] == ["--port", "1", "--hold-seconds", "3.0"]
