"""Checkpoints that people bring, each as a tiny model of its family with the settings that its files have.

A case is built as the libraries write it; test_models.py builds it for every engine and compares the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TEMPLATE = "<|im_start|>Answer yes or no.<|im_end|> <Query>: {query} <Document>: {passage}<|im_end|> so:"


@dataclass(frozen=True)
class Case:
    """hubs: checkpoints of this kind, on the hub. config: keys of config.json beside the family's tiny ones.

    pooling: "" for a checkpoint without the files of sentence-transformers. dense: sizes of the layers behind it.
    labels: of a head. is_packed: the packed engines run it where they run its family.
    padding_side: of its tokenizer. architecture: in config.json, where it is not that of the encoder alone.
    template: of a reranker that answers yes or no; is_chat: its chat template has it, so that no recipe must.
    answers: tokens of no and yes in its LogitScore, where it has one.
    is_model2vec: a table of words as model2vec writes it, not as StaticEmbedding does.
    outputs: of an encoder with others than a vector of a text; form: how its files are written, see FORMS.
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
    is_packed: bool = True
    padding_side: str = "right"
    architecture: str = ""
    template: str = ""
    is_chat: bool = False
    answers: tuple[str, ...] = ()
    is_model2vec: bool = False
    outputs: tuple[str, ...] = ()
    form: str = ""

    @property
    def needs(self) -> str:
        """Arguments of the build without which it is something else."""
        if self.kind == "late_interaction":
            return "`--kind late_interaction`"
        if self.kind == "cross_encoder" and self.template and not self.is_chat:
            return "`--kind cross_encoder --template TEXT`"
        is_told = self.answers or (not self.template and len(self.labels) != 2)
        return "`--kind cross_encoder`" if self.kind == "cross_encoder" and not is_told else ""

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


def tokenwise(*hubs: str, family: str, form: str, outputs: tuple[str, ...], **more: Any) -> Case:
    """An encoder that weighs words, or gives each token a vector, alone or beside a vector of the text."""
    return Case(hubs, family, **{"is_packed": False, "form": form, "outputs": outputs, **more})


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
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "BAAI/bge-m3 without its layers of tokens"),
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
    Case(
        ("google/electra-small-discriminator",),
        "electra",
        pooling="",
        config={"embedding_size": 24},
        is_packed=False,
    ),
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
    Case(
        ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-4B", "Qwen/Qwen3-Embedding-8B"),
        "qwen3",
        pooling="lasttoken",
        prompts={"query": "Instruct: Given a web search query, find passages\nQuery:", "document": ""},
        architecture="Qwen3ForCausalLM",
    ),
    reranker("tomaarsen/Qwen3-Reranker-0.6B-seq-cls", family="qwen3"),
    Case(("jinaai/jina-code-embeddings-0.5b",), "qwen2", pooling="lasttoken", padding_side="left"),
    reranker("mixedbread-ai/mxbai-rerank-base-v2 as a sequence classifier", family="qwen2"),
    Case(("nvidia/llama-embed-nemotron-8b without its own code",), "llama", pooling="mean"),
    classifier(
        "Skywork/Skywork-Reward-Llama-3.1-8B",
        family="llama",
        labels=("reward",),
        config={"problem_type": "regression"},
    ),
    Case(
        (
            "intfloat/e5-mistral-7b-instruct",
            "Salesforce/SFR-Embedding-Mistral",
            "Linq-AI-Research/Linq-Embed-Mistral",
        ),
        "mistral",
        pooling="lasttoken",
        prompts={"query": "Instruct: Given a web search query, find passages\nQuery: "},
    ),
    Case(("a Gemma with modules.json",), "gemma", pooling="lasttoken"),
    Case(
        ("BAAI/bge-multilingual-gemma2",),
        "gemma2",
        pooling="lasttoken",
        prompts={"query": "<instruct>Given a web search query, find passages\n<query>"},
    ),
    Case(
        ("google/embeddinggemma-300m",),
        "gemma3_text",
        dense=(96, 64),
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
        config={"use_bidirectional_attention": True},
    ),
    Case(("a Gemma 3 with modules.json",), "gemma3_text", pooling="lasttoken"),
    Case(
        (
            "sentence-transformers/gtr-t5-base",
            "sentence-transformers/sentence-t5-base",
            "hkunlp/instructor-base",
        ),
        "t5",
        dense=(48,),
        architecture="T5EncoderModel",
    ),
    Case(("a sentence encoder on google/mt5-base",), "mt5", config={"feed_forward_proj": "gated-gelu"}),
    Case(
        ("amberoad/bert-multilingual-passage-reranking-msmarco",),
        "bert",
        "cross_encoder",
        pooling="",
        labels=("LABEL_0", "LABEL_1"),
    ),
    Case(
        ("Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-4B"),
        "qwen3",
        "cross_encoder",
        pooling="",
        template=TEMPLATE,
    ),
    Case(
        ("BAAI/bge-reranker-v2-gemma with modules.json",),
        "gemma",
        "cross_encoder",
        pooling="",
        template=TEMPLATE,
        is_chat=True,
        answers=("\u2581no", "\u2581yes"),
    ),
    Case(
        ("mixedbread-ai/mxbai-rerank-base-v2",),
        "qwen2",
        "cross_encoder",
        pooling="",
        template=TEMPLATE,
        is_chat=True,
    ),
    Case(("minishlab/potion-base-8M", "minishlab/potion-retrieval-32M"), "static", is_model2vec=True),
    Case(("sentence-transformers/static-retrieval-mrl-en-v1",), "static", normalize=False),
    Case(("nghuyong/ernie-3.0-base-zh",), "ernie", pooling=""),
    Case(
        ("jinaai/jina-embeddings-v3-hf, a task's adapter merged",),
        "jina_embeddings_v3",
        config={"type_vocab_size": 1},
    ),
    tokenwise(
        "BAAI/bge-m3 with its layers as safetensors",
        family="xlm-roberta",
        form="flag",
        outputs=("dense", "sparse", "multi"),
        pooling="cls",
    ),
    tokenwise(
        "naver/splade-v3",
        "naver/splade-cocondenser-ensembledistil",
        family="bert",
        form="splade",
        outputs=("sparse",),
    ),
    tokenwise(
        "opensearch-project/opensearch-neural-sparse-encoding-v2-distill",
        family="distilbert",
        form="opensearch",
        outputs=("sparse",),
    ),
    tokenwise(
        "lightonai/GTE-ModernColBERT-v1 by PyLate",
        "lightonai/Reason-ModernColBERT by PyLate",
        family="modernbert",
        form="pylate",
        outputs=("multi",),
    ),
    tokenwise(
        "a MultiVectorEncoder of sentence-transformers", family="bert", form="multi", outputs=("multi",)
    ),
    tokenwise(
        "colbert-ir/colbertv2.0",
        "answerdotai/answerai-colbert-small-v1",
        family="bert",
        form="stanford",
        outputs=("multi",),
    ),
    tokenwise(
        "colbert-ir/colbertv2.0 as a reranker",
        family="bert",
        form="stanford",
        outputs=("multi",),
        kind="late_interaction",
    ),
)
