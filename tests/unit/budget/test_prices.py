"""Prices are whole numbers, rounded up once."""

import random
from fractions import Fraction

import pytest

from trireme.budget.prices import MILLION, Price, Tokens


def some_price(choose):
    most = choose.choice((1, 10, 10**9, 10**12))
    return Price(*(choose.randint(0, most) for _ in range(4)), version="v")


def some_tokens(choose):
    most = choose.choice((3, 1000, 10**7))
    cached, write, plain, output = (choose.randint(0, most) for _ in range(4))
    return Tokens(plain + cached + write, cached, write, output)


@pytest.mark.parametrize("seed", range(20))
def test_no_cost_is_above_the_worst_one_of_as_many_tokens(seed):
    choose = random.Random(seed)
    for _ in range(500):
        price, tokens = some_price(choose), some_tokens(choose)
        assert price.cost(tokens) <= price.worst(tokens.input, tokens.output)
        # Nor is one of fewer.
        assert price.cost(tokens) <= price.worst(tokens.input + choose.randint(0, 9), tokens.output)


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_cost_is_reached_and_no_bound_is_lower(seed):
    choose = random.Random(seed)
    for _ in range(200):
        price, tokens = some_price(choose), some_tokens(choose)
        ways = (
            Tokens(tokens.input, 0, 0, tokens.output),
            Tokens(tokens.input, tokens.input, 0, tokens.output),
            Tokens(tokens.input, 0, tokens.input, tokens.output),
        )
        assert max(map(price.cost, ways)) == price.worst(tokens.input, tokens.output)


@pytest.mark.parametrize("seed", range(20))
def test_a_cost_is_the_exact_sum_rounded_up_once(seed):
    choose = random.Random(seed)
    for _ in range(500):
        price, tokens = some_price(choose), some_tokens(choose)
        plain = tokens.input - tokens.cached - tokens.cache_write
        exact = sum(
            Fraction(count * nanos, MILLION)
            for count, nanos in (
                (plain, price.input),
                (tokens.cached, price.cached),
                (tokens.cache_write, price.cache_write),
                (tokens.output, price.output),
            )
        )
        assert 0 <= price.cost(tokens) - exact < 1


def test_a_rest_of_each_class_is_one_nano_dollar_together():
    price = Price(1, 1, 1, 1, "v")
    assert price.cost(Tokens(3, 1, 1, 1)) == 1
    assert price.cost(Tokens()) == 0
    assert Price(MILLION, 0, 0, 0, "v").cost(Tokens(5)) == 5


def test_input_that_was_cached_is_not_paid_twice():
    price = Price(3 * MILLION, MILLION, 4 * MILLION, 15 * MILLION, "v")
    assert price.cost(Tokens(input=10, cached=6, cache_write=3, output=2)) == 1 * 3 + 6 + 3 * 4 + 2 * 15
