"""What an answer is made of: the question, the steps that help, and the parts that come out."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from trireme.types import Embedding, FloatArray, Hit

if TYPE_CHECKING:
    from trireme.rag.relevance import RelevanceModel

AnswerMode = Literal["auto", "extractive", "generative"]
ANSWER_MODES: tuple[str, ...] = get_args(AnswerMode)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, and of whose passages. `top_k`: of the best passages, how many may be used.

    rerank_depth: how many of those found are reranked; 0: none, and their order stays; None: all.
    """

    text: str
    mode: AnswerMode
    top_k: int
    tenant: str
    collection: str
    rerank_depth: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How answers are made; from the model's recipe.

    `relevance` gives the chance in [0, 1] that the passages hold an answer: from `extractive_threshold` on the best
    sentence is it, below `relevance_threshold` nothing was found. `context_passages` is what the LLM gets to read.
    """

    context_passages: int
    extractive_threshold: float
    relevance_threshold: float
    relevance: RelevanceModel


@dataclass(frozen=True, slots=True)
class Generated:
    """A piece of the LLM's text. The last one has a finish_reason and the token counts.

    cached_tokens: of the prompt, those that the LLM's prefix cache had; None where it does not say. logprobs: of
    the tokens that make `text`, nats, where the LLM was asked for them.
    """

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """What an answer rests on: passage[start:end] is `text`, in characters.

    `number` is the n of [n]. `score` is the reranker's, of the sentence (extractive) or of the passage
    (generative). `support` is the share of the citing sentence's content words found in the passage. `document` is
    the id of the passage's document.
    """

    number: int
    id: str
    source: str
    start: int
    end: int
    score: float
    support: float
    text: str
    document: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost: tokens, and milliseconds of each stage; 0 where a stage did not run.

    `answer_mode` is what was done: extractive, generative or none (nothing found). `best_score` is the best
    sentence's, `relevance` the chance that the passages hold an answer; both None where sentences were not
    ranked. passage_score: the reranker's, of the best passage; passage_gap: how far the second one lies behind;
    None without one, or without a second. reranked_passages: of `passages`, those that the reranker has read.
    `second_opinion` is the LLM's beside that sentence: refused, agreed or differs, empty where it was not asked or
    was cancelled before it was sure. `grounded`: at least one citation holds. Numbers of citations that were
    dropped are in `unknown_citations` (no such passage) and `unsupported_citations` (no word in common with the
    passage), those that a passage supports although the LLM cited none in `inferred_citations`. cached_tokens: see
    Generated. token_logprobs: of each token of the LLM's text, nats, where the request asked; else None.
    """

    answer_mode: str
    embedding_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    passages: int = 0
    reranked_passages: int = 0
    sentences: int = 0
    context_passages: int = 0
    best_score: float | None = None
    passage_score: float | None = None
    passage_gap: float | None = None
    relevance: float | None = None
    second_opinion: str = ""
    grounded: bool = False
    unknown_citations: tuple[int, ...] = ()
    unsupported_citations: tuple[int, ...] = ()
    inferred_citations: tuple[int, ...] = ()
    embed_ms: float = 0.0
    retrieve_ms: float = 0.0
    rerank_ms: float = 0.0
    sentences_ms: float = 0.0
    generate_ms: float = 0.0
    time_to_first_token_ms: float = 0.0
    total_ms: float = 0.0
    token_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class PartEvidence:
    """What an answer is judged by, as far as it is known with a part of it.

    token_logprobs: of the LLM's tokens since the part before, nats, where the request asked. best_score,
    passage_score, passage_gap: see Usage.
    """

    token_logprobs: tuple[float, ...] = ()
    best_score: float | None = None
    passage_score: float | None = None
    passage_gap: float | None = None


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """New text of the answer. The last part has `usage` and a finish_reason (stop, length or cancelled).

    evidence: of every part but the last, whose usage has all of it. prompt: of the first part, where it was asked
    for: chat messages with the passages that were found, for any model to answer; none where nothing was found.
    """

    text: str = ""
    citations: tuple[Citation, ...] = ()
    usage: Usage | None = None
    finish_reason: str = ""
    evidence: PartEvidence | None = None
    prompt: tuple[Mapping[str, str], ...] = ()


class Steps(Protocol):
    """The models behind an answer. Every verb blocks and raises TriremeError."""

    def embed(self, question: str) -> Embedding:
        """The question as a vector."""

    def retrieve(self, question: Question, vector: FloatArray) -> list[Hit]:
        """The nearest passages, best first, at least top_k where there are as many. Raises NotFoundError."""

    def rank(self, question: str, texts: Sequence[str], prior: FloatArray) -> FloatArray:
        """A score for each text, in order; `prior` is what each already had. Higher is better."""

    def generate(self, messages: Sequence[dict[str, str]]) -> Generator[Generated, None, None]:
        """The LLM's answer as it comes. Closing the generator ends the decoding."""
