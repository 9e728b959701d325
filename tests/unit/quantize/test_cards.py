import pytest

from trireme.errors import SettingError
from trireme.quantize.cards import CARDS_GB, Load, choose_group, format_cards, list_needs
from trireme.quantize.sizes import PUBLIC_SHAPES

ONE = Load(context=1, sequences=1, overhead_gb=0.0)


def needs_of(name, load):
    shape = next(shape for shape in PUBLIC_SHAPES if shape.name.startswith(name))
    return {need.precision: need for need in list_needs(shape, load)}


@pytest.mark.parametrize("precision", ["AWQ int4, g128", "GPTQ int4, g128", "NF4"])
def test_seventy_billion_at_four_bits_do_not_fit_24_gb_and_fit_48(precision):
    need = needs_of("70B", ONE)[precision]
    assert next(card for card in CARDS_GB if need.fits(card)) in (40, 48)
    assert not need.fits(24)
    loaded = needs_of("70B", Load())[precision]
    assert not loaded.fits(40) and not loaded.fits(48) and loaded.fits(80)


def test_seventy_billion_in_16_bits_fit_no_single_card():
    assert not any(needs_of("70B", ONE)["bf16"].fits(card) for card in CARDS_GB)


def test_the_sum_counts_weights_cache_and_overhead():
    load = Load(context=1000, sequences=3, overhead_gb=1.5)
    need = needs_of("8B", load)["bf16"]
    assert (need.weights, need.cache, need.overhead) == (2 * 8_030_261_248, 3000 * 131_072, 1_500_000_000)
    assert need.total == need.weights + need.cache + need.overhead


def test_a_group_size_is_one_that_divides_every_projection():
    assert choose_group([(576, 1), (1536, 1)], 0) == 64
    assert choose_group([(576, 1), (1536, 1)], 32) == 32
    assert choose_group([(576, 1)], 128) == 64, "the asked one does not divide 576"
    assert choose_group([(100, 1)], 0) == 0
    assert "AWQ int4, g64" in needs_of("0.1B", ONE)


def test_the_table_says_what_it_counts_and_one_line_for_each_precision():
    load = Load(context=2048, sequences=4, overhead_gb=2.5)
    needs = list(needs_of("70B", load).values())
    first, head, *rows = format_cards(needs, load).splitlines()
    assert "4 x 2,048 tokens, 2.5 GB overhead" in first
    assert head.split() == ["model", "precision", "weights", "KV", "needed", *map(str, CARDS_GB)]
    assert len(rows) == len(needs)
    four = next(row for row in rows if "AWQ int4" in row).split()
    assert four[-6:] == ["-", "-", "yes", "yes", "yes", "yes"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"context": 0}, "context must be at least 1"),
        ({"sequences": 0}, "sequences must be at least 1"),
        ({"overhead_gb": -1.0}, "overhead_gb must be at least 0"),
        ({"overhead_gb": float("nan")}, "overhead_gb must be at least 0"),
    ],
)
def test_a_load_out_of_range_is_named(given, said):
    with pytest.raises(SettingError, match=said):
        Load(**given)
