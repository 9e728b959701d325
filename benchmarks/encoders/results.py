"""What one run of the benchmark found, and the figures that follow from it. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.common.report import Circumstances
from benchmarks.encoders.contenders import Load, Sample, summarize
from benchmarks.search.stages import SearchStages

OURS, OURS_IN_PROCESS, PLAIN = "Trireme", "Trireme in process", "plain Triton model"
ORT_IN_PROCESS = "ONNX Runtime in process"
# The same checkpoint, queue and micro-batches on the engine that encoders had before.
OURS_ON_OPENVINO = "Trireme in process, OpenVINO"
# Our own build in fp32: what quality is compared with.
FP32_IN_PROCESS = "fp32"
OUR_RERANKER, OUR_PAIR_RANKER = "Trireme reranker", "Trireme pair ranker"
ST, INFINITY = "sentence-transformers", "Infinity"


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """Of one workload: its texts, and means of their tokens and of the squares."""

    name: str
    what: str
    texts: int
    tokens: float
    tokens_squared: float


@dataclass(frozen=True, slots=True)
class Entrant:
    """One contender: what it is and the versions of what does its work. `error`: why it did not start."""

    name: str
    what: str
    versions: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One run: `scenario` names workload and load, `round` counts the repetitions from 0.

    `other_cores`: processor time of everything else on the machine per second of the run.
    """

    scenario: str
    task: str
    contender: str
    load: Load
    round: int
    sample: Sample
    other_cores: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A contender that broke off in a scenario."""

    contender: str
    scenario: str
    error: str


@dataclass(frozen=True, slots=True)
class QualityFigure:
    """nDCG@10 of the vectors of one engine, ranked by exact cosine."""

    engine: str
    dataset: str
    queries: int
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything. `rates`: 10^12 operations per second by number format, several times over the run.

    `operations`: of one text of each workload. `tokens_agree`: contender -> whether it counts the tokens as we do,
    `cosines`: the smallest cosine of its vectors to fp32's.
    `left_out`: scenarios for which no time was left.
    """

    workloads: tuple[WorkloadFacts, ...]
    entrants: tuple[Entrant, ...]
    points: tuple[Point, ...]
    failures: tuple[Failure, ...]
    rates: tuple[dict[str, float], ...]
    operations: dict[str, float]
    tokens_agree: dict[str, bool]
    cosines: dict[str, float]
    quality: tuple[QualityFigure, ...]
    search: SearchStages | None
    left_out: tuple[str, ...]
    seconds: float
    circumstances: Circumstances

    def samples(self, scenario: str, contender: str) -> list[Sample]:
        """In the order of the rounds."""
        return [p.sample for p in self.points if (p.scenario, p.contender) == (scenario, contender)]

    def median(self, scenario: str, contender: str) -> Sample | None:
        """Medians over the rounds; None where it was not measured."""
        samples = self.samples(scenario, contender)
        return summarize(samples) if samples else None

    def contenders(self, scenario: str) -> list[str]:
        """Those measured in a scenario, in the order of the entrants."""
        there = {point.contender for point in self.points if point.scenario == scenario}
        return [entrant.name for entrant in self.entrants if entrant.name in there]

    def rate(self, number_format: str) -> float:
        """The machine's best, 10^12 operations per second; 0 where it was not measured."""
        return max((rates[number_format] for rates in self.rates if number_format in rates), default=0.0)


def compare(report: BenchReport, scenario: str, ours: str, theirs: str) -> float | None:
    """How many times as many texts per second ours does: the median of the rounds' ratios."""
    pairs = zip(report.samples(scenario, ours), report.samples(scenario, theirs), strict=False)
    ratios = [a.texts_per_s / b.texts_per_s for a, b in pairs if b.texts_per_s]
    return statistics.median(ratios) if ratios else None


def find_best(report: BenchReport, scenario: str, names: Iterable[str]) -> str | None:
    """The fastest of `names` in a scenario."""
    found = [(sample.texts_per_s, name) for name in names if (sample := report.median(scenario, name))]
    return max(found)[1] if found else None


def compute_share(report: BenchReport, scenario: str, contender: str, number_format: str) -> float | None:
    """Of the machine's matrix rate, what a contender uses on a workload; padding does not count as use."""
    sample, rate = report.median(scenario, contender), report.rate(number_format)
    task = next((point.task for point in report.points if point.scenario == scenario), "")
    if sample is None or not rate or task not in report.operations:
        return None
    return sample.texts_per_s * report.operations[task] / (rate * 1e12)


def compute_pad_share(report: BenchReport, scenario: str) -> float | None:
    """Of the tokens that ours computed in a scenario, those that only fill up rows; the median of the rounds."""
    shares = [step.pad_share for s in report.samples(scenario, OURS) for step in s.steps if step.tokens]
    return statistics.median(shares) if shares else None


def list_rivals(report: BenchReport, scenario: str, prefixes: Sequence[str] = (ST, INFINITY)) -> list[str]:
    """Names of the rivals measured in a scenario."""
    return [name for name in report.contenders(scenario) if name.startswith(tuple(prefixes))]


def hide_folders(text: str) -> str:
    """An error with the folders of this machine cut off: what stands in a report names none."""
    return re.sub(r"(?<![\w:/])/(?:[\w.+~-]+/)+", ".../", text)
