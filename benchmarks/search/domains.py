"""nDCG@10 of each way to retrieve on several domains: no ranking is judged on one of them alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

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
from benchmarks.common.stack import start_own_stack
from benchmarks.search.domain_sets import Corpus, make_corpora
from benchmarks.search.quality import MODES, ask_all, ask_retriever, ask_search, show_progress
from trireme.errors import NotFoundError
from trireme.quality import evaluate
from trireme.settings import Settings

FIGURES = "retrieval-domains.json"


@dataclass(frozen=True, slots=True)
class DomainRow:
    """nDCG@10 of one domain: way of ranking -> figure."""

    domain: str
    passages: int
    queries: int
    ndcg_at_10: dict[str, float]


@dataclass(frozen=True, slots=True)
class DomainReport:
    """All domains, measured with one server."""

    rows: tuple[DomainRow, ...]
    circumstances: Circumstances

    @property
    def means(self) -> dict[str, float]:
        """Way of ranking -> the mean of its domains."""
        ways = self.rows[0].ndcg_at_10
        return {way: statistics.fmean(row.ndcg_at_10[way] for row in self.rows) for way in ways}

    def loss(self, way: str) -> float:
        """The least of what `way` gains on a domain against the better of its vectors and its words alone."""
        return min(
            row.ndcg_at_10[way] - max(row.ndcg_at_10["dense"], row.ndcg_at_10["full text"])
            for row in self.rows
        )


def write_folder(corpus: Corpus, folder: Path) -> None:
    """The passages in BEIR's layout, as `trireme ingest` reads them. Makes the folder."""
    folder.mkdir()
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for passage, text in corpus.passages.items():
            if text.strip():
                file.write(json.dumps({"_id": passage, "title": "", "text": text}) + "\n")


def measure_corpus(corpus: Corpus, settings: Settings, database_url: str) -> Iterator[DomainRow]:
    """Indexes a corpus in a collection of its own, asks each mode of the retriever, and `search`. Blocks."""
    from trireme.indexing import ingest_path

    own = dataclasses.replace(settings, collection=corpus.name)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(corpus, Path(folder) / corpus.name)
        ingest_path(own, Path(folder) / corpus.name, database_url, Console(stderr=True))
    ways = {name: partial(ask_retriever, own, mode) for mode, name in MODES.items()}
    for domain, judged in corpus.domains.items():
        figures = {}
        for way, ask in {**ways, "search": partial(ask_search, own)}.items():
            with show_progress(len(judged.queries), f"{domain}: {way}") as advance:
                run = ask_all(own, judged.queries, ask, advance)
            figures[way] = evaluate(domain, run, judged.qrels).ndcg_at_10
        yield DomainRow(domain, len(corpus.passages), len(judged.queries), figures)


def measure_all(corpora: Iterable[Corpus]) -> Iterator[DomainRow]:
    """A row for each domain; tells each on stdout as it comes."""
    with start_own_stack() as (settings, database_url):
        for corpus in corpora:
            for row in measure_corpus(corpus, settings, database_url):
                print(
                    row.domain, {way: round(figure, 4) for way, figure in row.ndcg_at_10.items()}, flush=True
                )
                yield row


def format_section(report: DomainReport) -> str:
    """The table of docs/retrieval.md."""
    return render("search/domains.md.j2", report=report, seen=report.circumstances)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the section of the page."""
    corpora = list(make_corpora(options.data, options.queries, options.seed))
    if not corpora:
        raise NotFoundError(f"{options.data} holds none of the files that the domains are made from")
    circumstances = read_circumstances("benchmarks.search.domains", words, options.seed)
    report = DomainReport(tuple(measure_all(corpora)), circumstances)
    write_json(RESULTS / FIGURES, report)
    write_section(DOCS / "retrieval.md", "domains", format_section(report))
    print(format_section(report))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder: retrieval, text and pairs")
    parser.add_argument("--queries", type=int, default=300, help="of each domain, drawn (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="of passages and queries (default 1)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
