"""Keys of config.json that a tiny model of a family has beside its five sizes."""

from typing import Any

TINY: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 64},
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
}
