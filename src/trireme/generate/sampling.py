"""The JSON of `sampling_parameters`: every key checked, its names those of vLLM's SamplingParams."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trireme.errors import InvalidInputError
from trireme.generate.engine import Sampling

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_TOKEN_ID = 2**31 - 1
MAX_COUNT = 2**31 - 1
# Below it the softmax overflows to one-hot or to NaN; vLLM raises smaller ones to it, too.
MIN_TEMPERATURE = 0.01


@dataclass(frozen=True, slots=True)
class Parameters:
    """A request's parameters: `sampling` goes to the engine, `stop` strings are found in the text."""

    sampling: Sampling
    stop: tuple[str, ...] = ()


def parse_parameters(text: str | None, default_max_tokens: int) -> Parameters:
    """Checked parameters of a JSON object; None or "" means all defaults.

    Numbers may come as strings. Raises InvalidInputError naming the key and what it may be.
    """
    given = _read_object(text)
    values: dict[str, Any] = {"max_tokens": default_max_tokens}
    for key, value in given.items():
        if key not in _READERS:
            raise InvalidInputError(
                f"sampling_parameters has an unknown key {key[:40]!r}; known: {', '.join(_READERS)}"
            )
        if value is not None:
            values[key] = _READERS[key](key, value)
    stop = values.pop("stop", ())
    return Parameters(Sampling(**values), stop)


def _read_object(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        given = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"sampling_parameters is not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidInputError('sampling_parameters must be a JSON object, like {"max_tokens": 64}')
    return given


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that can be used")


def _whole(least: int, most: int, *, minus_one_is: int | None = None) -> Callable[[str, Any], int]:
    def read(key: str, value: Any) -> int:
        number = value
        if isinstance(value, str):
            try:
                number = int(value)
            except ValueError:
                number = None
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if minus_one_is is not None and number == -1:
            return minus_one_is
        if type(number) is not int or not least <= number <= most:
            raise InvalidInputError(
                f"{key} must be a whole number from {least} to {most}, got {_shown(value)}"
            )
        return number

    return read


def _real(least: float, most: float, *, above: bool = False) -> Callable[[str, Any], float]:
    allowed = f"{'above' if above else 'from'} {least:g} {'up ' if above else ''}to {most:g}"

    def read(key: str, value: Any) -> float:
        number = math.nan
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = math.nan
        if not (least < number <= most if above else least <= number <= most):
            raise InvalidInputError(f"{key} must be a number {allowed}, got {_shown(value)}")
        return number

    return read


def _temperature(key: str, value: Any) -> float:
    number = _real(0, 100)(key, value)
    return max(number, MIN_TEMPERATURE) if number > 0 else 0.0


def _flag(key: str, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InvalidInputError(f"{key} must be true or false, got {_shown(value)}")
    return value


def _stop(key: str, value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise InvalidInputError(f"{key} must be a string or a list of at most {MAX_STOPS}")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            raise InvalidInputError(
                f"each {key} must be a string of 1 to {MAX_STOP_CHARACTERS} characters, got {_shown(stop)}"
            )
    return tuple(stops)


def _token_ids(key: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_STOPS:
        raise InvalidInputError(f"{key} must be a list of at most {MAX_STOPS} token ids")
    return tuple(_whole(0, MAX_TOKEN_ID)(f"each of {key}", item) for item in value)


def _shown(value: Any) -> str:
    return repr(value)[:40]


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "max_tokens": _whole(1, MAX_COUNT),
    "temperature": _temperature,
    "top_p": _real(0, 1, above=True),
    "top_k": _whole(0, MAX_COUNT, minus_one_is=0),
    "min_p": _real(0, 1),
    "repetition_penalty": _real(0, 10, above=True),
    "presence_penalty": _real(-2, 2),
    "frequency_penalty": _real(-2, 2),
    "seed": _whole(0, 2**63 - 1),
    "stop": _stop,
    "stop_token_ids": _token_ids,
    "ignore_eos": _flag,
}
