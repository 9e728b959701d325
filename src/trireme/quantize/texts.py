"""The text a run calibrates on and the text it is judged on; no token is in both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import InvalidInputError
from trireme.quantize.recipe import CALIBRATED, LEAST_SAMPLES, QuantizeRecipe

BUILT_IN = "the built-in sample"
# Share of a text that is kept from calibration when no other text is there to judge on.
HELD_OUT = 0.25
# Fewer predictions make a perplexity of luck.
LEAST_EVAL_TOKENS = 256

Encode = Callable[[str], list[int]]
Windows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class CutText:
    """A text cut into windows of token ids. `name` is its file's name, `digest` its sha256."""

    name: str
    digest: str
    windows: Windows

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(map(len, self.windows))


@dataclass(frozen=True, slots=True)
class Texts:
    """Both texts of a run. A method that needs no calibration has none."""

    calibration: CutText | None
    evaluation: CutText


def read_texts(
    recipe: QuantizeRecipe, encode: Encode, prefix: Sequence[int], sample: Path, max_positions: int
) -> Texts:
    """Both texts of `recipe`, cut into windows; every window starts with `prefix` (a model's BOS, or none).

    `sample` is the built-in text. Raises InvalidInputError for a text that is missing, too short, or given
    for both ends, and for windows longer than the model's context.
    """
    length = recipe.sequence_length
    if length > max_positions:
        raise InvalidInputError(f"sequence_length {length} is above the model's {max_positions} positions")
    path = Path(recipe.calibration) if recipe.calibration else sample
    text = _read(path, "calibration text")
    judged = _read(Path(recipe.eval), "eval text") if recipe.eval else ""
    if judged == text:
        raise InvalidInputError("--eval is the calibration text; name a text that was not calibrated on")
    name = path.name if recipe.calibration else BUILT_IN
    first, rest = (text, judged) if judged else _split(text)
    return Texts(
        _cut_calibration(recipe, name, first, encode, prefix) if recipe.method in CALIBRATED else None,
        _cut_evaluation(recipe, Path(recipe.eval).name or f"held out of {name}", rest, encode, prefix),
    )


def cut_windows(ids: Sequence[int], prefix: Sequence[int], length: int, most: int) -> Windows:
    """At most `most` windows of exactly `length` ids, prefix included, spread evenly over `ids`."""
    own = length - len(prefix)
    whole = len(ids) // own
    count = min(most, whole)
    starts = [own * (index * whole // count) for index in range(count)]
    return tuple((*prefix, *ids[start : start + own]) for start in starts)


def _cut_calibration(
    recipe: QuantizeRecipe, name: str, text: str, encode: Encode, prefix: Sequence[int]
) -> CutText:
    ids = encode(text)
    windows = cut_windows(ids, prefix, recipe.sequence_length, recipe.most_samples)
    least = recipe.samples or LEAST_SAMPLES
    if len(windows) < least:
        raise InvalidInputError(
            f"calibration text {name} has {len(ids):,} tokens, {len(windows)} windows of"
            f" {recipe.sequence_length}; {least} are needed: give a longer text with --calibration, or lower"
            " --samples or --sequence-length"
        )
    return CutText(name, _digest(text), windows)


def _cut_evaluation(
    recipe: QuantizeRecipe, name: str, text: str, encode: Encode, prefix: Sequence[int]
) -> CutText:
    ids = encode(text)
    most = recipe.eval_tokens // recipe.sequence_length
    passage = CutText(name, _digest(text), cut_windows(ids, prefix, recipe.sequence_length, most))
    if passage.tokens < LEAST_EVAL_TOKENS:
        raise InvalidInputError(
            f"eval text {name} has {len(ids):,} tokens, too few for windows of {recipe.sequence_length}"
            f" ({LEAST_EVAL_TOKENS} tokens in whole windows at least): give a longer text with --eval"
        )
    return passage


def _split(text: str) -> tuple[str, str]:
    """The text's front and its last quarter, cut at the end of a line."""
    border = text.find("\n", int(len(text) * (1 - HELD_OUT))) + 1
    border = border or int(len(text) * (1 - HELD_OUT))
    return text[:border], text[border:]


def _read(path: Path, what: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"cannot read {what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"{what} {path} is not UTF-8 text") from None
    if not text.strip():
        raise InvalidInputError(f"{what} {path} is empty")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
