"""The cascades of gateway.toml with their calibrations, read and checked once, at the start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trireme.cascade.calibration import Calibration, read_calibration
from trireme.errors import SettingError
from trireme.gateway.cascades.rows import EASED, DecideAfter, OnRefusal, StepRow, name_of
from trireme.gateway.file import LOCAL, GatewayFile, ModelRow, ProviderRow, StopWhen, split_target
from trireme.providers.models import ServedModel

# Fields of Evidence, by what an answer must come with.
_OF_TOKENS = frozenset({"logprob_p05", "logprob_p10", "logprob_least", "logprob_first", "margin_p10"})
_OF_SECOND = frozenset({"margin_p10"})
_OF_CITATIONS = frozenset({"citations", "citation_support"})
_OF_PASSAGES = frozenset({"sentence_score", "passage_score", "passage_gap"}) | _OF_CITATIONS
# Of a step whose row names none, until its answer is judged.
STEP_SECONDS = 30.0
# Kinds of providers whose format has log-probabilities.
_WITH_LOGPROBS = frozenset({"openai", "triton"})


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step. targets: provider and model. calibration: None of the last step, which is not judged.

    digest: of the calibration's file, SHA-256 in hex. alternatives: that are asked for with each token; None: no
    log-probabilities are. seconds: until its answer is judged; of the last step: for its answer, None for all that
    is left. passages: whether it is asked with the prompt of an earlier step's rag model, where there is one.
    eased: by step of a route's policy, the calibration of answers that are given while that is taken.
    """

    name: str
    targets: tuple[tuple[str, str], ...]
    answer_mode: str | None = None
    seconds: float | None = None
    calibration: Calibration | None = None
    digest: str = ""
    alternatives: int | None = None
    passages: bool = False
    eased: tuple[tuple[str, Calibration], ...] = ()

    def under(self, steps: Collection[str]) -> StepPlan | None:
        """The step as it is judged while these steps of a policy are taken, the last one that changes its evidence
        being decisive; None where nobody has fitted it so. Pure."""
        taken = [step for step in EASED if step in steps]
        if not taken or self.calibration is None or not self.reads_passages:
            return self
        found = dict(self.eased).get(taken[-1])
        return None if found is None else replace(self, calibration=found)

    @property
    def reads_passages(self) -> bool:
        """Whether it is a rag model, as far as the file tells."""
        features = self.calibration.features if self.calibration is not None else ()
        return self.answer_mode is not None or not _OF_PASSAGES.isdisjoint(features)

    @property
    def label(self) -> str:
        """provider:model of the first target."""
        return ":".join(self.targets[0])


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """One model's steps, from cheap to dear."""

    model: str
    steps: tuple[StepPlan, ...]
    decide_after: DecideAfter = "answer"
    on_refusal: OnRefusal = "error"
    stop_when: StopWhen | None = None

    @property
    def rules(self) -> Any:
        """All that decides which step answers and as which, for the key of kept answers."""
        steps = [
            [step.name, step.targets, step.answer_mode, step.digest, step.seconds, step.passages]
            for step in self.steps
        ]
        return [steps, self.decide_after, self.on_refusal]

    @property
    def asks_prompt(self) -> bool:
        """Whether a step wants what an earlier one's rag model found."""
        return any(step.passages for step in self.steps)


def read_cascades(file: GatewayFile, path: Path) -> dict[str, CascadePlan]:
    """The cascades by model. path: of gateway.toml; calibrations are looked for from its folder on. Blocks.

    Raises SettingError naming file and key: a calibration that cannot be read, or that its step cannot keep to; a
    step of a policy that a calibration does not know.
    """
    plans = {
        model: CascadePlan(
            model,
            tuple(_read_step(file, path, model, row, index) for index in range(len(row.steps))),
            row.decide_after,
            row.on_refusal,
            row.stop_when,
        )
        for model, row in file.models.items()
        if row.steps
    }
    for model, plan in plans.items():
        if model in file.degrade:
            _check_policy(f"{path}: degrade.{model}", plan, [step for step, _ in file.degrade[model].steps])
    return plans


def _check_policy(where: str, plan: CascadePlan, steps: Sequence[str]) -> None:
    """Raises SettingError for a step of the policy that changes what a calibration is of."""
    for step in steps:
        for index, one in enumerate(plan.steps):
            if one.under([step]) is None:
                place = f"models.{plan.model}.steps[{index}]"
                raise SettingError(
                    f"{where}.{step}: the calibration of {place} is of answers without it; name one that was fitted"
                    f" with it as {place}.{step}, or leave it out"
                )


def check_modes(plans: Mapping[str, CascadePlan], served: Mapping[str, ServedModel] | None) -> None:
    """Raises SettingError for what a model of our own cannot give: an answer_mode or scores of passages of one that
    is none of rag's, log-probabilities that it does not say, or says too late.

    served: what our Triton has; None while nobody knows, and then calls find out.
    """
    for plan in plans.values():
        for index, step in enumerate(plan.steps):
            for provider, name in step.targets:
                model = (served or {}).get(name) if provider == LOCAL else None
                fault = "" if model is None else _fault_of_model(model, plan, step)
                if fault:
                    raise SettingError(f"models.{plan.model}.steps[{index}].{fault}")


def _fault_of_model(model: ServedModel, plan: CascadePlan, step: StepPlan) -> str:
    """What the model cannot give of what the step needs, behind its key; "" if it can."""
    name, wanted = model.name, step.alternatives
    if model.ability == "answer":
        features = step.calibration.features if step.calibration is not None else ()
        is_early = limit_of(plan, step) is not None and not (_OF_PASSAGES | _OF_TOKENS).isdisjoint(features)
        if is_early and not model.says_findings:
            return (
                f"calibration needs what {name!r} says with its end alone: its configuration is older than"
                " return_evidence; write it anew with build/write_configs.py"
            )
        return f"calibration needs margin_p10, and {name!r} names no second tokens" if wanted else ""
    if step.answer_mode is not None:
        return f"answer_mode is of rag models, and {name!r} is none"
    if step.calibration is not None and _OF_PASSAGES.intersection(step.calibration.features):
        return f"calibration needs scores of passages, and {name!r} reads none"
    if wanted is not None and (model.alternatives is None or model.alternatives < wanted):
        most = "none" if model.alternatives is None else f"{model.alternatives} alternatives"
        return f"calibration needs log-probabilities with {wanted} alternatives, and {name!r} gives {most}"
    return ""


def limit_of(cascade: CascadePlan, step: StepPlan) -> int | None:
    """Tokens that are read before the decision; None: the whole answer, as a single sentence always comes. Pure."""
    if step.calibration is None:
        return None
    after = _judged_after(step.answer_mode, cascade.decide_after)
    return None if after == "answer" else after


def _judged_after(answer_mode: str | None, decide_after: DecideAfter) -> DecideAfter:
    return "answer" if answer_mode == "extractive" else decide_after


def _read_step(file: GatewayFile, path: Path, model: str, row: ModelRow, index: int) -> StepPlan:
    step = row.steps[index]
    where = f"{path}: models.{model}.steps[{index}]"
    targets = tuple(split_target(entry) for entry in step.entries)
    is_last = index == len(row.steps) - 1
    # A calibration is of answers to what its step was asked when they were collected.
    passages = (is_last and step.answer_mode is None) if step.passages is None else step.passages
    name = name_of(step, index)
    for provider, _ in targets:
        if step.answer_mode is not None and file.providers[provider].kind != "triton":
            raise SettingError(f"{where}.answer_mode is of rag models, and {provider!r} serves none")
    if not step.calibration:
        return StepPlan(name, targets, step.answer_mode, step.seconds, passages=passages)
    calibration, digest = _read_fitted(file, path, model, index, "calibration")
    eased = tuple(
        (one, _read_fitted(file, path, model, index, one)[0]) for one in EASED if getattr(step, one)
    )
    seconds = min(STEP_SECONDS, file.attempts.seconds) if step.seconds is None else step.seconds
    return StepPlan(
        name,
        targets,
        step.answer_mode,
        seconds,
        calibration,
        digest,
        _alternatives(calibration),
        passages,
        eased,
    )


def _read_fitted(file: GatewayFile, path: Path, model: str, index: int, key: str) -> tuple[Calibration, str]:
    """The calibration that a key of a step names, and its file's digest. Raises SettingError."""
    row = file.models[model]
    step = row.steps[index]
    where = f"{path}: models.{model}.steps[{index}].{key}"
    place = path.parent / getattr(step, key)
    try:
        calibration = read_calibration(place)
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
    except (SettingError, OSError) as error:
        raise SettingError(f"{where}: {error}") from None
    [(provider, target)] = [split_target(entry) for entry in step.entries]
    fault = (
        _fault_of_features(calibration, step, file.providers[provider])
        or _fault_of_length(calibration, step, row)
        or _fault_of_versions(calibration, provider, target, file.providers[provider])
    )
    if fault:
        raise SettingError(f"{where}: {place} {fault}")
    return calibration, digest


def _alternatives(calibration: Calibration) -> int | None:
    """How many the features need: the second likeliest for a margin, the token alone for all others."""
    features = frozenset(calibration.features)
    if features & _OF_SECOND:
        return 2
    return 0 if features & _OF_TOKENS else None


def _fault_of_features(calibration: Calibration, step: StepRow, provider: ProviderRow) -> str:
    """Why the step's provider cannot give what the calibration needs; "" if it can."""
    for feature in calibration.features:
        if feature in _OF_TOKENS and provider.kind not in _WITH_LOGPROBS:
            return f"needs {feature}, and providers of kind {provider.kind!r} give no log-probabilities"
        if feature in _OF_TOKENS and step.answer_mode == "extractive":
            return f"needs {feature}, and an extractive answer has no tokens of a language model"
        if feature in _OF_PASSAGES and provider.kind != "triton":
            return f"needs {feature}, which rag models alone give"
    return ""


def _fault_of_length(calibration: Calibration, step: StepRow, row: ModelRow) -> str:
    """Why the calibration is not of as much of an answer as is judged; "" if it is. A sentence comes whole."""
    after = _judged_after(step.answer_mode, row.decide_after)
    if calibration.decide_after != after:
        fitted = calibration.decide_after
        whole = "whole answers" if fitted == "answer" else f"the first {fitted} tokens of answers"
        if step.answer_mode == "extractive":
            return f"was fitted on {whole}, and a sentence is judged whole: fit it on whole answers"
        wanted = "whole answers" if after == "answer" else f"their first {after} tokens"
        return (
            f"was fitted on {whole}, and its step is judged by {wanted}: set decide_after = {json.dumps(fitted)},"
            f" or fit it on {wanted} with build/fit_cascade.py"
        )
    if after == "answer":
        return ""
    late = next((feature for feature in calibration.features if feature in _OF_CITATIONS), "")
    return (
        f'needs {late}, which comes with the end of an answer: decide_after must be "answer"' if late else ""
    )


def _fault_of_versions(calibration: Calibration, provider: str, name: str, row: ProviderRow) -> str:
    """Why nobody could tell that the calibration is of what answers; "" if one can."""
    if row.kind != "triton":
        label = f"{provider}:{name}"
        return (
            ""
            if label in dict(calibration.versions)
            else f"names no version of {label!r}: the model that its answers name"
        )
    if provider != LOCAL or row.url:
        return (
            f"is of a model of provider {provider!r}, which does not say what it has loaded; {LOCAL!r} does"
        )
    return ""
