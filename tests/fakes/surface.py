"""A measurer whose answers are known: a surface over the settings with one top, and its noise."""

import math
import random

from trireme.errors import UnavailableError
from trireme.tune.measure import Point


class Surface:
    """`capacity` requests/s at the top, less by `slope` for each doubling of a value away from `top`.

    A request alone takes `least_ms`; with more in flight than that, the server is full and requests wait.
    `broken` settings cannot be served. `slowdown` is how a number of runs stretches all times. A run takes its
    window, and `start_s` more where another setting was served before.
    """

    def __init__(
        self, top, *, capacity=400.0, least_ms=8.0, slope=0.15, noise=0.0, broken=lambda s: False, start_s=0.0
    ):
        self.top, self.capacity, self.least_ms, self.slope = top, capacity, least_ms, slope
        self.noise, self.broken, self.start_s = noise, broken, start_s
        self.random = random.Random(1)
        self.served = None
        self.calls, self.now = [], 0.0
        self.slowdown = lambda runs: 1.0

    def rate(self, setting):
        away = sum(abs(math.log2(max(setting[name], 1) / max(best, 1))) for name, best in self.top.items())
        return self.capacity / (1 + self.slope * away)

    def measure(self, setting, concurrency, window_s, round_number):
        self.calls.append((setting, concurrency, round_number))
        self.now += window_s + (self.start_s if setting != self.served else 0.0)
        self.served = setting
        if self.broken(setting):
            raise UnavailableError("out of memory")
        rate = self.rate(setting) / self.slowdown(len(self.calls))
        rate *= 1 + self.random.uniform(-self.noise, self.noise)
        requests_per_s = min(rate, concurrency * 1000 / self.least_ms)
        p50 = concurrency / requests_per_s * 1000
        return Point(concurrency, requests_per_s, p50, p50 * 1.2, p50 * 1.3)

    def clock(self):
        return self.now


class Notes:
    """A watch that keeps what it heard."""

    def __init__(self):
        self.stages, self.trials, self.bests = [], [], []

    def measuring(self, setting, concurrency, stage):
        self.stages.append(stage)

    def tried(self, trial, best):
        self.trials.append(trial)
        self.bests.append(best)
