"""How good answers are on SQuAD: what the extractive sentence holds, and what auto does with each question.

Asks the served `rag` for extractive answers; what `auto` would do follows from the score of the best sentence and
the two thresholds in the recipe. With --calibrate the questions are those of the training articles, and thresholds
are chosen from their scores; without, those of the held-out articles, and the recipe's thresholds are measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

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
from trireme.errors import NotFoundError
from trireme.settings import Settings

# Questions whose paragraph is in the collection; SQuAD 2.0 questions that it does not answer, written to look
# as if it did; and answerable questions asked of a collection without their article.
GROUPS = ("answerable", "unanswerable", "absent")
STAGES = ("embed_ms", "retrieve_ms", "rerank_ms", "sentences_ms", "total_ms")
STEP = 0.05
BAND = 0.1
# Of answerable questions, those that may be lost to "nothing found".
MOST_LOST = 0.02
# From this share on of right answers the sentence is preferred to the LLM.
LEAST_RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's best sentence: its score, whether it holds a gold answer and is of the gold paragraph."""

    group: str
    score: float
    is_right: bool
    is_gold_passage: bool
    stages: dict[str, float]


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
    circumstances: Circumstances


def read_questions(folder: Path, split: str) -> list[dict[str, Any]]:
    """Records of qa/squad_grounded_SPLIT.jsonl. Raises NotFoundError."""
    path = folder / "qa" / f"squad_grounded_{split}.jsonl"
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; give the folder that holds qa/ and retrieval/")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def draw(questions: Sequence[dict[str, Any]], count: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """`count` answerable questions, half as many unanswerable and half as many others to be asked elsewhere."""
    source = random.Random(seed)  # noqa: S311 - a sample, no secret
    answerable = source.sample([one for one in questions if one["answerable"]], count + count // 2)
    unanswerable = source.sample([one for one in questions if not one["answerable"]], count // 2)
    return {"answerable": answerable[:count], "unanswerable": unanswerable, "absent": answerable[count:]}


def choose_thresholds(asked: Sequence[Asked]) -> Thresholds:
    """relevance: the highest step that loses at most MOST_LOST of the answerable questions.

    extractive: the lowest step from there on at which, of answerable and absent questions (weighed alike) with a
    score in the band above it, the sentence answers at least LEAST_RIGHT.
    """
    scores = {group: [one for one in asked if one.group == group] for group in GROUPS}
    answerable, absent = scores["answerable"], scores["absent"]
    steps = [round(STEP * n, 2) for n in range(1, 40)]

    def lost(threshold: float) -> float:
        return sum(one.score < threshold for one in answerable) / len(answerable)

    def right(threshold: float) -> float:
        inside = [one for one in answerable if threshold <= one.score < threshold + BAND]
        others = [one for one in absent if threshold <= one.score < threshold + BAND]
        weight = len(answerable) / max(len(absent), 1)
        total = len(inside) + weight * len(others)
        return sum(one.is_right for one in inside) / total if total else 0.0

    relevance = max([step for step in steps if lost(step) <= MOST_LOST], default=steps[0])
    extractive = next((step for step in steps if step >= relevance and right(step) >= LEAST_RIGHT), steps[-1])
    return Thresholds(relevance, extractive)


def outcome(score: float, thresholds: Thresholds) -> str:
    """What auto does at this score of the best sentence."""
    if score >= thresholds.extractive:
        return "extractive"
    return "generative" if score >= thresholds.relevance else "nothing found"


def summarize(
    split: str, asked: Sequence[Asked], thresholds: Thresholds, seen: Circumstances
) -> AnswerReport:
    """The figures of a run. Pure."""
    groups = {group: [one for one in asked if one.group == group] for group in GROUPS}
    answerable = groups["answerable"]
    auto = {}
    for group, members in groups.items():
        done = [outcome(one.score, thresholds) for one in members]
        auto[group] = {
            what: done.count(what) / max(len(done), 1)
            for what in ("extractive", "generative", "nothing found")
        }
    sure = [one for one in answerable if outcome(one.score, thresholds) == "extractive"]
    auto["answerable"]["extractive and right"] = sum(one.is_right for one in sure) / max(len(answerable), 1)
    return AnswerReport(
        split=split,
        questions={group: len(members) for group, members in groups.items()},
        right=statistics.fmean(one.is_right for one in answerable),
        right_from_gold_passage=statistics.fmean(one.is_right and one.is_gold_passage for one in answerable),
        thresholds=thresholds,
        auto=auto,
        median_ms={stage: statistics.median(one.stages[stage] for one in asked) for stage in STAGES},
        circumstances=seen,
    )


def index(folder: Path, left_out: set[str], settings: Settings, database_url: str) -> dict[str, str]:
    """Each group's collection, made: all of SQuAD's paragraphs, or without those of the articles `left_out`."""
    from trireme.indexing import ingest_path

    corpus = folder / "retrieval" / "squad" / "corpus.jsonl"
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["_id"].split("#")[0] not in left_out]
    with tempfile.TemporaryDirectory() as made:
        for name, part in (("all", lines), ("others", kept)):
            Path(made, name).mkdir()
            Path(made, name, "corpus.jsonl").write_text("".join(part), encoding="utf-8")
            one = dataclasses.replace(settings, collection=name)
            ingest_path(one, Path(made, name), database_url, Console(stderr=True))
    return {"answerable": "all", "unanswerable": "all", "absent": "others"}


def ask_all(
    settings: Settings,
    drawn: dict[str, list[dict[str, Any]]],
    collection_of: dict[str, str],
    gold: dict[str, str],
    advance: Callable[[], None],
) -> Iterator[Asked]:
    """Every question, one after the other, as extractive."""
    from trireme.triton.client import TritonClient

    with TritonClient(settings.grpc_url) as client:
        for group, questions in drawn.items():
            for one in questions:
                (part,) = client.ask(one["question"], "extractive", collection=collection_of[group])
                usage = dataclasses.asdict(part.usage) if part.usage else {}
                yield Asked(
                    group=group,
                    score=usage["best_score"],
                    is_right=any(answer in part.text for answer in one["answers"]),
                    is_gold_passage=part.citations[0].id == gold[one["context"]],
                    stages={stage: usage[stage] for stage in STAGES},
                )
                advance()


def compute_curve(asked: Sequence[Asked]) -> list[dict[str, float | None]]:
    """For each score: answerable questions at or above it, how many of them are right, and others below it."""
    groups = {group: [one for one in asked if one.group == group] for group in GROUPS}
    rows: list[dict[str, float | None]] = []
    for score in (step / 10 for step in range(3, 15)):
        above = [one.is_right for one in groups["answerable"] if one.score >= score]
        below = {
            group: statistics.fmean(one.score < score for one in groups[group])
            for group in ("unanswerable", "absent")
        }
        right = statistics.fmean(above) if above else None
        share = len(above) / len(groups["answerable"])
        rows.append({"score": score, "above": share, "right": right, **below})
    return rows


def format_report(report: AnswerReport) -> str:
    """The figures in Markdown."""
    return render("search/answers.md.j2", report=report, seen=report.circumstances)


def read_thresholds(settings: Settings) -> Thresholds:
    """Those of the recipe of rag."""
    from trireme.artifacts.recipe import RECIPE_FILE, read_recipe

    recipe = read_recipe(settings.model_repository / "rag" / RECIPE_FILE)
    return Thresholds(recipe.relevance_threshold, recipe.extractive_threshold)


def measure(options: argparse.Namespace) -> tuple[list[Asked], Thresholds]:
    """Every drawn question's answer from a stack of our own, and the recipe's thresholds. Raises TriremeError."""
    questions = read_questions(options.data, "train" if options.calibrate else "dev")
    drawn = draw(questions, options.questions, options.seed)
    corpus = (options.data / "retrieval" / "squad" / "corpus.jsonl").read_text(encoding="utf-8")
    gold = {record["text"]: record["_id"] for record in map(json.loads, corpus.splitlines())}
    total, done = sum(map(len, drawn.values())), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done % 50 == 0:
            show_progress_note(f"{done} of {total} questions")

    articles = {one["title"] for one in questions}
    with start_own_stack() as (settings, database_url):
        collection_of = index(options.data, articles, settings, database_url)
        return list(ask_all(settings, drawn, collection_of, gold, advance)), read_thresholds(settings)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results or, to calibrate, prints them alone."""
    split = "train" if options.calibrate else "dev"
    seen = read_circumstances("benchmarks.search.answers", words, options.seed)
    asked, thresholds = measure(options)
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
    calibrate = "choose thresholds on the training articles; writes no file"
    parser.add_argument("--calibrate", action="store_true", help=calibrate)
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
