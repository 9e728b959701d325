"""Checkpoints that people bring, each as a tiny model of its family with the settings that its files have.

A case is built as the libraries write it; test_models.py builds it for every engine and compares the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """hubs: checkpoints of this kind, on the hub. config: keys of config.json beside the family's tiny ones.

    pooling: "" for a checkpoint without the files of sentence-transformers. dense: sizes of the layers behind it.
    labels: of a head.
    """

    hubs: tuple[str, ...]
    family: str
    kind: str = "text_encoder"
    pooling: str = "mean"
    normalize: bool = True
    dense: tuple[int, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The first checkpoint's name, without its owner."""
        return self.hubs[0].rpartition("/")[2]


def reranker(*hubs: str, family: str, **more: Any) -> Case:
    """A reranker of one label."""
    return Case(hubs, family, "cross_encoder", pooling="", labels=("score",), **more)


def classifier(*hubs: str, family: str, labels: tuple[str, ...], **more: Any) -> Case:
    """A classifier of single texts."""
    return Case(hubs, family, "classifier", pooling="", labels=labels, **more)


CASES = (
    Case(
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L12-v2"),
        "bert",
    ),
    Case(
        (
            "BAAI/bge-small-en-v1.5",
            "BAAI/bge-base-en-v1.5",
            "BAAI/bge-large-en-v1.5",
            "mixedbread-ai/mxbai-embed-large-v1",
            "Snowflake/snowflake-arctic-embed-m",
        ),
        "bert",
        pooling="cls",
        prompts={"query": "represent this sentence for searching relevant passages. "},
    ),
    Case(
        ("intfloat/e5-small-v2", "intfloat/e5-base-v2", "intfloat/multilingual-e5-small"),
        "bert",
        prompts={"query": "query. ", "document": "passage. "},
    ),
    Case(("sentence-transformers/all-distilroberta-v1",), "roberta"),
    Case(
        ("sentence-transformers/distiluse-base-multilingual-cased-v2",),
        "distilbert",
        normalize=False,
        dense=(48,),
    ),
    Case(
        (
            "BAAI/bge-m3",
            "Snowflake/snowflake-arctic-embed-l-v2.0",
        ),
        "xlm-roberta",
        pooling="cls",
    ),
    Case(("Alibaba-NLP/gte-modernbert-base", "nomic-ai/modernbert-embed-base"), "modernbert", pooling="cls"),
    reranker("cross-encoder/ms-marco-MiniLM-L6-v2", family="bert"),
    reranker(
        "BAAI/bge-reranker-base", "BAAI/bge-reranker-large", "BAAI/bge-reranker-v2-m3", family="xlm-roberta"
    ),
    reranker("Alibaba-NLP/gte-reranker-modernbert-base", family="modernbert"),
    classifier(
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        family="distilbert",
        labels=("NEGATIVE", "POSITIVE"),
    ),
    Case(("sentence-transformers/all-mpnet-base-v2",), "mpnet"),
    Case(("sentence-transformers/multi-qa-mpnet-base-dot-v1",), "mpnet", pooling="cls", normalize=False),
    reranker("cross-encoder/ms-marco-electra-base", family="electra"),
    Case(("google/electra-small-discriminator",), "electra", pooling="", config={"embedding_size": 24}),
    Case(("sentence-transformers/paraphrase-albert-small-v2",), "albert", normalize=False),
    reranker("a reranker on albert/albert-base-v2", family="albert"),
    Case(("dangvantuan/sentence-camembert-base",), "camembert", normalize=False),
    reranker("antoinelouis/crossencoder-camembert-base-mmarcoFR", family="camembert"),
    classifier(
        "cross-encoder/nli-deberta-base",
        "microsoft/deberta-base-mnli",
        family="deberta",
        labels=("contradiction", "entailment", "neutral"),
    ),
    reranker(
        "mixedbread-ai/mxbai-rerank-base-v1", "mixedbread-ai/mxbai-rerank-xsmall-v1", family="deberta-v2"
    ),
    classifier(
        "cross-encoder/nli-deberta-v3-base",
        "MoritzLaurer/mDeBERTa-v3-base-mnli-xnli",
        family="deberta-v2",
        labels=("contradiction", "entailment", "neutral"),
    ),
    classifier(
        "meta-llama/Llama-Prompt-Guard-2-86M",
        "protectai/deberta-v3-base-prompt-injection-v2",
        family="deberta-v2",
        labels=("SAFE", "INJECTION"),
    ),
    Case(
        ("nomic-ai/nomic-embed-text-v1.5 in transformers' own form",),
        "nomic_bert",
        prompts={"query": "search_query. ", "document": "search_document. "},
    ),
    Case(("alibaba-nlp-community/gte-multilingual-base",), "gte", pooling="cls"),
    reranker("Alibaba-NLP/gte-multilingual-reranker-base in transformers' own form", family="gte"),
    Case(("EuroBERT/EuroBERT-210m in transformers' own form",), "eurobert", pooling=""),
)
