"""How well rag tells that a collection holds no answer; with --fit, the weights in its relevance.toml.

Each question is asked twice of a stack of our own: as it is, and with the documents that answer it left out of
what is found. Weights are fitted on SQuAD's training articles, alone and among Wikipedia's, on titles of Wikipedia
and on bare sentences; judged are SQuAD's other articles, MedQuAD and our own documents.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
from benchmarks.search.absent import Case, Domain, fit_domains, judge_domains, read_lines
from benchmarks.search.steps import ClientSteps
from trireme.rag.answer import answer
from trireme.rag.citations import content_words
from trireme.rag.ports import AnswerOptions, Question
from trireme.rag.prompt import PromptTemplate
from trireme.rag.relevance import RELEVANCE_FILE, RelevanceModel, read_relevance
from trireme.settings import Settings
from trireme.triton.client import TritonClient

COMMON_WORDS = 2000
# Of Wikipedia's and Wikinews' articles, every so many is counted.
COUNTED = 4
# Pulls weights to nothing where they are hardly known.
RIDGE = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """What one question found: `score` of the best sentence, rare words that its passage lacks.

    is_there: the documents that answer it were not left out. is_found: the sentence is of one of them, or it is not
    known which they are; the search may miss what is there.
    """

    domain: str
    is_there: bool
    is_found: bool
    score: float
    missing: int


@dataclass(frozen=True, slots=True)
class DomainReport:
    """One domain's figures; shares. auc: of the chance, of a question whose document is there before one where not.

    refused: of the questions whose document is there, those below relevance_threshold; found_refused: the same of
    those whose sentence is of that document; told: of the questions whose document is absent, those below. told_at:
    by the share of refused ones at which the domain's own threshold would be set.
    """

    domain: str
    there: int
    absent: int
    auc: float | None
    refused: float | None
    found_refused: float | None
    told: float | None
    told_at: dict[str, float]


@dataclass(frozen=True, slots=True)
class RelevanceReport:
    """Figures of one run."""

    threshold: float
    domains: list[DomainReport]
    circumstances: Circumstances


def count_common_words(data: Path) -> list[str]:
    """Stems of the COMMON_WORDS commonest words of Wikipedia and Wikinews, without numbers, the commonest first."""
    counts: Counter[str] = Counter()
    for name in ("wikipedia", "wikinews"):
        for one in read_lines(data / "text" / f"{name}.jsonl.xz")[::COUNTED]:
            for paragraph in one["text"].split("\n"):
                if len(paragraph) > 200:
                    counts.update(content_words(paragraph))
    return [word for word, _ in counts.most_common(2 * COMMON_WORDS) if word.isalpha()][:COMMON_WORDS]


def index(domains: Sequence[Domain], settings: Settings, database_url: str) -> dict[str, str]:
    """The collection of each domain, made; one corpus is indexed once."""
    from rich.console import Console

    from trireme.indexing import ingest_path

    made: dict[int, str] = {}
    for domain in domains:
        if id(domain.corpus) in made:
            continue
        name = made[id(domain.corpus)] = f"corpus-{len(made)}"
        show_progress_note(f"Indexing the corpus of {domain.name}")
        one = dataclasses.replace(settings, collection=name)
        with tempfile.TemporaryDirectory() as folder:
            records = [record for record in domain.corpus if not isinstance(record, Path)]
            paths = [path for path in domain.corpus if isinstance(path, Path)]
            if records:
                paths.append(Path(folder, "corpus.jsonl"))
                paths[-1].write_text(
                    "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8"
                )
            for path in paths:
                ingest_path(one, path, database_url, Console(stderr=True, quiet=True))
    return {domain.name: made[id(domain.corpus)] for domain in domains}


def ask(
    client: TritonClient, case: Case, collection: str, model: RelevanceModel, *, is_there: bool
) -> tuple[bool, float, int] | None:
    """Found's last fields; None where there is no sentence."""
    steps = ClientSteps(client, frozenset() if is_there else case.left_out)
    options = AnswerOptions(1, 0.0, 0.0, model)
    question = Question(case.question, "extractive", 5, "default", collection)
    (part,) = answer(question, steps, options, PromptTemplate("", "", ""))
    if not part.citations or part.usage is None or part.usage.best_score is None:
        return None
    [cited] = part.citations
    (passage,) = [hit for hit in steps.hits if hit.id == cited.id]
    is_found = is_there and (not case.left_out or cited.id in case.left_out)
    return is_found, part.usage.best_score, model.count_missing(case.question, passage)


def ask_all(
    client: TritonClient, domains: Sequence[Domain], collections: dict[str, str], model: RelevanceModel
) -> Iterator[Found]:
    """Each question, with its documents and without."""
    done = 0
    for domain in domains:
        for case in domain.cases:
            for is_there in (True, False):
                if (is_there and domain.never) or not (is_there or domain.never or case.left_out):
                    continue
                got = ask(client, case, collections[domain.name], model, is_there=is_there)
                if got is not None:
                    yield Found(domain.name, is_there, *got)
            done += 1
            if done % 50 == 0:
                show_progress_note(f"{done} of {sum(len(one.cases) for one in domains)} questions")


def fit(found: Sequence[Found], common_words: frozenset[str]) -> RelevanceModel:
    """The logistic of score and missing words by Newton's method; every domain and either answer weigh the same.

    Questions whose document is there and was not found teach nothing of sentences that answer: they are left out.
    """
    found = [one for one in found if one.is_found or not one.is_there]
    groups = Counter((one.domain, one.is_there) for one in found)
    weights = np.array([len(found) / len(groups) / groups[one.domain, one.is_there] for one in found])
    inputs = np.array([[1.0, one.score, one.missing] for one in found])
    there = np.array([float(one.is_there) for one in found])
    # A measure that is the same everywhere gets no weight.
    ridge = np.diag([0.0, *(RIDGE * np.maximum(inputs[:, 1:].var(axis=0), 1e-6))])
    found_weights = np.zeros(3)
    for _ in range(50):
        chances = 1 / (1 + np.exp(-inputs @ found_weights))
        slope = inputs.T @ (weights * (there - chances)) - ridge @ found_weights
        curvature = (inputs * (weights * chances * (1 - chances))[:, None]).T @ inputs + ridge
        found_weights += np.linalg.solve(curvature, slope)
    return RelevanceModel(*(round(float(one), 3) for one in found_weights), common_words)


def write_relevance(path: Path, model: RelevanceModel, common_words: Sequence[str], command: str) -> None:
    """Writes the file that read_relevance reads."""
    path.write_text(
        render("search/relevance.toml.j2", model=model, words=common_words, command=command), "utf-8"
    )


def summarize(found: Sequence[Found], model: RelevanceModel, threshold: float) -> list[DomainReport]:
    """Each domain's figures. Pure."""
    reports = []
    for name in dict.fromkeys(one.domain for one in found):
        of_domain = [one for one in found if one.domain == name]
        there, seen, absent = (
            np.array([model.chance(one.score, one.missing) for one in members])
            for members in (
                [one for one in of_domain if one.is_there],
                [one for one in of_domain if one.is_found],
                [one for one in of_domain if not one.is_there],
            )
        )
        both = bool(there.size and absent.size)
        auc = (
            float(np.mean(there[:, None] > absent) + np.mean(there[:, None] == absent) / 2) if both else None
        )
        told_at = {
            f"{lost:.2f}": float(np.mean(absent < np.quantile(there, lost))) for lost in (0.02, 0.04) if both
        }
        shares = [float(np.mean(one < threshold)) if one.size else None for one in (there, seen, absent)]
        reports.append(DomainReport(name, there.size, absent.size, auc, *shares, told_at))
    return reports


def choose_threshold(found: Sequence[Found], model: RelevanceModel, lost: float) -> float:
    """The chance, in hundredths, below which `lost` of SQuAD's questions lie whose document is there and found."""
    chances = [
        model.chance(one.score, one.missing)
        for one in found
        if one.is_found and one.domain.startswith("squad")
    ]
    return round(float(np.quantile(chances, lost)), 2)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Fits and writes, or judges and prints."""
    seen = read_circumstances("benchmarks.search.relevance", words, options.seed)
    domains = (fit_domains if options.fit else judge_domains)(options.data, options.questions, options.seed)
    with start_own_stack() as (settings, database_url):
        folder = settings.model_repository / "rag"
        common = count_common_words(options.data) if options.fit else []
        model = (
            RelevanceModel(0.0, 0.0, 0.0, frozenset(common))
            if options.fit
            else read_relevance(folder / RELEVANCE_FILE)
        )
        collections = index(domains, settings, database_url)
        with TritonClient(settings.grpc_url, timeout=300) as client:
            found = list(ask_all(client, domains, collections, model))
    if options.keep:
        write_json(options.keep, [dataclasses.asdict(one) for one in found])
    if options.fit:
        model = fit(found, model.common_words)
        write_relevance(folder / RELEVANCE_FILE, model, common, seen.command)
        threshold = choose_threshold(found, model, options.lost)
        print(f"relevance_threshold at which {options.lost:.0%} of SQuAD's are refused: {threshold}")
    else:
        threshold = read_recipe_threshold(settings)
    report = RelevanceReport(threshold, summarize(found, model, threshold), seen)
    if not options.fit:
        write_json(RESULTS / "relevance.json", report)
    print(render("search/relevance.md.j2", report=report, seen=seen))


def read_recipe_threshold(settings: Settings) -> float:
    """relevance_threshold of the recipe of rag."""
    from trireme.artifacts.recipe import RECIPE_FILE, read_recipe

    return read_recipe(settings.model_repository / "rag" / RECIPE_FILE).relevance_threshold


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    data = "the folder that holds qa/, retrieval/, pairs/ and text/"
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--questions", type=int, default=150, help="of each domain (default 150)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--fit", action="store_true", help="fit the weights and write them")
    lost = "of SQuAD's questions, those that the printed threshold refuses (default 0.03)"
    parser.add_argument("--lost", type=float, default=0.03, help=lost)
    parser.add_argument("--keep", type=Path, help="write what each question found into this JSON file")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
