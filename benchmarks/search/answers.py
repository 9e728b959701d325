"""How good answers are on SQuAD: what the extractive sentence holds, and what auto does with each question.

Questions are asked of a stack of our own through trireme.rag, as the backend does it; of those that are to have
no answer, the whole article is left out of what is found. With --llm the LLM is asked for its opinion too, where
the chance of an answer is neither low nor high. What `auto` would do follows for any pair of thresholds. With
--calibrate the questions are those of the training articles, and thresholds are chosen; without, those of the
held-out articles, and the recipe's thresholds are measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.report import (
    RESULTS,
    Circumstances,
    read_circumstances,
    render,
    show_progress_note,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_own_stack
from benchmarks.search.absent import read_lines
from benchmarks.search.steps import ClientSteps
from trireme.rag.answer import answer
from trireme.rag.ports import AnswerOptions, AnswerPart, Question, Usage
from trireme.rag.prompt import PROMPT_FILE, PromptTemplate, read_prompt
from trireme.rag.relevance import RELEVANCE_FILE, read_relevance
from trireme.settings import Settings

# Questions whose paragraph is in the collection; SQuAD 2.0 questions that it does not answer, written to look
# as if it did; and answerable questions asked of a collection without their article.
GROUPS = ("answerable", "unanswerable", "absent")
STAGES = ("embed_ms", "retrieve_ms", "rerank_ms", "sentences_ms", "total_ms")
OUTCOMES = ("extractive", "generative", "nothing found")
STEP = 0.02
# Of answerable questions, those that may be lost to "nothing found".
MOST_LOST = 0.04
# Between these chances the LLM's opinion is measured: outside of them no threshold is looked for.
LLM_LEAST, LLM_MOST = 0.05, 0.95
# An answer of passages is short; a runaway one would cost the run minutes.
LLM_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's best sentence: the chance of an answer, whether it holds a gold one, of the gold paragraph.

    opinion: the LLM's beside it, "" where it was not asked. is_llm_right: its text holds a gold answer.
    """

    group: str
    chance: float
    is_right: bool
    is_gold_passage: bool
    stages: dict[str, float]
    opinion: str = ""
    is_llm_right: bool = False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """As in the recipe of rag."""

    relevance: float
    extractive: float


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """Figures of one run; shares are of the questions of a group."""

    split: str
    questions: dict[str, int]
    right: float
    right_from_gold_passage: float
    thresholds: Thresholds
    auto: dict[str, dict[str, float]]
    median_ms: dict[str, float]
    has_llm: bool
    circumstances: Circumstances


def draw(questions: Sequence[dict[str, Any]], count: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """`count` answerable questions, half as many unanswerable and half as many others to be asked elsewhere."""
    source = random.Random(seed)  # noqa: S311 - a sample, no secret
    answerable = source.sample([one for one in questions if one["answerable"]], count + count // 2)
    unanswerable = source.sample([one for one in questions if not one["answerable"]], count // 2)
    return {"answerable": answerable[:count], "unanswerable": unanswerable, "absent": answerable[count:]}


def outcome(one: Asked, thresholds: Thresholds) -> str:
    """What auto does with a question: one of OUTCOMES. Where the LLM was not asked, its text counts as shown."""
    if one.chance >= thresholds.extractive:
        return "extractive"
    if one.chance < thresholds.relevance or one.opinion == "refused":
        return "nothing found"
    return "extractive" if one.opinion == "agreed" else "generative"


def is_right(one: Asked, thresholds: Thresholds) -> bool:
    """Whether what auto shows holds a gold answer."""
    done = outcome(one, thresholds)
    return one.is_right if done == "extractive" else done == "generative" and one.is_llm_right


def choose_thresholds(asked: Sequence[Asked]) -> Thresholds:
    """The pair with the most right answers and absent questions told apart, weighed alike.

    Of pairs that lose at most MOST_LOST of the answerable questions to "nothing found"; where there is none, the
    lowest pair. Of equal pairs the one that asks the LLM least.
    """
    groups = {group: [one for one in asked if one.group == group] for group in GROUPS}
    steps = [round(STEP * n, 2) for n in range(1, 50)]

    def worth(pair: Thresholds) -> tuple[float, float]:
        right = statistics.fmean(is_right(one, pair) for one in groups["answerable"])
        told = statistics.fmean(outcome(one, pair) == "nothing found" for one in groups["absent"])
        return round(right + told, 6), pair.relevance - pair.extractive

    def lost(pair: Thresholds) -> float:
        return statistics.fmean(outcome(one, pair) == "nothing found" for one in groups["answerable"])

    pairs = [Thresholds(low, high) for low in steps for high in steps if low <= high]
    allowed = [pair for pair in pairs if lost(pair) <= MOST_LOST]
    return max(allowed, key=worth, default=pairs[0])


def summarize(
    split: str, asked: Sequence[Asked], thresholds: Thresholds, seen: Circumstances
) -> AnswerReport:
    """The figures of a run. Pure."""
    groups = {group: [one for one in asked if one.group == group] for group in GROUPS}
    answerable = groups["answerable"]
    auto = {}
    for group, members in groups.items():
        done = [outcome(one, thresholds) for one in members]
        auto[group] = {what: done.count(what) / max(len(done), 1) for what in OUTCOMES}
    auto["answerable"]["right"] = sum(is_right(one, thresholds) for one in answerable) / max(
        len(answerable), 1
    )
    return AnswerReport(
        split=split,
        questions={group: len(members) for group, members in groups.items()},
        right=statistics.fmean(one.is_right for one in answerable),
        right_from_gold_passage=statistics.fmean(one.is_right and one.is_gold_passage for one in answerable),
        thresholds=thresholds,
        auto=auto,
        median_ms={stage: statistics.median(one.stages[stage] for one in asked) for stage in STAGES},
        has_llm=any(one.opinion for one in asked),
        circumstances=seen,
    )


class Asker:
    """Asks one server, each question for its sentence and, where that is unsure, for the LLM's opinion."""

    def __init__(
        self, client: Any, options: AnswerOptions, template: PromptTemplate, *, has_llm: bool
    ) -> None:
        self._client = client
        self._options = options
        self._template = template
        self._has_llm = has_llm

    def ask(self, group: str, one: dict[str, Any], left_out: frozenset[str], gold: str) -> Asked:
        """Blocks. Raises TriremeError."""
        steps = ClientSteps(self._client, left_out, LLM_TOKENS)
        part, usage = self._answer(steps, one["question"], self._options, "extractive")
        chance = usage.relevance or 0.0
        asked = Asked(
            group=group,
            chance=chance,
            is_right=_holds(part.text, one["answers"]),
            is_gold_passage=bool(part.citations) and part.citations[0].id == gold,
            stages={stage: getattr(usage, stage) for stage in STAGES},
        )
        if not self._has_llm or not LLM_LEAST <= chance < LLM_MOST:
            return asked
        always = dataclasses.replace(self._options, relevance_threshold=0.0, extractive_threshold=2.0)
        part, usage = self._answer(steps, one["question"], always, "auto")
        said = _holds(part.text, one["answers"])
        return dataclasses.replace(asked, opinion=usage.second_opinion, is_llm_right=said)

    def _answer(
        self, steps: ClientSteps, text: str, options: AnswerOptions, mode: Any
    ) -> tuple[AnswerPart, Usage]:
        parts = list(answer(Question(text, mode, 5, "default", "all"), steps, options, self._template))
        last = parts[-1]
        whole = dataclasses.replace(last, text="".join(part.text for part in parts))
        return whole, last.usage or Usage("none")


def _holds(text: str, answers: Sequence[str]) -> bool:
    return any(answer in text for answer in answers)


def ask_all(
    asker: Asker, drawn: dict[str, list[dict[str, Any]]], corpus: Sequence[dict[str, Any]]
) -> Iterator[Asked]:
    """Every question, one after the other."""
    gold = {record["text"]: record["_id"] for record in corpus}
    total, done = sum(map(len, drawn.values())), 0
    for group, questions in drawn.items():
        for one in questions:
            article = f"{one['title']}#"
            of_article = frozenset(record["_id"] for record in corpus if record["_id"].startswith(article))
            left_out = of_article if group == "absent" else frozenset()
            yield asker.ask(group, one, left_out, gold[one["context"]])
            done += 1
            if done % 50 == 0:
                show_progress_note(f"{done} of {total} questions")


def compute_curve(asked: Sequence[Asked]) -> list[dict[str, float | None]]:
    """For each chance: answerable questions at or above it, how many of them are right, and others below it."""
    groups = {group: [one for one in asked if one.group == group] for group in GROUPS}
    rows: list[dict[str, float | None]] = []
    for chance in (0.02, 0.05, *(step / 10 for step in range(1, 10)), 0.95, 0.98, 0.99):
        above = [one.is_right for one in groups["answerable"] if one.chance >= chance]
        below = {
            group: statistics.fmean(one.chance < chance for one in groups[group])
            for group in ("unanswerable", "absent")
        }
        right = statistics.fmean(above) if above else None
        share = len(above) / len(groups["answerable"])
        rows.append({"chance": chance, "above": share, "right": right, **below})
    return rows


def format_report(report: AnswerReport) -> str:
    """The figures in Markdown."""
    return render("search/answers.md.j2", report=report, seen=report.circumstances)


def read_options(settings: Settings) -> AnswerOptions:
    """Those of the recipe of rag."""
    from trireme.artifacts.recipe import RECIPE_FILE, read_recipe

    folder = settings.model_repository / "rag"
    recipe = read_recipe(folder / RECIPE_FILE)
    return AnswerOptions(
        recipe.context_passages,
        recipe.extractive_threshold,
        recipe.relevance_threshold,
        read_relevance(folder / RELEVANCE_FILE),
    )


def measure(options: argparse.Namespace) -> tuple[list[Asked], Thresholds]:
    """Every drawn question's answer from a stack of our own, and the recipe's thresholds. Raises TriremeError."""
    from rich.console import Console

    from trireme.indexing import ingest_path
    from trireme.triton.client import TritonClient

    split = "train" if options.calibrate else "dev"
    drawn = draw(
        read_lines(options.data / "qa" / f"squad_grounded_{split}.jsonl"), options.questions, options.seed
    )
    folder = options.data / "retrieval" / "squad"
    with start_own_stack() as (settings, database_url):
        one = dataclasses.replace(settings, collection="all")
        ingest_path(one, folder / "corpus.jsonl", database_url, Console(stderr=True))
        chosen = read_options(settings)
        template = read_prompt(settings.model_repository / "rag" / PROMPT_FILE)
        with TritonClient(settings.grpc_url, timeout=300) as client:
            asker = Asker(client, chosen, template, has_llm=options.llm)
            asked = list(ask_all(asker, drawn, read_lines(folder / "corpus.jsonl")))
    return asked, Thresholds(chosen.relevance_threshold, chosen.extractive_threshold)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results or, to calibrate, prints them alone."""
    split = "train" if options.calibrate else "dev"
    seen = read_circumstances("benchmarks.search.answers", words, options.seed)
    asked, thresholds = measure(options)
    if options.keep:
        write_json(options.keep, [dataclasses.asdict(one) for one in asked])
    if options.calibrate:
        print(render("search/answers_curve.md.j2", curve=compute_curve(asked)))
        thresholds = choose_thresholds(asked)
    report = summarize(split, asked, thresholds, seen)
    if not options.calibrate:
        write_json(RESULTS / "answers-squad.json", report)
    print(format_report(report))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    data = "the folder that holds qa/ and retrieval/squad"
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--questions", type=int, default=200, help="answerable ones to draw (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--llm", action="store_true", help="ask the LLM for its opinion as well")
    parser.add_argument("--keep", type=Path, help="write what each question gave into this JSON file")
    calibrate = "choose thresholds on the training articles; writes no file of results"
    parser.add_argument("--calibrate", action="store_true", help=calibrate)
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
