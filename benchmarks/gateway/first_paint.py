"""How soon each page of the console is painted, and shows its data, over 200,000 documents and 1,000 tenants."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.common.report import DOCS, RESULTS, read_circumstances, render, write_json, write_section
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import make_settings
from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import Key, new_key_id
from trireme.budget.caps import Cap
from trireme.commands.keys import create_key
from trireme.errors import UnavailableError
from trireme.machine import pick_ports
from trireme.postgres.rows import lock_collection
from trireme.stack import Stack
from trireme.storage import open_caps, open_keys
from trireme.types import Embedder

# Nothing is drawn: the rows are made of their numbers.
SEED = 0
PAGES = ("live", "playground", "documents", "models", "cost", "releases", "budgets", "keys", "tenants")
COLLECTION = "large"
DOCUMENTS = """
    INSERT INTO trireme.documents (collection_id, tenant, id, digest, title, source, chunks)
    SELECT %(collection)s, %(tenant)s, 'report-' || lpad(n::text, 6, '0') || '.pdf', md5(n::text), 'Report ' || n,
        'report-' || lpad(n::text, 6, '0') || '.pdf', 1
    FROM generate_series(1, %(count)s) AS n
    """
PASSAGES = """
    INSERT INTO trireme.passages (collection_id, tenant, document_key, id, text, metadata, tsv)
    SELECT collection_id, tenant, key, id || ':0', 'What ' || id || ' says.', '{}', ''
    FROM trireme.documents WHERE collection_id = %(collection)s
    """
# The shell has named the page, and nothing in it waits for an answer.
SHOWS = """
page => document.querySelector('nav [aria-current=page]')?.getAttribute('href') === `#/${page}`
  && document.querySelector('main h1') && !document.querySelector('main [aria-busy=true], main .loading')
  && performance.now()
"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def fill(url: str, tenant: str, documents: int, tenants: int) -> None:
    """One collection of so many documents of a passage each, and tenants with a key and a budget each."""
    with psycopg.connect(url) as connection:
        collection = lock_collection(connection, tenant, COLLECTION, Embedder("0" * 64, 384)).collection_id
        values = {"collection": collection, "tenant": tenant, "count": documents}
        connection.execute(DOCUMENTS, values)
        connection.execute(PASSAGES, values)
        connection.execute(
            "UPDATE trireme.collections SET passages = %s WHERE id = %s", (documents, collection)
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    with closing(open_keys(url)) as keys, closing(open_caps(url)) as caps:
        for number in range(tenants):
            create_key(keys, Key(new_key_id(), f"tenant-{number:04}"))
            caps.put(Cap(f"tenant-{number:04}", "", "day", 1_000_000))


def measure(url: str, secret: str, rounds: int) -> tuple[str, list[dict[str, Any]]]:
    """The browser's version, and a row for each page: milliseconds from the navigation on, medians of `rounds`."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise UnavailableError("chromium is missing; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        # What the processes do once, at their first page, is not of the console.
        look(browser, url, secret, PAGES[0])
        rows = []
        for page in PAGES:
            times = [look(browser, url, secret, page) for _ in range(rounds)]
            painted, shown = (statistics.median(one) for one in zip(*times, strict=True))
            rows.append({"page": page, "painted": painted, "slowest": max(times)[0], "shown": shown})
            print(rows[-1], flush=True)
        version = browser.version
        browser.close()
    return version, rows


def look(browser: Any, url: str, secret: str, page: str) -> tuple[float, float]:
    """First paint and data shown, in ms, in a context that has nothing cached."""
    route = f"{page}?collection={COLLECTION}" if page == "documents" else page
    context = browser.new_context(viewport={"width": 1280, "height": 844})
    try:
        context.add_init_script(f"sessionStorage.setItem('trireme.key', '{secret}')")
        tab = context.new_page()
        tab.goto(f"{url}/console/#/{route}")
        shown = tab.wait_for_function(SHOWS, arg=page).json_value()
        return tab.evaluate(FIRST_PAINT), shown
    finally:
        context.close()


def run(arguments: argparse.Namespace, words: list[str]) -> None:
    """Measure, and write the page's section."""
    seen = read_circumstances("benchmarks.gateway.first_paint", words, SEED)
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder) / "data")
        (port,) = pick_ports(settings.gateway_host, 1)
        settings = dataclasses.replace(settings, gateway_port=port)
        with Stack(settings, has_gateway=True) as stack:
            fill(stack.database_url, settings.tenant, arguments.documents, arguments.tenants)
            with closing(open_keys(stack.database_url)) as keys:
                secret = create_key(keys, Key(new_key_id(), settings.tenant, endpoints=tuple(ENDPOINTS)))
            stack.start_gateway()
            url = f"http://127.0.0.1:{port}"
            version, rows = measure(url, secret, arguments.rounds)
    if arguments.print:
        return
    values = {"documents": arguments.documents, "tenants": arguments.tenants, "rounds": arguments.rounds}
    record = {**values, "browser": version, "rows": rows, "circumstances": dataclasses.asdict(seen)}
    write_json(RESULTS / "first_paint.json", record)
    section = render("gateway/first_paint.md.j2", **values, browser=version, rows=rows, seen=seen)
    write_section(DOCS / "console.md", "first paint", section)


def main() -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--documents", type=int, default=200_000, help="of one collection")
    parser.add_argument("--tenants", type=int, default=1_000, help="with a key and a budget each")
    parser.add_argument("--rounds", type=int, default=5, help="of each page")
    parser.add_argument("--print", action="store_true", help="print the figures and write nothing")
    return run_script(parser, run)


if __name__ == "__main__":
    raise SystemExit(main())
