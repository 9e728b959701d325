"""Labelled answers: what a small model's answer showed, and whether it was right. One JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trireme.cascade.calibration import MOST_FIRST_TOKENS, DecideAfter
from trireme.cascade.evidence import Evidence
from trireme.errors import SettingError

_KINDS = {spec.name: str(spec.type) for spec in fields(Evidence)}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer. step: the label of what answered, in its mode. versions: of each model that did, see Calibration.

    decide_after: of how much of the answer the evidence is, as of Calibration. more: other keys of the line, such
    as id; no fit reads them.
    """

    step: str
    versions: tuple[tuple[str, str], ...]
    evidence: Evidence
    right: bool
    more: Mapping[str, Any]
    decide_after: DecideAfter = "answer"


def format_labelled(one: Labelled) -> str:
    """A line of the file, with its end."""
    ours = {
        "step": one.step,
        "versions": dict(one.versions),
        "right": one.right,
        "decide_after": one.decide_after,
    }
    return json.dumps({**one.more, **ours, "evidence": asdict(one.evidence)}, ensure_ascii=False) + "\n"


def read_labelled(path: Path) -> Iterator[Labelled]:
    """The answers of a file, in their order. Blocks. Raises SettingError naming file, line and key."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse(f"{path} line {number}", line)
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path} is not UTF-8") from None


def _parse(where: str, line: str) -> Labelled:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise SettingError(f"{where} is no JSON") from None
    if not isinstance(record, dict):
        raise SettingError(f"{where} is no JSON object")
    wanted = {"step": str, "versions": dict, "evidence": dict, "right": bool}
    for key, kind in wanted.items():
        if type(record.get(key)) is not kind:
            raise SettingError(
                f"{where}: set {key!r} to {'true or false' if kind is bool else f'a {kind.__name__}'}"
            )
    versions = tuple(sorted(record["versions"].items()))
    if not all(isinstance(digest, str) and digest for _, digest in versions):
        raise SettingError(f"{where}: 'versions' must name a digest for each model")
    after = record.get("decide_after", "answer")
    if after != "answer" and not (type(after) is int and 1 <= after <= MOST_FIRST_TOKENS):
        raise SettingError(f"{where}: set 'decide_after' to \"answer\" or a number of first tokens")
    more = {key: value for key, value in record.items() if key not in {*wanted, "decide_after"}}
    evidence = _read_evidence(where, record["evidence"])
    return Labelled(record["step"], versions, evidence, record["right"], more, after)


def _read_evidence(where: str, values: Mapping[str, Any]) -> Evidence:
    if unknown := values.keys() - _KINDS:
        raise SettingError(f"{where}: unknown key {min(unknown)!r} in 'evidence'")
    if "tokens" not in values:
        raise SettingError(f"{where}: 'evidence' lacks the key 'tokens'")
    for key, value in values.items():
        if value is None and _KINDS[key].endswith("None"):
            continue
        kind = _KINDS[key].split(" ", maxsplit=1)[0]
        if type(value) not in {"int": (int,), "bool": (bool,), "float": (int, float)}[kind]:
            raise SettingError(f"{where}: {key!r} in 'evidence' is not of type {kind}")
        # A whole number of any length is JSON; no float holds it.
        if kind != "bool" and not (abs(value) < 1e15 and math.isfinite(value)):
            raise SettingError(f"{where}: {key!r} in 'evidence' is not finite")
    return Evidence(**values)
