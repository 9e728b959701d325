"""`trireme keys`: keys of the gateway are made, listed and revoked."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trireme.access.endpoints import ENDPOINTS, NAMED
from trireme.access.priorities import NORMAL, PRIORITIES
from trireme.commands.scope import database_url, refuse_empty
from trireme.errors import InvalidInputError, NotFoundError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.access.keys import Key, KeyStore


def add_keys(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    keys = commands.add_parser("keys", help="make, list and revoke the keys of the gateway")
    verbs = keys.add_subparsers(required=True, metavar="VERB")
    _add_create(verbs)
    listing = verbs.add_parser("list", help="list keys, without their secrets")
    listing.add_argument("--tenant", help="of this tenant alone")
    listing.set_defaults(run=_list)
    revoke = verbs.add_parser("revoke", help="take keys out of force, everywhere within 2 s")
    revoke.add_argument("ids", nargs="+", metavar="ID", help="as trireme keys list shows it")
    revoke.set_defaults(run=_revoke)


def _add_create(verbs: Any) -> None:
    create = verbs.add_parser("create", help="make a key and print it, this once; notes go to stderr")
    create.add_argument("--tenant", help="whose key (TRIREME_TENANT)")
    create.add_argument("--user", help="the user of the tenant, for Triton's calls and the log")
    create.add_argument(
        "--admin",
        action="store_true",
        help="it may use every endpoint, admin among them: keys, tenants, budgets",
    )
    for name, what, but in (
        ("model", "a model that it may use", ""),
        ("collection", "a collection that it may use", ""),
        ("endpoint", f"an endpoint that it may use: {', '.join(ENDPOINTS)}", f" but {', '.join(NAMED)}"),
    ):
        create.add_argument(
            f"--{name}",
            dest=f"{name}s",
            action="append",
            default=[],
            metavar=name.upper(),
            help=f"{what}; give it again for more, leave it out for all{but}",
        )
    create.add_argument("--requests-per-minute", type=int, default=0, help="0 is no limit (default)")
    create.add_argument(
        "--priority",
        choices=PRIORITIES,
        default=NORMAL,
        help="of its requests: batch is refused first under load, high last (default normal)",
    )
    create.add_argument("--quiet", action="store_true", help="print nothing but the key")
    create.set_defaults(run=_create)


def _create(arguments: argparse.Namespace, settings: Settings, _: Console) -> int:
    from trireme.access.keys import Key, new_key_id
    from trireme.storage import open_keys

    refuse_empty(arguments, "tenant", "user")
    if arguments.admin and arguments.endpoints:
        raise InvalidInputError(
            "--admin is every endpoint; leave --endpoint out, or name admin as one of them"
        )
    endpoints = ENDPOINTS if arguments.admin else arguments.endpoints
    key = Key(
        id=new_key_id(),
        tenant=settings.tenant,
        user=arguments.user or "",
        models=tuple(dict.fromkeys(arguments.models)),
        collections=tuple(dict.fromkeys(arguments.collections)),
        endpoints=tuple(dict.fromkeys(endpoints)),
        requests_per_minute=arguments.requests_per_minute,
        priority=arguments.priority,
    )
    with closing(open_keys(database_url(settings))) as store:
        secret = create_key(store, key)
    if not arguments.quiet:
        whose = f"tenant {key.tenant}, user {key.user}" if key.user else f"tenant {key.tenant}"
        print(f"Key {key.id} of {whose}. It is shown this once:", file=sys.stderr)
    print(secret)
    return 0


def create_key(store: KeyStore, key: Key) -> str:
    """Keep `key` with a new secret, which is returned and kept nowhere. Raises as KeyStore.create."""
    from trireme.access.keys import digest_of, new_secret

    secret = new_secret()
    store.create(key, digest_of(secret))
    return secret


def _list(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.access.keys import KeyQuery
    from trireme.commands.tables import keys_table
    from trireme.storage import open_keys

    refuse_empty(arguments, "tenant")
    with closing(open_keys(database_url(settings))) as store:
        # The newest last: in a terminal that is what one sees.
        found = store.find(KeyQuery(arguments.tenant or ""))[::-1]
    if found:
        console.print(keys_table(found))
    else:
        console.print("No keys; trireme keys create makes one.", highlight=False)
    return 0


def _revoke(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_keys

    with closing(open_keys(database_url(settings))) as store:
        revoked = store.revoke(arguments.ids)
    for one in revoked:
        console.print(f"Revoked {one}.", highlight=False, markup=False)
    unknown = [one for one in dict.fromkeys(arguments.ids) if one not in revoked]
    if unknown:
        raise NotFoundError(f"no key in force: {', '.join(unknown)}; trireme keys list shows those there are")
    return 0
