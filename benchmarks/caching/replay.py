"""Replays a trace of prompts against the arithmetic of a prefix cache, and questions against the gateway.

The folder has traces/ (Mooncake), qa/ (SQuAD) and pairs/ (Disfl-QA); what is not there is left out.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.caching.prefixes import PrefixRow, read_trace, replay_all
from benchmarks.caching.questions import (
    QUESTIONS,
    SLIPS,
    Asked,
    Request,
    count_most_hits,
    make_load,
    read_questions,
)
from benchmarks.common.report import (
    DOCS,
    RESULTS,
    Circumstances,
    read_circumstances,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import make_settings
from benchmarks.gateway import ours
from benchmarks.gateway.embeddings import choose_ports
from benchmarks.gateway.measure import Upstream, fetch
from benchmarks.gateway.servers import HOST, Server
from benchmarks.gateway.upstream import MODEL, Pace
from trireme.artifacts.thresholds import read_thresholds
from trireme.budget.ledger import UsageQuery, UsageRow
from trireme.cache.promise import pick_threshold
from trireme.errors import InvalidInputError, UnavailableError
from trireme.gateway.caching.semantic_models import EQUIVALENCE
from trireme.local.valkey import start_valkey
from trireme.observe import metrics as table
from trireme.settings import read_settings
from trireme.stack import Stack
from trireme.storage import open_ledger

SEED = 1
TRACE = Path("traces/mooncake_conversation.jsonl")
# Blocks of 512 tokens; 0: without an end.
SIZES = (300, 1_000, 3_000, 10_000, 30_000, 100_000, 0)
TENANTS = (1, 10, 100)
# What the semantic tier asks, and what its lookups need besides.
SEMANTIC = (EQUIVALENCE, "embedding")
PROMISE = 0.01
NOTHING = "nothing kept"
TIMEOUT_S, DRAIN_S = 30.0, 20.0
HEADER = "x-trireme-cache"
_OUTCOME = re.compile(rf'^{table.SEMANTIC_LOOKUPS.name}\{{outcome="(\w+)"\}} (\S+)$', re.M)


@dataclass(frozen=True, slots=True)
class PrefixReport:
    """Shares of a trace, by size and tenants."""

    rows: tuple[PrefixRow, ...]
    circumstances: Circumstances


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request. tier: that answered it, "" for the provider."""

    tier: str
    ms: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class TierRow:
    """Requests that one tier answered. wrong: with the answer of another question."""

    tier: str
    requests: int
    share: float
    wrong: int
    p50_ms: float


@dataclass(frozen=True, slots=True)
class QuestionReport:
    """A load of questions with caches (`rows`) and without.

    most_exact, most: shares that caches without an end could serve by an equal text, and by an equal question.
    outcomes: of the semantic tier's lookups. calls: of the provider. nanos: of US dollars.
    """

    rows: tuple[TierRow, ...]
    tiers: tuple[str, ...]
    threshold: float | None
    outcomes: dict[str, int]
    left_out: str
    questions: int
    requests: int
    in_flight: int
    other_words: float
    exponent: float
    delay_ms: float
    most_exact: float
    most: float
    calls: int
    spent_nanos: int
    saved_nanos: int
    p50_ms: float
    p50_without_ms: float
    without: int
    load_after: float
    circumstances: Circumstances


def ask(server: Server, request: Request, *, may_keep: bool = True) -> Answer:
    """One question on a connection of its thread. Raises UnavailableError for anything but an answer."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": request.text}], "temperature": 0}
    headers = {"content-type": "application/json", **server.headers}
    if not may_keep:
        headers["cache-control"] = "no-store"
    connection = _connect(server.port)
    began = time.perf_counter()
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        got = connection.getresponse()
        said = got.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"the gateway does not answer: {error!r}") from None
    spent = time.perf_counter() - began
    if got.status != 200:
        raise UnavailableError(f"the gateway refused a question: {said[:200].decode(errors='replace')}")
    text = json.loads(said)["choices"][0]["message"]["content"]
    return Answer(read_tier(got.headers.get(HEADER, "")), 1000 * spent, text == request.wants)


_OWN = threading.local()


def _connect(port: int) -> http.client.HTTPConnection:
    """Kept alive, one for each thread and server."""
    kept: dict[int, http.client.HTTPConnection] = _OWN.__dict__.setdefault("kept", {})
    if port not in kept:
        kept[port] = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    return kept[port]


def read_tier(header: str) -> str:
    """The tier that a header names; "" where nothing was kept."""
    word = header.partition(";")[0].strip()
    return "" if word in ("miss", "bypass") else word


def ask_all(
    server: Server, requests: Sequence[Request], in_flight: int, *, may_keep: bool = True
) -> list[Answer]:
    """All, so many at once, in their order. Blocks."""
    with ThreadPoolExecutor(in_flight) as threads:
        return list(threads.map(partial(ask, server, may_keep=may_keep), requests))


def count_tiers(answers: Sequence[Answer]) -> list[TierRow]:
    """What each tier answered, the provider last. Of at least one answer."""
    counted = Counter(one.tier for one in answers)
    rows = []
    for tier in sorted(counted, key=lambda name: (not name, -counted[name], name)):
        some = [one for one in answers if one.tier == tier]
        wrong, p50 = sum(not one.is_right for one in some), statistics.median(one.ms for one in some)
        rows.append(TierRow(tier or NOTHING, len(some), len(some) / len(answers), wrong, round(p50, 2)))
    return rows


def make_file(upstream_port: int, threshold: float | None) -> str:
    """gateway.toml: every answer is kept, and with a threshold serves other words too."""
    made = ours.make_gateway_file(upstream_port, "all")
    if threshold is None:
        return made
    return made + f"\n[models.{MODEL}.semantic]\nmax_false_hits = {PROMISE}\nthreshold = {threshold}\n"


@contextmanager
def start(upstream_port: int, folder: Path, threshold: float | None) -> Iterator[tuple[Server, str]]:
    """A gateway with stores of its own, and its database's URL; with a threshold also a tritonserver.

    Raises TriremeError.
    """
    with ExitStack() as resources:
        valkey = resources.enter_context(start_valkey(folder / "stores"))
        more = {"TRIREME_REDIS_URL": valkey.budget_url, "TRIREME_CACHE_URL": valkey.cache_url}
        if threshold is not None:
            settings = replace(make_settings(folder / "stack"), redis_url="", cache_url="")
            url = resources.enter_context(Stack(settings)).database_url
            # The gateway runs in a folder of its own.
            repository = str(settings.model_repository.resolve())
            more |= choose_ports(settings) | {"TRIREME_MODEL_REPOSITORY": repository}
        else:
            url = resources.enter_context(ours.start_database(folder / "database"))
        home = folder / "gateway"
        home.mkdir()
        (home / "gateway.toml").write_text(make_file(upstream_port, threshold), encoding="utf-8")
        yield resources.enter_context(ours.start_gateway(None, home, url, more)), url


def find_threshold(repository: Path, given: float | None) -> tuple[float | None, str]:
    """That of the semantic tier, `given` or the model's for the promise; None, and why there is none."""
    missing = next((name for name in SEMANTIC if not (repository / name / "1").is_dir()), "")
    if missing:
        return None, f"the semantic tier: the model {missing} is not built"
    if given is not None:
        return given, ""
    try:
        return pick_threshold(read_thresholds(repository / EQUIVALENCE / "1"), PROMISE), ""
    except InvalidInputError as error:
        return None, f"the semantic tier: {error}"


def read_outcomes(page: str) -> dict[str, int]:
    """How lookups of the semantic tier ended, the most frequent first, from a page of metrics."""
    found = {name: int(float(count)) for name, count in _OUTCOME.findall(page)}
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def read_usage(url: str, requests: int) -> list[UsageRow]:
    """The ledger by tier, once all requests are in it. Raises UnavailableError where they are not in DRAIN_S."""
    until = time.monotonic() + DRAIN_S
    now = int(time.time() * 1000)
    query = UsageQuery(now - 24 * 3_600_000, now + 3_600_000, "tier")
    with closing(open_ledger(url)) as ledger:
        while time.monotonic() < until:
            rows = ledger.usage(query)
            if sum(row.requests for row in rows) >= requests:
                return rows
            time.sleep(0.2)
    raise UnavailableError(f"the ledger has no rows of all {requests} requests")


def measure_questions(options: argparse.Namespace, words: Sequence[str]) -> QuestionReport:
    """The same load without caches, for a part of it, and with them. Blocks; raises TriremeError."""
    seen = read_circumstances("benchmarks.caching.replay", words, SEED)
    asked = read_questions(options.data, options.questions, SEED)
    requests = make_load(asked, options.requests, options.other_words, options.exponent, SEED)
    threshold, left_out = find_threshold(read_settings().model_repository, options.threshold)
    pace = Pace(options.delay_ms / 1000)
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        folder = Path(name)
        upstream = Upstream(pace, folder, list_answers(asked))
        resources.callback(upstream.stop)
        show_progress_note("Starting a gateway and its stores")
        port = upstream.server.port
        server, url = resources.enter_context(start(port, folder, threshold))
        without = ask_all(server, requests[: options.without], options.in_flight, may_keep=False)
        calls = upstream.read_stats()["requests"]
        answers = ask_all(server, requests, options.in_flight)
        calls = upstream.read_stats()["requests"] - calls
        outcomes = read_outcomes(
            fetch(f"http://{HOST}:{server.port}/metrics", headers=server.headers).decode()
        )
        usage = read_usage(url, len(without) + len(requests))
    rows = count_tiers(answers)
    by_exact, by_question = count_most_hits(requests)
    spent = [one for one in usage if one.saved_nanos or one.nanos]
    return QuestionReport(
        rows=tuple(rows),
        tiers=("exact",) if threshold is None else ("exact", "semantic"),
        threshold=threshold,
        outcomes=outcomes,
        left_out=left_out,
        questions=len(asked),
        requests=len(requests),
        in_flight=options.in_flight,
        other_words=options.other_words,
        exponent=options.exponent,
        delay_ms=options.delay_ms,
        most_exact=by_exact,
        most=by_question,
        calls=calls,
        spent_nanos=sum(one.nanos for one in spent),
        saved_nanos=sum(one.saved_nanos for one in spent),
        p50_ms=round(statistics.median(one.ms for one in answers), 2),
        p50_without_ms=round(statistics.median(one.ms for one in without), 2),
        without=len(without),
        load_after=round(os.getloadavg()[0], 1),
        circumstances=seen,
    )


def list_answers(asked: Sequence[Asked]) -> dict[str, str]:
    """By text, in whatever words."""
    return {text: one.answer for one in asked for text in (one.text, one.other_words) if text}


def measure_prefixes(options: argparse.Namespace, words: Sequence[str]) -> PrefixReport:
    """The whole trace at each size. Blocks for seconds; raises InvalidInputError."""
    seen = read_circumstances("benchmarks.caching.replay", words, SEED)
    return PrefixReport(tuple(replay_all(read_trace(options.data / TRACE), SIZES, TENANTS, SEED)), seen)


def format_prefixes(report: PrefixReport) -> str:
    """A row for each size, a column for each number of tenants."""
    by_size: dict[int, dict[int, PrefixRow]] = {}
    for row in report.rows:
        by_size.setdefault(row.blocks, {})[row.tenants] = row
    return render(
        "caching/prefixes.md.j2",
        by_size=by_size,
        tenants=TENANTS,
        first=report.rows[0],
        seen=report.circumstances,
    )


def format_questions(report: QuestionReport) -> str:
    """The load, each tier, and what was saved."""
    return render("caching/questions.md.j2", report=report, seen=report.circumstances)


def run_prefixes(options: argparse.Namespace, words: list[str]) -> None:
    """The prefix replay, its results and its section."""
    if not (options.data / TRACE).is_file():
        show_progress_note(f"left out: {options.data.name} has no {TRACE}")
        return
    report = measure_prefixes(options, words)
    if options.print:
        print(format_prefixes(report))
        return
    write_json(RESULTS / "prefix-replay.json", report)
    write_section(DOCS / "caching.md", "prefix replay", format_prefixes(report))


def run_questions(options: argparse.Namespace, words: list[str]) -> None:
    """The replay of questions, its results and its section."""
    lacking = [path for path in (QUESTIONS, SLIPS) if not (options.data / path).is_file()]
    if lacking:
        show_progress_note(f"left out: {options.data.name} has no {lacking[0]}")
        return
    report = measure_questions(options, words)
    if options.print:
        print(format_questions(report))
        return
    write_json(RESULTS / "question-replay.json", report)
    write_section(DOCS / "caching.md", "question replay", format_questions(report))


PARTS: dict[str, Callable[[argparse.Namespace, list[str]], None]] = {
    "prefixes": run_prefixes,
    "questions": run_questions,
}


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Both replays, or the one that was named."""
    for name, run in PARTS.items():
        if options.only in (None, name):
            run(options, words)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder")
    parser.add_argument("--only", choices=PARTS, help="one replay alone")
    parser.add_argument("--questions", type=int, default=1_000, help="different ones (default 1000)")
    parser.add_argument("--requests", type=int, default=4_000, help="with caches (default 4000)")
    parser.add_argument("--without", type=int, default=500, help="of these without caches (default 500)")
    parser.add_argument("--in-flight", type=int, default=4, help="requests at once (default 4)")
    parser.add_argument(
        "--other-words", type=float, default=0.3, help="share said in other words (default 0.3)"
    )
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf (default 1)")
    parser.add_argument("--delay-ms", type=float, default=60.0, help="of the provider (default 60)")
    parser.add_argument("--threshold", type=float, help="of the semantic tier, in place of its model's")
    parser.add_argument("--print", action="store_true", help="print the sections and write nothing")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
