"""What a step's answer has said so far, and what that is as evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trireme.cascade.calibration import Calibration
from trireme.cascade.evidence import Evidence
from trireme.cascade.features import make_evidence
from trireme.errors import SettingError
from trireme.providers.chat import (
    ChatCall,
    Event,
    Findings,
    Finished,
    RefusalDelta,
    Sources,
    Started,
    TextDelta,
    ThinkingDelta,
    Usage,
)

# Why an answer is not kept, in words for headers and metrics.
UNSURE, NO_EVIDENCE, NO_TEXT, FILTERED = "unsure", "no_evidence", "no_text", "filtered"
# Of a rag model's usage.
LOGPROBS_KEY = "token_logprobs"


@dataclass(slots=True)
class Heard:
    """The events of one answer of one choice, as they come. first: it is judged by so many tokens; None: by all."""

    first: int | None = None
    events: list[Event] = field(default_factory=list)
    model: str = ""
    # What a rag model would ask an LLM.
    prompt: tuple[Mapping[str, str], ...] = ()
    is_whole: bool = False
    _text: str = ""
    _parts: int = 0
    _logprobs: list[float] = field(default_factory=list)
    _margins: list[float] = field(default_factory=list)
    _usage: Usage = field(default_factory=Usage)
    _reason: str = ""
    _sources: Sources | None = None
    _details: Mapping[str, Any] = field(default_factory=dict)
    _has_other: bool = False

    def note(self, event: Event) -> None:
        """Take an event in."""
        self.events.append(event)
        match event:
            case Started(model=model):
                self.model = model
            case TextDelta(text=text, logprobs=entries):
                self._text += text
                self._parts += bool(text)
                self._take(entries)
            case RefusalDelta(text=text):
                self._text += text
            case Findings(logprobs=logprobs, details=details, prompt=prompt):
                self._take(logprobs)
                self._details = {**self._details, **details}
                self.prompt = self.prompt or prompt
            case Sources(details=details):
                self._sources, self._details = event, details
                if every := details.get(LOGPROBS_KEY):
                    # All of them, also those that came before.
                    self._logprobs.clear()
                    self._take(every)
            case Usage():
                self._usage = event
            case Finished(reason=reason):
                self._reason = reason
            case ThinkingDelta():
                # Shown before an answer, and no part of it.
                pass
            case _:
                self._has_other = True

    @property
    def has_evidence(self) -> bool:
        """Whether a rag model has said what it found, be that nothing."""
        return bool(self._details or self.prompt)

    @property
    def tokens(self) -> int:
        """That have come: as the log-probabilities count them, else at least one for each part of the text."""
        return len(self._logprobs) or self._parts

    def judge(self, calibration: Calibration) -> tuple[str, float]:
        """Why the answer is not kept, "" if it is, and the chance that it is right; 0 where nobody can tell."""
        if fault := self.find_fault():
            return fault, 0.0
        try:
            chance = calibration.chance(self.evidence())
        except SettingError:
            return NO_EVIDENCE, 0.0
        return ("" if chance >= calibration.threshold else UNSURE), chance

    def find_fault(self) -> str:
        """Why what has come is not kept, whatever its evidence; "" if that decides. Pure."""
        if self._reason in ("filter", "pause"):
            return FILTERED
        # A call of a tool is no answer that anybody has labelled.
        return NO_TEXT if self._has_other or not self._text.strip() else ""

    def evidence(self) -> Evidence:
        """Of what has come. Pure."""
        details = self._details
        counted = self._usage.output_tokens if self.is_whole else None
        made = make_evidence(
            self._text,
            logprobs=self._logprobs or None,
            margins=self._margins or None,
            tokens=counted if counted is not None else self._parts,
            is_cut=self._reason == "length" or not self.is_whole,
            first=self.first,
            sentence_score=_number(details.get("best_score")),
            passage_scores=_passages(details),
            supports=[one.support for one in self._sources.sources] if self._sources is not None else None,
        )
        return replace(made, is_refusal=True) if self._reason == "refusal" else made

    def _take(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            if not isinstance(entry, Mapping):
                self._logprobs += [entry] if _number(entry) is not None else []
            elif isinstance(said := entry.get("token_logprobs"), list):
                # OpenAI's older form: one table for all tokens.
                self._logprobs += [one for one in said if _number(one) is not None]
                self._margins += [gap for top in _tops(entry) for gap in _margin(top.values())]
            elif _number(entry.get("logprob")) is not None:
                self._logprobs.append(entry["logprob"])
                self._margins += _margin(top.get("logprob") for top in _tops(entry))


def shown(event: Event, call: ChatCall) -> Event | None:
    """The event as the client gets it: without what only the decision needed. None: nothing of it is left."""
    if isinstance(event, Findings):
        return None
    if isinstance(event, Sources) and LOGPROBS_KEY in event.details and call.logprobs is None:
        left = {name: value for name, value in event.details.items() if name != LOGPROBS_KEY}
        return replace(event, details=left)
    if not isinstance(event, TextDelta) or not event.logprobs:
        return event
    if call.logprobs is None:
        return replace(event, logprobs=()) if event.text else None
    most = call.logprobs
    return replace(event, logprobs=tuple(_with_alternatives(entry, most) for entry in event.logprobs))


def _with_alternatives(entry: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    """The entry with so many alternatives at most."""
    tops = entry.get("top_logprobs")
    if not isinstance(tops, list):
        return entry
    if "token_logprobs" not in entry:
        return {**entry, "top_logprobs": tops[:most]}
    cut = [_likeliest(top, most) if isinstance(top, Mapping) else top for top in tops]
    return {**entry, "top_logprobs": cut}


def _tops(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A provider's alternatives, as far as they are written as OpenAI does."""
    tops = entry.get("top_logprobs")
    return [top for top in tops if isinstance(top, Mapping)] if isinstance(tops, list) else []


def _likeliest(top: Mapping[str, Any], most: int) -> dict[str, float]:
    known = [(token, value) for token, value in top.items() if _number(value) is not None]
    return dict(sorted(known, key=lambda pair: -pair[1])[:most])


def _margin(values: Iterable[Any]) -> list[float]:
    """How far the second likeliest lies behind; nothing where fewer than two are known."""
    known = sorted((value for value in values if _number(value) is not None), reverse=True)
    return [known[0] - known[1]] if len(known) > 1 else []


def _passages(details: Mapping[str, Any]) -> tuple[float, ...]:
    best, gap = _number(details.get("passage_score")), _number(details.get("passage_gap"))
    if best is None:
        return ()
    return (best,) if gap is None else (best, best - gap)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
