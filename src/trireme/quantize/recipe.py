"""What one quantization run does: method, texts, thresholds. From flags, or a small TOML file."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from trireme.errors import SettingError

# Method -> the bit widths it can write; the first is its default.
METHODS: Mapping[str, tuple[int, ...]] = {
    "awq": (4,),
    "gptq": (4, 8),
    "bnb-nf4": (4,),
    "bnb-int8": (8,),
    "none": (16,),
}
CALIBRATED = ("awq", "gptq")
# What vLLM's Marlin and Machete kernels and the OpenVINO importer all read.
GROUP_SIZES = (32, 64, 128)
DEVICES = ("cpu", "cuda")
# How many windows to calibrate on where none is said. AWQ asks for means alone, and each more costs it 60 forward
# passes of a layer; GPTQ inverts second moments of all inputs. The last: the fewest a short text may have.
SAMPLES: Mapping[str, int] = {"awq": 16, "gptq": 64}
LEAST_SAMPLES = 16
# Shorter windows measure the beginnings of texts more than the texts.
LEAST_SEQUENCE = 32


@dataclass(frozen=True, slots=True)
class QuantizeRecipe:
    """Every key of a run; also the keys of its TOML file. Zero or empty means: the method's own.

    Lengths and `eval_tokens` are in tokens. Raises SettingError naming the key that is out of range.
    """

    source: str
    method: str = "awq"
    # The commit of a hub id.
    revision: str = ""
    bits: int = 0
    # Input channels that share one scale; AWQ and GPTQ only.
    group_size: int = 0
    # GPTQ only: integers around a fixed middle. AWQ always has zero points.
    sym: bool = True
    # Text files; empty means the built-in sample, or its held-out part.
    calibration: str = ""
    eval: str = ""
    # Windows to calibrate on; 0 means 16 for awq, and for gptq 64, or as many as the text has, 16 at least.
    samples: int = 0
    sequence_length: int = 512
    eval_tokens: int = 16_384
    device: str = "cpu"
    seed: int = 1
    max_perplexity_ratio: float | None = None
    max_kl: float | None = None
    min_agreement: float | None = None
    # A line for the manifest, such as where the calibration text comes from and its licence.
    note: str = ""

    def __post_init__(self) -> None:
        _check_choice("method", self.method, tuple(METHODS))
        _check_choice("device", self.device, DEVICES)
        if self.bits and self.bits not in METHODS[self.method]:
            widths = " or ".join(map(str, METHODS[self.method]))
            raise SettingError(f"method {self.method} writes {widths} bits, got bits {self.bits}")
        if self.method not in CALIBRATED and self.group_size:
            raise SettingError(f"method {self.method} has no group_size; leave it out")
        if self.group_size and self.group_size not in GROUP_SIZES:
            raise SettingError(f"group_size must be one of {_join(GROUP_SIZES)}, got {self.group_size}")
        if not self.sym and self.method != "gptq":
            raise SettingError(f"sym is a key of gptq; method {self.method} has none")
        _check_least("samples", self.samples, 0)
        _check_least("sequence_length", self.sequence_length, LEAST_SEQUENCE)
        _check_least("eval_tokens", self.eval_tokens, self.sequence_length)

    @property
    def width(self) -> int:
        """Bits of one stored weight."""
        return self.bits or METHODS[self.method][0]

    @property
    def most_samples(self) -> int:
        """Windows to calibrate on, at most."""
        return self.samples or SAMPLES.get(self.method, 0)

    @property
    def group(self) -> int:
        """Input channels that share one scale; 0 where the method has no groups."""
        return (self.group_size or 128) if self.method in CALIBRATED else 0


def make_recipe(given: Mapping[str, Any], path: Path | None = None) -> QuantizeRecipe:
    """The recipe of a TOML file, with `given` (values that are not None) put over it.

    Raises SettingError for an unknown key, a wrong type, or a recipe without a source.
    """
    values = {} if path is None else _read_file(path)
    values |= {key: value for key, value in given.items() if value is not None}
    if "source" not in values:
        raise SettingError("give SOURCE, a checkpoint's folder or its hub id")
    return QuantizeRecipe(**values)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"cannot read recipe {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid TOML: {error}") from None
    hints = get_type_hints(QuantizeRecipe)
    known = [spec.name for spec in fields(QuantizeRecipe)]
    for key in document:
        if key not in known:
            raise SettingError(f"{path}: unknown key {key!r}; known keys: {', '.join(known)}")
    return {key: _typed(path, key, value, hints[key]) for key, value in document.items()}


def _typed(path: Path, key: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = get_args(hint)[0]
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise SettingError(f"{path}: {key} must be of type {hint.__name__}, got {value!r}")
    return value


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(f"{key} must be one of {_join(choices)}, got {value!r}")


def _check_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise SettingError(f"{key} must be at least {least}, got {value}")


def _join(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))
