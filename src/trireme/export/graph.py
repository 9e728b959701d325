"""Checkpoints as torch modules with the server's inputs and outputs, and their ONNX export in fp32.

B is the batch, L the tokens of a row, H the hidden size, D the length of the vector.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trireme.checkpoints.families import STATIC
from trireme.encode.outputs import EMBEDDING, TERM_WEIGHTS, TOKEN_VECTORS, TOKEN_WEIGHTS
from trireme.export.checkpoint import Checkpoint
from trireme.export.decoders import LastTokenScorer, MaskedEncoder, to_score
from trireme.export.static import load_table
from trireme.export.weights import DenseBlock, load_dense, load_pretrained_model

OPSET = 17
# Outputs that are as long as a row.
OF_TOKENS = (TOKEN_WEIGHTS, TOKEN_VECTORS)


@dataclass(frozen=True)
class Graph:
    """A module to export: its inputs in order, each [B, L] int64, and its output's name.

    needs_prior: the output is what the cosine of query and passage is adjusted by. more_outputs: names of those
    behind the first, where the module gives several.
    """

    module: nn.Module
    input_names: tuple[str, ...]
    output_name: str
    dimensions: int
    needs_prior: bool = False
    more_outputs: tuple[str, ...] = ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all outputs, in order."""
        return (self.output_name, *self.more_outputs)

    @property
    def vocabulary(self) -> int:
        """Rows of the table of words."""
        encoder: Any = next(self.module.children())
        return int(encoder.get_input_embeddings().num_embeddings)


class PooledEncoder(nn.Module):
    """A Hugging Face encoder with pooling and dense layers: [B, L] ids -> vectors [B, D], not normalized.

    truncate: D where it is not 0, the first of the last layer's.
    """

    def __init__(self, encoder: nn.Module, pooling: str, dense: list[DenseBlock], truncate: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dense = nn.Sequential(*dense)
        self.truncate = truncate

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *token_type_ids: Tensor) -> Tensor:
        """Vectors [B, D]."""
        hidden = run_encoder(self.encoder, input_ids, attention_mask, token_type_ids).last_hidden_state
        return self.finish(hidden, attention_mask)

    def finish(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors [B, D] of states [B, L, H]."""
        vectors: Tensor = self.dense(pool(hidden, attention_mask, self.pooling))
        return vectors[:, : self.truncate] if self.truncate else vectors


class SequenceClassifier(nn.Module):
    """A Hugging Face sequence classifier: [B, L] ids -> logits [B, n], or scores [B] when `is_reranker`."""

    def __init__(self, classifier: nn.Module, is_reranker: bool) -> None:
        super().__init__()
        self.classifier = classifier
        self.is_reranker = is_reranker

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *token_type_ids: Tensor) -> Tensor:
        """Logits [B, n] or scores [B]."""
        logits: Tensor = run_encoder(self.classifier, input_ids, attention_mask, token_type_ids).logits
        return to_score(logits) if self.is_reranker else logits


def run_encoder(model: nn.Module, ids: Tensor, mask: Tensor, type_ids: tuple[Tensor, ...]) -> Any:
    """The model's output object; `type_ids` is empty for families without segments."""
    extra = {"token_type_ids": type_ids[0]} if type_ids else {}
    return model(input_ids=ids, attention_mask=mask, **extra)


def pool(hidden: Tensor, attention_mask: Tensor, mode: str) -> Tensor:
    """States [B, L, H] -> [B, H]; padding is left out. Modes as in sentence-transformers' Pooling."""
    mask = attention_mask.unsqueeze(2).to(hidden.dtype)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(mask == 0, -1e9).amax(1)
    if mode == "lasttoken":
        last = attention_mask.sum(1) - 1
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2])).squeeze(1)
    if mode == "weightedmean":
        mask = mask * torch.cumsum(torch.ones_like(mask), 1)
    total = mask.sum(1)
    scale = total.sqrt() if mode == "mean_sqrt_len_tokens" else total
    return (hidden * mask).sum(1) / scale.clamp(min=1e-9)


class OutputEncoder(nn.Module):
    """An encoder of several outputs, in the order of contracts.ENCODER_OUTPUTS: [B, D], [B, L] and [B, L, D].

    pooled: what makes the vector of a text, None for none; lexical: a token's weight; layers: a token's vector.
    """

    def __init__(
        self,
        encoder: nn.Module,
        pooled: PooledEncoder | None,
        lexical: nn.Module | None,
        layers: Sequence[nn.Module] | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooled, self.lexical = pooled, lexical
        self.layers = None if layers is None else nn.Sequential(*layers)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """The outputs that the model has."""
        hidden = run_encoder(self.encoder, input_ids, attention_mask, token_type_ids).last_hidden_state
        outputs = []
        if self.pooled is not None:
            outputs.append(self.pooled.finish(hidden, attention_mask))
        if self.lexical is not None:
            outputs.append(self.lexical(hidden).relu().squeeze(-1))
        if self.layers is not None:
            outputs.append(nn.functional.normalize(self.layers(hidden), dim=-1))
        return tuple(outputs)


class TermWeigher(nn.Module):
    """A SPLADE: [B, L] ids -> weights of all words [B, V], the largest of the tokens' or their sum."""

    def __init__(self, model: nn.Module, pooling: str, saturates_twice: bool) -> None:
        super().__init__()
        self.model = model
        self.pooling, self.saturates_twice = pooling, saturates_twice

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *token_type_ids: Tensor) -> Tensor:
        """Weights [B, V], 0 for most words."""
        logits = run_encoder(self.model, input_ids, attention_mask, token_type_ids).logits
        if self.pooling == "max":
            # The logarithm keeps the order: it is taken of the largest alone.
            return self._saturate(logits.masked_fill(attention_mask.unsqueeze(2) == 0, 0.0).amax(1))
        return (self._saturate(logits) * attention_mask.unsqueeze(2).to(logits.dtype)).sum(1)

    def _saturate(self, logits: Tensor) -> Tensor:
        weights = logits.relu().log1p()
        return weights.log1p() if self.saturates_twice else weights


def load_tokenwise(checkpoint: Checkpoint) -> Graph:
    """A checkpoint with other outputs than a vector of the text. Raises as load_graph."""
    files, inputs = checkpoint.tokens, _inputs(checkpoint)
    if files.pooling:
        model: Any = load_pretrained_model(checkpoint, "AutoModelForMaskedLM")
        return Graph(TermWeigher(model, files.pooling, files.saturates_twice).eval(), inputs, TERM_WEIGHTS, 0)
    encoder = load_pretrained_model(checkpoint, checkpoint.family.model_class or "AutoModel")
    encoder = MaskedEncoder(encoder) if checkpoint.family.needs_masks else encoder
    pooled = _pooled(checkpoint, encoder, checkpoint.hidden_size) if "dense" in checkpoint.outputs else None
    lexical = load_dense(files.lexical) if "sparse" in checkpoint.outputs and files.lexical else None
    layers = [load_dense(layer) for layer in files.layers] if "multi" in checkpoint.outputs else None
    module = OutputEncoder(encoder, pooled.module if pooled else None, lexical, layers)  # type: ignore[arg-type]
    made = zip((EMBEDDING, TOKEN_WEIGHTS, TOKEN_VECTORS), (pooled, lexical, layers), strict=True)
    first, *more = [name for name, part in made if part is not None]
    return Graph(module.eval(), inputs, first, pooled.dimensions if pooled else 0, more_outputs=tuple(more))


def load_graph(checkpoint: Checkpoint, adapter: Path | None = None) -> Graph:
    """The checkpoint in fp32, in evaluation mode. Raises UnsupportedError naming what is in the way."""
    if adapter is not None:
        return _residual_reranker(checkpoint, adapter)
    if checkpoint.family is STATIC:
        table = load_table(checkpoint.transformer_dir, checkpoint.variant)
        return _pooled(checkpoint, table, table.words.embedding_dim)
    if checkpoint.outputs != ("dense",):
        return load_tokenwise(checkpoint)
    if checkpoint.kind == "text_encoder":
        encoder = load_pretrained_model(checkpoint, checkpoint.family.model_class or "AutoModel")
        encoder = MaskedEncoder(encoder) if checkpoint.family.needs_masks else encoder
        return _pooled(checkpoint, encoder, checkpoint.hidden_size)
    if checkpoint.answers is not None:
        return Graph(_answer_scorer(checkpoint, checkpoint.answers).eval(), _inputs(checkpoint), "score", 1)
    classifier = load_pretrained_model(checkpoint, "AutoModelForSequenceClassification")
    is_reranker = checkpoint.kind == "cross_encoder"
    module: nn.Module
    if checkpoint.family.is_causal:
        module = _last_token_scorer(checkpoint, classifier, is_reranker)
    else:
        module = SequenceClassifier(classifier, is_reranker)
    output = "score" if is_reranker else "logits"
    return Graph(module.eval(), _inputs(checkpoint), output, len(checkpoint.labels) or 1)


def _pooled(checkpoint: Checkpoint, encoder: nn.Module, size: int) -> Graph:
    dense = [load_dense(layer) for layer in checkpoint.dense]
    module = PooledEncoder(encoder, checkpoint.pooling, dense, checkpoint.truncate).eval()
    size = checkpoint.dense[-1].out_features if checkpoint.dense else size
    return Graph(module, _inputs(checkpoint), "embedding", min(size, checkpoint.truncate or size))


def _last_token_scorer(checkpoint: Checkpoint, classifier: Any, is_reranker: bool) -> nn.Module:
    encoder = getattr(classifier, classifier.base_model_prefix)
    encoder = MaskedEncoder(encoder) if checkpoint.family.needs_masks else encoder
    padding = classifier.config.get_text_config().pad_token_id
    return LastTokenScorer(encoder, classifier.score, is_reranker, padding=padding)


def _answer_scorer(checkpoint: Checkpoint, answers: tuple[int, ...]) -> nn.Module:
    """A language model as a scorer of its answers: of its head the rows of their tokens alone."""
    model: Any = load_pretrained_model(checkpoint, "AutoModelForCausalLM")
    rows = model.get_output_embeddings().weight[list(answers)].detach().clone()
    head = nn.Linear(rows.shape[1], len(rows), bias=False)
    head.weight = nn.Parameter(rows)
    encoder = getattr(model, model.base_model_prefix)
    encoder = MaskedEncoder(encoder) if checkpoint.family.needs_masks else encoder
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None) or 0.0
    return LastTokenScorer(encoder, head, is_reranker=True, softcap=softcap)


def export_onnx(graph: Graph, path: Path) -> None:
    """Writes `graph` as ONNX in fp32 to `path`, with batch and length free."""
    ids = torch.ones(2, 8, dtype=torch.int64)
    example = {"token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad(), warnings.catch_warnings():
        # The TorchScript exporter warns of its own age and of shapes it traces; the parity gate judges.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module,
            tuple(example.get(name, ids) for name in graph.input_names),
            str(path),
            input_names=list(graph.input_names),
            output_names=list(graph.output_names),
            dynamic_axes={
                **{name: {0: "batch", 1: "length"} for name in graph.input_names},
                **{name: {0: "batch"} for name in graph.output_names},
                **{name: {0: "batch", 1: "length"} for name in OF_TOKENS if name in graph.output_names},
            },
            opset_version=OPSET,
            dynamo=False,
        )


def _inputs(checkpoint: Checkpoint) -> tuple[str, ...]:
    names = ("input_ids", "attention_mask")
    return (*names, "token_type_ids") if checkpoint.has_segments else names


def _residual_reranker(checkpoint: Checkpoint, adapter: Path) -> Graph:
    from trireme.export.residual import load_reranker

    module = load_reranker(checkpoint.transformer_dir, adapter)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return Graph(module.eval(), names, "score", 1, needs_prior=True)
