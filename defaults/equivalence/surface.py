"""The surface of a text, in which there is no meaning."""

from __future__ import annotations

import random

from words import AFTER, BEFORE, choices


def typo(text: str, rng: random.Random) -> str:
    """One or two letters of long words turned, doubled or lost."""
    words = text.split(" ")
    long = [i for i, w in enumerate(words) if len(w) > 4 and w.isalpha() and w.islower()]
    for i in rng.sample(long, min(len(long), rng.choice((1, 1, 2)))):
        w, p = words[i], rng.randrange(1, len(words[i]) - 2)
        words[i] = rng.choice(
            (w[:p] + w[p + 1] + w[p] + w[p + 2 :], w[:p] + w[p] + w[p:], w[:p] + w[p + 1 :])
        )
    return " ".join(words)


def surface(text: str, rng: random.Random, strength: float = 1.0) -> str:
    """Greetings, thanks, small letters, lost punctuation, typing errors: each now and then."""
    asks = text.rstrip().endswith("?")
    if asks and rng.random() < 0.13 * strength:
        text = rng.choice(choices(BEFORE)) + (
            text if text[:2].isupper() or text.startswith("I ") else text[0].lower() + text[1:]
        )
    if asks and rng.random() < 0.07 * strength:
        text += rng.choice(choices(AFTER))
    if rng.random() < 0.10 * strength:
        text = text.lower()
    if rng.random() < 0.15 * strength:
        text = text.rstrip("?.! ")
    if rng.random() < 0.08 * strength:
        text = typo(text, rng)
    if rng.random() < 0.03 * strength:
        text = text.replace(",", "")
    if rng.random() < 0.02 * strength:
        text = text.rstrip("?.") + rng.choice((" ?", "??", "...", "!"))
    return text
