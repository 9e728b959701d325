"""`trireme replication`: collections and keys of one region's database are followed by those of others."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import database_url, refuse_empty
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.retrieve.replication import ReplicationLink


def add_replication(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    replication = commands.add_parser(
        "replication", help="let databases of other regions follow this one's collections"
    )
    verbs = replication.add_subparsers(required=True, metavar="VERB")
    publish = verbs.add_parser("publish", help="at the home: let others follow; again after each upgrade")
    publish.set_defaults(run=_publish)
    follow = verbs.add_parser("follow", help="at a follower: copy the home's collections and keys, and go on")
    follow.add_argument(
        "--from", dest="url", required=True, metavar="URL", help="the home's database, no password"
    )
    follow.add_argument("--home", required=True, metavar="REGION", help="the home's name")
    follow.add_argument(
        "--name", metavar="REGION", help="of this one; without it local.region of gateway.toml"
    )
    follow.add_argument(
        "--replace", action="store_true", help="remove what this database has of collections first"
    )
    follow.add_argument(
        "--store-password",
        action="store_true",
        help="let PostgreSQL keep a password of the URL, readable by superusers",
    )
    follow.set_defaults(run=_follow)
    status = verbs.add_parser("status", help="how far followers are behind; exit 1 where a link is down")
    status.set_defaults(run=_status)
    promote = verbs.add_parser("promote", help="at a follower: take its home's place")
    promote.add_argument("--lost", action="store_true", help="the home is gone for good")
    promote.add_argument(
        "--from", dest="url", default="", metavar="URL", help="the home, where only superusers know it"
    )
    promote.set_defaults(run=_promote)
    stop = verbs.add_parser(
        "stop", help="at a follower: follow no longer; collections stay closed to writers"
    )
    stop.set_defaults(run=_stop)


def _publish(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_replication

    with closing(open_replication(database_url(settings))) as replication:
        replication.publish()
    console.print(
        "Published. At a follower: trireme replication follow --from URL --home REGION", highlight=False
    )
    return 0


def _follow(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.errors import InvalidInputError
    from trireme.gateway.file import read_gateway_file
    from trireme.storage import open_replication

    refuse_empty(arguments, "home", "name")
    file = read_gateway_file(settings.gateway_file)
    name = arguments.name or file.local.region
    if not name:
        raise InvalidInputError(
            "this region has no name; give --name, or local.region in gateway.toml", "name"
        )
    # As providers' regions are compared.
    forbidden = [
        tenant
        for tenant, row in file.tenants.items()
        if name.casefold() in {region.casefold() for region in row.forbid_regions}
    ]
    with closing(open_replication(database_url(settings))) as replication:
        replication.follow(
            arguments.url,
            arguments.home,
            name,
            forbidden=forbidden,
            replaces=arguments.replace,
            stores_password=arguments.store_password,
        )
    console.print(
        f"Follows region {arguments.home}. How far it is: trireme replication status", highlight=False
    )
    return 0


def _status(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_replication

    with closing(open_replication(database_url(settings))) as replication:
        links = replication.read()
    for link in links:
        console.print(describe_link(link), highlight=False, markup=False, soft_wrap=True)
    if not links:
        console.print("This database neither follows another one nor is followed.", highlight=False)
    return 0 if all(link.is_connected for link in links) else 1


def _promote(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_replication

    with closing(open_replication(database_url(settings))) as replication:
        replication.promote(arguments.url, is_lost=arguments.lost)
    console.print("Collections are written here from now on.", highlight=False)
    return 0


def _stop(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_replication

    with closing(open_replication(database_url(settings))) as replication:
        replication.stop()
    console.print("Follows no longer.", highlight=False)
    return 0


def describe_link(link: ReplicationLink) -> str:
    """One line for people."""
    who = f"follows {link.name}" if link.role == "follower" else f"followed by {link.name}"
    silent = "never heard of" if link.silent_seconds is None else f"heard of {link.silent_seconds:.0f} s ago"
    left = f", {link.left_bytes:,} bytes left until it is lost" if link.left_bytes is not None else ""
    return f"{who}: {link.state}, {link.behind_bytes:,} bytes behind, {silent}{left}"
