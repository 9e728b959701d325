"""What of gateway.toml says which attempts are of own machines, and what these cost by the hour."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal

from trireme.budget.dollars import NANOS
from trireme.cost.machines import HourPrice, HourPrices
from trireme.cost.port import Own
from trireme.gateway.file import GatewayFile, split_target


def own_of(file: GatewayFile) -> Own:
    """Every Triton is ours, and so is what is priced by the hour."""
    providers = tuple(name for name, row in file.providers.items() if row.kind == "triton")
    rows = file.prices.items()
    targets = tuple(":".join(split_target(name)) for name, row in rows if row.is_by_hour)
    return Own(providers, targets)


def hour_prices_of(file: GatewayFile) -> HourPrices:
    """Of each kind of machines, by rising date."""
    return {
        kind: tuple(
            HourPrice(_midnight(row.since), _nanos(row.dollars_per_hour), row.always)
            for row in sorted(rows, key=lambda row: row.since)
        )
        for kind, rows in file.machines.items()
    }


def _midnight(day: date) -> int:
    return round(datetime.combine(day, time(), UTC).timestamp()) * 1000


def _nanos(dollars: float) -> int:
    # The digits that were written, not those of the nearest binary number.
    return int((Decimal(str(dollars)) * NANOS).to_integral_value())
