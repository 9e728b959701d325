"""The steps of a model of gateway.toml as they are written there, and what of them is refused at the start."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from trireme.errors import SettingError

# Of steps: they stand in headers and in labels of metrics.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
# answer: the whole small answer is judged. A number: its first tokens.
DecideAfter = Literal["answer"] | Annotated[int, msgspec.Meta(ge=1, le=4096)]
OnRefusal = Literal["error", "keep"]
# Steps of a route's policy that change what a rag model's answer is judged by, and keys of a step: the calibration
# that was fitted on such answers.
EASED = ("fewer_candidates", "no_reranking")


class StepRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step. All but the last have a calibration, which says whether an answer is kept, and one target.

    name: in headers, metrics and the ledger; without one the step's number from 1 on. target: as an entry of a
    chain. chain: of the last step, in place of a target. answer_mode: of rag models. calibration: a file, relative
    to gateway.toml. seconds: until the step's answer is judged, repeated calls included; then the next one is asked
    (None: plan.STEP_SECONDS). Of the last step: for its answer. passages: whether the step is asked with the prompt
    of an earlier rag model and its passages, in place of the question alone; None: in the last step, yes.
    fewer_candidates, no_reranking: calibrations of a rag model's answers while the route's policy takes that step.
    """

    name: str = ""
    target: str = ""
    chain: list[str] = []
    answer_mode: Literal["extractive", "generative", "auto"] | None = None
    calibration: str = ""
    seconds: float | None = None
    passages: bool | None = None
    fewer_candidates: str = ""
    no_reranking: str = ""

    @property
    def entries(self) -> list[str]:
        """Its target, or its chain."""
        return [self.target] if self.target else self.chain


def name_of(row: StepRow, index: int) -> str:
    """The name of the step at `index`, from 0."""
    return row.name or str(index + 1)


def check_steps(
    where: str,
    rows: Sequence[StepRow],
    decide_after: DecideAfter,
    on_refusal: OnRefusal,
    check_entry: Callable[[str, str], None],
) -> None:
    """Raises SettingError naming the key. where: file and model. check_entry: of a key and an entry of a chain."""
    if len(rows) < 2:
        raise SettingError(f"{where}.steps: a cascade has at least two steps; a chain needs none")
    if on_refusal == "keep" and decide_after != "answer":
        raise SettingError(
            f'{where}.on_refusal = "keep" needs decide_after = "answer": else there is no whole answer to show'
        )
    for index, row in enumerate(rows):
        _check_step(f"{where}.steps[{index}]", row, check_entry, is_last=index == len(rows) - 1)
    if rows[0].passages:
        raise SettingError(f"{where}.steps[0].passages: no step before the first one finds any; leave it out")
    names = [name_of(row, index) for index, row in enumerate(rows)]
    for index, name in enumerate(names):
        if names.index(name) != index:
            raise SettingError(f"{where}.steps[{index}].name: {name!r} is another step's")


def _check_step(where: str, row: StepRow, check_entry: Callable[[str, str], None], *, is_last: bool) -> None:
    if row.name and not _NAME.fullmatch(row.name):
        raise SettingError(f"{where}.name: a name has lower-case letters, digits, - and _")
    if bool(row.target) == bool(row.chain):
        raise SettingError(f"{where}: name a target, or a chain in the last step")
    if row.passages and row.answer_mode is not None:
        raise SettingError(
            f"{where}.passages: a rag model, which has an answer_mode, finds its own; leave it out"
        )
    if row.seconds is not None and not row.seconds > 0:
        raise SettingError(f"{where}.seconds must be above 0")
    _check_calibrations(where, row, is_last=is_last)
    if not is_last and row.chain:
        raise SettingError(f"{where}.chain: a calibration is of one model; name a target")
    for entry in row.entries:
        check_entry(f"{where}.{'target' if row.target else 'chain'}", entry)


def _check_calibrations(where: str, row: StepRow, *, is_last: bool) -> None:
    for key in ("calibration", *EASED):
        if is_last and getattr(row, key):
            raise SettingError(f"{where}.{key}: the last step's answer is always shown; leave it out")
    if not is_last and not row.calibration:
        raise SettingError(f"{where}.calibration is missing: only the last step goes without one")
