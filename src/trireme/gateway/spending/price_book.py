"""What each target's tokens cost: gateway.toml's own prices, then the price table of the package genai-prices."""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import Any

from trireme.budget.prices import MILLION, Price, Tokens
from trireme.cost.machines import price_at
from trireme.errors import SettingError
from trireme.gateway.file import GatewayFile, PriceRow, ProviderRow, split_target
from trireme.gateway.spending.machine_prices import hour_prices_of
from trireme.providers.models import base_of

NANOS = 1_000_000_000
FROM_FILE = "gateway.toml"
MEASURED = "gateway.toml, measured"
# Dollars for a million tokens: more is a slip of the pen, and counters end at 2**53.
MOST_DOLLARS = 1_000_000
# Looked-up models that are kept. Names of models of a chain are few; those of our own Triton may come from clients.
MOST_KEPT = 4_096
# Of a machine's busy time: what its rate is an average of, and the least that says anything.
BUSY_SECONDS = 300.0
LEAST_BUSY_SECONDS = 5.0
LEAST_TOKENS = 256
MOST_STRETCHES = 256

_PER_TOKEN = ("input", "cached", "cache_write", "output")
_PER_HOUR = ("dollars_per_hour", "tokens_per_second")
# Where a provider of this kind is asked that names no URL.
_OWN_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
# Prices of a class. Where a model has several, the dearest: usage does not tell them apart.
_INPUT = ("input_mtok", "input_audio_mtok", "input_image_mtok", "input_video_mtok")
_CACHED = ("cache_read_mtok", "cache_audio_read_mtok", "cache_image_read_mtok")
_CACHE_WRITE = ("cache_write_mtok",)
_HOUR_CACHE_WRITE = ("cache_write_mtok", "cache_write_1h_mtok")
_OUTPUT = (
    "output_mtok",
    "output_reasoning_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "output_video_mtok",
    "output_citation_mtok",
)
_CLASSES = frozenset((*_INPUT, *_CACHED, *_HOUR_CACHE_WRITE, *_OUTPUT))
# Tools of the provider, charged apart from tokens: not counted here.
_APART = frozenset(("web_searches_kcount", "storage_searches_kcount"))
_NANOS_PER_DOLLAR = Decimal(NANOS)


@dataclass(frozen=True, slots=True)
class TieredPrice(Price):
    """A price that depends on how long the input is: all tokens of a call cost what its tier says.

    steps: (tokens of input above which it holds, price), the lowest first, from (-1, ...) on. The fields of Price
    itself hold the dearest of all steps: who reads them errs on the safe side, `cost` and `worst` are exact.
    """

    steps: tuple[tuple[int, Price], ...] = ()

    def cost(self, tokens: Tokens) -> int:
        """See Price."""
        last = bisect_left(self.steps, tokens.input, key=lambda step: step[0]) - 1
        return self.steps[max(last, 0)][1].cost(tokens)

    def worst(self, input_tokens: int, output_tokens: int) -> int:
        """See Price; fewer tokens than the bound may be of a lower step."""
        reached = [price for above, price in self.steps if above < input_tokens] or [self.steps[0][1]]
        return max(price.worst(input_tokens, output_tokens) for price in reached)

    def up_to(self, input_tokens: int) -> Price:
        """The price of calls with at most so many tokens of input."""
        reached = tuple(step for step in self.steps if step[0] < input_tokens) or self.steps[:1]
        return _joined(reached)


class MachineRates:
    """Tokens a second of our own machines, measured while they are busy. Thread-safe; never blocks for long.

    Calls of a target that run at once count together: the time of their union, and all their tokens. The rate is
    that of the last BUSY_SECONDS of busy time, however long ago that was.
    """

    def __init__(self) -> None:
        # Of each target: stretches [started, ended, tokens], disjoint, the oldest first.
        self._busy: dict[str, list[tuple[float, float, float]]] = {}
        self._lock = threading.Lock()

    def note(self, target: str, tokens: int, started: float, ended: float) -> None:
        """A call of `target` (provider:model) made `tokens` from started to ended, seconds of one clock."""
        if tokens < 0 or not ended > started:
            return
        with self._lock:
            stretches = self._busy.setdefault(target, [])
            if len(self._busy) > MOST_KEPT:
                self._busy.pop(next(iter(self._busy)))
            first = bisect_left(stretches, started, key=lambda stretch: stretch[1])
            last = first
            made = float(tokens)
            while last < len(stretches) and stretches[last][0] <= ended:
                started, ended = min(started, stretches[last][0]), max(ended, stretches[last][1])
                made += stretches[last][2]
                last += 1
            stretches[first:last] = [(started, ended, made)]
            _forget_old(stretches)

    def rate(self, target: str) -> float | None:
        """Tokens a second, or None where too little was measured."""
        with self._lock:
            stretches = self._busy.get(target, ())
            seconds = sum(ended - started for started, ended, _ in stretches)
            tokens = sum(made for *_, made in stretches)
        if seconds < LEAST_BUSY_SECONDS or tokens < LEAST_TOKENS:
            return None
        return tokens / seconds


def _forget_old(stretches: list[tuple[float, float, float]]) -> None:
    del stretches[:-MOST_STRETCHES]
    left = BUSY_SECONDS
    for place in range(len(stretches) - 1, -1, -1):
        started, ended, made = stretches[place]
        seconds = ended - started
        if seconds >= left:
            # Of one that reaches back too far, its share: what is in it is spread evenly.
            stretches[place] = (ended - left, ended, made * left / seconds)
            del stretches[:place]
            return
        left -= seconds


@dataclass(frozen=True, slots=True)
class _Dated:
    """A price and when it holds: None always, else a constraint of the package."""

    constraint: Any
    price: Price


class PriceBook:
    """Prices of targets. For one event loop; a look-up that was made before costs microseconds.

    Charges of a provider beside tokens (searches), and other prices of batches and priority, are not known here.
    """

    def __init__(self, file: GatewayFile, rates: MachineRates | None = None) -> None:
        """Loads the price table where a provider needs it (0.5 s). It is the package's own: nothing is downloaded.

        Raises SettingError that names the key of a price in the file that cannot be right.
        """
        self.rates = rates or MachineRates()
        self._rows = _read_rows(file)
        self._machines = hour_prices_of(file)
        self._providers: Mapping[str, ProviderRow] = file.providers
        self._table = _Table() if any(row.kind in _OWN_URLS for row in file.providers.values()) else None
        self._kept: dict[tuple[str, str, str, bool], tuple[_Dated, ...]] = {}

    def price_of(
        self,
        kind: str,
        provider: str,
        model: str,
        at: int,
        *,
        input_tokens: int | None = None,
        hour_cache: bool = True,
        reads_only: bool = False,
    ) -> Price | None:
        """Nano-dollars for a million tokens of provider:model at `at` (milliseconds, Unix), or None: not known.

        It never changes: what is settled with it is what was reserved with it. kind: of the provider.
        input_tokens: a bound of the call's; tiers above it are left out. hour_cache: cache writes at the price of
        those kept for an hour, where it is the dearer one. reads_only: of a model that makes no tokens; a machine's
        price is then that of those it reads.
        """
        target = self.priced_as(f"{provider}:{model}")
        row = self._rows.get(target)
        if isinstance(row, Price):
            return row
        if row is not None:
            return self._machine_price(target, row, at, reads_only)
        found = self._find(kind, provider, model, at, hour_cache)
        if isinstance(found, TieredPrice) and input_tokens is not None:
            return found.up_to(input_tokens)
        return found

    def priced_as(self, target: str) -> str:
        """The target whose row holds for `target`: of an adapter without one its model's, which runs it."""
        provider, _, model = target.partition(":")
        row = self._providers.get(provider)
        if target in self._rows or row is None or row.kind != "triton":
            return target
        return f"{provider}:{base_of(model)}"

    def _machine_price(self, target: str, row: PriceRow, at: int, reads_only: bool) -> Price | None:
        """Of a machine's time. Output pays for all of it: the prompt is read within the time that is measured.

        None before the first price of its kind."""
        measured = self.rates.rate(target)
        rate = Fraction(measured) if measured else Fraction(str(row.tokens_per_second))
        version = MEASURED if measured else FROM_FILE
        if row.machine:
            dated = price_at(self._machines[row.machine], at)
            if dated is None:
                return None
            hour = Fraction(dated.nanos)
            version = (
                f"{version}, {row.machine} from {datetime.fromtimestamp(dated.since / 1000, UTC):%Y-%m-%d}"
            )
        else:
            hour = Fraction(str(row.dollars_per_hour)) * NANOS
        each = math.ceil(hour * MILLION / 3600 / rate)
        read = each if reads_only else 0
        return Price(read, read, read, each, version)

    def _find(self, kind: str, provider: str, model: str, at: int, hour_cache: bool) -> Price | None:
        key = (kind, provider, model, hour_cache)
        dated = self._kept.get(key)
        if dated is None:
            row = self._providers.get(provider)
            url = row.url if row and row.url else _OWN_URLS.get(kind, "")
            dated = self._table.find(url, model, hour_cache) if self._table and kind in _OWN_URLS else ()
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = dated
        for one in dated:
            if one.constraint is None or one.constraint.active(datetime.fromtimestamp(at / 1000, UTC)):
                return one.price
        # As the package does where none is active.
        return dated[-1].price if dated else None


class _Table:
    """The package's table. Only the data that it came with is read: its updates are never started."""

    def __init__(self) -> None:
        from genai_prices import __version__, data

        self._providers = data.providers
        self._version = f"genai-prices {__version__}"

    def find(self, url: str, model: str, hour_cache: bool) -> tuple[_Dated, ...]:
        """Prices of a model of the provider at `url`, the one that goes before the others first. () for none."""
        provider = self._provider_at(url)
        if provider is None:
            return ()
        entry = provider.find_model(model, all_providers=self._providers)
        if entry is None:
            return ()
        if not isinstance(entry.prices, list):
            price = _read_price(vars(entry.prices), self._version, hour_cache)
            return (_Dated(None, price),) if price else ()
        dated = []
        for conditional in reversed(entry.prices):
            start = getattr(conditional.constraint, "start_date", None)
            version = f"{self._version}, from {start.isoformat()}" if start else self._version
            price = _read_price(vars(conditional.prices), version, hour_cache)
            if price is None:
                return ()
            dated.append(_Dated(conditional.constraint, price))
        return tuple(dated)

    def _provider_at(self, url: str) -> Any:
        for provider in self._providers:
            found = re.match(provider.api_pattern, url)
            # api.openai.com.example.org is another host.
            if found and (
                found.group().endswith(("/", ".")) or url[found.end() :][:1] in ("", "/", ":", "?")
            ):
                return provider
        return None


def _read_price(given: Mapping[str, Any], version: str, hour_cache: bool) -> Price | None:
    """From the package's prices of one model, or None: it is not charged by tokens alone, or not for input."""
    prices = {name: value for name, value in given.items() if value is not None and name not in _APART}
    if not _CLASSES.issuperset(prices) or "input_mtok" not in prices:
        return None
    starts = {tier.start for value in prices.values() for tier in getattr(value, "tiers", ())}
    steps = []
    for above in (-1, *sorted(starts)):
        at = {name: _tier_price(value, above) for name, value in prices.items()}
        flat = max(at[name] for name in _INPUT if name in at)
        steps.append(
            (
                above,
                Price(
                    flat,
                    _dearest(at, _CACHED, flat),
                    _dearest(at, _HOUR_CACHE_WRITE if hour_cache else _CACHE_WRITE, flat),
                    # Of a model that makes no text, such as one of embeddings, there is none.
                    _dearest(at, _OUTPUT, 0),
                    version,
                ),
            )
        )
    return _joined(tuple(steps))


def _joined(steps: tuple[tuple[int, Price], ...]) -> Price:
    if len(steps) == 1:
        return steps[0][1]
    prices = [price for _, price in steps]
    return TieredPrice(
        max(price.input for price in prices),
        max(price.cached for price in prices),
        max(price.cache_write for price in prices),
        max(price.output for price in prices),
        prices[-1].version,
        steps,
    )


def _tier_price(value: Any, above: int) -> int:
    """Nano-dollars of a price, for input of more than `above` tokens and no tier more."""
    tiers = getattr(value, "tiers", None)
    if tiers is None:
        return _to_nanos(value)
    reached = [tier.price for tier in tiers if tier.start <= above]
    return _to_nanos(reached[-1] if reached else value.base)


def _dearest(prices: Mapping[str, int], names: Iterable[str], otherwise: int) -> int:
    return max((prices[name] for name in names if name in prices), default=otherwise)


def _to_nanos(dollars: Decimal) -> int:
    return int((dollars * _NANOS_PER_DOLLAR).to_integral_value(ROUND_CEILING))


def _read_rows(file: GatewayFile) -> dict[str, Price | PriceRow]:
    rows: dict[str, Price | PriceRow] = {}
    for name, row in file.prices.items():
        provider, model = split_target(name)
        if provider not in file.providers or not model:
            raise SettingError(f"prices.{name!r}: no provider {provider!r}; name a target as provider:model")
        _check_row(name, row)
        target = f"{provider}:{model}"
        if target in rows:
            raise SettingError(f"prices.{name!r}: {target} has a price twice")
        if row.machine and row.machine not in file.machines:
            raise SettingError(f"prices.{name!r}.machine: no [[machines.{row.machine}]] in the file")
        rows[target] = row if row.is_by_hour else _row_price(row)
    return rows


def _check_row(name: str, row: PriceRow) -> None:
    given = {field: getattr(row, field) for field in (*_PER_TOKEN, *_PER_HOUR)}
    given = {field: value for field, value in given.items() if value is not None}
    for field, value in given.items():
        if not math.isfinite(value) or not 0 <= value <= MOST_DOLLARS:
            raise SettingError(f"prices.{name!r}.{field} must be from 0 to {MOST_DOLLARS}")
    if not row.is_by_hour and row.tokens_per_second is None:
        _require(name, given, ("input", "output"))
        return
    if row.machine and row.dollars_per_hour is not None:
        raise SettingError(f"prices.{name!r}.machine cannot stand beside dollars_per_hour; leave one out")
    # That of a kind of machines is of a row of its own.
    _require(name, given, ("tokens_per_second",) if row.machine else _PER_HOUR)
    for field in _PER_TOKEN:
        if field in given:
            raise SettingError(f"prices.{name!r}.{field} cannot stand beside dollars_per_hour; leave one out")
    if not row.tokens_per_second:
        raise SettingError(f"prices.{name!r}.tokens_per_second must be above 0")


def _require(name: str, given: Mapping[str, float], needed: Iterable[str]) -> None:
    for field in needed:
        if field not in given:
            raise SettingError(
                f"prices.{name!r}.{field} is missing; give input and output, or {' and '.join(_PER_HOUR)}"
            )


def _row_price(row: PriceRow) -> Price:
    """As people write them: 0.1 is a tenth, not the nearest double."""
    given = {name: getattr(row, name) for name in _PER_TOKEN}
    nanos = {name: _to_nanos(Decimal(str(value))) for name, value in given.items() if value is not None}
    plain = nanos["input"]
    return Price(
        plain, nanos.get("cached", plain), nanos.get("cache_write", plain), nanos["output"], FROM_FILE
    )
