"""Steps whose answers a person can predict: scores are counts of shared words."""

import numpy as np

from trireme.errors import PromptTooLongError
from trireme.rag.ports import Generated
from trireme.rag.relevance import RelevanceModel
from trireme.types import Embedding, Hit

# Half a chance at a score of 4; every rare word that is missing takes as much as a word that is shared gives.
RELEVANCE = RelevanceModel(bias=-4.0, sentence=1.0, missing=-1.0, common_words=frozenset())


def hit(name, text, score=0.0, metadata="{}"):
    return Hit(name, text, metadata, score)


def words(text):
    return {word.strip(".,?!:").lower() for word in text.split()}


class FakeSteps:
    """Every call takes one tick of a clock that starts at 0. `said` is what the LLM streams, word by word."""

    def __init__(self, hits=(), said="", error=None):
        self.hits, self.said, self.error = list(hits), said, error
        self.ranked, self.prompts, self.calls = [], [], []
        self.closed = False
        self.now = 0.0
        self.longest_prompt = 10**9
        self.finish_reason = "stop"
        # Whether the LLM says log-probabilities: of word n -n.
        self.says_logprobs = False

    def clock(self):
        return self.now

    def _call(self, name):
        self.calls.append(name)
        self.now += 1
        if self.error and self.error[0] == name:
            raise self.error[1]

    def embed(self, question):
        self._call("embed")
        return Embedding(np.ones(2, np.float32), len(question.split()), 0)

    def retrieve(self, question, vector):
        self._call("retrieve")
        return self.hits

    def rank(self, question, texts, prior):
        self._call("rank")
        self.ranked.append(list(texts))
        shared = [len(words(question) & words(text)) for text in texts]
        return np.array(shared, np.float32) + np.asarray(prior)

    def generate(self, messages):
        self._call("generate")
        self.prompts.append(messages)
        if len(messages[-1]["content"]) > self.longest_prompt:
            raise PromptTooLongError("prompt has 99 tokens, the context holds 50; shorten it")
        spoken = self.said.split(" ")
        try:
            for count, word in enumerate(spoken, 1):
                self.now += 1
                is_last = count == len(spoken)
                logprobs = (-float(count),) if self.says_logprobs else ()
                text, reason = (word, self.finish_reason) if is_last else (f"{word} ", "")
                yield Generated(text, reason, 7, count, 4, logprobs)
        finally:
            self.closed = True
