"""The default reranker: a score that starts at the embedder's cosine and adds bounded evidence.

score = prior + share(query) * (lexical + neural), for one query and one passage.

The module computes what is added to `prior`, the cosine of the frozen embedder. `lexical` is a BM25-like
coverage of the query's word pieces by the passage, computed from the token ids with a stored table of
weights (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009). `neural` is the output of
the same BERT encoder over the pair, with a low-rank adapter (Hu et al., "LoRA", 2021), kept within
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

from trireme.errors import ArtifactError

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
    apart: int = 4
    bound: float = 0.2
    strength: float = 1.0
    short_passage: float = 4.0
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


class PairLayer(nn.Module):
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


class PairEncoder(nn.Module):
    """BERT layers, the first `apart` of which keep query and passage from seeing each other.

    Those layers give the states the embedder itself would give: positions start anew in the
    passage, the [SEP] between the parts becomes the passage's [CLS], and the segment is 0.
    """

    def __init__(self, shape: EncoderShape, apart: int) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.positions = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.types = nn.Embedding(shape.type_vocab_size, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.layers = nn.ModuleList(PairLayer(shape) for _ in range(shape.num_hidden_layers))
        self.apart = apart

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of words, under the name that transformers has for it."""
        return self.words

    def separate(self, input_ids: Tensor, attention_mask: Tensor, types: Tensor) -> Tensor:
        """Three int64 [B, L] -> states [B, L, H] of query and passage read apart."""
        middle = (1 - types) * functional.pad(types, (0, 1))[:, 1:]
        part = types + middle
        start = ((1 - part) * attention_mask).sum(1, keepdim=True)
        places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        places = (places - start * part).clamp(min=0)
        ids = input_ids * (1 - middle) + input_ids[:, :1] * middle
        x: Tensor = self.words(ids) + self.positions(places) + self.types(torch.zeros_like(ids))
        x = self.norm(x)
        same = (part.unsqueeze(2) == part.unsqueeze(1)).to(x.dtype)
        seen = (same * attention_mask.unsqueeze(1).to(x.dtype)).unsqueeze(1)
        for layer in self.layers[: self.apart]:
            x = layer(x, (1.0 - seen) * -1e4)
        return x

    def together(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """States [B, L, H] -> states after the layers in which all tokens see each other."""
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -1e4
        for layer in self.layers[self.apart :]:
            x = layer(x, mask)
        return x


class Interaction(nn.Module):
    """Term evidence: how well the passage covers the query's weight, in words and in states.

    A piece matches when the stem classes are equal, and for an inner piece (##x) when the piece
    before it matches too. All features are divided by the query's total weight.
    """

    idf: Tensor
    stem: Tensor
    inner: Tensor
    weight: Tensor
    centre: Tensor

    def __init__(self, vocab_size: int, settings: ResidualSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("idf", torch.zeros(vocab_size))
        self.register_buffer("stem", torch.arange(vocab_size))
        self.register_buffer("inner", torch.zeros(vocab_size))
        self.register_buffer("weight", torch.zeros(FEATURES))
        self.register_buffer("centre", torch.zeros(FEATURES))

    def matches(self, input_ids: Tensor, query: Tensor, passage: Tensor) -> tuple[Tensor, Tensor]:
        """Matched pieces and matched neighbours of pieces, each float [B, L, L] of 0 and 1."""
        stem = self.stem[input_ids]
        same = (stem.unsqueeze(2) == stem.unsqueeze(1)).to(query.dtype)
        same = same * query.unsqueeze(2) * passage.unsqueeze(1)
        before = functional.pad(same, (1, 0, 1, 0))[:, :-1, :-1]
        inner = self.inner[input_ids].unsqueeze(2)
        return same * (1.0 - inner) + same * before * inner, same * before

    def piece_weights(self, input_ids: Tensor, query: Tensor) -> Tensor:
        """The weight of each query piece, summing to one, [B, L]."""
        inner = 1.0 - (1.0 - self.settings.inner_weight) * self.inner[input_ids]
        weight = (self.idf[input_ids] * inner + 1e-3) * query
        total = weight.sum(1, keepdim=True).clamp(min=1e-6)
        return weight / total

    def features(self, ids: Tensor, states: Tensor, query: Tensor, passage: Tensor) -> Tensor:
        """Saturated coverage, coverage of neighbours, and late interaction, [B, 3].

        `query` and `passage` are float [B, L], one on the pieces of each part; `states` are
        [B, L, H]. Late interaction is the best cosine per query piece (Khattab and Zaharia,
        "ColBERT", 2020).
        """
        s = self.settings
        same, pairs = self.matches(ids, query, passage)
        weight = self.piece_weights(ids, query)
        count = same.sum(2)
        length = passage.sum(1, keepdim=True) / s.mean_length
        damp = s.saturation * (1.0 - s.length_weight + s.length_weight * length)
        words = weight * count * (1.0 + s.saturation) / (count + damp)
        near = weight * pairs.amax(2)
        unit = functional.normalize(states, dim=2)
        cosine = unit @ unit.transpose(1, 2) - 4.0 * (1.0 - passage.unsqueeze(1))
        late = weight * cosine.amax(2).clamp(min=-1.0)
        return torch.stack([words.sum(1), near.sum(1), late.sum(1)], dim=1)

    def forward(self, ids: Tensor, states: Tensor, query: Tensor, passage: Tensor) -> Tensor:
        """Evidence [B] in units of the cosine, about zero for an average candidate."""
        found = self.features(ids, states, query, passage) - self.centre
        return (found * self.weight).sum(1)


class ResidualReranker(nn.Module):
    """Adjusts the cosine of (query, passage) pairs; with a zero head and zero term weights, by nothing."""

    def __init__(self, shape: EncoderShape, settings: ResidualSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = PairEncoder(shape, settings.apart)
        self.interaction = Interaction(shape.vocab_size, settings)
        self.side = nn.Parameter(torch.zeros(shape.hidden_size))
        self.head = nn.Linear(2 * shape.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def parts(self, attention_mask: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """Float masks [B, L] of query and passage pieces, without [CLS] and the two [SEP]."""
        later = functional.pad(attention_mask, (0, 1))[:, 1:]
        earlier = functional.pad(attention_mask, (1, 0))[:, :-1]
        next_type = functional.pad(types, (0, 1))[:, 1:]
        passage = types * attention_mask * later
        query = (1 - types) * attention_mask * later * (1 - next_type) * earlier
        return query.to(self.side.dtype), passage.to(self.side.dtype)

    def neural(self, states: Tensor, attention_mask: Tensor, passage: Tensor) -> Tensor:
        """States [B, L, H] read apart -> evidence [B] within +-bound, in units of the cosine."""
        hidden = self.encoder.together(states + passage.unsqueeze(2) * self.side, attention_mask)
        mean = (hidden * passage.unsqueeze(2)).sum(1) / passage.sum(1, keepdim=True).clamp(min=1.0)
        raw = self.head(torch.cat([hidden[:, 0], mean], dim=1)).squeeze(1)
        evidence: Tensor = self.settings.bound * torch.tanh(raw / self.settings.bound)
        return evidence

    def share(self, query: Tensor, passage: Tensor) -> Tensor:
        """How much of the evidence counts, [B] in [0, 1]: less for long queries, cut passages."""
        room = (passage.sum(1) / self.settings.short_passage).clamp(max=1.0)
        return room * (self.settings.long_query / (query.sum(1) + 1.0)).clamp(max=1.0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """int64 [B, L] x3 -> what is added to the cosine [B]; higher is better."""
        query, passage = self.parts(attention_mask, token_type_ids)
        states = self.encoder.separate(input_ids, attention_mask, token_type_ids)
        terms: Tensor = self.interaction(input_ids, states, query, passage)
        neural = self.settings.strength * self.neural(states, attention_mask, passage)
        adjustment: Tensor = self.share(query, passage) * (terms + neural)
        return adjustment


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


def load_encoder(encoder: PairEncoder, weights: dict[str, Tensor]) -> None:
    """Copies BertModel weights (with or without the prefix 'bert.') into `encoder`."""
    found = {}
    for name in encoder.state_dict():
        wanted = [prefix + encoder_name(name) for prefix in PREFIXES]
        found[name] = next((weights[w].float() for w in wanted if w in weights), None)
        if found[name] is None:
            raise ArtifactError(f"the base model has no weight {wanted[0]}")
    encoder.load_state_dict(found)


def read_shape(base_dir: Path) -> EncoderShape:
    """The encoder's sizes from config.json of a BertModel folder."""
    config = json.loads((base_dir / "config.json").read_text(encoding="utf-8"))
    known = {f.name for f in fields(EncoderShape)}
    return EncoderShape(**{k: v for k, v in config.items() if k in known})


def attach_low_rank(model: ResidualReranker) -> None:
    """Wraps the linear layers of the layers that read both parts in LowRankLinear."""
    for layer in model.encoder.layers[model.settings.apart :]:
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


def trained_state(model: ResidualReranker) -> dict[str, Tensor]:
    """What adapter.safetensors holds: low-rank weights, side, head and the interaction's tables."""
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("encoder.") and not name.endswith((".down", ".up")):
            continue
        state[name] = value.detach().cpu().to(stored_type(name)).contiguous()
    return state


def stored_type(name: str) -> torch.dtype:
    """Tables are small integers or counts; everything else is kept in float32 or float16."""
    if name == "interaction.stem":
        return torch.int32
    if name.endswith(("idf", "inner", ".down", ".up")):
        return torch.float16
    return torch.float32


def adapter_config(settings: ResidualSettings, base_dir: Path) -> dict[str, object]:
    """The contents of adapter_config.json for an adapter trained on the model in `base_dir`."""
    return {
        "format": "trireme-residual-reranker-1",
        "base_sha256": file_sha256(base_dir / "model.safetensors"),
        "settings": asdict(settings),
    }


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_unmerged(base_dir: Path, adapter_dir: Path) -> ResidualReranker:
    """The reranker with its low-rank layers still apart. Raises ArtifactError for files that do not fit."""
    config = json.loads((adapter_dir / "adapter_config.json").read_text(encoding="utf-8"))
    found = file_sha256(base_dir / "model.safetensors")
    if found != config["base_sha256"]:
        raise ArtifactError(
            f"{base_dir / 'model.safetensors'} has sha256 {found}, "
            f"the adapter was trained on {config['base_sha256']}"
        )
    model = ResidualReranker(read_shape(base_dir), ResidualSettings(**config["settings"]))
    load_encoder(model.encoder, load_file(base_dir / "model.safetensors"))
    attach_low_rank(model)
    state = load_file(adapter_dir / "adapter.safetensors")
    unknown = model.load_state_dict(state, strict=False).unexpected_keys
    missing = [n for n in trained_state(model) if n not in state]
    if unknown or missing:
        raise ArtifactError(f"adapter.safetensors: unknown {unknown}, missing {missing}")
    return model.eval()


def load_reranker(base_dir: Path, adapter_dir: Path) -> ResidualReranker:
    """The reranker ready for export: base weights checked by hash, low-rank weights merged."""
    model = load_unmerged(base_dir, adapter_dir)
    merge_low_rank(model)
    return model.requires_grad_(False).eval()
