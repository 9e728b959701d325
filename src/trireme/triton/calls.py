"""What the served models are asked, and what their outputs say: pure, shared by both clients."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trireme.artifacts.contracts import (
    ADAPTERS,
    CACHED_FLAG,
    DENSE,
    ENCODER_OUTPUTS,
    EVIDENCE,
    EVIDENCE_FLAG,
    INDEX,
    LOGPROBS,
    MULTI,
    OVER_LENGTH,
    PROMPT,
    PROMPT_FLAG,
    REASONING,
    REASONING_FLAG,
    RERANK_DEPTH,
    SPARSE,
    TOOL_CALLS,
    TOOL_CALLS_FLAG,
    most_alternatives,
)
from trireme.artifacts.kinds import KINDS
from trireme.errors import TriremeError, UnsupportedError
from trireme.rag.ports import AnswerMode, AnswerPart, Citation, PartEvidence, Usage
from trireme.triton.wire import Outputs, Rows, Value
from trireme.types import (
    Embedding,
    FloatArray,
    Hit,
    InputType,
    OverLength,
    SearchMode,
    SparseVector,
)

# Our only ensemble, as its recipe calls it.
ENSEMBLE_KIND = next(kind.name for kind in KINDS.values() if kind.is_ensemble)
_COUNTS = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")


@dataclasses.dataclass(frozen=True, slots=True)
class GeneratedPart:
    """A part of the LLM's answer. The last has the finish_reason (stop, length, tool_calls, cancelled) and counts.

    cached_tokens: of the prompt, those that the engine's prefix cache had; None where it was not asked for, and
    where the engine does not count. logprobs: of the tokens of `text`, where sampling asked for them: OpenAI's
    entries (token, logprob, bytes, top_logprobs). index: which of n answers it is of. reasoning, tool_calls: where
    they were asked for; OpenAI's entries, of a streamed answer its deltas (index, id, function).
    """

    text: str
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    logprobs: tuple[Mapping[str, Any], ...] = ()
    index: int = 0
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()


# Of who wants vectors of an encoder: weights and vectors of tokens are many more numbers.
VECTOR_OUTPUTS = ("embedding", "token_count", "truncated_tokens")
# Triton's words for a request that names an output which a model does not have.
_NO_SUCH_OUTPUT = "unexpected inference output"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's configuration says. kind: its backend, or that of an ensemble (see served_models).

    inputs: their names. max_batch_size: rows of one request at most, 0 where requests have no rows.
    alternatives: of a generator, see contracts.most_alternatives. steps: models that it calls.
    vector_outputs: of an encoder that makes more than vectors, the outputs of who wants those; else ().
    adapters: of a generator, names of the LoRAs that a request may choose among.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    max_batch_size: int
    alternatives: int | None = None
    steps: tuple[str, ...] = ()
    vector_outputs: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


def read_facts(config: Any) -> ModelFacts:
    """Of a ModelConfig message."""
    kind = ENSEMBLE_KIND if config.platform == "ensemble" else config.backend
    inputs = tuple(one.name for one in config.input)
    said = {name: config.parameters[name].string_value for name in config.parameters}
    outputs = tuple(one.name for one in config.output)
    alternatives = most_alternatives(outputs, said.get("engine", ""))
    called = (one.model_name for one in config.ensemble_scheduling.step)
    steps = (*called, *filter(None, said.get("steps", "").split(",")))
    adapters = tuple(filter(None, said.get(ADAPTERS, "").split(",")))
    has_more = any(tensor.name in outputs for output in (SPARSE, MULTI) for tensor in ENCODER_OUTPUTS[output])
    wanted = VECTOR_OUTPUTS if has_more and VECTOR_OUTPUTS[0] in outputs else ()
    return ModelFacts(config.name, kind, inputs, config.max_batch_size, alternatives, steps, wanted, adapters)


def embed_inputs(
    texts: Sequence[str],
    input_type: InputType | None = None,
    dimensions: int | None = None,
    over_length: OverLength | None = None,
) -> Rows:
    """Inputs of a text encoder. None leaves the server's default."""
    rows: dict[str, list[list[Any]]] = {"text": [[text] for text in texts]}
    given = (("input_type", input_type), ("dimensions", dimensions), (OVER_LENGTH, over_length))
    for name, value in given:
        if value is not None:
            rows[name] = [[value]] * len(texts)
    return rows


def store_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    """Of an encoder with these outputs (Manifest.outputs), the tensors that a collection keeps.

    Raises UnsupportedError where it makes neither vectors nor weights of a whole text.
    """
    kept = [kind for kind in (DENSE, SPARSE) if kind in (outputs or (DENSE,))]
    if not kept:
        raise UnsupportedError(
            "this model makes a vector of each token alone, which no collection keeps: "
            "use it as a reranker (kind late_interaction), and another one as embedder"
        )
    return tuple(tensor.name for kind in kept for tensor in ENCODER_OUTPUTS[kind])


def read_vectors(model: str, outputs: Outputs) -> FloatArray:
    """The vectors [n, dimensions] of an encoder's answer. Raises UnsupportedError where it makes none."""
    vectors: FloatArray | None = outputs.get("embedding")
    if vectors is None:
        raise UnsupportedError(
            f"model {model!r} makes no vector of a text, only {', '.join(sorted(outputs))}"
        )
    return vectors


def vectors_error(model: str, error: TriremeError) -> TriremeError:
    """The error of a request for VECTOR_OUTPUTS: that of `read_vectors` where the model makes no vector."""
    if _NO_SUCH_OUTPUT not in str(error):
        return error
    return UnsupportedError(f"model {model!r} makes no vector of a text; name one that does")


def read_embeddings(model: str, outputs: Outputs, asked: Sequence[str], count: int) -> list[Embedding]:
    """Vectors and weights of `count` texts; [0] of a model without vectors. Raises TriremeError.

    asked: the outputs that were asked for. The server's response cache knows inputs alone, and may hold others.
    """
    if missing := [name for name in asked if name not in outputs or len(outputs[name]) != count]:
        raise TriremeError(
            f"model {model} did not answer {missing[0]} of {count} texts; a model with several outputs needs "
            "response_cache = false in its recipe"
        )
    dense = outputs.get("embedding", np.zeros((count, 0), np.float32))
    weights = read_weights(outputs, count)
    return [
        Embedding(np.asarray(vector, np.float32), 0, 0, weights[row] if weights else None)
        for row, vector in enumerate(dense)
    ]


def read_weights(outputs: Outputs, count: int) -> list[SparseVector] | None:
    """The sparse weights of `count` rows, without what fills rows up; None where there are none."""
    indices, weights = (outputs.get(tensor.name) for tensor in ENCODER_OUTPUTS[SPARSE])
    if indices is None or weights is None:
        return None
    rows = zip(indices.reshape(count, -1), weights.reshape(count, -1), strict=True)
    return [SparseVector(row[row >= 0].astype(np.int32), weight[row >= 0]) for row, weight in rows]


def search_inputs(
    query: str,
    *,
    top_k: int | None,
    tenant: str | None,
    collection: str | None,
    filter: str | None,
    search_mode: SearchMode | None,
    rerank_depth: int | None = None,
) -> Rows:
    """Inputs of `search`. None leaves the server's default."""
    given = {"query": query, "top_k": top_k, "tenant": tenant, "collection": collection}
    given |= {"filter": filter, "search_mode": search_mode, RERANK_DEPTH: rerank_depth}
    return {name: [[value]] for name, value in given.items() if value is not None}


def read_hits(outputs: Outputs) -> list[Hit]:
    """The passages of an answer of `search` or of a retriever, best first."""
    columns = [[value.decode() for value in outputs[name][0]] for name in ("id", "text", "metadata")]
    scores = [float(score) for score in outputs["score"][0]]
    return [Hit(*row) for row in zip(*columns, scores, strict=True)]


def ask_inputs(
    question: str,
    *,
    mode: AnswerMode | None,
    top_k: int | None,
    tenant: str | None,
    collection: str | None,
    sampling: Mapping[str, Any] | None,
    stream: bool,
    asks_evidence: bool = False,
    asks_prompt: bool = False,
    rerank_depth: int | None = None,
) -> dict[str, Value]:
    """Inputs of `rag`. None leaves the server's default; sampling: parameters of the LLM.

    asks_evidence, asks_prompt: for what AnswerPart says of them. Only a model whose inputs have EVIDENCE_FLAG takes
    the questions.
    """
    given = {"answer_mode": mode, "top_k": top_k, "tenant": tenant, "collection": collection}
    given |= {RERANK_DEPTH: rerank_depth}
    inputs: dict[str, Value] = {"text_input": question, "stream": stream}
    inputs |= {name: value for name, value in given.items() if value is not None}
    for flag, asks in ((EVIDENCE_FLAG, asks_evidence), (PROMPT_FLAG, asks_prompt)):
        if asks:
            inputs[flag] = True
    return inputs | _sampling(sampling)


def read_answer_part(outputs: Outputs) -> AnswerPart:
    """One part of an answer of `rag`; the last has citations and usage."""
    said = {name: values[0].decode() for name, values in outputs.items()}
    evidence = PartEvidence(**_known(PartEvidence, json.loads(said[EVIDENCE]))) if EVIDENCE in said else None
    prompt = tuple(json.loads(said[PROMPT])) if PROMPT in said else ()
    if "usage" not in said:
        return AnswerPart(said["text_output"], evidence=evidence, prompt=prompt)
    return AnswerPart(
        said["text_output"],
        tuple(Citation(**_known(Citation, citation)) for citation in json.loads(said["citations"])),
        Usage(**_known(Usage, json.loads(said["usage"]))),
        said["finish_reason"],
        evidence,
        prompt,
    )


def generate_inputs(
    prompt: str | Sequence[Mapping[str, Any]],
    tenant: str | None,
    sampling: Mapping[str, Any] | None,
    *,
    stream: bool,
    asks_cached: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str = "",
    asks_parts: bool = False,
) -> dict[str, Value]:
    """Inputs of a generator. prompt: a text, or messages of {"role", "content"}. tools: OpenAI's, with messages.
    tool_choice: as the generator takes it, "" for auto.

    asks_cached: for cached_tokens, too. Only a model whose inputs have CACHED_FLAG takes the question. asks_parts:
    for reasoning, and for calls where there are tools; so with TOOL_CALLS_FLAG.
    """
    inputs: dict[str, Value] = {"stream": stream, "exclude_input_in_output": True}
    inputs |= {"text_input": prompt} if isinstance(prompt, str) else {"messages": json.dumps(list(prompt))}
    inputs |= dict.fromkeys(_COUNTS, True)
    if asks_cached:
        inputs[CACHED_FLAG] = True
    if tools:
        inputs["tools"] = json.dumps(list(tools))
        if tool_choice:
            inputs["tool_choice"] = tool_choice
    if asks_parts:
        inputs |= {REASONING_FLAG: True, TOOL_CALLS_FLAG: bool(tools)}
    if tenant is not None:
        inputs["tenant"] = tenant
    return inputs | _sampling(sampling)


def read_generated(outputs: Outputs) -> GeneratedPart:
    """One part of a generator's text."""
    return GeneratedPart(
        text=outputs["text_output"][0].decode(),
        finish_reason=outputs["finish_reason"][0].decode(),
        input_tokens=int(outputs["num_input_tokens"][0]) if "num_input_tokens" in outputs else 0,
        output_tokens=int(outputs["num_output_tokens"][0]) if "num_output_tokens" in outputs else 0,
        cached_tokens=int(outputs["num_cached_tokens"][0]) if "num_cached_tokens" in outputs else None,
        logprobs=read_logprobs(outputs),
        index=int(outputs[INDEX][0]) if INDEX in outputs else 0,
        reasoning=outputs[REASONING][0].decode() if REASONING in outputs else "",
        tool_calls=tuple(json.loads(outputs[TOOL_CALLS][0])) if TOOL_CALLS in outputs else (),
    )


def read_logprobs(outputs: Outputs) -> tuple[Mapping[str, Any], ...]:
    """The entries of a generator's response, in OpenAI's form; none where they were not asked for."""
    return tuple(json.loads(outputs[LOGPROBS][0])) if LOGPROBS in outputs else ()


def _known(kind: type[PartEvidence | Usage | Citation], said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a JSON object that `kind` has: a newer server may say more."""
    known = {field.name for field in dataclasses.fields(kind)}
    given = {key: value for key, value in said.items() if key in known}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def _sampling(sampling: Mapping[str, Any] | None) -> dict[str, Value]:
    return {} if sampling is None else {"sampling_parameters": json.dumps(dict(sampling))}
