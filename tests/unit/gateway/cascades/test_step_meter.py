import asyncio

import pytest

from trireme.gateway.cascades.step_meter import StepMeter
from trireme.providers.chat import ChatCall

CALL = ChatCall("openai", "m")


class Paid:
    """Notes how its attempts ended."""

    step = ""

    def __init__(self):
        self.ends = []
        self.steps = []

    async def begin(self, call, target):
        self.steps.append(self.step)
        self.call = call
        return self

    def watch(self, events):
        return events

    def end(self, outcome):
        self.ends.append(outcome)


def begun(paid, meter=None):
    meter = meter or StepMeter(paid, "small")
    return meter, asyncio.run(meter.begin(CALL, None))


@pytest.mark.parametrize(
    ("outcome", "is_kept", "told"),
    [
        ("ok", True, "ok"),
        ("ok", False, "escalated"),
        ("overloaded", False, "overloaded"),
        ("cut", True, "cut"),
    ],
)
def test_an_answer_that_ended_is_settled_when_it_is_decided(outcome, is_kept, told):
    paid = Paid()
    meter, attempt = begun(paid)
    attempt.end(outcome)
    assert paid.ends == ([] if outcome == "ok" else [outcome])
    meter.decide(is_kept=is_kept)
    meter.decide(is_kept=not is_kept)
    assert paid.ends == [told]


@pytest.mark.parametrize(
    ("outcome", "is_kept", "told"),
    [("cancelled", False, "escalated"), ("cancelled", True, "cancelled"), ("ok", True, "ok")],
)
def test_an_answer_that_ends_after_the_decision_is_settled_by_it(outcome, is_kept, told):
    paid = Paid()
    meter, attempt = begun(paid)
    meter.decide(is_kept=is_kept)
    assert paid.ends == []
    attempt.end(outcome)
    assert paid.ends == [told]


def test_a_client_that_goes_away_before_is_told_as_one():
    paid = Paid()
    meter, attempt = begun(paid)
    attempt.end("cancelled")
    meter.decide(is_kept=False)
    assert paid.ends == ["cancelled"]


def test_each_attempt_is_one_of_the_step():
    paid = Paid()
    meter, first = begun(paid)
    first.end("connect")
    _, second = begun(paid, meter)
    assert second.call is CALL
    second.end("ok")
    meter.decide(is_kept=True)
    assert (paid.steps, paid.ends) == (["small", "small"], ["connect", "ok"])


def test_a_call_that_the_steps_time_ended_is_not_the_clients_doing():
    paid = Paid()
    meter, attempt = begun(paid)
    attempt.end("cancelled")
    meter.decide(is_kept=False, cancelled="timeout")
    assert paid.ends == ["timeout"]
    paid = Paid()
    meter, attempt = begun(paid)
    attempt.end("cancelled")
    meter.decide(is_kept=False)
    assert paid.ends == ["cancelled"]
