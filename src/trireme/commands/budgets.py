"""`trireme budgets`: what tenants, users and the whole gateway may spend is set, listed and removed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from trireme.budget.caps import EACH, MOST, WINDOWS, Cap
from trireme.commands.scope import database_url, refuse_empty, require_own_tenant, store_urls
from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.budget.port import BudgetStore, Counter
    from trireme.budget.standing import Place

# The budget store of the settings, or None where there is none to ask.
OpenBudgets = Callable[[Settings], "BudgetStore | None"]
# In place of an amount.
NO_LIMIT = "none"


def open_store(settings: Settings) -> BudgetStore | None:
    """That of the settings, or the embedded one that runs."""
    from trireme.storage import open_budgets

    url, _ = store_urls(settings)
    return open_budgets(url) if url else None


def add_budgets(commands: Any, open_budgets: OpenBudgets = open_store) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    budgets = commands.add_parser("budgets", help="set, list and remove what may be spent")
    verbs = budgets.add_subparsers(required=True, metavar="VERB")
    setting = verbs.add_parser("set", help="set a budget, in force everywhere within 2 s")
    _add_whose(setting)
    setting.add_argument("--tokens", metavar="N", help=f"input and output together; {NO_LIMIT}: no limit")
    setting.add_argument("--dollars", metavar="X", help=f"US dollars, such as 2.50; {NO_LIMIT}: no limit")
    setting.set_defaults(run=_set)
    listing = verbs.add_parser("list", help="list budgets, with what is spent and held of them now")
    listing.add_argument("--tenant", help="those in force for this tenant and its users")
    listing.add_argument(
        "--forecast", action="store_true", help="when each is used up if its window goes on as it began"
    )
    listing.set_defaults(run=partial(_list, open_budgets))
    remove = verbs.add_parser("remove", help="remove a budget, everywhere within 2 s")
    _add_whose(remove)
    remove.set_defaults(run=_remove)


def _add_whose(command: argparse.ArgumentParser) -> None:
    tenants = command.add_mutually_exclusive_group()
    tenants.add_argument("--tenant", help="whose; without it the whole gateway's")
    tenants.add_argument("--each-tenant", action="store_true", help="of each tenant that has none of its own")
    users = command.add_mutually_exclusive_group()
    users.add_argument("--user", help="of this user of the tenant")
    users.add_argument("--each-user", action="store_true", help="of each user that has none of its own")
    command.add_argument("--window", required=True, choices=WINDOWS, help="of UTC, from its first instant on")


def _set(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_caps

    wanted = _whose(arguments)
    require_own_tenant(settings, wanted.tenant)
    tokens, dollars = arguments.tokens, arguments.dollars
    if tokens is None and dollars is None:
        raise InvalidInputError("give --tokens, --dollars or both; trireme budgets remove removes a budget")
    with closing(open_caps(database_url(settings))) as store:
        # What is not given stays as it is.
        before = _find(store.find(wanted.tenant), wanted) or wanted
        cap = replace(
            before,
            tokens=before.tokens if tokens is None else _read_tokens(tokens),
            nanos=before.nanos if dollars is None else _read_nanos(dollars),
        )
        if cap.tokens is None and cap.nanos is None and before is wanted:
            raise InvalidInputError("a budget needs a limit; give --tokens or --dollars an amount")
        store.put(cap)
    console.print(f"Budget of {describe(cap)}: {_amounts(cap)}.", highlight=False, markup=False)
    return 0


def _list(
    open_budgets: OpenBudgets, arguments: argparse.Namespace, settings: Settings, console: Console
) -> int:
    from trireme.budget.standing import caps_for
    from trireme.commands.cost_tables import forecast_table
    from trireme.commands.tables import budgets_table
    from trireme.storage import open_caps

    refuse_empty(arguments, "tenant")
    require_own_tenant(settings, arguments.tenant or "")
    with closing(open_caps(database_url(settings))) as store:
        caps = store.find()
    if arguments.tenant:
        caps = caps_for(caps, arguments.tenant)
    if caps:
        counters = _read_counters(open_budgets, settings, caps)
        console.print(budgets_table(caps, counters))
        if arguments.forecast and counters is None:
            print("No forecast without a budget store that answers: TRIREME_REDIS_URL", file=sys.stderr)
        elif arguments.forecast and counters is not None:
            console.print()
            console.print(forecast_table(caps, counters, int(time.time() * 1000)))
    else:
        console.print("No budgets; trireme budgets set makes one.", highlight=False)
    return 0


def _remove(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_caps

    wanted = _whose(arguments)
    require_own_tenant(settings, wanted.tenant)
    with closing(open_caps(database_url(settings))) as store:
        if _find(store.find(wanted.tenant), wanted) is None:
            raise NotFoundError(
                f"{describe(wanted)} has no budget by {wanted.window}; trireme budgets list shows those there are"
            )
        store.put(wanted)
    console.print(
        f"Removed the budget by {wanted.window} of {describe(wanted)}.", highlight=False, markup=False
    )
    return 0


def describe(cap: Cap) -> str:
    """Whose a cap is, in words."""
    if not cap.tenant:
        return "the whole gateway"
    tenant = "each tenant" if cap.tenant == EACH else f"tenant {cap.tenant}"
    if not cap.user:
        return tenant
    return f"{tenant}, each user" if cap.user == EACH else f"{tenant}, user {cap.user}"


def _whose(arguments: argparse.Namespace) -> Cap:
    """A cap without limits, of whom and of which window the arguments say."""
    refuse_empty(arguments, "tenant", "user")
    tenant = EACH if arguments.each_tenant else arguments.tenant or ""
    user = EACH if arguments.each_user else arguments.user or ""
    if user and not tenant:
        raise InvalidInputError("a user needs its tenant; give --tenant or --each-tenant as well", "tenant")
    return Cap(tenant, user, arguments.window)


def _find(caps: Sequence[Cap], wanted: Cap) -> Cap | None:
    return next((cap for cap in caps if replace(cap, tokens=None, nanos=None) == wanted), None)


def _read_tokens(text: str) -> int | None:
    if text == NO_LIMIT:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > MOST:
        raise InvalidInputError(f"--tokens must be a whole number up to {MOST}, or none, got {text[:40]!r}")
    return int(text)


def _read_nanos(text: str) -> int | None:
    from trireme.budget.dollars import read_dollars

    if text == NO_LIMIT:
        return None
    try:
        return read_dollars(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"--{error}, or {NO_LIMIT} for no limit", "dollars") from None


def _amounts(cap: Cap) -> str:
    from trireme.budget.dollars import write_dollars

    amounts = [f"{cap.tokens:,} tokens"] if cap.tokens is not None else []
    amounts += [f"${write_dollars(cap.nanos)}"] if cap.nanos is not None else []
    return f"{' and '.join(amounts)} a {cap.window}" if amounts else f"no limit a {cap.window}"


def _read_counters(
    open_budgets: OpenBudgets, settings: Settings, caps: Sequence[Cap]
) -> dict[Place, Counter] | None:
    """None where there is no budget store that answers; a note says so where it should."""
    from trireme.budget.standing import read_counters

    store = open_budgets(settings)
    if store is None:
        return None

    async def read() -> dict[Place, Counter]:
        try:
            return await read_counters(store, caps)
        finally:
            await store.close()

    try:
        return asyncio.run(read())
    except UnavailableError as error:
        print(f"What is spent and held is not known: {error}", file=sys.stderr)
        return None
