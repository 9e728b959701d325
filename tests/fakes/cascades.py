"""Made answers whose chances are known."""

import numpy as np

from trireme.cascade.evidence import Evidence
from trireme.cascade.labelled import Labelled

VERSIONS = (("llm", "a" * 64),)


def true_chance(sentence, logprob):
    """Not a logistic's shape alone: the isotonic map has something to do."""
    return 0.05 + 0.9 / (1 + np.exp(-(2.0 * sentence + 1.5 * logprob)))


def make_answers(count, seed, step="made"):
    """Answers, and the true chance of each."""
    draw = np.random.default_rng(seed)
    sentence, logprob = draw.normal(size=count), draw.normal(size=count)
    chances = true_chance(sentence, logprob)
    right = draw.random(count) < chances
    answers = [
        Labelled(
            step,
            VERSIONS,
            Evidence(tokens=10, sentence_score=float(a), logprob_p10=float(b) - 10.0),
            bool(c),
            {"id": f"q{n}"},
        )
        for n, (a, b, c) in enumerate(zip(sentence, logprob, right, strict=True))
    ]
    return answers, chances
