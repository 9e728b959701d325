"""A question in, an answer with citations out: search, then the best sentence or the LLM."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np

from trireme.errors import PromptTooLongError
from trireme.rag.citations import check_citations
from trireme.rag.extract import cite_sentence, find_sentences, rank_sentences
from trireme.rag.ports import AnswerOptions, AnswerPart, Citation, Generated, Question, Steps, Usage
from trireme.rag.prompt import PromptTemplate, write_messages
from trireme.types import Hit

Clock = Callable[[], float]

NOTHING_FOUND = "Nothing relevant was found in collection {collection}."


class _Account:
    """The usage of one answer as it grows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock()
        self._usage = Usage(answer_mode="none")

    def note(self, **figures: object) -> None:
        """Set fields of the usage."""
        self._usage = dataclasses.replace(self._usage, **figures)  # type: ignore[arg-type]

    @contextmanager
    def timed(self, field: str) -> Iterator[None]:
        """Sets the field to the milliseconds that the block takes."""
        started = self._clock()
        yield
        self.note(**{field: self._milliseconds_since(started)})

    def note_first_token(self) -> None:
        """Sets time_to_first_token_ms, once."""
        if not self._usage.time_to_first_token_ms:
            self.note(time_to_first_token_ms=self._milliseconds_since(self._started))

    def close(self) -> Usage:
        """The usage, with its total."""
        self.note(total_ms=self._milliseconds_since(self._started))
        return self._usage

    def _milliseconds_since(self, started: float) -> float:
        return round((self._clock() - started) * 1000, 3)


def answer(
    question: Question,
    steps: Steps,
    options: AnswerOptions,
    template: PromptTemplate,
    clock: Clock = time.monotonic,
) -> Generator[AnswerPart, None, None]:
    """The parts of one answer; the last has citations, usage and finish_reason. `clock` counts seconds.

    extractive: the best sentence of the best passages, word for word. generative: the LLM's text, whose
    citations [n] are checked. auto: the sentence where its score reaches options.extractive_threshold, the LLM
    below it, and a plain sentence that nothing was found below options.relevance_threshold, or where the
    collection is empty. Blocks while the steps do, and raises what they raise. Closing the iterator ends
    the LLM's decoding too.
    """
    account = _Account(clock)
    passages = _search(question, steps, account)
    if not passages:
        yield _nothing_found(question, account)
        return
    if question.mode != "generative":
        citation = _extract(question.text, passages, steps, account)
        if citation is None:
            yield _nothing_found(question, account)
            return
        if question.mode == "extractive" or citation.score >= options.extractive_threshold:
            account.note_first_token()
            account.note(answer_mode="extractive", grounded=True)
            yield AnswerPart(citation.text, (citation,), account.close(), "stop")
            return
        if citation.score < options.relevance_threshold:
            yield _nothing_found(question, account)
            return
    yield from _generate(question.text, passages[: options.context_passages], steps, template, account)


def _search(question: Question, steps: Steps, account: _Account) -> list[Hit]:
    """The top_k best passages, best first, with the reranker's scores."""
    with account.timed("embed_ms"):
        embedding = steps.embed(question.text)
    with account.timed("retrieve_ms"):
        hits = steps.retrieve(question, embedding.vector)
    account.note(embedding_tokens=embedding.token_count, passages=len(hits))
    if not hits:
        return []
    with account.timed("rerank_ms"):
        prior = np.array([hit.score for hit in hits], np.float32)
        scores = steps.rank(question.text, [hit.text for hit in hits], prior)
    scored = [dataclasses.replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
    best = sorted(scored, key=lambda hit: -hit.score)
    account.note(passage_score=best[0].score)
    if len(best) > 1:
        account.note(passage_gap=best[0].score - best[1].score)
    return best[: question.top_k]


def _extract(question: str, passages: Sequence[Hit], steps: Steps, account: _Account) -> Citation | None:
    """The best sentence, or None where the passages hold none."""
    with account.timed("sentences_ms"):
        candidates = find_sentences(passages, question)
        if not candidates:
            return None
        best, score = rank_sentences(question, passages, candidates, steps)
    account.note(sentences=len(candidates), best_score=score)
    return cite_sentence(candidates[best], passages[candidates[best].passage], score)


def _nothing_found(question: Question, account: _Account) -> AnswerPart:
    account.note_first_token()
    text = NOTHING_FOUND.format(collection=question.collection)
    return AnswerPart(text, usage=account.close(), finish_reason="stop")


def _generate(
    question: str, passages: Sequence[Hit], steps: Steps, template: PromptTemplate, account: _Account
) -> Iterator[AnswerPart]:
    account.note(answer_mode="generative")
    said: list[str] = []
    logprobs: list[float] = []
    given, last = 0, Generated()
    with account.timed("generate_ms"), closing(_read_llm(question, passages, steps, template)) as pieces:
        for count, piece in pieces:
            given, last = count, piece
            logprobs += piece.logprobs
            if piece.text:
                account.note_first_token()
                said.append(piece.text)
                yield AnswerPart(piece.text)
    checked = check_citations("".join(said), passages[:given])
    account.note(
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        cached_tokens=last.cached_tokens,
        token_logprobs=tuple(logprobs) or None,
        context_passages=given,
        grounded=bool(checked.citations),
        unknown_citations=checked.unknown,
        unsupported_citations=checked.unsupported,
    )
    yield AnswerPart("", checked.citations, account.close(), last.finish_reason or "stop")


def _read_llm(
    question: str, passages: Sequence[Hit], steps: Steps, template: PromptTemplate
) -> Generator[tuple[int, Generated], None, None]:
    """The LLM's pieces, each with how many passages it was given: fewer where all are too long for it."""
    given = len(passages)
    while True:
        messages = write_messages(template, question, [passage.text for passage in passages[:given]])
        has_begun = False
        with closing(steps.generate(messages)) as pieces:
            try:
                for piece in pieces:
                    has_begun = True
                    yield given, piece
                return
            except PromptTooLongError:
                # Only the LLM counts its tokens.
                if has_begun or given == 1:
                    raise
        given -= 1
