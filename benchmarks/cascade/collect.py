"""Asks a stack of its own SQuAD's questions and labels the small model's answers, for build/fit_cascade.py.

All 34 articles are in one collection. Questions of every other one of the six that no model was trained on are to
fit on, those of the others to judge by. An answer is right when it holds a gold answer, or refuses a question that
has none. A file that is there is gone on with: what it has is not asked again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.cascade.squad import draw, is_right, split_articles
from benchmarks.common.report import show_progress_note
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_own_stack
from benchmarks.search.absent import read_lines
from trireme.artifacts.manifest import MANIFEST_FILE
from trireme.artifacts.recipe import RECIPE_FILE
from trireme.cascade.features import FIRST_TOKENS, LEAST_LOGPROB, make_evidence
from trireme.cascade.labelled import Labelled, format_labelled
from trireme.errors import InvalidInputError, NotFoundError
from trireme.settings import Settings, read_settings
from trireme.triton.backends.loaded import name_version
from trireme.triton.client import TritonClient

Versions = tuple[tuple[str, str], ...]

MODES = ("extractive", "generative")
COLLECTION = "squad"
# What answers in each mode.
ANSWERS = {
    "extractive": ("embedding", "rag", "reranker", "search__retrieve"),
    "generative": ("embedding", "llm", "rag", "reranker", "search__retrieve"),
}
# Longer answers are cut: gold answers have a few words.
MAX_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer's text, and the seconds from the request to it."""

    text: str
    seconds: float


def step_of(mode: str, first: int | None = None) -> str:
    """The label of a step; first: judged by so many tokens."""
    return f"rag {mode}" if first is None else f"rag {mode}, first {first} tokens"


def read_version(model_dir: Path) -> str:
    """The version that a model says of itself. Raises NotFoundError where it has nothing to say it by."""
    if found := name_version(model_dir / "1"):
        return found
    raise NotFoundError(
        f"{model_dir} has neither a {MANIFEST_FILE} that can be read nor {RECIPE_FILE}; build the model"
    )


def ask(client: TritonClient, question: str, mode: str) -> tuple[list[Piece], Any, Any]:
    """The parts of an answer as they came, the last one as it was, and its scores of passages, best first."""
    try:
        pieces, last = _ask(client, question, mode, {"logprobs": True} if mode == "generative" else {})
    except InvalidInputError as error:
        # Of an engine that says none: such answers have the other features.
        if mode != "generative" or "logprobs" not in str(error):
            raise
        pieces, last = _ask(client, question, mode, {})
    best, gap = (getattr(last.usage, name, None) for name in ("passage_score", "passage_gap"))
    if best is not None:
        return pieces, last, (best,) if gap is None else (best, best - gap)
    # A rag that does not say them: search ranks the same passages by the same models.
    return pieces, last, [hit.score for hit in client.search(question, 2, collection=COLLECTION)]


def _ask(client: TritonClient, question: str, mode: str, more: dict[str, Any]) -> tuple[list[Piece], Any]:
    sampling = {"max_tokens": MAX_TOKENS, "temperature": 0, **more}
    pieces, last = [], None
    started = time.monotonic()
    for part in client.ask(question, mode, collection=COLLECTION, sampling=sampling):  # type: ignore[arg-type]
        pieces.append(Piece(part.text, time.monotonic() - started))
        last = part
    return pieces, last


def label(
    question: dict[str, Any],
    mode: str,
    versions: Versions,
    asked: tuple[list[Piece], Any, Any],
    more: dict[str, Any],
) -> Iterator[Labelled]:
    """The whole answer, and, of an LLM's, the same answer judged by its first tokens. Pure."""
    pieces, last, passage_scores = asked
    logprobs = getattr(last.usage, "token_logprobs", None)
    text = "".join(piece.text for piece in pieces)
    if mode == "generative" and not logprobs and not text.strip():
        # No token, no log-probability: it is never kept, and must not take the feature from all others.
        logprobs = (LEAST_LOGPROB,)
    scores = {"sentence_score": last.usage.best_score, "passage_scores": passage_scores}
    whole = make_evidence(
        text,
        logprobs=logprobs,
        tokens=last.usage.completion_tokens,
        is_cut=last.finish_reason == "length",
        supports=[citation.support for citation in last.citations],
        **scores,
    )
    right = is_right(question, text, refuses=whole.is_refusal)
    more = {**more, "text": text, "seconds": round(pieces[-1].seconds, 4)}
    yield Labelled(step_of(mode), versions, whole, right, more)
    if mode == "generative":
        # A part is a token, or a few of them where a character needed more.
        said = pieces[:FIRST_TOKENS]
        first = make_evidence(
            "".join(piece.text for piece in said),
            logprobs=logprobs,
            tokens=last.usage.completion_tokens,
            first=FIRST_TOKENS,
            **scores,
        )
        decided = {**more, "seconds": round(said[-1].seconds, 4)}
        yield Labelled(step_of(mode, FIRST_TOKENS), versions, first, right, decided, FIRST_TOKENS)


def read_done(path: Path, versions: Mapping[str, Versions]) -> set[tuple[str, str]]:
    """(mode, id) of what a file has; a last line that was cut off goes away.

    Raises InvalidInputError for a file of something else, or with answers of other versions of models.
    """
    if not path.is_file():
        return set()
    whole, _, cut = path.read_text(encoding="utf-8").rpartition("\n")
    if cut:
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    done = set()
    try:
        for record in map(json.loads, whole.splitlines()):
            mode = record["mode"]
            done.add((mode, record["id"]))
            if mode in versions and record["versions"] != dict(versions[mode]):
                raise InvalidInputError(
                    f"{path} has answers of other versions of the models; name another file"
                )
    except (ValueError, KeyError, TypeError):
        raise InvalidInputError(
            f"{path} has other lines than this script writes; name another file"
        ) from None
    return done


def index(data: Path, settings: Settings, database_url: str) -> None:
    """All paragraphs of SQuAD in one collection. Blocks for a minute or so."""
    from trireme.indexing import ingest_path

    with tempfile.TemporaryDirectory() as made:
        shutil.copy(data / "retrieval" / "squad" / "corpus.jsonl", made)
        ingest_path(
            dataclasses.replace(settings, collection=COLLECTION),
            Path(made),
            database_url,
            Console(stderr=True),
        )


def collect(options: argparse.Namespace) -> None:
    """Asks what the file does not have yet; each answer is written as it comes. Blocks for an hour or so."""
    repository = read_settings().model_repository
    versions = {
        mode: tuple((name, read_version(repository / name)) for name in ANSWERS[mode])
        for mode in options.modes
    }
    done = read_done(options.out, versions)
    parts = split_articles(read_lines(options.data / "qa" / "squad_grounded_dev.jsonl"))
    left = [
        (mode, split, question)
        for mode in options.modes
        for split, count in (("train", options.train), ("dev", options.dev))
        for question in draw(parts[split], count, options.seed)
        if (mode, question["id"]) not in done
    ]
    if not left:
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with start_own_stack() as (settings, database_url):
        index(options.data, settings, database_url)
        with TritonClient(settings.grpc_url) as client, options.out.open("a", encoding="utf-8") as out:
            for count, (mode, split, question) in enumerate(left, 1):
                more = {"id": question["id"], "mode": mode, "split": split, "article": question["title"]}
                more["answerable"] = question["answerable"]
                asked = ask(client, question["question"], mode)
                lines = label(question, mode, versions[mode], asked, more)
                out.write("".join(map(format_labelled, lines)))
                out.flush()
                if count % 50 == 0:
                    show_progress_note(f"{count} of {len(left)} answers")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What of, and how many."""
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="default: both")
    parser.add_argument("--train", type=int, default=800, help="questions to fit on (default 800)")
    parser.add_argument("--dev", type=int, default=800, help="questions to judge by (default 800)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Asks and labels."""
    collect(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds qa/ and retrieval/squad"
    )
    parser.add_argument("--out", type=Path, required=True, help="labelled answers, one JSON object a line")
    add_options(parser)
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
