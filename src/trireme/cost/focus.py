"""Usage in the columns of FOCUS 1.2 (focus.finops.org), as CSV: a row for what is alike in an hour.

What a cache answered is a row of its whole price, and beside it a credit of what it spared: neither is hidden in
the other. What own machines cost beyond the attempts that they ran is a row for each day. BilledCost of all rows
together is the bill.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Protocol

from trireme.budget.dollars import NANOS
from trireme.cost.machines import (
    DAY,
    HOUR,
    HourPrices,
    Span,
    always_up,
    by_day,
    cost_of,
    milliseconds_of,
    round_together,
)
from trireme.cost.port import Charge, CostBook, Own

# FOCUS 1.2, section 3: what is mandatory, and what is conditional and applies. No commitments, no capacity
# reservations, no regions are known here. Columns of our own begin with x_.
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
    "x_Tenant",
    "x_User",
    "x_Endpoint",
    "x_ModelAsked",
    "x_Model",
    "x_CacheTier",
    "x_CascadeStep",
    "x_Release",
    "x_PriceVersion",
    "x_IsOwnMachine",
    "x_InputTokens",
    "x_CachedTokens",
    "x_OutputTokens",
    "x_Requests",
    "x_Attempts",
)
CURRENCY = "USD"
OWN_NAME = "own machines"
TOKENS, REQUESTS, HOURS = "tokens", "requests", "Hours"
# A price of one token has many zeros before its first digit.
_PRICE = Decimal("1e-18")
_HOURS = Decimal("1e-9")
_EXACT = Context(prec=60)
# What begins so is reckoned by spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

FocusRow = dict[str, str]


class Out(Protocol):
    """What a CSV is written to."""

    def write(self, text: str, /) -> object:
        """Takes text."""
        ...


@dataclass(slots=True)
class Exported:
    """What was written. nanos: BilledCost of all rows; idle_nanos: of idle machines; saved_nanos: of credits."""

    rows: int = 0
    nanos: int = 0
    idle_nanos: int = 0
    saved_nanos: int = 0


def export_focus(
    out: Out,
    book: CostBook,
    own: Own,
    prices: HourPrices,
    *,
    start: int,
    end: int,
    tenant: str = "",
    now: int | None = None,
) -> Exported:
    """Write all of the time from start to before end (milliseconds, Unix); of one tenant without machines.

    now: as of `read_report`.

    Holds some rows at a time. Blocks. Raises UnavailableError, and OSError of `out`: then it is not whole.
    """
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    done = Exported()
    used: dict[int, int] = {}

    def take(charges: Sequence[Charge]) -> None:
        for charge in charges:
            for row in rows_of(charge):
                writer.writerow(row)
                done.rows += 1
            done.nanos += charge.nanos
            done.saved_nanos += charge.saved_nanos
            if charge.is_own:
                day = charge.hour - charge.hour % DAY
                used[day] = used.get(day, 0) + charge.nanos

    book.charges(start, end, own, tenant, take)
    if tenant:
        return done
    spans = [*book.spans(start, end), *always_up(prices, start, end, now)]
    for nanos, row in idle_rows(spans, prices, used, start, end):
        writer.writerow(row)
        done.rows += 1
        done.nanos += nanos
        done.idle_nanos += nanos
    return done


def rows_of(charge: Charge) -> Iterator[FocusRow]:
    """Its usage, and the credit of a cache. Nothing for what neither used nor cost anything."""
    tokens = charge.input_tokens + charge.output_tokens
    if not (tokens or charge.nanos or charge.saved_nanos):
        return
    whole = charge.nanos + charge.saved_nanos
    # A hit that is charged nothing has no tokens of its own; what has a price has a quantity.
    quantity, unit = (tokens, TOKENS) if tokens > 0 else (max(charge.requests, 1), REQUESTS)
    what = f"{charge.served}, answered by the {charge.tier} cache" if charge.tier else charge.served
    yield {
        **_base(charge),
        **_amounts(whole),
        **_quantities(whole, Decimal(quantity), unit),
        "ChargeCategory": "Usage",
        "ChargeDescription": what,
        "SkuMeter": "Tokens" if unit == TOKENS else "Requests",
    }
    if charge.saved_nanos:
        yield {
            **_base(charge),
            **_amounts(-charge.saved_nanos),
            "ChargeCategory": "Credit",
            "ChargeDescription": f"Saved by the {charge.tier or 'prefix'} cache: {charge.served}",
            **dict.fromkeys(_COUNTED, "0"),
        }


def idle_rows(
    spans: Sequence[Span], prices: HourPrices, used: Mapping[int, int], start: int, end: int
) -> Iterator[tuple[int, FocusRow]]:
    """For each day what own machines cost beyond what attempts were charged (`used`, by the first millisecond).

    Nothing where no machine was noted. Below 0 it is an adjustment: more was charged than the machines cost.
    """
    if not spans:
        return
    parts: dict[int, list[Span]] = {day: [] for day in used}
    for day, span in by_day(spans):
        parts.setdefault(day, []).append(span)
    days = sorted(parts)
    paid = round_together([cost_of(parts[day], prices) for day in days])
    for day, nanos in zip(days, paid, strict=True):
        idle = nanos - used.get(day, 0)
        hours = (Decimal(milliseconds_of(parts[day])) / HOUR).quantize(_HOURS)
        if idle:
            yield idle, _idle_row(idle, hours, max(day, start), min(day + DAY, end))


def _idle_row(idle: int, hours: Decimal, start: int, end: int) -> FocusRow:
    is_usage = idle > 0 and hours > 0
    row = dict.fromkeys(COLUMNS, "")
    row |= _accounts("", OWN_NAME) | _period(start, start, end) | _amounts(idle) | _COMMON
    row |= {
        "ChargeCategory": "Usage" if is_usage else "Adjustment",
        "ChargeDescription": "Own machines beyond what attempts were charged",
        "ResourceType": "Machine",
        "ServiceCategory": "Compute",
        "ServiceName": OWN_NAME,
        "ServiceSubcategory": "Other (Compute)",
        "SkuId": OWN_NAME,
        "SkuPriceId": OWN_NAME,
        "x_IsOwnMachine": "true",
    }
    if is_usage:
        row |= _quantities(idle, hours, HOURS) | {"SkuMeter": "Hours"}
    return row


_COMMON = {"BillingCurrency": CURRENCY, "PricingCurrency": CURRENCY, "ChargeFrequency": "Usage-Based"}
_COUNTED = ("x_InputTokens", "x_CachedTokens", "x_OutputTokens", "x_Requests", "x_Attempts")


def _base(charge: Charge) -> FocusRow:
    provider = OWN_NAME if charge.is_own else charge.provider
    tags = {"tenant": charge.tenant, "user": charge.user, "release": charge.release}
    counts = (
        charge.input_tokens,
        charge.cached_tokens,
        charge.output_tokens,
        charge.requests,
        charge.attempts,
    )
    return {
        **dict.fromkeys(COLUMNS, ""),
        **_COMMON,
        **_accounts(charge.tenant, provider),
        **_period(charge.hour, charge.hour, charge.hour + HOUR),
        **dict(zip(_COUNTED, map(str, counts), strict=True)),
        "ResourceId": charge.served,
        "ResourceName": charge.served,
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{provider} models",
        "ServiceSubcategory": "Generative AI",
        "SkuId": charge.served,
        "SkuPriceId": f"{charge.served}, {charge.prices}" if charge.prices else f"{charge.served}, no price",
        "Tags": json.dumps({name: value for name, value in tags.items() if value}, ensure_ascii=False),
        "x_Tenant": as_text(charge.tenant),
        "x_User": as_text(charge.user),
        "x_Endpoint": charge.endpoint,
        "x_ModelAsked": as_text(charge.asked),
        "x_Model": charge.served,
        "x_CacheTier": charge.tier,
        "x_CascadeStep": charge.step,
        "x_Release": charge.release,
        "x_PriceVersion": charge.prices,
        "x_IsOwnMachine": "true" if charge.is_own else "false",
    }


def _accounts(tenant: str, provider: str) -> FocusRow:
    return {
        "BillingAccountId": provider,
        "BillingAccountName": provider,
        "BillingAccountType": "provider",
        "InvoiceIssuerName": provider,
        "ProviderName": provider,
        "PublisherName": provider,
        "SubAccountId": as_text(tenant),
        "SubAccountName": as_text(tenant),
        "SubAccountType": "tenant" if tenant else "",
    }


def _period(at: int, start: int, end: int) -> FocusRow:
    month = datetime.fromtimestamp(at / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # Any day of the month after has its first as the end.
    later = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return {
        "BillingPeriodStart": _time(month),
        "BillingPeriodEnd": _time(later),
        "ChargePeriodStart": _time(datetime.fromtimestamp(start / 1000, UTC)),
        "ChargePeriodEnd": _time(datetime.fromtimestamp(end / 1000, UTC)),
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def as_text(name: str) -> str:
    """A name that somebody chose, so that no spreadsheet takes it for a formula (OWASP, CSV injection)."""
    return f"'{name}" if name.startswith(_FORMULA) else name


def _amounts(nanos: int) -> FocusRow:
    # No contracts and no discounts are known: every cost is the list's.
    return dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), _dollars(nanos))


def _quantities(nanos: int, quantity: Decimal, unit: str) -> FocusRow:
    price = _plain(_EXACT.quantize(_EXACT.divide(Decimal(nanos), NANOS * quantity), _PRICE))
    return {
        "ConsumedQuantity": _plain(quantity),
        "ConsumedUnit": unit,
        "PricingQuantity": _plain(quantity),
        "PricingUnit": unit,
        "PricingCategory": "Standard",
        "ListUnitPrice": price,
        "ContractedUnitPrice": price,
    }


def _dollars(nanos: int) -> str:
    return _plain(_EXACT.divide(Decimal(nanos), Decimal(NANOS)))


def _plain(number: Decimal) -> str:
    """Without an exponent, and without zeros at its end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
