"""Language models that people bring, each as a tiny model of its family with random weights.

`config`: keys beside SIZES. Windows of attention are shorter than the prompts that are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS, OPTIMUM = "our own graph", "optimum-intel"
WINDOW = 32
SIZES = {
    "vocab_size": 99,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
TWO_KINDS = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
PLAIN_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
}
LONG_ROPE = {
    "original_max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 64,
    },
}


@dataclass(frozen=True)
class LlmCase:
    """hubs: checkpoints of this kind. form: what writes the graph for the CPU. what: sets it apart.

    gpu: what runs it there.
    """

    hubs: tuple[str, ...]
    family: str
    form: str
    config: Mapping[str, Any] = field(default_factory=dict)
    what: str = ""
    gpu: str = "vLLM"

    @property
    def name(self) -> str:
        """The first checkpoint's name, without its owner."""
        return self.hubs[0].rpartition("/")[2]


CASES = (
    LlmCase(("meta-llama/Llama-3.1-8B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"), "llama", OURS),
    LlmCase(("mistralai/Mistral-7B-Instruct-v0.3",), "mistral", OURS, {"sliding_window": None}),
    LlmCase(("Qwen/Qwen2.5-7B-Instruct",), "qwen2", OURS, {"use_sliding_window": False}),
    LlmCase(("Qwen/Qwen3-8B",), "qwen3", OURS, {"head_dim": 32}),
    LlmCase(("NousResearch/Yarn-Llama-2-7b-64k in transformers' own form",), "llama", OPTIMUM, YARN, "yarn"),
    LlmCase(
        ("mistralai/Mistral-7B-Instruct-v0.1",),
        "mistral",
        OPTIMUM,
        {"sliding_window": WINDOW},
        "past its window",
    ),
    LlmCase(("google/gemma-7b-it",), "gemma", OPTIMUM, {"head_dim": 16}),
    LlmCase(
        ("google/gemma-2-9b-it", "google/gemma-2-2b-it"),
        "gemma2",
        OPTIMUM,
        {"head_dim": 16, "query_pre_attn_scalar": 16, **TWO_KINDS},
    ),
    LlmCase(
        ("google/gemma-3-1b-it", "google/gemma-3-270m-it"),
        "gemma3_text",
        OPTIMUM,
        {"head_dim": 16, "query_pre_attn_scalar": 16, **TWO_KINDS},
    ),
    LlmCase(("microsoft/Phi-3-mini-4k-instruct", "microsoft/phi-4"), "phi3", OPTIMUM, PLAIN_ROPE),
    LlmCase(("microsoft/Phi-3-mini-128k-instruct",), "phi3", OPTIMUM, LONG_ROPE, "longrope"),
    LlmCase(
        ("Qwen/Qwen3-30B-A3B",),
        "qwen3_moe",
        OPTIMUM,
        {"head_dim": 32, "num_experts": 4, "norm_topk_prob": True, **EXPERTS},
    ),
    LlmCase(
        ("mistralai/Mixtral-8x7B-Instruct-v0.1",),
        "mixtral",
        OPTIMUM,
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    LlmCase(
        ("openai/gpt-oss-20b as floats",),
        "gpt_oss",
        OPTIMUM,
        {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **TWO_KINDS, **PLAIN_ROPE},
        gpu="refused: in mxfp4 alone",
    ),
)
