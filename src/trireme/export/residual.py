"""The default reranker: a score that starts at the embedder's cosine and adds bounded evidence.

score = prior + share(query) * (lexical + neural), for one query and one passage.

`prior` is the cosine of the frozen embedder. `lexical` is a BM25-like coverage of the query's
word pieces by the passage, computed from the token ids with a stored table of weights (Robertson
and Zaragoza, "The Probabilistic Relevance Framework", 2009). `neural` is the output of the same
BERT encoder over the pair, with a low-rank adapter (Hu et al., "LoRA", 2021), kept within
+-`bound` by tanh. B is the batch, L the tokens of a pair, V the vocabulary, H the hidden size.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

PREFIXES = ("", "bert.")
FEATURES = 3


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of the BERT encoder, read from the base model's config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12


@dataclass(frozen=True)
class ResidualSettings:
    """What adapter_config.json fixes beside the weights."""

    rank: int = 16
    alpha: float = 16.0
    bound: float = 0.2
    long_query: float = 64.0
    saturation: float = 0.9
    length_weight: float = 0.4
    mean_length: float = 110.0
    inner_weight: float = 0.5


class LowRankLinear(nn.Module):
    """A frozen linear layer plus alpha/rank * up(down(x)); `merged` folds the two."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        update: Tensor = functional.linear(functional.linear(x, self.down), self.up)
        base: Tensor = self.base(x)
        return base + self.scale * update

    def merged(self) -> nn.Linear:
        """The plain linear layer with the same output."""
        weight = self.base.weight
        out = nn.Linear(self.base.in_features, self.base.out_features)
        with torch.no_grad():
            out.weight.copy_(weight + self.scale * (self.up @ self.down).to(weight.dtype))
            out.bias.copy_(self.base.bias)
        return out


class Layer(nn.Module):
    """One post-norm BERT layer."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        size = shape.hidden_size
        self.heads = shape.num_attention_heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.attended = nn.Linear(size, size)
        self.attended_norm = nn.LayerNorm(size, eps=shape.layer_norm_eps)
        self.wide = nn.Linear(size, shape.intermediate_size)
        self.narrow = nn.Linear(shape.intermediate_size, size)
        self.narrow_norm = nn.LayerNorm(size, eps=shape.layer_norm_eps)

    def split(self, x: Tensor) -> Tensor:
        """[B, L, H] -> [B, heads, L, H/heads]."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, L, H] and an additive mask [B, 1, 1 or L, L] -> [B, L, H]."""
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1)
        x = self.attended_norm(x + self.attended(mixed))
        out: Tensor = self.narrow_norm(x + self.narrow(functional.gelu(self.wide(x))))
        return out


class Encoder(nn.Module):
    """BERT without its pooler, with the layer names of this module (see `encoder_weights`)."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.positions = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.types = nn.Embedding(shape.type_vocab_size, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Three [B, L] -> hidden states [B, L, H]."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        x = self.words(input_ids) + self.positions(places) + self.types(token_type_ids)
        x = self.norm(x)
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -1e4
        for layer in self.layers:
            x = layer(x, mask)
        return x


class LexicalCoverage(nn.Module):
    """How much of the query's weight the passage covers, from the token ids alone.

    A piece matches when the stem classes are equal, and for an inner piece (##x) when the piece
    before it matches too. All three features are divided by the query's total weight.
    """

    idf: Tensor
    stem: Tensor
    inner: Tensor

    def __init__(self, vocab_size: int, settings: ResidualSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("idf", torch.zeros(vocab_size))
        self.register_buffer("stem", torch.arange(vocab_size))
        self.register_buffer("inner", torch.zeros(vocab_size))
        self.weight = nn.Parameter(torch.zeros(FEATURES))

    def matches(self, input_ids: Tensor, query: Tensor, passage: Tensor) -> tuple[Tensor, Tensor]:
        """Matched pieces and matched neighbours of pieces, each float [B, L, L] of 0 and 1."""
        stem = self.stem[input_ids]
        same = (stem.unsqueeze(2) == stem.unsqueeze(1)).to(query.dtype)
        same = same * query.unsqueeze(2) * passage.unsqueeze(1)
        before = functional.pad(same, (1, 0, 1, 0))[:, :-1, :-1]
        inner = self.inner[input_ids].unsqueeze(2)
        return same * (1.0 - inner) + same * before * inner, same * before

    def features(self, input_ids: Tensor, query: Tensor, passage: Tensor) -> Tensor:
        """Saturated coverage, plain coverage and coverage of neighbours, [B, 3] in about [0, 2].

        `query` and `passage` are float [B, L], one on the pieces of each part.
        """
        s = self.settings
        same, pairs = self.matches(input_ids, query, passage)
        idf = self.idf[input_ids]
        inner = self.inner[input_ids]
        weight = idf * query * (1.0 - (1.0 - s.inner_weight) * inner)
        total = weight.sum(1, keepdim=True) + 1e-3
        count = same.sum(2)
        length = passage.sum(1, keepdim=True) / s.mean_length
        damp = s.saturation * (1.0 - s.length_weight + s.length_weight * length)
        saturated = (weight * count * (1.0 + s.saturation) / (count + damp)).sum(1, keepdim=True)
        plain = (weight * count.clamp(max=1.0)).sum(1, keepdim=True)
        near = (weight * pairs.amax(2)).sum(1, keepdim=True)
        return torch.cat([saturated, plain, near], dim=1) / total

    def forward(self, input_ids: Tensor, query: Tensor, passage: Tensor) -> Tensor:
        """[B, L] x3 -> lexical evidence [B], in units of the cosine."""
        return self.features(input_ids, query, passage) @ self.weight


class ResidualReranker(nn.Module):
    """Scores (query, passage) pairs; with a zero head and zero lexical weights, returns `prior`."""

    def __init__(self, shape: EncoderShape, settings: ResidualSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(shape)
        self.lexical = LexicalCoverage(shape.vocab_size, settings)
        self.head = nn.Linear(2 * shape.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def parts(self, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Float masks [B, L] of query and passage pieces, without [CLS] and the two [SEP]."""
        real = attention_mask
        after = functional.pad(real, (0, 1))[:, 1:]
        next_type = functional.pad(token_type_ids, (0, 1))[:, 1:]
        first = functional.pad(real, (1, 0))[:, :-1]
        passage = token_type_ids * real * after
        query = (1 - token_type_ids) * real * after * (1 - next_type) * first
        return query.to(self.head.weight.dtype), passage.to(self.head.weight.dtype)

    def neural(self, hidden: Tensor, passage: Tensor) -> Tensor:
        """States [B, L, H] -> evidence [B] within +-bound, in units of the cosine."""
        mean = (hidden * passage.unsqueeze(2)).sum(1) / (passage.sum(1, keepdim=True) + 1e-3)
        raw = self.head(torch.cat([hidden[:, 0], mean], dim=1)).squeeze(1)
        bound = self.settings.bound
        return bound * torch.tanh(raw / bound)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, prior: Tensor
    ) -> Tensor:
        """int64 [B, L] x3 and float [B] -> score [B]; higher is better."""
        query, passage = self.parts(attention_mask, token_type_ids)
        hidden = self.encoder(input_ids, attention_mask, token_type_ids)
        share = (self.settings.long_query / (query.sum(1) + 1.0)).clamp(max=1.0)
        evidence = self.lexical(input_ids, query, passage) + self.neural(hidden, passage)
        return prior + share * evidence


def encoder_name(name: str) -> str:
    """The Hugging Face BertModel name of one of this module's encoder weights."""
    renamed = {
        "words": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings",
        "types": "embeddings.token_type_embeddings",
        "norm": "embeddings.LayerNorm",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attended": "attention.output.dense",
        "attended_norm": "attention.output.LayerNorm",
        "wide": "intermediate.dense",
        "narrow": "output.dense",
        "narrow_norm": "output.LayerNorm",
    }
    pieces = name.split(".")
    if pieces[0] != "layers":
        return f"{renamed[pieces[0]]}.{pieces[1]}"
    return f"encoder.layer.{pieces[1]}.{renamed[pieces[2]]}.{pieces[3]}"


def load_encoder(encoder: Encoder, weights: dict[str, Tensor]) -> None:
    """Copies BertModel weights (with or without the prefix 'bert.') into `encoder`."""
    found = {}
    for name in encoder.state_dict():
        wanted = [prefix + encoder_name(name) for prefix in PREFIXES]
        found[name] = next((weights[w].float() for w in wanted if w in weights), None)
        if found[name] is None:
            raise ValueError(f"the base model has no weight {wanted[0]}")
    encoder.load_state_dict(found)


def read_shape(base_dir: Path) -> EncoderShape:
    """The encoder's sizes from config.json of a BertModel folder."""
    config = json.loads((base_dir / "config.json").read_text(encoding="utf-8"))
    known = {f.name for f in fields(EncoderShape)}
    return EncoderShape(**{k: v for k, v in config.items() if k in known})


def attach_low_rank(model: ResidualReranker) -> None:
    """Wraps every linear layer of the encoder's layers in a LowRankLinear."""
    for layer in model.encoder.layers:
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Linear):
                wrapped = LowRankLinear(child, model.settings.rank, model.settings.alpha)
                setattr(layer, name, wrapped)


def merge_low_rank(model: ResidualReranker) -> None:
    """Replaces every LowRankLinear by the plain linear layer with the same output."""
    for layer in model.encoder.layers:
        for name, child in list(layer.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(layer, name, child.merged())
