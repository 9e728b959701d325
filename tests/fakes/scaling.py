"""Replicas and metrics that a person can follow."""

import math
import random

from benchmarks.scaling.fleet import LATENCIES, Sample
from benchmarks.scaling.load import Load, Request
from benchmarks.scaling.service import Point, Service

# One request at a time, 10 tokens a second, half a minute to warm up.
ONE = Service("one", (Point(1, 10.0),), 1, 10, 0, 0.0, 0, 30.0, "made up")


def sample(at, **values):
    """A reading of an idle fleet, but for `values`."""
    idle = {"offered": 0.0, "backlog": 0.0, "waiting": 0, "running": 0, "input_waiting": 0, "kv": 0.0}
    idle |= {"latencies": (0,) * (len(LATENCIES) + 1), "replicas": 2, "ready": 2}
    return Sample(float(at), **(idle | values))


def wave(count, seconds, seed=1):
    """A load that swells and falls four times."""
    rng = random.Random(seed)
    found = []
    while len(found) < count:
        at = rng.uniform(0, seconds)
        if rng.random() < 0.55 - 0.45 * math.cos(8 * math.pi * at / seconds):
            found.append(Request(at, rng.choice((5, 10, 20)), 0))
    return Load("wave", tuple(sorted(found, key=lambda one: one.at)), seconds)
