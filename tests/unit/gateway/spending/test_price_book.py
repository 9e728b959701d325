"""Prices of targets: exact where they are known, an upper bound where they depend, None where nobody knows."""

import re
import socket
from decimal import Decimal
from math import ceil

import pytest

from trireme.budget.prices import Price, Tokens
from trireme.errors import SettingError
from trireme.gateway.file import GatewayFile, PriceRow, ProviderRow, parse_gateway_file
from trireme.gateway.spending.price_book import (
    BUSY_SECONDS,
    FROM_FILE,
    MEASURED,
    MachineRates,
    PriceBook,
    TieredPrice,
)

NOW = 1_795_910_400_000  # 2026-11-29
DAY = 86_400_000
FILE = b"""
[providers.openai]
kind = "openai"
url = "https://api.openai.com/v1"
[providers.anthropic]
kind = "anthropic"
url = "https://api.anthropic.com"
[providers.vllm]
kind = "openai"
url = "http://10.0.0.7:8000/v1"
[providers.groq]
kind = "openai"
url = "https://api.groq.com/openai/v1"
[providers.lookalike]
kind = "openai"
url = "https://api.openai.com.example.org/v1"
"""


def book(prices: bytes = b"", rates: MachineRates | None = None) -> PriceBook:
    return PriceBook(parse_gateway_file(FILE + prices, "gateway.toml"), rates)


@pytest.fixture(scope="module")
def table() -> PriceBook:
    return book()


def test_a_price_of_the_table_is_in_nano_dollars_and_says_where_it_is_from(table):
    price = table.price_of("openai", "openai", "gpt-4o", NOW)
    assert price == Price(2_500_000_000, 1_250_000_000, 2_500_000_000, 10_000_000_000, "genai-prices 0.2.3")
    assert price.cost(Tokens(input=1_000_000)) == 2_500_000_000


def test_a_cost_is_what_the_package_itself_makes_of_the_same_tokens(table):
    from datetime import UTC, datetime

    from genai_prices import Usage, calc_price

    for provider, model in (
        ("openai", "gpt-6-sol"),
        ("openai", "gpt-5-mini-2025-08-07"),
        ("anthropic", "claude-haiku-5-5-20261001"),
        ("anthropic", "claude-sonnet-4-6"),
    ):
        price = table.price_of(provider, provider, model, NOW, hour_cache=False)
        for tokens in (
            Tokens(1, 0, 0, 1),
            Tokens(99_999, 777, 0, 33),
            Tokens(100_000, 0, 0, 3),
            Tokens(100_001, 5_000, 20_000, 9),
            Tokens(272_001, 272_000, 0, 4_096),
        ):
            theirs = calc_price(
                Usage(
                    input_tokens=tokens.input,
                    cache_read_tokens=tokens.cached,
                    cache_write_tokens=tokens.cache_write,
                    output_tokens=tokens.output,
                ),
                model,
                provider_id=provider,
                genai_request_timestamp=datetime.fromtimestamp(NOW / 1000, UTC),
            )
            assert price.cost(tokens) == ceil(theirs.total_price * Decimal(10**9)), (model, tokens)


def test_the_price_of_a_dated_name_is_its_own_where_there_is_one(table):
    old = table.price_of("openai", "openai", "gpt-4o-2024-05-13", NOW)
    new = table.price_of("openai", "openai", "gpt-4o-2024-08-06", NOW)
    assert (old.input, new.input) == (5_000_000_000, 2_500_000_000)


def test_a_price_that_changed_on_a_day_is_that_of_the_day(table):
    # On 13 March 2026 its dearer tier went.
    before = table.price_of("anthropic", "anthropic", "claude-sonnet-4-6", 1_773_360_000_000 - DAY)
    after = table.price_of("anthropic", "anthropic", "claude-sonnet-4-6", 1_773_360_000_000)
    long = Tokens(input=300_000)
    assert before.cost(long) == 2 * after.cost(long)
    assert after.version == "genai-prices 0.2.3, from 2026-03-13"


def test_a_long_input_costs_what_its_tier_says_and_a_hold_takes_the_dearest_that_it_can_reach(table):
    price = table.price_of("openai", "openai", "gpt-5.4", NOW)
    assert isinstance(price, TieredPrice)
    assert price.cost(Tokens(input=272_000)) == 272_000 * 2_500
    assert price.cost(Tokens(input=272_001, output=10)) == 272_001 * 5_000 + 10 * 22_500
    assert price.worst(272_000, 10) == 272_000 * 2_500 + 10 * 15_000
    assert price.worst(272_001, 10) == 272_001 * 5_000 + 10 * 22_500
    assert (price.input, price.output) == (5_000_000_000, 22_500_000_000)


def test_no_cost_is_above_the_worst_of_its_bounds(table):
    price = table.price_of("anthropic", "anthropic", "claude-haiku-5-5", NOW)
    for bound in (0, 1, 99_999, 100_000, 100_001, 250_000):
        for real in {0, bound // 2, max(bound - 1, 0), bound}:
            for write in (0, real):
                cost = price.cost(Tokens(input=real, cache_write=write, output=7))
                assert cost <= price.worst(bound, 7)


def test_the_price_for_a_short_input_leaves_dearer_tiers_out(table):
    short = table.price_of("openai", "openai", "gpt-5.4", NOW, input_tokens=272_000)
    long = table.price_of("openai", "openai", "gpt-5.4", NOW, input_tokens=272_001)
    assert (short.input, short.output) == (2_500_000_000, 15_000_000_000)
    assert not isinstance(short, TieredPrice)
    assert long.input == 5_000_000_000
    # The bound was far above the truth: what is paid is the truth.
    assert long.cost(Tokens(input=10)) == short.cost(Tokens(input=10))


def test_cache_writes_cost_the_hours_price_unless_it_is_ruled_out(table):
    dear = table.price_of("anthropic", "anthropic", "claude-sonnet-5", NOW)
    plain = table.price_of("anthropic", "anthropic", "claude-sonnet-5", NOW, hour_cache=False)
    assert (dear.cache_write, plain.cache_write) == (4_000_000_000, 2_500_000_000)


def test_only_the_provider_at_the_tables_own_address_has_its_prices(table):
    assert table.price_of("openai", "vllm", "gpt-4o", NOW) is None
    assert table.price_of("openai", "lookalike", "gpt-4o", NOW) is None
    assert table.price_of("openai", "groq", "gpt-4o", NOW) is None
    assert table.price_of("openai", "groq", "llama-3.3-70b-versatile", NOW) is not None
    assert table.price_of("triton", "local", "gpt-4o", NOW) is None


def test_a_model_that_is_not_charged_by_tokens_has_no_price(table):
    assert table.price_of("openai", "openai", "gpt-live-1", NOW) is None
    assert table.price_of("openai", "openai", "no-such-model", NOW) is None


def test_an_embedding_model_costs_its_input_alone(table):
    price = table.price_of("openai", "openai", "text-embedding-3-small", NOW)
    assert (price.input, price.output) == (20_000_000, 0)


def test_the_files_price_comes_first_and_is_exact(table):
    own = book(b'[prices."openai:gpt-4o"]\ninput = 0.1\ncached = 0.01\noutput = 0.3\n')
    price = own.price_of("openai", "openai", "gpt-4o", NOW)
    assert price == Price(100_000_000, 10_000_000, 100_000_000, 300_000_000, FROM_FILE)


def test_a_fraction_of_a_nano_dollar_is_rounded_up():
    own = book(b'[prices."vllm:m"]\ninput = 0.0000000001\noutput = 0\n')
    assert own.price_of("openai", "vllm", "m", NOW).input == 1


def test_a_machines_price_is_that_of_its_time():
    own = book(b"[prices.llm]\ndollars_per_hour = 3.6\ntokens_per_second = 100\n")
    price = own.price_of("triton", "local", "llm", NOW)
    # A thousandth of a dollar a second, a hundred thousandth a token: ten dollars for a million.
    assert price == Price(0, 0, 0, 10_000_000_000, FROM_FILE)
    assert own.price_of("triton", "local", "llm", NOW, reads_only=True).input == 10_000_000_000


def test_the_measured_rate_takes_the_files_place_and_a_price_once_asked_stays():
    rates = MachineRates()
    own = book(b"[prices.llm]\ndollars_per_hour = 3.6\ntokens_per_second = 100\n", rates)
    before = own.price_of("triton", "local", "llm", NOW)
    rates.note("local:llm", 5_000, 0.0, 10.0)
    after = own.price_of("triton", "local", "llm", NOW)
    assert (before.output, after.output) == (10_000_000_000, 2_000_000_000)
    assert after.version == MEASURED


MACHINES = b"""
[[machines.gpu]]
since = 2026-11-01
dollars_per_hour = 3.6
[[machines.gpu]]
since = 2026-11-30
dollars_per_hour = 1.8
[prices.llm]
machine = "gpu"
tokens_per_second = 100
"""


def test_a_kind_of_machines_has_the_price_of_the_day():
    own = book(MACHINES)
    # 2026-11-29 12:00 UTC.
    first = own.price_of("triton", "local", "llm", NOW)
    assert first == Price(0, 0, 0, 10_000_000_000, f"{FROM_FILE}, gpu from 2026-11-01")
    assert own.price_of("triton", "local", "llm", NOW + DAY).output == 5_000_000_000
    assert own.price_of("triton", "local", "llm", NOW - 40 * DAY) is None


def test_calls_at_once_count_together():
    rates = MachineRates()
    for start in range(10):
        rates.note("local:llm", 1_000, float(start), 10.0 + start)
    assert rates.rate("local:llm") == pytest.approx(10_000 / 19)
    assert rates.rate("local:other") is None


def test_a_call_that_ends_late_joins_the_stretches_that_it_spans():
    rates = MachineRates()
    rates.note("t", 500, 0.0, 5.0)
    rates.note("t", 500, 20.0, 25.0)
    assert rates.rate("t") == pytest.approx(100)
    rates.note("t", 500, 4.0, 21.0)
    assert rates.rate("t") == pytest.approx(1_500 / 25)


def test_a_rate_is_that_of_the_last_busy_time():
    rates = MachineRates()
    rates.note("t", 1_000_000, 0.0, 1_000.0)
    for second in range(int(BUSY_SECONDS)):
        rates.note("t", 10, 5_000.0 + 2 * second, 5_001.0 + 2 * second)
    assert 9 < rates.rate("t") < 200
    rates.note("t", 3_000, 10_000.0, 10_000.0 + BUSY_SECONDS)
    assert rates.rate("t") == pytest.approx(10)


def test_what_is_too_short_says_nothing():
    rates = MachineRates()
    rates.note("t", 10_000, 0.0, 1.0)
    rates.note("u", 3, 0.0, 100.0)
    rates.note("v", 1_000, 10.0, 10.0)
    assert (rates.rate("t"), rates.rate("u"), rates.rate("v")) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("input = -1\noutput = 1", "'vllm:m'.input"),
        ("input = nan\noutput = 1", "'vllm:m'.input"),
        ("input = 1\noutput = inf", "'vllm:m'.output"),
        ("input = 1", "'vllm:m'.output is missing"),
        ("output = 1", "'vllm:m'.input is missing"),
        ("dollars_per_hour = 1", "'vllm:m'.tokens_per_second is missing"),
        ("tokens_per_second = 1", "'vllm:m'.dollars_per_hour is missing"),
        ("dollars_per_hour = 1\ntokens_per_second = 0", "'vllm:m'.tokens_per_second"),
        ("dollars_per_hour = 1\ntokens_per_second = 1\ninput = 1", "'vllm:m'.input cannot stand"),
        ("input = 1000001\noutput = 1", "'vllm:m'.input"),
        ('machine = "gpu"', "'vllm:m'.tokens_per_second is missing"),
        ('machine = "gpu"\ntokens_per_second = 1', "'vllm:m'.machine: no [[machines.gpu]]"),
        ('machine = "gpu"\ntokens_per_second = 1\ndollars_per_hour = 1', "'vllm:m'.machine cannot stand"),
        ('machine = "gpu"\ntokens_per_second = 1\noutput = 1', "'vllm:m'.output cannot stand"),
    ],
)
def test_a_price_that_cannot_be_right_stops_the_start_and_is_named(row, named):
    with pytest.raises(SettingError, match=re.escape(named)):
        book(f'[prices."vllm:m"]\n{row}\n'.encode())


def test_a_price_of_a_provider_that_is_not_there_is_named():
    with pytest.raises(SettingError, match="'nobody:m'"):
        book(b'[prices."nobody:m"]\ninput = 1\noutput = 1\n')


def test_two_prices_of_one_target_are_refused():
    with pytest.raises(SettingError, match="local:llm has a price twice"):
        book(b'[prices.llm]\ninput = 1\noutput = 1\n[prices."local:llm"]\ninput = 1\noutput = 1\n')


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*args, **more):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert book().price_of("openai", "openai", "gpt-4o", NOW) is not None
    from genai_prices import data_snapshot

    assert data_snapshot._custom_snapshot is None


def test_a_gateway_of_our_own_triton_alone_loads_no_table():
    own = PriceBook(
        GatewayFile(providers={"local": ProviderRow("triton")}, prices={"llm": PriceRow(1, output=2)})
    )
    assert own._table is None
    assert own.price_of("triton", "local", "llm", NOW).output == 2_000_000_000


def test_an_adapter_costs_what_its_model_does_unless_the_file_says_otherwise():
    rates = MachineRates()
    rows = b"[prices.llm]\ndollars_per_hour = 3.6\ntokens_per_second = 100\n"
    own = book(
        rows + b'[prices."local:llm:law"]\ninput = 1\noutput = 2\n[prices."vllm:m"]\ninput=1\noutput=1\n',
        rates,
    )
    assert own.price_of("triton", "local", "llm:art", NOW) == own.price_of("triton", "local", "llm", NOW)
    assert own.price_of("triton", "local", "llm:law", NOW).output == 2_000_000_000
    assert [own.priced_as(f"local:llm:{name}") for name in ("art", "law")] == ["local:llm", "local:llm:law"]
    # A tag of another server's model is no adapter.
    assert own.price_of("openai", "vllm", "m:latest", NOW) is None
