"""What the bar of a budget says: lib/burndown.js, run in the browser."""

import pytest

from trireme.access.endpoints import ENDPOINTS

CALL = "([file, name, args]) => import(`./${file}`).then((module) => module[name](...args))"
NOVEMBER, DAY = "2026-12-01T00:00:00Z", "2026-11-30T00:00:00Z"


@pytest.fixture
def call(new_console):
    """call(file, name, *arguments) -> what a function of the console gives."""
    console = new_console("")
    console.page.goto(console.url)
    page = console.page
    return lambda file, name, *arguments: page.evaluate(CALL, [file, name, arguments])


def budget(forecast=(), **more):
    """250 of 1,000 tokens are spent, 50 are held."""
    spent, held = ({"tokens": one, "dollars": str(one)} for one in (250, 50))
    told = {"unit": "tokens", "used": 0.25, "at_end": None, "exhausted_at": None, "ends_at": DAY}
    usual = {"tenant": "acme", "user": None, "window": "day", "tokens": 1000, "dollars": None}
    return {**usual, "spent": spent, "held": held, "forecast": told | dict(forecast), **more}


def test_spent_and_held_are_shares_of_the_limit_that_is_used_up_first(call):
    def used(one):
        return call("lib/burndown.js", "used", one)

    assert used(budget()) == {"spent": 0.25, "held": 0.05}
    assert used(budget({"unit": "dollars"}, dollars="500")) == {"spent": 0.5, "held": 0.1}
    assert used(budget(tokens=0)) == {"spent": 1, "held": 0}
    assert used(budget() | {"spent": None, "forecast": None}) is None


def test_the_tick_is_where_in_the_window_the_time_is(call):
    def passed(one, now):
        return call("lib/burndown.js", "passedOf", one, now)

    # 2026-11-29T18:00:00Z, and the last instant of the 15th.
    assert passed(budget(), 1_795_975_200_000) == 0.75
    assert passed(budget({"ends_at": NOVEMBER}, window="month"), 1_794_787_200_000) == 0.5
    assert passed(budget(window="minute"), 1_795_975_200_000) == 0


@pytest.mark.parametrize(
    "forecast, said",
    [
        ({"used": 1.2}, "used up until 20"),
        ({"exhausted_at": "2026-11-29T19:12:00Z"}, "runs out 2026-11-29"),
        ({}, "too early to tell"),
        ({"at_end": 800}, "lasts: 800 tokens at the end"),
        ({"at_end": "0.5", "unit": "dollars"}, "lasts: $0.50 at the end"),
    ],
)
def test_the_forecast_is_told_in_words(call, forecast, said):
    assert call("lib/burndown.js", "outlook", budget(forecast)).startswith(said)


def test_the_form_of_a_new_key_has_every_endpoint_of_the_gateway(call):
    shown = call("pages/keys.js", "endpoints")
    assert sorted(shown) == sorted(ENDPOINTS)
