"""What a kept answer and a known prefix save end to end: an LLM of our own behind tritonserver and the gateway."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from benchmarks.gateway.embeddings import choose_ports
from benchmarks.gateway.ours import start_gateway
from benchmarks.gateway.servers import HOST, Server
from trireme.errors import UnavailableError
from trireme.local.valkey import start_valkey
from trireme.stack import Stack

SEED = 1
MODEL = "llm"
MOST_TOKENS = 64
# Of the text before a question that others ask about as well.
PREFIX_WORDS = 500
TIMEOUT_S = 120.0
RESULT, SECTION = "saved.json", "saved"
THINGS = (
    "an oar", "a harbour", "the keel of a ship", "a lighthouse", "a sail", "an anchor", "a compass", "a tide",
    "a rudder", "a mast", "a pilot", "a canal", "a lagoon", "a reef", "a monsoon", "a ferry",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """One streamed answer: milliseconds to its first content and its end, and what its x-trireme-cache says."""

    first_ms: float
    total_ms: float
    cache: str


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of so many answers, ms, and the slowest to its end."""

    what: str
    answers: int
    first_ms: float
    total_ms: float
    most_ms: float


@dataclass(frozen=True, slots=True)
class SavedReport:
    """All rows of a run."""

    rows: tuple[Row, ...]
    max_tokens: int
    prefix_words: int
    load_after: float
    circumstances: Circumstances


def ask(server: Server, text: str, headers: dict[str, str] | None = None) -> Timed:
    """One question, streamed. Raises UnavailableError for anything but an answer."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": MOST_TOKENS,
        "temperature": 0,
        "stream": True,
    }
    given = {"content-type": "application/json", **server.headers, **(headers or {})}
    connection = http.client.HTTPConnection(HOST, server.port, timeout=TIMEOUT_S)
    began = time.perf_counter()
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), given)
        answer = connection.getresponse()
        first, is_whole = 0.0, False
        said = b""
        for line in answer:
            said += line
            if not first and has_content(line):
                first = time.perf_counter()
            is_whole = is_whole or line.startswith(b"data: [DONE]")
        ended = time.perf_counter()
        cache = answer.headers.get("x-trireme-cache", "")
    except OSError as error:
        raise UnavailableError(f"the gateway does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status != 200 or not is_whole:
        raise UnavailableError(f"{MODEL} gave no whole answer: {said[:200].decode(errors='replace')}")
    return Timed(1000 * ((first or ended) - began), 1000 * (ended - began), cache)


def has_content(line: bytes) -> bool:
    """Whether a line of a stream holds text."""
    if not line.startswith(b"data: {"):
        return False
    choices = json.loads(line[len(b"data: ") :]).get("choices") or [{}]
    return bool((choices[0].get("delta") or {}).get("content"))


def make_questions(count: int) -> list[str]:
    """So many different ones, up to that of THINGS."""
    return [f"Say in three sentences what {thing} is." for thing in THINGS[:count]]


def make_prefix(number: int) -> str:
    """A text that begins like no other."""
    draw = random.Random(f"{SEED} {number}")  # noqa: S311 - a sample, no secret
    words = [word for thing in THINGS for word in thing.split()]
    return f"Report {number}. " + " ".join(draw.choice(words) for _ in range(PREFIX_WORDS)) + "."


def summarize(what: str, timed: Iterable[Timed]) -> Row:
    """Of at least one answer."""
    found = list(timed)
    first, total = (
        statistics.median(getattr(one, name) for one in found) for name in ("first_ms", "total_ms")
    )
    most = max(one.total_ms for one in found)
    return Row(what, len(found), round(first, 2), round(total, 2), round(most, 2))


def measure_kept(server: Server, count: int) -> list[Row]:
    """Each question asked twice. Raises UnavailableError where the second time is no hit."""
    asked, kept = [], []
    for text in make_questions(count):
        asked.append(ask(server, text))
        kept.append(ask(server, text))
        if not kept[-1].cache.startswith("exact"):
            raise UnavailableError(
                f"an equal question was not answered by the cache: {kept[-1].cache or 'no word'}"
            )
    return [summarize("asked of the model", asked), summarize("kept answer (exact)", kept)]


def measure_prefixes(server: Server, count: int) -> list[Row]:
    """Two questions each behind a long text; nothing is looked up or kept at the gateway."""
    fresh, known = [], []
    headers = {"cache-control": "no-store"}
    for number in range(count):
        text = make_prefix(number)
        fresh.append(ask(server, f"{text} What is first?", headers))
        known.append(ask(server, f"{text} Who came last?", headers))
    return [summarize("long text, first question", fresh), summarize("long text, second question", known)]


def measure(options: argparse.Namespace, words: Sequence[str]) -> SavedReport:
    """A stack and a gateway of its own. Blocks for minutes; raises TriremeError."""
    seen = read_circumstances("benchmarks.caching.saved", words, SEED)
    with tempfile.TemporaryDirectory(prefix="trireme-") as name:
        folder = Path(name)
        settings = replace(make_settings(folder / "data"), redis_url="", cache_url="")
        show_progress_note("Starting PostgreSQL, Valkey and tritonserver on free ports")
        with start_valkey(folder / "stores") as valkey, Stack(settings) as stack:
            (folder / "gateway").mkdir()
            (folder / "gateway" / "gateway.toml").write_text('[cache]\nexact = "all"\n', encoding="utf-8")
            more = choose_ports(settings) | {
                "TRIREME_REDIS_URL": valkey.budget_url,
                "TRIREME_CACHE_URL": valkey.cache_url,
            }
            with start_gateway(None, folder / "gateway", stack.database_url, more) as server:
                wait_for_model(server)
                rows = measure_kept(server, options.questions) + measure_prefixes(server, options.questions)
    return SavedReport(tuple(rows), MOST_TOKENS, PREFIX_WORDS, round(os.getloadavg()[0], 1), seen)


def wait_for_model(server: Server, seconds: float = 30.0) -> None:
    """Until it answers, and the gateway knows what it is: before that nothing is kept."""
    until = time.monotonic() + seconds
    while True:
        try:
            ask(server, "Who are you?")
            if ask(server, "Who are you?").cache.startswith("exact"):
                return
        except UnavailableError:
            if time.monotonic() > until:
                raise
        if time.monotonic() > until:
            return
        time.sleep(1.0)


def format_section(report: SavedReport) -> str:
    """What docs/caching.md says of it."""
    return render("caching/saved.md.j2", report=report, seen=report.circumstances, rows=report.rows)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the section."""
    report = measure(options, words)
    if options.print:
        print(format_section(report))
        return
    write_json(RESULTS / RESULT, report)
    write_section(DOCS / "caching.md", SECTION, format_section(report))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    most = len(THINGS)
    parser.add_argument(
        "--questions", type=int, default=most, choices=range(1, most + 1), metavar=f"1..{most}"
    )
    parser.add_argument("--print", action="store_true", help="print the section and write nothing")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
