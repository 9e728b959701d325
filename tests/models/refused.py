"""Checkpoints that are refused: what their files say, and the sentence that a build ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ST = "sentence_transformers.models."
_BERT = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 66}
_BERT |= {"intermediate_size": 64, "num_hidden_layers": 2}
_POOLED = (_ST + "Transformer", _ST + "Pooling")


@dataclass(frozen=True)
class Refused:
    """hub: an example. says: what the sentence says, of the folder no more than a file's name.

    files: what stands in the folder beside config.json, modules.json and the weights.
    """

    hub: str
    says: str
    config: Mapping[str, Any] = field(default_factory=lambda: _BERT)
    modules: tuple[str, ...] = ()
    files: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    weights: str = "model.safetensors"


REFUSED = (
    Refused(
        "jinaai/jina-embeddings-v2-base-en",
        "config.json asks for code of its own (auto_map), which is never run; transformers' class of that name is"
        " another model: take another checkpoint",
        {**_BERT, "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}},
    ),
    Refused(
        "nomic-ai/nomic-embed-text-v1.5",
        "config.json asks for code of its own (auto_map), which is never run; transformers has this model as"
        " NomicBertModel: take a checkpoint in its form",
        {"model_type": "nomic_bert", "n_embd": 768, "auto_map": {"AutoModel": "modeling.NomicBertModel"}},
    ),
    Refused(
        "Alibaba-NLP/gte-multilingual-base",
        "config.json asks for code of its own (auto_map), which is never run; transformers has this model as"
        " GteModel: take a checkpoint in its form",
        {"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}},
    ),
    Refused(
        "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
        "config.json asks for code of its own (auto_map), which is never run; transformers' class of that name is"
        " another model: take another checkpoint",
        {**_BERT, "model_type": "qwen2", "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model"}},
    ),
    Refused(
        "BAAI/bge-reranker-v2-minicpm-layerwise",
        "config.json asks for code of its own (auto_map), which is never run; take a checkpoint of the model in"
        " transformers' own form",
        {"model_type": "minicpm", "auto_map": {"AutoModel": "modeling_minicpm_reranker.LayerWiseMiniCPM"}},
    ),
    Refused(
        "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill",
        "modules.json has a module 'Router'; supported: Transformer first, then Pooling, then Dense, Dropout,"
        " Normalize",
        modules=("sentence_transformers.base.modules.router.Router",),
        files={"config_sentence_transformers.json": {"model_type": "SparseEncoder"}},
    ),
    Refused(
        "a checkpoint with modules of its own",
        'modules.json: type = "custom_st.Transformer": a module outside of sentence_transformers brings code, which'
        " is never run",
        modules=("custom_st.Transformer", _ST + "Pooling"),
    ),
    Refused(
        "hkunlp/instructor-large",
        "include_prompt = false of Pooling is not supported with a prompt",
        modules=_POOLED,
        files={
            "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "include_prompt": False},
            "config_sentence_transformers.json": {"prompts": {"query": "Represent the question: "}},
        },
    ),
    Refused(
        "YituTech/conv-bert-base",
        "model_type 'convbert' is not supported; supported: ",
        {"model_type": "convbert"},
    ),
    Refused(
        "Qwen/Qwen3-0.6B",
        "is a language model (Qwen3ForCausalLM) without modules.json: use build/export_llm.py for its answers,"
        " --kind text_encoder for its vectors, --kind cross_encoder for its yes or no",
        {**_BERT, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
    ),
    Refused(
        "a reranker whose first label is the relevant one",
        'config.json: id2label = ["relevant", "other"]: of two labels the second must be the relevant one; swap the'
        " head's rows",
        {**_BERT, "id2label": {"0": "relevant", "1": "other"}},
        kind="cross_encoder",
    ),
    Refused(
        "sentence-transformers/average_word_embeddings_glove.6B.300d",
        "modules.json has a module 'WordEmbeddings'; supported: Transformer first, then Pooling, then Dense,"
        " Dropout, Normalize",
        modules=(_ST + "WordEmbeddings", _ST + "Pooling"),
    ),
    Refused(
        "an encoder in 4 bits",
        'config.json: quantization_config = {"quant_method": "bitsandbytes"}: such a model is not supported; leave'
        " it out",
        {**_BERT, "quantization_config": {"quant_method": "bitsandbytes"}},
    ),
    Refused(
        "a checkpoint of pickles alone",
        "pytorch_model.bin is a pickle, which can run code when loaded; convert it to safetensors",
        weights="pytorch_model.bin",
    ),
)
