"""Keys of config.json that a tiny model of a family has beside its five sizes."""

from typing import Any

# Whose tokenizer it has; without a row BERT's, or RoBERTa's where positions begin behind the padding.
STYLES = {
    "gte": "roberta",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "llama": "llama",
    "mistral": "llama",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3_text": "gemma",
    "t5": "t5",
    "mt5": "t5",
}
TINY: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 24},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "nomic_bert": {"head_dim": 32},
    "eurobert": {"head_dim": 32},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 32},
    "qwen2": {"num_key_value_heads": 1},
    "llama": {"num_key_value_heads": 1, "head_dim": 32},
    "mistral": {"num_key_value_heads": 1, "head_dim": 32, "sliding_window": 24},
    "gemma": {"num_key_value_heads": 1, "head_dim": 32},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 32, "sliding_window": 24},
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 32,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "t5": {"d_kv": 32},
    "mt5": {"d_kv": 32},
}
