"""Retrieval in six languages, on parallel passages of our own: vectors, words and both, by two embedders.

benchmarks/search/languages/CODE.jsonl holds 60 passages with two questions each: the first has words of the
passage, the second asks in other words. A question's own passage is the one right answer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.common.report import (
    DOCS,
    RESULTS,
    Circumstances,
    read_circumstances,
    render,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.search.quality import MODES
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.repository import version_dir
from trireme.errors import InvalidInputError
from trireme.quality import evaluate
from trireme.retrieve.store import VectorStore
from trireme.types import Embedder, FloatArray, InputType, Passage, SearchMode, StoreQuery

FOLDER = Path(__file__).with_name("languages")
LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "zh": "Chinese",
    "ar": "Arabic",
    "hi": "Hindi",
}
MODELS = {"English": "embedding", "multilingual": "multilingual"}
REPOSITORY = Path("defaults", "multilingual")
FIGURES = "languages.json"
KINDS = ("own words", "other words")
TOP_K = 10
TENANT = "benchmark"

Embed = Callable[[Sequence[str], InputType], FloatArray]


@dataclass(frozen=True, slots=True)
class Parallel:
    """One language: passages by id, and the questions of each in the order of KINDS."""

    code: str
    passages: Mapping[str, str]
    questions: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LanguageRow:
    """What one way of finding reached: questions of `language` asked of passages in `passages`.

    model: "" where no vector counts. ndcg_at_10: by kind of question. first: the share whose passage came first.
    """

    language: str
    passages: str
    model: str
    way: str
    ndcg_at_10: dict[str, float]
    first: float

    @property
    def mean(self) -> float:
        """nDCG@10 of all questions; there are as many of each kind."""
        return statistics.fmean(self.ndcg_at_10.values())


@dataclass(frozen=True, slots=True)
class LanguageReport:
    """All rows."""

    rows: tuple[LanguageRow, ...]
    circumstances: Circumstances

    def find(self, language: str, way: str, model: str, passages: str = "") -> LanguageRow:
        """The one row of these."""
        wanted = (language, passages or language, model, way)
        return next(row for row in self.rows if (row.language, row.passages, row.model, row.way) == wanted)


def read_language(code: str) -> Parallel:
    """The passages and questions of a language. Raises InvalidInputError where one lacks its two questions."""
    passages, questions = {}, {}
    for line in (FOLDER / f"{code}.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if len(entry["questions"]) != len(KINDS) or entry["id"] in passages:
            raise InvalidInputError(f"{code}: passage {entry['id']} is there twice or has no two questions")
        passages[entry["id"]] = entry["text"]
        questions[entry["id"]] = tuple(entry["questions"])
    return Parallel(code, passages, questions)


def index(store: VectorStore, collection: str, language: Parallel, embedder: Embedder, embed: Embed) -> None:
    """Puts the passages of a language into a collection of that name, each saying its language."""
    metadata = json.dumps({"language": language.code})
    passages = [Passage(one, text, metadata) for one, text in language.passages.items()]
    store.put(TENANT, collection, embedder, passages, embed([*language.passages.values()], "passage"))


def measure(
    search: Callable[[FloatArray, str], list[str]], asked: Parallel, vectors: Mapping[str, FloatArray]
) -> tuple[dict[str, float], float]:
    """nDCG@10 by kind of question, and the share whose passage came first.

    search: a question's vector and text -> ids, best first. vectors: kind -> [passages, dimensions].
    """
    figures, first = {}, 0
    for place, kind in enumerate(KINDS):
        run = {}
        for row, (one, texts) in enumerate(asked.questions.items()):
            run[one] = search(vectors[kind][row], texts[place])
            first += run[one][:1] == [one]
        figures[kind] = evaluate(asked.code, run, {one: {one: 1} for one in run}).ndcg_at_10
    return figures, first / (len(KINDS) * len(asked.questions))


def measure_model(
    store: VectorStore, name: str, embedder: Embedder, embed: Embed, languages: Sequence[Parallel]
) -> Iterator[LanguageRow]:
    """The rows of one embedder: in each language, and of each language's questions on English passages."""
    for language in languages:
        index(store, f"{name}-{language.code}", language, embedder, embed)
    for asked in languages:
        pairs = list(zip(*asked.questions.values(), strict=True))
        vectors = {kind: embed([*texts], "query") for kind, texts in zip(KINDS, pairs, strict=True)}
        for passages in dict.fromkeys((asked.code, "en")):
            for mode, way in MODES.items():
                search = partial(ask, store, collection=f"{name}-{passages}", embedder=embedder, mode=mode)
                yield LanguageRow(asked.code, passages, name, way, *measure(search, asked, vectors))


def ask(
    store: VectorStore,
    vector: FloatArray,
    text: str,
    *,
    collection: str,
    embedder: Embedder,
    mode: SearchMode,
) -> list[str]:
    """Ids of the passages that answer, best first."""
    query = StoreQuery(vector, embedder, TOP_K, TENANT, collection, text, mode=mode)
    return [hit.id for hit in store.search(query)]


def open_model(model: str) -> tuple[Embedder, Embed]:
    """A built text encoder of REPOSITORY, in this process as the server would run it. Raises ArtifactError."""
    from benchmarks.rivals.trireme_engine import TriremeEngine

    manifest = read_manifest(version_dir(REPOSITORY, model))
    engine = TriremeEngine(REPOSITORY / model, threads=0)
    return manifest.embedder, lambda texts, kind: np.stack(engine.embed(texts, kind)).astype(np.float32)


def measure_all(languages: Sequence[Parallel]) -> Iterator[LanguageRow]:
    """The rows of both embedders, in a PostgreSQL of our own. No tritonserver is started."""
    from trireme.local.postgres import start_postgres
    from trireme.storage import open_store

    with ExitStack() as resources:
        folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="trireme-"))
        postgres = start_postgres(Path(folder))
        resources.callback(postgres.stop)
        store = resources.enter_context(closing(open_store(postgres.url)))
        for name, model in MODELS.items():
            yield from measure_model(store, name, *open_model(model), languages)


def format_section(report: LanguageReport) -> str:
    """The tables of docs/languages.md."""
    return render(
        "search/languages.md.j2",
        report=report,
        languages=LANGUAGES,
        models=MODELS,
        kinds=KINDS,
        seen=report.circumstances,
    )


def work(_: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the section of the page."""
    languages = [read_language(code) for code in LANGUAGES]
    circumstances = read_circumstances("benchmarks.search.languages", words, 0)
    report = LanguageReport(tuple(measure_all(languages)), circumstances)
    write_json(RESULTS / FIGURES, report)
    write_section(DOCS / "languages.md", "languages", format_section(report))
    print(format_section(report))


def main(arguments: Sequence[str] | None = None) -> int:
    return run_script(make_parser(__doc__), work, arguments)


if __name__ == "__main__":
    sys.exit(main())
