"""The cascades of gateway.toml with their calibrations, read and checked once, at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.cascade.calibration import Calibration, read_calibration
from trireme.errors import SettingError
from trireme.gateway.cascades.rows import DecideAfter, OnRefusal, StepRow, name_of
from trireme.gateway.file import LOCAL, GatewayFile, ModelRow, ProviderRow, split_target
from trireme.providers.models import ServedModel

# Fields of Evidence, by what an answer must come with.
_OF_TOKENS = frozenset({"logprob_p05", "logprob_p10", "logprob_least", "logprob_first", "margin_p10"})
_OF_SECOND = frozenset({"margin_p10"})
_OF_PASSAGES = frozenset({"sentence_score", "passage_score", "passage_gap", "citations", "citation_support"})
# Kinds of providers whose format has log-probabilities.
_WITH_LOGPROBS = frozenset({"openai", "triton"})


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step. targets: provider and model. calibration: None of the last step, which is not judged.

    digest: of the calibration's file, SHA-256 in hex. alternatives: that are asked for with each token; None: no
    log-probabilities are.
    """

    name: str
    targets: tuple[tuple[str, str], ...]
    answer_mode: str | None = None
    seconds: float | None = None
    calibration: Calibration | None = None
    digest: str = ""
    alternatives: int | None = None

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

    @property
    def rules(self) -> Any:
        """All that decides which step answers, for the key of kept answers."""
        steps = [[*step.targets, step.answer_mode, step.digest, step.seconds] for step in self.steps]
        return [steps, self.decide_after, self.on_refusal]


def read_cascades(file: GatewayFile, path: Path) -> dict[str, CascadePlan]:
    """The cascades by model. path: of gateway.toml; calibrations are looked for from its folder on. Blocks.

    Raises SettingError naming file and key: a calibration that cannot be read, or that its step cannot keep to.
    """
    return {
        model: CascadePlan(
            model,
            tuple(_read_step(file, path, model, row, index) for index in range(len(row.steps))),
            row.decide_after,
            row.on_refusal,
        )
        for model, row in file.models.items()
        if row.steps
    }


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
        if wanted is not None and plan.decide_after != "answer":
            return f"calibration needs log-probabilities before the end, and {name!r} gives them with it"
        return f"calibration needs margin_p10, and {name!r} names no second tokens" if wanted else ""
    if step.answer_mode is not None:
        return f"answer_mode is of rag models, and {name!r} is none"
    if step.calibration is not None and _OF_PASSAGES.intersection(step.calibration.features):
        return f"calibration needs scores of passages, and {name!r} reads none"
    if wanted is not None and (model.alternatives is None or model.alternatives < wanted):
        most = "none" if model.alternatives is None else f"{model.alternatives} alternatives"
        return f"calibration needs log-probabilities with {wanted} alternatives, and {name!r} gives {most}"
    return ""


def _read_step(file: GatewayFile, path: Path, model: str, row: ModelRow, index: int) -> StepPlan:
    step = row.steps[index]
    where = f"{path}: models.{model}.steps[{index}]"
    targets = tuple(split_target(entry) for entry in step.entries)
    for provider, _ in targets:
        if step.answer_mode is not None and file.providers[provider].kind != "triton":
            raise SettingError(f"{where}.answer_mode is of rag models, and {provider!r} serves none")
    if not step.calibration:
        return StepPlan(name_of(step, index), targets, step.answer_mode, step.seconds)
    place = path.parent / step.calibration
    try:
        calibration = read_calibration(place)
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
    except (SettingError, OSError) as error:
        raise SettingError(f"{where}.calibration: {error}") from None
    provider, name = targets[0]
    fault = (
        _fault_of_features(calibration, step, file.providers[provider])
        or _fault_of_length(calibration, step, row)
        or _fault_of_versions(calibration, provider, name, file.providers[provider])
    )
    if fault:
        raise SettingError(f"{where}.calibration: {place} {fault}")
    return StepPlan(
        name_of(step, index),
        targets,
        step.answer_mode,
        step.seconds,
        calibration,
        digest,
        _alternatives(calibration),
    )


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
    """Why the calibration cannot judge the first tokens; "" if it can, or need not: a sentence comes whole."""
    if row.decide_after == "answer" or step.answer_mode == "extractive":
        return ""
    # A rag model says all that it knows with the end.
    known_late = _OF_PASSAGES if step.answer_mode is None else _OF_PASSAGES | _OF_TOKENS
    late = next((feature for feature in calibration.features if feature in known_late), "")
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
