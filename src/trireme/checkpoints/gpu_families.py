"""What vLLM 0.24 has classes of its own for."""

from __future__ import annotations

from collections.abc import Mapping

# The architecture of each family of encoders (families.py) whose vectors vLLM makes; others it would run through
# transformers, or not at all.
POOLED_ON_GPU: Mapping[str, str] = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "modernbert": "ModernBertModel",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2Model",
    "llama": "LlamaModel",
    "mistral": "MistralModel",
    "gemma2": "Gemma2Model",
    "gemma3_text": "Gemma3TextModel",
}
# Language models whose scores or labels of texts it makes, by its classes: with ForCausalLM where answers are
# read, with ForSequenceClassification where a head is. Its ModernBERT makes other scores than the original, far
# beyond the gate's bounds.
SCORED_ON_GPU: Mapping[str, str] = {
    "qwen3": "Qwen3",
    "qwen2": "Qwen2",
    "llama": "Llama",
    "mistral": "Mistral",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
}
# Of these, those whose states float16 cannot hold.
NO_FP16_ON_GPU = ("gemma2", "gemma3_text")

# Language models whose checkpoints may name code (auto_map) on a GPU: that code is not run. transformers 5 or vLLM
# has classes of its own for each and takes those. Models without such code need no row.
NATIVE_ON_GPU = frozenset(
    """
    afmoe apertus arcee bloom cohere cohere2 cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4
    ernie4_5 ernie4_5_moe exaone4 falcon falcon_h1 falcon_mamba flex_olmo gemma gemma2 gemma3
    gemma3_text gemma3n gemma3n_text gemma4 gemma4_text glm glm4 glm4_moe glm4_moe_lite gpt2 gpt_bigcode
    gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid granitemoeshared hunyuan_v1_dense
    hunyuan_v1_moe hyperclovax internlm3 jamba kimi_k2 kimi_linear lfm2 lfm2_moe llama llama4
    llama4_text longcat_flash mamba mamba2 minicpm3 minimax_m2 ministral3 mistral mixtral mpt nemotron
    nemotron_h olmo olmo2 olmo3 olmoe opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5
    qwen3_moe qwen3_next RefinedWeb RefinedWebModel seed_oss stablelm starcoder2 zamba2
    """.split()  # noqa: SIM905 - a list of so many names is read more easily like this
)
