"""The tensors that models take and give: what clients, backends and measurements rely on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

# As docs/contracts.md writes them; protobuf says TYPE_STRING and so on.
DataType = Literal["STRING", "FP32", "INT32", "UINT32", "BOOL"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output. `size` is its length, the batch dimension left out; -1: any length, zero included.

    `is_ragged`: the rows of one batch may differ in length. `width`: of each of its `size` rows, 0 where it is one.
    """

    name: str
    data_type: DataType
    size: int = 1
    is_optional: bool = False
    is_ragged: bool = False
    width: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its shape without the batch dimension."""
        return (self.size, self.width) if self.width else (self.size,)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a kind of model takes and gives, in the order of config.pbtxt."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def needed(self) -> frozenset[str]:
        """Names of the inputs that every request must have."""
        return frozenset(tensor.name for tensor in self.inputs if not tensor.is_optional)

    @property
    def optional(self) -> frozenset[str]:
        """Names of the inputs that a request may leave out."""
        return frozenset(tensor.name for tensor in self.inputs) - self.needed

    @property
    def open_inputs(self) -> frozenset[str]:
        """Names of the inputs of any length."""
        return frozenset(tensor.name for tensor in self.inputs if tensor.size == -1)


def _optional(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(replace(tensor, is_optional=True) for tensor in tensors)


# How many of the passages a reranker may read, for less work than its recipe says. Configurations written before it
# was there do not take it.
RERANK_DEPTH = "rerank_depth"

# What an encoder does with a text that is longer than it reads. Configurations written before it was there do not
# take it: they cut it.
OVER_LENGTH = "over_length"

# Asks a generator for num_cached_tokens. Configurations written before it was there do not take it.
CACHED_FLAG = "return_num_cached_tokens"

# Of a generator: ask for the outputs with the calls of tools and the reasoning of an answer, which are then no part
# of its text. Configurations written before they were there do not take them.
TOOL_CALLS_FLAG, REASONING_FLAG = "return_tool_calls", "return_reasoning"
TOOL_CALLS, REASONING = "tool_calls", "reasoning"

# The output with a generator's log-probabilities. Configurations written before it was there do not have it.
LOGPROBS = "logprobs"
# Alternatives that are named for each token at most, and by engines that name fewer.
_MOST_ALTERNATIVES = 20
_FEWER_ALTERNATIVES = {"openvino": 0}


# Of a generator: the parameter of config.pbtxt with the names of its adapters, separated by commas, and what stands
# between a model's name and an adapter's where one name means both.
ADAPTERS, ADAPTER_MARK = "adapters", ":"

# Which of several answers to one request a response is of. Configurations written before it was there lack it.
INDEX = "index"


def split_adapter(name: str) -> tuple[str, str]:
    """The model and the adapter that a name means; "" for no adapter. No model has ADAPTER_MARK in its own name."""
    model, _, adapter = name.partition(ADAPTER_MARK)
    return model, adapter


def most_alternatives(outputs: Iterable[str], engine: str) -> int | None:
    """Of each token, that a generator with these outputs names; None: it says no log-probabilities."""
    return _FEWER_ALTERNATIVES.get(engine, _MOST_ALTERNATIVES) if LOGPROBS in outputs else None


# Of a rag model: asks for the output `evidence` with each part of its answer but the last, and for the output
# `prompt` with the first. Configurations written before they were there do not take them.
EVIDENCE_FLAG, PROMPT_FLAG = "return_evidence", "return_prompt"
EVIDENCE, PROMPT = "evidence", "prompt"

_TOP_K = _optional(Tensor("top_k", "INT32"))
_OWNER = _optional(Tensor("collection", "STRING"), Tensor("tenant", "STRING"))
_SCOPE = (*_TOP_K, *_OWNER)
_FOUND_BY = _optional(Tensor("filter", "STRING"), Tensor("search_mode", "STRING"))
# What a search tells the step that finds passages.
SEARCH_SCOPE = (*_SCOPE, *_FOUND_BY)
_HITS = (
    Tensor("id", "STRING", -1),
    Tensor("text", "STRING", -1),
    Tensor("metadata", "STRING", -1),
    Tensor("score", "FP32", -1),
)
_DEPTH = _optional(Tensor(RERANK_DEPTH, "INT32"))
_OVER_LENGTH = _optional(Tensor(OVER_LENGTH, "STRING"))
_STREAMED = _optional(Tensor("stream", "BOOL"), Tensor("sampling_parameters", "STRING"))

# What an encoder may make of a text: one vector, weights of words, a vector of each token.
DENSE, SPARSE, MULTI = "dense", "sparse", "multi"
# The tensors of each. A model has those that its recipe names; where it names none, DENSE alone. Rows of one
# response are as long as the longest: weights are filled up with index -1 and weight 0, vectors with zeros.
ENCODER_OUTPUTS = {
    DENSE: (Tensor("embedding", "FP32", -1),),
    SPARSE: (Tensor("sparse_indices", "INT32", -1), Tensor("sparse_weights", "FP32", -1)),
    MULTI: (Tensor("token_vectors", "FP32", -1, width=-1), Tensor("vector_count", "INT32")),
}

TEXT_ENCODER = Contract(
    inputs=(
        Tensor("text", "STRING"),
        *_optional(Tensor("input_type", "STRING"), Tensor("dimensions", "INT32")),
        *_OVER_LENGTH,
    ),
    outputs=(
        *ENCODER_OUTPUTS[DENSE],
        Tensor("token_count", "INT32"),
        Tensor("truncated_tokens", "INT32"),
        *ENCODER_OUTPUTS[SPARSE],
        *ENCODER_OUTPUTS[MULTI],
    ),
)
CROSS_ENCODER = Contract(
    inputs=(
        Tensor("query", "STRING"),
        Tensor("passages", "STRING", -1, is_ragged=True),
        *_optional(
            Tensor("prior", "FP32", -1, is_ragged=True),
            Tensor("rank_score", "FP32", -1, is_ragged=True),
        ),
        *_DEPTH,
        *_OVER_LENGTH,
    ),
    outputs=(Tensor("score", "FP32", -1), Tensor("truncated_tokens", "INT32", -1)),
)
CLASSIFIER = Contract(
    inputs=(Tensor("text", "STRING"), *_OVER_LENGTH),
    outputs=(Tensor("label", "STRING", -1), Tensor("score", "FP32", -1)),
)
RETRIEVER = Contract(
    # Of an embedder's outputs those that the recipe names.
    inputs=(
        *ENCODER_OUTPUTS[DENSE],
        Tensor("query", "STRING"),
        *SEARCH_SCOPE,
        *_optional(*ENCODER_OUTPUTS[SPARSE]),
    ),
    outputs=(*_HITS, Tensor("rank_score", "FP32", -1), Tensor("prior", "FP32", -1)),
)
SORT = Contract(inputs=(*_HITS, *_TOP_K), outputs=_HITS)
SEARCH = Contract(inputs=(Tensor("query", "STRING"), *SEARCH_SCOPE, *_DEPTH), outputs=_HITS)
INGESTER = Contract(
    inputs=_optional(
        # Not `id`: the generate endpoint keeps that name for itself.
        Tensor("document_id", "STRING", -1),
        Tensor("text", "STRING", -1),
        Tensor("title", "STRING", -1),
        Tensor("metadata", "STRING", -1),
        Tensor("job_id", "STRING", -1),
        *_OWNER,
    ),
    outputs=(Tensor("job_id", "STRING", -1), Tensor("state", "STRING", -1), Tensor("error", "STRING", -1)),
)
GENERATOR = Contract(
    inputs=_optional(
        Tensor("text_input", "STRING"),
        Tensor("messages", "STRING"),
        Tensor("tools", "STRING"),
        *_STREAMED,
        Tensor("exclude_input_in_output", "BOOL"),
        Tensor("return_finish_reason", "BOOL"),
        Tensor("return_num_input_tokens", "BOOL"),
        Tensor("return_num_output_tokens", "BOOL"),
        Tensor(CACHED_FLAG, "BOOL"),
        Tensor(TOOL_CALLS_FLAG, "BOOL"),
        Tensor(REASONING_FLAG, "BOOL"),
        Tensor("tool_choice", "STRING"),
        Tensor("tenant", "STRING"),
    ),
    outputs=(
        Tensor("text_output", "STRING", -1),
        Tensor("finish_reason", "STRING", -1),
        Tensor("num_input_tokens", "UINT32", -1),
        Tensor("num_output_tokens", "UINT32", -1),
        Tensor("num_cached_tokens", "UINT32", -1),
        Tensor(LOGPROBS, "STRING", -1),
        Tensor(INDEX, "UINT32", -1),
        Tensor(TOOL_CALLS, "STRING", -1),
        Tensor(REASONING, "STRING", -1),
    ),
)
RAG = Contract(
    inputs=(
        Tensor("text_input", "STRING"),
        *_STREAMED,
        *_SCOPE,
        *_optional(
            Tensor("answer_mode", "STRING"), Tensor(EVIDENCE_FLAG, "BOOL"), Tensor(PROMPT_FLAG, "BOOL")
        ),
        *_DEPTH,
    ),
    outputs=(
        Tensor("text_output", "STRING", -1),
        Tensor("citations", "STRING", -1),
        Tensor("usage", "STRING", -1),
        Tensor("finish_reason", "STRING", -1),
        Tensor(EVIDENCE, "STRING", -1),
        Tensor(PROMPT, "STRING", -1),
    ),
)
