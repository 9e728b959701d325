"""The families of models, one row each: what differs between them and no checkpoint's own files say.

Encoders run on the engines onnx and openvino by their row alone; those with `layers` have a packed form too,
which vnni and torch run. LLMs are rows of their own: their OpenVINO graph is built here and not exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar


class Sizes(NamedTuple):
    """Sizes of one encoder. `positions` is the length of its table, or the longest row without one, in tokens."""

    hidden: int
    inner: int
    heads: int
    layers: int
    positions: int


class SizeKeys(NamedTuple):
    """Of each size its key in config.json, and what transformers takes where that leaves it out."""

    hidden: tuple[str, int]
    inner: tuple[str, int]
    heads: tuple[str, int]
    layers: tuple[str, int]
    positions: tuple[str, int]

    def read(self, config: Mapping[str, Any]) -> Sizes:
        """The sizes that a config.json states."""
        return Sizes(*(int(config.get(key, default)) for key, default in self))


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Where transformers keeps the weights of layer N: below `layers`.N. `norm_eps` where the code fixes it."""

    layers: str
    qkv: tuple[str, str, str]
    out: str
    attention_norm: str
    up: str
    down: str
    output_norm: str
    norm_eps: float | None = None


# Layers between the first token's state and the logits: name and activation, "" for none.
HeadNames = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """What the encoders of one model_type have in common.

    class_name: of transformers' classes, without Model. prefix: of the encoder's weights beside a head.
    first_position: of a text in the table of positions; "none" where there is no table.
    activation: its key in config.json. segments: key and default of their number, None for none.
    embedding: key and default of the size of a word's vector, where it may differ from the hidden size.
    pooling: where the checkpoint does not say. is_causal: a language model, whose head reads the last token.
    needs_masks: torch.onnx cannot trace its own masks. model_class: where AutoModel's is more than the encoder.
    layers, head: None where no packed encoder knows them.
    """

    model_type: str
    class_name: str
    prefix: str
    first_position: Literal["zero", "after padding", "none"]
    sizes: SizeKeys
    activation: str = "hidden_act"
    segments: tuple[str, int] | None = ("type_vocab_size", 2)
    embedding: tuple[str, int] | None = None
    pooling: str = "mean"
    is_causal: bool = False
    needs_masks: bool = False
    model_class: str = ""
    layers: LayerNames | None = None
    head: HeadNames | None = None

    def skipped_positions(self, config: Mapping[str, Any]) -> int:
        """Entries of the table of positions before that of a text's first token."""
        if self.first_position != "after padding":
            return 0
        padding = config.get("pad_token_id")
        return 2 if padding is None else int(padding) + 1

    def longest_row(self, config: Mapping[str, Any]) -> int:
        """Tokens of the longest row that the model of a config.json has positions for."""
        return self.sizes.read(config).positions - self.skipped_positions(config)

    def has_segments(self, config: Mapping[str, Any]) -> bool:
        """Whether the model of a config.json tells segments apart."""
        return self.segments is not None and config.get(*self.segments) > 1


@dataclass(frozen=True, slots=True)
class LlmFamily:
    """What the language models of one model_type have in common; defaults are for keys that config.json leaves out.

    head_dim: None is hidden size over heads. needs_kv_heads: whether num_key_value_heads must be there; else it is
    the number of heads.
    qkv_bias, output_bias, mlp_bias: always, never, or as the key attention_bias (mlp_bias) says.
    window: "always" slides over sliding_window tokens, "switched" only with use_sliding_window.
    """

    model_type: str
    head_dim: int | None = None
    needs_kv_heads: bool = True
    qkv_bias: Literal["always", "never", "stated"] = "never"
    output_bias: Literal["never", "stated"] = "never"
    mlp_bias: Literal["never", "stated"] = "never"
    has_head_norms: bool = False
    window: Literal["never", "always", "switched"] = "never"


Row = TypeVar("Row", EncoderFamily, LlmFamily)


def _table(rows: Iterable[Row]) -> dict[str, Row]:
    return {row.model_type: row for row in rows}


_BERT_SIZES = SizeKeys(
    hidden=("hidden_size", 768),
    inner=("intermediate_size", 3072),
    heads=("num_attention_heads", 12),
    layers=("num_hidden_layers", 12),
    positions=("max_position_embeddings", 512),
)
_MODERN_SIZES = _BERT_SIZES._replace(
    inner=("intermediate_size", 1152),
    layers=("num_hidden_layers", 22),
    positions=("max_position_embeddings", 8192),
)
_NOMIC_SIZES = _BERT_SIZES._replace(positions=("max_position_embeddings", 2048))
_GTE_SIZES = _BERT_SIZES._replace(positions=("max_position_embeddings", 8192))
_JINA_SIZES = SizeKeys(
    hidden=("hidden_size", 1024),
    inner=("intermediate_size", 4096),
    heads=("num_attention_heads", 16),
    layers=("num_hidden_layers", 24),
    positions=("max_position_embeddings", 8194),
)
_DECODER_SIZES = SizeKeys(
    hidden=("hidden_size", 4096),
    inner=("intermediate_size", 22016),
    heads=("num_attention_heads", 32),
    layers=("num_hidden_layers", 32),
    positions=("max_position_embeddings", 32768),
)
_LLAMA_SIZES = _DECODER_SIZES._replace(
    inner=("intermediate_size", 11008), positions=("max_position_embeddings", 2048)
)
_MISTRAL_SIZES = _DECODER_SIZES._replace(
    inner=("intermediate_size", 14336), positions=("max_position_embeddings", 131072)
)
_GEMMA_SIZES = SizeKeys(
    hidden=("hidden_size", 3072),
    inner=("intermediate_size", 24576),
    heads=("num_attention_heads", 16),
    layers=("num_hidden_layers", 28),
    positions=("max_position_embeddings", 8192),
)
_GEMMA2_SIZES = SizeKeys(
    hidden=("hidden_size", 2304),
    inner=("intermediate_size", 9216),
    heads=("num_attention_heads", 8),
    layers=("num_hidden_layers", 26),
    positions=("max_position_embeddings", 8192),
)
_GEMMA3_SIZES = _GEMMA2_SIZES._replace(positions=("max_position_embeddings", 131072))
# Relative positions have no table: n_positions is what the model was trained on.
_T5_SIZES = SizeKeys(
    hidden=("d_model", 512),
    inner=("d_ff", 2048),
    heads=("num_heads", 8),
    layers=("num_layers", 6),
    positions=("n_positions", 512),
)
_MT5_SIZES = _T5_SIZES._replace(inner=("d_ff", 1024), heads=("num_heads", 6), layers=("num_layers", 8))
_ELECTRA_SIZES = _BERT_SIZES._replace(
    hidden=("hidden_size", 256),
    inner=("intermediate_size", 1024),
    heads=("num_attention_heads", 4),
)
_ALBERT_SIZES = _BERT_SIZES._replace(
    hidden=("hidden_size", 4096),
    inner=("intermediate_size", 16384),
    heads=("num_attention_heads", 64),
)
_DEBERTA_V2_SIZES = _BERT_SIZES._replace(
    hidden=("hidden_size", 1536),
    inner=("intermediate_size", 6144),
    heads=("num_attention_heads", 24),
    layers=("num_hidden_layers", 24),
)
_DISTIL_SIZES = SizeKeys(
    hidden=("dim", 768),
    inner=("hidden_dim", 3072),
    heads=("n_heads", 12),
    layers=("n_layers", 6),
    positions=("max_position_embeddings", 512),
)
_BERT_LAYERS = LayerNames(
    layers="encoder.layer",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    output_norm="output.LayerNorm",
)
_DISTIL_LAYERS = LayerNames(
    layers="transformer.layer",
    qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    output_norm="output_layer_norm",
    norm_eps=1e-12,
)
_BERT_HEAD = (("bert.pooler.dense", "tanh"), ("classifier", ""))
_ROBERTA_HEAD = (("classifier.dense", "tanh"), ("classifier.out_proj", ""))
_DISTIL_HEAD = (("pre_classifier", "relu"), ("classifier", ""))

# Each is tested by being here: its tiny random model must be exported and equal torch.
FAMILIES: Mapping[str, EncoderFamily] = _table(
    (
        EncoderFamily("bert", "Bert", "bert", "zero", _BERT_SIZES, layers=_BERT_LAYERS, head=_BERT_HEAD),
        EncoderFamily("mpnet", "MPNet", "mpnet", "after padding", _BERT_SIZES, segments=None),
        EncoderFamily(
            "roberta",
            "Roberta",
            "roberta",
            "after padding",
            _BERT_SIZES,
            layers=_BERT_LAYERS,
            head=_ROBERTA_HEAD,
        ),
        EncoderFamily(
            "xlm-roberta",
            "XLMRoberta",
            "roberta",
            "after padding",
            _BERT_SIZES,
            layers=_BERT_LAYERS,
            head=_ROBERTA_HEAD,
        ),
        EncoderFamily(
            "distilbert",
            "DistilBert",
            "distilbert",
            "zero",
            _DISTIL_SIZES,
            activation="activation",
            segments=None,
            layers=_DISTIL_LAYERS,
            head=_DISTIL_HEAD,
        ),
        EncoderFamily(
            "modernbert",
            "ModernBert",
            "model",
            "none",
            _MODERN_SIZES,
            activation="hidden_activation",
            segments=None,
        ),
        EncoderFamily(
            "electra",
            "Electra",
            "electra",
            "zero",
            _ELECTRA_SIZES,
            embedding=("embedding_size", 128),
            layers=_BERT_LAYERS,
        ),
        EncoderFamily("albert", "Albert", "albert", "zero", _ALBERT_SIZES),
        EncoderFamily(
            "camembert",
            "Camembert",
            "roberta",
            "after padding",
            _BERT_SIZES,
            layers=_BERT_LAYERS,
            head=_ROBERTA_HEAD,
        ),
        EncoderFamily(
            "deberta",
            "Deberta",
            "deberta",
            "zero",
            _BERT_SIZES,
            segments=("type_vocab_size", 0),
            pooling="cls",
        ),
        EncoderFamily(
            "deberta-v2", "DebertaV2", "deberta", "zero", _DEBERTA_V2_SIZES, segments=("type_vocab_size", 0)
        ),
        EncoderFamily("nomic_bert", "NomicBert", "nomic_bert", "none", _NOMIC_SIZES),
        EncoderFamily("gte", "Gte", "gte", "none", _GTE_SIZES, segments=("type_vocab_size", 1)),
        EncoderFamily("eurobert", "EuroBert", "model", "none", _GTE_SIZES, segments=None),
        EncoderFamily(
            "jina_embeddings_v3",
            "JinaEmbeddingsV3",
            "roberta",
            "none",
            _JINA_SIZES,
            segments=("type_vocab_size", 1),
        ),
        EncoderFamily("qwen3", "Qwen3", "model", "none", _DECODER_SIZES, segments=None, is_causal=True),
        EncoderFamily("qwen2", "Qwen2", "model", "none", _DECODER_SIZES, segments=None, is_causal=True),
        EncoderFamily("llama", "Llama", "model", "none", _LLAMA_SIZES, segments=None, is_causal=True),
        EncoderFamily("mistral", "Mistral", "model", "none", _MISTRAL_SIZES, segments=None, is_causal=True),
        EncoderFamily("gemma", "Gemma", "model", "none", _GEMMA_SIZES, segments=None, is_causal=True),
        EncoderFamily(
            "gemma2",
            "Gemma2",
            "model",
            "none",
            _GEMMA2_SIZES,
            activation="hidden_activation",
            segments=None,
            is_causal=True,
        ),
        EncoderFamily(
            "gemma3_text",
            "Gemma3Text",
            "model",
            "none",
            _GEMMA3_SIZES,
            activation="hidden_activation",
            segments=None,
            is_causal=True,
            needs_masks=True,
        ),
        EncoderFamily(
            "t5",
            "T5",
            "transformer",
            "none",
            _T5_SIZES,
            activation="feed_forward_proj",
            segments=None,
            model_class="T5EncoderModel",
        ),
        EncoderFamily(
            "mt5",
            "MT5",
            "transformer",
            "none",
            _MT5_SIZES,
            activation="feed_forward_proj",
            segments=None,
            model_class="MT5EncoderModel",
        ),
        EncoderFamily("ernie", "Ernie", "ernie", "zero", _BERT_SIZES),
    )
)

# A table of words' vectors without a config.json: model2vec and StaticEmbedding. positions: of the longest text.
STATIC = EncoderFamily(
    "static",
    "",
    "",
    "none",
    SizeKeys(("", 0), ("", 0), ("", 0), ("", 0), positions=("", 32768)),
    segments=None,
)

LLM_FAMILIES: Mapping[str, LlmFamily] = _table(
    (
        LlmFamily("llama", needs_kv_heads=False, qkv_bias="stated", output_bias="stated", mlp_bias="stated"),
        LlmFamily("mistral", window="always"),
        LlmFamily("qwen2", qkv_bias="always", window="switched"),
        LlmFamily(
            "qwen3",
            head_dim=128,
            qkv_bias="stated",
            output_bias="stated",
            has_head_norms=True,
            window="switched",
        ),
    )
)
