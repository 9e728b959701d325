"""Calibrations that a person can reckon with, and a gateway whose models have steps."""

import json
import math
import time

from fakes.gateways import Echo, FakeGateway
from trireme.cascade.calibration import Calibration, write_calibration
from trireme.gateway.cascades.plan import read_cascades
from trireme.gateway.file import parse_gateway_file
from trireme.providers.chat import Finished, Started, TextDelta, Usage
from trireme.providers.models import ServedModel


def file_of(steps, providers, **model):
    """gateway.toml of one model "m" with these steps."""
    tables = [f"[providers.{name}]\n{_lines(row)}" for name, row in providers.items()]
    return "\n".join([*tables, "[models.m]", _lines({"steps": list(steps), **model} if steps else model)])


def _lines(row):
    return "\n".join(f"{key} = {_toml(value)}" for key, value in row.items())


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


# Version of the manifest of our model "llm".
V1 = "1" * 64


def calibration_of(
    *features,
    versions=(("llm", V1),),
    weights=None,
    center=0.0,
    threshold=0.5,
    step="small",
    bias=0.0,
    decide_after="answer",
):
    """Keeps an answer whose features, weighted by 1 unless said, come to `center` or more in all."""
    count = len(features)
    return Calibration(
        step=step,
        versions=tuple(versions),
        features=features,
        centers=(center, *(0.0,) * (count - 1)),
        scales=(1.0,) * count,
        weights=tuple(weights or (1.0,) * count),
        bias=bias,
        scores=(0.0, 1.0),
        chances=(0.0, 0.99),
        threshold=threshold * 0.99,
        floor=0.95,
        examples=1000,
        kept_share=0.5,
        kept_low=0.4,
        kept_high=0.6,
        wrong_kept=0.1,
        decide_after=decide_after,
    )


def chance_of(total):
    """That `calibration_of` gives to features of that total above their center."""
    return 0.99 / (1 + math.exp(-total))


def place(folder, name="small.json", **calibration):
    """A calibration on the answer's least log-probability, which keeps it from -1 on, or the one that is named."""
    features = calibration.pop("features", ("logprob_least",))
    center = calibration.pop("center", -1.0)
    write_calibration(folder / name, calibration_of(*features, center=center, **calibration))


def said(text, *logprobs, tops=()):
    """Text as one token for each log-probability, with the logprobs of its alternatives."""
    words = text.split(" ")
    pieces = [word + " " for word in words[:-1]] + words[-1:]
    tops = tops or ((),) * len(logprobs)
    return [
        TextDelta(
            piece,
            logprobs=(
                {
                    "token": piece,
                    "logprob": logprob,
                    "top_logprobs": [{"token": "x", "logprob": one} for one in top],
                },
            ),
        )
        for piece, logprob, top in zip(pieces, logprobs, tops, strict=True)
    ]


def whole(*pieces, model="m", usage=None, reason="stop"):
    """The events of an answer."""
    return [Started(model), *pieces, usage or Usage(3, len(pieces)), Finished(reason)]


SURE = whole(*said("sure enough", -0.1, -0.2), model="small-1")
UNSURE = whole(*said("perhaps so", -0.1, -3.0), model="small-1")
BIG = whole(TextDelta("truly "), TextDelta("so"), model="big-1", usage=Usage(5, 2))

FILE = """
[providers.p]
kind = "openai"
[prices."p:small"]
input = 1.0
output = 1.0
[prices."p:big"]
input = 100.0
output = 100.0

[models.careful]
exact = "all"
[[models.careful.steps]]
name = "small"
target = "p:small"
calibration = "small.json"
[[models.careful.steps]]
name = "big"
chain = ["p:big", "p:spare"]
"""
# Of a step whose answers name their version.
PROVIDERS = (("p:small", "small-1"),)


class Steps(Echo):
    """A provider whose models answer with the events of `scripts`; refuses: of a model, why it takes no call."""

    def __init__(self, **scripts):
        super().__init__(lambda call, model: self._next(model))
        self.scripts = {"small": SURE, "big": BIG, "spare": BIG, "llm": SURE, **scripts}
        self.refuses = {}
        self.asked = []

    def find_fault(self, call, model):
        fault = self.refuses.get(model, "")
        return fault(call) if callable(fault) else fault

    def chat(self, call, model, limits):
        self.asked.append(model)
        return super().chat(call, model, limits)

    def _next(self, model):
        script = self.scripts[model]
        return script() if callable(script) else script


def last_line(gateway, count=1):
    """The log's line of the last request, once there are so many: it is written behind the answer."""
    end = time.monotonic() + 30
    while len(lines := [line for line in gateway.lines() if "endpoint" in line]) < count:
        assert time.monotonic() < end
        time.sleep(0.005)
    return lines[-1]


def gateway_of(folder, provider, text=FILE, **more):
    """A FakeGateway over the calibrations that were placed in `folder`."""
    file = parse_gateway_file(text.encode(), "gateway.toml")
    cascades = read_cascades(file, folder / "gateway.toml")
    served = more.pop("models", None) or [
        ServedModel("llm", "chat", True, "load1", alternatives=20, versions=(("llm", V1),))
    ]
    return FakeGateway(provider, file=file, cascades=cascades, models=served, **more)
