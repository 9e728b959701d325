"""`trireme release`: releases as they were deployed, notes about them, and how they compare."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_period, database_url, refuse_empty
from trireme.errors import NotFoundError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.cost.releases import ReleaseInfo

# That are compared where none is named.
LAST = 2


def add_release(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    release = commands.add_parser("release", help="list and compare releases, and note something about one")
    verbs = release.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="releases with their deploys and notes, the last one first")
    listing.set_defaults(run=_list)
    note = verbs.add_parser("note", help="note something about a release, for good")
    note.add_argument("text", help="what to note")
    note.add_argument("--release", help="about this one; without it about the one deployed last")
    note.set_defaults(run=_note)
    compare = verbs.add_parser("compare", help="cost, latency, errors and quality side by side")
    compare.add_argument("releases", nargs="*", metavar="RELEASE", help=f"without any: the last {LAST}")
    add_period(compare)
    compare.add_argument("--json", action="store_true", help="as GET /v1/releases answers")
    compare.set_defaults(run=_compare)


def _list(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.commands.cost_tables import releases_table

    if found := _read(settings):
        console.print(releases_table(found))
    else:
        console.print("No release was deployed yet; a gateway notes its own when it starts.", highlight=False)
    return 0


def _note(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_releases

    refuse_empty(arguments, "release")
    with closing(open_releases(database_url(settings))) as log:
        kept = log.note(arguments.release or "", arguments.text)
    console.print(f"Noted of release {kept.release}.", highlight=False, markup=False)
    return 0


def _compare(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.budget.periods import read_period
    from trireme.commands.cost_tables import comparison_table
    from trireme.cost.port import CostQuery
    from trireme.cost.report import read_report
    from trireme.gateway.file import read_gateway_file
    from trireme.gateway.spending.machine_prices import hour_prices_of, own_of
    from trireme.gateway.wire.costs import releases_body
    from trireme.storage import open_costs

    start, end = read_period(arguments.since, arguments.until)
    file = read_gateway_file(settings.gateway_file)
    known = {one.name: one for one in _read(settings)}
    for name in arguments.releases:
        if name not in known:
            raise NotFoundError(f"no release {name[:80]!r}; trireme release list shows those there are")
    shown = [known[name] for name in arguments.releases or list(known)[:LAST]]
    with closing(open_costs(database_url(settings))) as book:
        query = CostQuery(start, end, "release", own_of(file))
        report = read_report(book, query, hour_prices_of(file))
    if arguments.json:
        names = {one.name for one in shown}
        lines = tuple(line for line in report.lines if line.group.name in names)
        print(json.dumps(releases_body(shown, replace(report, lines=lines)), indent=2))
    elif shown:
        console.print(comparison_table(shown, report))
    else:
        console.print("No release was deployed yet; a gateway notes its own when it starts.", highlight=False)
    return 0


def _read(settings: Settings) -> list[ReleaseInfo]:
    from trireme.cost.releases import releases_of
    from trireme.storage import open_releases

    with closing(open_releases(database_url(settings))) as log:
        return releases_of(log.find())
