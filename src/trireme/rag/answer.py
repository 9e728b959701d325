"""A question in, an answer with citations out: search, then the best sentence or the LLM."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

import numpy as np

from trireme.errors import PromptTooLongError
from trireme.rag.citations import check_citations, infer_citations
from trireme.rag.extract import cite_sentence, find_sentences, rank_sentences
from trireme.rag.opinion import Opinion, read_opinion
from trireme.rag.ports import (
    AnswerOptions,
    AnswerPart,
    Citation,
    Generated,
    PartEvidence,
    Question,
    Steps,
    Usage,
)
from trireme.rag.prompt import PromptTemplate, write_messages
from trireme.types import Hit

Clock = Callable[[], float]
# Entered for each stage by its name: embed, retrieve, rerank, sentences, generate.
Stage = Callable[[str], AbstractContextManager[None]]

NOTHING_FOUND = "Nothing relevant was found in collection {collection}."


@dataclasses.dataclass(frozen=True, slots=True)
class _Prompt:
    """What the LLM is asked."""

    question: Question
    passages: Sequence[Hit]
    template: PromptTemplate

    def messages(self, given: int | None = None) -> list[dict[str, str]]:
        """With the first `given` passages; None: with all."""
        texts = [passage.text for passage in self.passages[:given]]
        return write_messages(self.template, self.question.text, texts)


class _Account:
    """The usage of one answer as it grows."""

    def __init__(self, clock: Clock, stage: Stage) -> None:
        self._clock = clock
        self._stage = stage
        self._started = clock()
        self._usage = Usage(answer_mode="none")

    def note(self, **figures: object) -> None:
        """Set fields of the usage."""
        self._usage = dataclasses.replace(self._usage, **figures)  # type: ignore[arg-type]

    @contextmanager
    def timed(self, field: str) -> Iterator[None]:
        """Sets the field to the milliseconds that the block takes."""
        started = self._clock()
        with self._stage(field.removesuffix("_ms")):
            yield
        self.note(**{field: self._milliseconds_since(started)})

    def note_first_token(self) -> None:
        """Sets time_to_first_token_ms, once."""
        if not self._usage.time_to_first_token_ms:
            self.note(time_to_first_token_ms=self._milliseconds_since(self._started))

    def evidence(self, logprobs: Sequence[float]) -> PartEvidence:
        """Of a part that comes now, with the log-probabilities of its tokens."""
        usage = self._usage
        return PartEvidence(tuple(logprobs), usage.best_score, usage.passage_score, usage.passage_gap)

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
    *,
    asks_prompt: bool = False,
    stage: Stage = lambda _: nullcontext(),
) -> Generator[AnswerPart, None, None]:
    """The parts of one answer; the last has citations, usage and finish_reason. `clock` counts seconds.

    extractive: the best sentence of the best passages, word for word. generative: the LLM's text, whose
    citations [n] are checked. auto: by the chance that the passages hold an answer. From
    options.extractive_threshold on it is the sentence; below options.relevance_threshold, or where the collection
    is empty, a plain sentence that nothing was found; in between the LLM is asked for a second opinion: nothing was
    found where it refuses, the sentence where its answer stands in it, else its text. What is shown is never taken
    back. asks_prompt: the first part says what an LLM would be asked, whoever answers. stage: see Stage. Blocks
    while the steps do, and raises what they raise. Closing the iterator ends the LLM's decoding too.
    """
    account = _Account(clock, stage)
    passages = _search(question, steps, account)
    if not passages:
        yield _nothing_found(question, account)
        return
    prompt = _Prompt(question, passages[: options.context_passages], template)
    with closing(_answer_from(passages, prompt, steps, options, account)) as parts:
        if asks_prompt and (first := next(parts, None)) is not None:
            yield dataclasses.replace(first, prompt=tuple(prompt.messages()))
        yield from parts


def _answer_from(
    passages: Sequence[Hit], prompt: _Prompt, steps: Steps, options: AnswerOptions, account: _Account
) -> Generator[AnswerPart, None, None]:
    """See answer, once something was found."""
    question = prompt.question
    sentence: Citation | None = None
    if question.mode != "generative":
        found = _extract(question.text, passages, steps, options, account)
        if found is None:
            yield _nothing_found(question, account)
            return
        sentence, chance = found
        if question.mode == "extractive" or chance >= options.extractive_threshold:
            yield _say_sentence(sentence, account)
            return
        if chance < options.relevance_threshold:
            yield _nothing_found(question, account)
            return
    yield from _generate(prompt, steps, account, sentence)


def _search(question: Question, steps: Steps, account: _Account) -> list[Hit]:
    """The top_k best passages, best first, with the reranker's scores; those that it has not read come last."""
    with account.timed("embed_ms"):
        embedding = steps.embed(question.text)
    with account.timed("retrieve_ms"):
        hits = steps.retrieve(question, embedding.vector)
    account.note(embedding_tokens=embedding.token_count, passages=len(hits))
    if not hits:
        return []
    read = hits[: question.rerank_depth]
    if not read:
        return hits[: question.top_k]
    with account.timed("rerank_ms"):
        prior = np.array([hit.score for hit in read], np.float32)
        scores = steps.rank(question.text, [hit.text for hit in read], prior)
    scored = [dataclasses.replace(hit, score=float(score)) for hit, score in zip(read, scores, strict=True)]
    best = sorted(scored, key=lambda hit: -hit.score)
    account.note(passage_score=best[0].score, reranked_passages=len(best))
    if len(best) > 1:
        account.note(passage_gap=best[0].score - best[1].score)
    return [*best, *hits[len(read) :]][: question.top_k]


def _extract(
    question: str, passages: Sequence[Hit], steps: Steps, options: AnswerOptions, account: _Account
) -> tuple[Citation, float] | None:
    """The best sentence and the chance that the passages hold an answer; None where they hold no sentence."""
    with account.timed("sentences_ms"):
        candidates = find_sentences(passages, question)
        if not candidates:
            return None
        best, score = rank_sentences(question, passages, candidates, steps)
    chosen = candidates[best]
    missing = options.relevance.count_missing(question, passages[chosen.passage])
    chance = options.relevance.chance(score, missing)
    account.note(sentences=len(candidates), best_score=score, relevance=round(chance, 4))
    return cite_sentence(chosen, passages[chosen.passage], score), chance


def _say_sentence(sentence: Citation, account: _Account) -> AnswerPart:
    account.note_first_token()
    account.note(answer_mode="extractive", grounded=True)
    return AnswerPart(sentence.text, (sentence,), account.close(), "stop")


def _nothing_found(question: Question, account: _Account) -> AnswerPart:
    account.note_first_token()
    account.note(answer_mode="none")
    text = NOTHING_FOUND.format(collection=question.collection)
    return AnswerPart(text, usage=account.close(), finish_reason="stop")


def _generate(
    prompt: _Prompt, steps: Steps, account: _Account, sentence: Citation | None
) -> Iterator[AnswerPart]:
    """The LLM's answer; beside `sentence`, the best one, nothing is shown before it says something else."""
    said, shown, given, last = "", 0, 0, Generated()
    logprobs: list[float] = []
    told = 0
    opinion: Opinion = "open" if sentence else "differs"
    with account.timed("generate_ms"), closing(_read_llm(prompt, steps)) as pieces:
        for count, piece in pieces:
            given, last = count, piece
            said += piece.text
            logprobs += piece.logprobs
            if sentence and opinion == "open":
                opinion = read_opinion(said, sentence.text, is_whole=False)
            if opinion == "differs" and said[shown:]:
                account.note_first_token()
                yield AnswerPart(said[shown:], evidence=account.evidence(logprobs[told:]))
                shown, told = len(said), len(logprobs)
    account.note(
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        cached_tokens=last.cached_tokens,
        token_logprobs=tuple(logprobs) or None,
        context_passages=given,
    )
    if sentence and opinion == "open" and last.finish_reason != "cancelled":
        opinion = read_opinion(said, sentence.text, is_whole=True)
    # What was cancelled before it was sure says neither.
    if sentence and opinion != "open":
        account.note(second_opinion=opinion)
        if opinion == "agreed":
            yield _say_sentence(sentence, account)
            return
        if opinion == "refused":
            yield _nothing_found(prompt.question, account)
            return
    cited = prompt.passages[:given]
    yield _close_generated(said, said[shown:], cited, account, last.finish_reason or "stop")


def _close_generated(
    said: str, rest: str, passages: Sequence[Hit], account: _Account, finish_reason: str
) -> AnswerPart:
    """The last part of an answer by the LLM: what was not shown yet, and the citations that hold."""
    if rest:
        account.note_first_token()
    checked = check_citations(said, passages)
    inferred = () if checked.citations else infer_citations(said, passages)
    account.note(
        answer_mode="generative",
        grounded=bool(checked.citations or inferred),
        unknown_citations=checked.unknown,
        unsupported_citations=checked.unsupported,
        inferred_citations=tuple(cited.number for cited in inferred),
    )
    return AnswerPart(rest, checked.citations or inferred, account.close(), finish_reason)


def _read_llm(prompt: _Prompt, steps: Steps) -> Generator[tuple[int, Generated], None, None]:
    """The LLM's pieces, each with how many passages it was given: fewer where all are too long for it."""
    given = len(prompt.passages)
    while True:
        has_begun = False
        with closing(steps.generate(prompt.messages(given))) as pieces:
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
