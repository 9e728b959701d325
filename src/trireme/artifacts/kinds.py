"""The kinds of models, one row each: what differs between them is said here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trireme.artifacts import contracts
from trireme.artifacts.contracts import Contract

Builder = Literal["", "export_encoder", "export_llm"]

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of model. Its keys are the fields of Recipe that name it or a trait of it."""

    name: str
    contract: Contract
    # The folder of python_backends/ that serves it; "": a chain of models inside of the server, without a process.
    backend: str
    # The script of build/ that makes its files; "": it has none.
    builder: Builder = ""
    # Takes one request at a time and answers in parts: its tensors have no batch dimension.
    is_decoupled: bool = False
    # Somebody waits for every request. What works in bulk too counts such requests itself.
    is_interactive: bool = False
    # Makes the vectors of collections: one by one for searches, in bulk for ingestion.
    makes_vectors: bool = False
    # Scores a query with each of many passages: the costliest step of a search.
    scores_pairs: bool = False
    # Reads query and passages apart, and may keep what it made of a passage.
    keeps_passages: bool = False
    needs_embedder: bool = False
    # Rows of one batch at most, where a recipe is made for it.
    batch_size: int = 1
    # Inputs of the request that warms it up; the optional ones are left out.
    warmup_inputs: tuple[str, ...] = ()
    # How many models it may call, and which, in order.
    step_counts: tuple[int, ...] = ()
    step_names: str = ""

    @property
    def has_weights(self) -> bool:
        """A build script must make files before the model can be served."""
        return self.builder != ""

    @property
    def is_encoder(self) -> bool:
        """Rows of tokens in, numbers out: batched by tokens, run by an encoder engine, tuned."""
        return self.builder == "export_encoder"

    @property
    def makes_scores(self) -> bool:
        """An encoder whose outputs are scores and not vectors: reranker or classifier."""
        return self.is_encoder and not self.makes_vectors and not self.keeps_passages

    @property
    def reads_pairs(self) -> bool:
        """A reranker that reads query and passage together."""
        return self.scores_pairs and not self.keeps_passages

    @property
    def is_generator(self) -> bool:
        """An LLM: its files and its engine are not an encoder's."""
        return self.builder == "export_llm"

    @property
    def precisions(self) -> tuple[str, ...]:
        """What a recipe may name; "" leaves the weights as the checkpoint has them."""
        return ("", "int8", "int4") if self.is_generator else PRECISIONS[:-1]

    @property
    def is_ensemble(self) -> bool:
        """Triton itself runs its steps."""
        return self.backend == ""

    @property
    def limits_top_k(self) -> bool:
        """Its backend takes top_k: the recipe says what it is by default and at most."""
        return not self.is_ensemble and "top_k" in self.contract.optional


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "text_encoder",
            contracts.TEXT_ENCODER,
            backend="text_encoder",
            builder="export_encoder",
            makes_vectors=True,
            batch_size=64,
            warmup_inputs=("text",),
        ),
        Kind(
            "cross_encoder",
            contracts.CROSS_ENCODER,
            backend="cross_encoder",
            builder="export_encoder",
            is_interactive=True,
            scores_pairs=True,
            # A reranker's request already holds many passages.
            batch_size=16,
            warmup_inputs=("query", "passages"),
        ),
        Kind(
            "late_interaction",
            contracts.CROSS_ENCODER,
            backend="cross_encoder",
            builder="export_encoder",
            is_interactive=True,
            scores_pairs=True,
            keeps_passages=True,
            batch_size=16,
            warmup_inputs=("query", "passages"),
        ),
        Kind(
            "classifier",
            contracts.CLASSIFIER,
            backend="cross_encoder",
            builder="export_encoder",
            is_interactive=True,
            batch_size=64,
            warmup_inputs=("text",),
        ),
        Kind(
            "generator",
            contracts.GENERATOR,
            backend="generator",
            builder="export_llm",
            is_decoupled=True,
            is_interactive=True,
        ),
        Kind("retriever", contracts.RETRIEVER, backend="retriever", needs_embedder=True),
        Kind("sort", contracts.SORT, backend="sort"),
        Kind(
            "search",
            contracts.SEARCH,
            backend="",
            step_counts=(3, 4),
            step_names="encoder, retriever[, reranker], sort",
        ),
        Kind(
            "rag",
            contracts.RAG,
            backend="rag",
            is_decoupled=True,
            is_interactive=True,
            step_counts=(4,),
            step_names="encoder, retriever, reranker, generator",
        ),
        Kind("ingester", contracts.INGESTER, backend="ingester"),
    )
}
# For messages that name them; what a recipe's kind is, its row says (Recipe.traits).
ENCODER_KINDS = tuple(kind.name for kind in KINDS.values() if kind.is_encoder)
