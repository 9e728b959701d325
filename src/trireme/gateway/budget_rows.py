"""`[budgets]` of gateway.toml, and where a tenant's budgets are kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from trireme.errors import SettingError
from trireme.gateway.own_regions import LocalRow


class BudgetRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How budgets are kept to. The caps themselves are set with `trireme budgets` and take effect while it runs.

    without_store: what is done for whom a budget holds while the budget store is away. shrink: lower max_tokens to
    what is left instead of refusing, down to least_tokens. most_output: tokens that a call may make which names no
    max_tokens, of a model whose own limit is not known; it is sent along where a budget holds. lease_seconds: a
    hold outlives a gateway that died by so much.

    without_home: what is done for a tenant whose home is another region while that does not answer. closed: refuse.
    share: of each of its budgets and windows this region may spend `share`, a part from 0 to 1. open: let through.
    """

    without_store: Literal["refuse", "open"] = "refuse"
    without_home: Literal["closed", "share", "open"] = "closed"
    share: float = 0.1
    shrink: bool = False
    least_tokens: int = 16
    most_output: int = 4096
    lease_seconds: float = 60.0


def check_budgets(row: BudgetRow, name: str) -> None:
    """Raises SettingError for a share that is none."""
    # So written that what is not a number is refused as well.
    if not 0 <= row.share <= 1:
        raise SettingError(f"{name}: budgets.share must be from 0 to 1")


def check_home(where: str, home: str, forbidden: Iterable[str], local: LocalRow) -> None:
    """Raises SettingError for a home that is no region here, or that the tenant forbids. home: "" for this one."""
    if not home:
        return
    if home not in (local.region, *local.other_regions):
        raise SettingError(f"{where} {home!r} is neither local.region nor one of local.other_regions")
    if home.casefold() in {region.casefold() for region in forbidden}:
        # Its ledger names the tenant's users and requests.
        raise SettingError(f"{where} is a region that it forbids")
