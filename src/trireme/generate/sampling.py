"""The JSON of `sampling_parameters`: every key checked, its names those of vLLM's SamplingParams.

Every range here is one that each engine takes whole: engines hold numbers in 32 bits, where 1e-300 is 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trireme.errors import InvalidInputError
from trireme.generate.engine import Sampling, StructuredOutput
from trireme.generate.structured import read_response_format, read_structured_outputs

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_TOKEN_ID = 2**31 - 1
MAX_COUNT = 2**31 - 1
MAX_DIGITS = 400
MAX_SEED = 2**63 - 1
MAX_ANSWERS = 16
# OpenAI's limit of alternatives for each token, and vLLM's.
MAX_TOP_LOGPROBS = 20
# OpenAI's newer name of max_tokens; where both come, it counts.
COMPLETION_TOKENS = "max_completion_tokens"
# What the answer must be: OpenAI's name and vLLM's.
RESPONSE_FORMAT, STRUCTURED = "response_format", "structured_outputs"
# vLLM's name.
SHOW_STOP = "include_stop_str_in_output"
# vLLM's name in Triton's backend of it.
ADAPTER = "lora_name"
# Below it the softmax overflows to one-hot or to NaN; vLLM raises smaller ones to it, too.
MIN_TEMPERATURE = 0.01
# OpenAI's limit, and vLLM's since 0.24.
MAX_TEMPERATURE = 2.0
# Below it only the most likely token is kept in a vocabulary of up to a million, so smaller ones mean the same.
MIN_TOP_P = 1e-6
# vLLM's sign for a seed of its own choice.
NO_SEED = -1
# The least and the most of each number.
RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, MAX_COUNT),
    "min_tokens": (0, MAX_COUNT),
    "temperature": (0, MAX_TEMPERATURE),
    "top_p": (MIN_TOP_P, 1),
    "top_k": (0, MAX_COUNT),
    "min_p": (0, 1),
    # vLLM takes any above 0; far below 0.01 a logit of a few hundred divided by it leaves 32 bits.
    "repetition_penalty": (0.01, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (0, MAX_SEED),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """A request's parameters: `sampling` goes to the engine, `stop` strings are found in the text.

    shows_stop: the one that is found is part of the answer. n: how many answers there are. adapter: by name, "" for
    none; whether there is one of the name the engine knows.
    """

    sampling: Sampling
    stop: tuple[str, ...] = ()
    shows_stop: bool = False
    n: int = 1
    adapter: str = ""

    def of_answer(self, index: int) -> Parameters:
        """The parameters of one of n answers: with a seed each has its own, the first the one that was sent."""
        seed = self.sampling.seed
        if seed is None or index == 0:
            return self
        return replace(self, sampling=replace(self.sampling, seed=(seed + index) % (MAX_SEED + 1)))


def parse_parameters(text: str | None, default_max_tokens: int) -> Parameters:
    """Checked parameters of a JSON object; None or "" means all defaults.

    Numbers may come as strings. Raises InvalidInputError naming the key and what it may be.
    """
    given = {key: value for key, value in _read_object(text).items() if value is not None}
    values: dict[str, Any] = {"max_tokens": default_max_tokens}
    completion_tokens = None
    for key, value in given.items():
        if key in _READERS:
            values[key] = _READERS[key](key, value)
        elif key == COMPLETION_TOKENS:
            completion_tokens = _READERS["max_tokens"](key, value)
        elif key in _FIXED:
            _check_fixed(key, value)
        else:
            raise InvalidInputError(
                f"sampling_parameters has an unknown key {key[:40]!r}; known: {', '.join(_READERS)}"
            )
    if completion_tokens is not None:
        values["max_tokens"] = completion_tokens
    if values.get("min_tokens", 0) > values["max_tokens"]:
        raise InvalidInputError(
            f"min_tokens must be at most max_tokens, which is {values['max_tokens']}, got {values['min_tokens']}"
        )
    values["structured"] = _one_form(values)
    values["logprobs"] = _count_alternatives(values.pop("logprobs", False), values.pop("top_logprobs", 0))
    stop, shows_stop, n = values.pop("stop", ()), values.pop(SHOW_STOP, False), values.pop("n", 1)
    adapter = values.pop(ADAPTER, "")
    return Parameters(Sampling(**values), stop, shows_stop, n, adapter)


def _one_form(values: dict[str, Any]) -> StructuredOutput | None:
    """The form of OpenAI's parameter or of vLLM's. Raises InvalidInputError for what cannot go with one."""
    said: list[StructuredOutput | None] = [values.pop(name, None) for name in (RESPONSE_FORMAT, STRUCTURED)]
    forms = [form for form in said if form is not None]
    if not forms:
        return None
    if len(forms) > 1:
        raise InvalidInputError(
            f"{RESPONSE_FORMAT} and {STRUCTURED} both say what the answer must be; send one"
        )
    # An answer that has its form must end, and one that has not yet cannot be told to go on.
    if values.get("min_tokens"):
        raise InvalidInputError(
            f"min_tokens must be 0 for an answer that is held to a form, got {values['min_tokens']}"
        )
    if values.get("ignore_eos"):
        raise InvalidInputError(
            "ignore_eos must be false for an answer that is held to a form: it ends with it"
        )
    return forms[0]


def _count_alternatives(is_asked: bool, most: int) -> int | None:
    """Sampling.logprobs of OpenAI's two parameters."""
    if most and not is_asked:
        raise InvalidInputError(f"top_logprobs is {most}, but logprobs is not true; send both")
    return most if is_asked else None


def _check_fixed(key: str, value: Any) -> None:
    """A parameter of vLLM or OpenAI that may be sent with the one value that changes nothing."""
    allowed, advice = _FIXED[key]
    usual = [json.dumps(one) for one in allowed]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Clients send numbers and flags as strings, too.
    if json.dumps(value) not in usual and not (isinstance(value, str) and value.lower() in usual):
        raise InvalidInputError(
            f"{key} cannot be {_shown(value)}: {advice}; leave it out or send {' or '.join(usual)}"
        )


def _read_object(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        given = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_digits)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"sampling_parameters is not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidInputError('sampling_parameters must be a JSON object, like {"max_tokens": 64}')
    return given


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that can be used")


def _read_digits(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _is_number(text: str) -> bool:
    """Python reads 1_000 and digits of all scripts as numbers; JSON does not."""
    return text.isascii() and "_" not in text and len(text) <= MAX_DIGITS


def _whole(name: str, *, minus_one_is: int | None = None) -> Callable[[str, Any], int]:
    return _whole_between(*map(int, RANGES[name]), minus_one_is=minus_one_is)


def _whole_between(least: int, most: int, *, minus_one_is: int | None = None) -> Callable[[str, Any], int]:
    def read(key: str, value: Any) -> int:
        number = value
        if isinstance(value, str):
            try:
                number = int(value) if _is_number(value) else None
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


def _real(name: str, *, above: float | None = None) -> Callable[[str, Any], float]:
    """`above` stands for the least: any number above it is taken."""
    least, most = RANGES[name]
    allowed = f"from {least:g} to {most:g}" if above is None else f"above {above:g} up to {most:g}"

    def read(key: str, value: Any) -> float:
        number = math.nan
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                number = float(value) if not isinstance(value, str) or _is_number(value) else math.nan
            except (ValueError, OverflowError):
                number = math.nan
        if not (least <= number if above is None else above < number) or number > most:
            raise InvalidInputError(f"{key} must be a number {allowed}, got {_shown(value)}")
        return number

    return read


def _temperature(key: str, value: Any) -> float:
    number = _real("temperature")(key, value)
    return max(number, MIN_TEMPERATURE) if number > 0 else 0.0


def _top_p(key: str, value: Any) -> float:
    return max(_real("top_p", above=0)(key, value), MIN_TOP_P)


def _seed(key: str, value: Any) -> int | None:
    number = _whole("seed", minus_one_is=NO_SEED)(key, value)
    return None if number == NO_SEED else number


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
    return tuple(_whole_between(0, MAX_TOKEN_ID)(f"each of {key}", item) for item in value)


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{key} must be the name of an adapter, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:40]


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "max_tokens": _whole("max_tokens"),
    "min_tokens": _whole("min_tokens"),
    "temperature": _temperature,
    "top_p": _top_p,
    "top_k": _whole("top_k", minus_one_is=0),
    "min_p": _real("min_p"),
    "repetition_penalty": _real("repetition_penalty"),
    "presence_penalty": _real("presence_penalty"),
    "frequency_penalty": _real("frequency_penalty"),
    "seed": _seed,
    "stop": _stop,
    "stop_token_ids": _token_ids,
    "ignore_eos": _flag,
    SHOW_STOP: _flag,
    "logprobs": _flag,
    "top_logprobs": _whole_between(0, MAX_TOP_LOGPROBS),
    "n": _whole_between(1, MAX_ANSWERS),
    RESPONSE_FORMAT: read_response_format,
    STRUCTURED: read_structured_outputs,
    ADAPTER: _name,
}

_NO_BEAMS = "beam search is not offered"
_NO_LOGPROBS = "log probabilities are those of the answer"
_NO_BIAS = "single tokens cannot be weighted or forbidden"
# Sent by load generators and OpenAI-style clients: what each may be, and why nothing else.
_FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "best_of": ((1,), "no answer is chosen among several: send n for all of them"),
    "use_beam_search": ((False,), _NO_BEAMS),
    "length_penalty": ((1,), _NO_BEAMS),
    "early_stopping": ((False,), _NO_BEAMS),
    "prompt_logprobs": ((False,), _NO_LOGPROBS),
    "logit_bias": (({},), _NO_BIAS),
    "bad_words": (([],), _NO_BIAS),
    "allowed_token_ids": (([],), _NO_BIAS),
    "guided_decoding": (({},), f"vLLM calls it {STRUCTURED} now, and so do we"),
    "skip_special_tokens": ((True,), "special tokens are not part of the answer"),
    "spaces_between_special_tokens": ((True, False), "special tokens are not part of the answer"),
    "detokenize": ((True,), "an answer is text"),
    "truncate_prompt_tokens": ((-1,), "a prompt is read whole or refused"),
    "priority": ((0,), "requests are served in the order in which they come"),
}
