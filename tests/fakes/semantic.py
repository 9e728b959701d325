"""An embedder and a scorer of questions with answers that a test can foresee."""

from __future__ import annotations

import asyncio
import zlib

import numpy as np

DIMENSIONS = 16


class WordEmbedder:
    """A unit vector of a text's words: those of another order have the same one. `fault` is raised, `seconds` are
    waited. Texts of more than `most` words do not fit."""

    def __init__(self, most=50):
        self.most = most
        self.fault = None
        self.seconds = 0.0
        self.texts = []

    async def embed(self, text):
        self.texts.append(text)
        await asyncio.sleep(self.seconds)
        if self.fault:
            raise self.fault
        words = text.lower().strip("?.").split()
        if len(words) > self.most:
            return None
        vector = np.zeros(DIMENSIONS, np.float32)
        for word in words:
            vector[zlib.crc32(word.encode()) % DIMENSIONS] += 1
        return vector / np.linalg.norm(vector)


class TableScorer:
    """The scores of a table, by both texts in any order; 0 for all others."""

    def __init__(self, table=()):
        self.table = {frozenset(pair): score for pair, score in dict(table).items()}
        self.fault = None
        self.seconds = 0.0
        self.calls = []

    async def score(self, question, others):
        self.calls.append((question, list(others)))
        await asyncio.sleep(self.seconds)
        if self.fault:
            raise self.fault
        return [self.table.get(frozenset((question, other)), 0.0) for other in others]


class Watch:
    """Remembers what it is told."""

    def __init__(self):
        self.outcomes = []
        self.work = []

    def looked(self, outcome, seconds):
        self.outcomes.append(outcome)

    def worked(self, outcome):
        self.work.append(outcome)
