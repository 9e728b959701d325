"""The benchmark's models: one checkpoint that every engine loads, ours built from it, the plain baseline."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common.builds import build
from benchmarks.common.report import PROJECT, show_progress_note
from benchmarks.common.stack import make_settings, start_server
from benchmarks.common.workloads import LONGEST
from benchmarks.encoders.contenders import ServerAddress
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.encoder_engines import MODEL_FILE
from trireme.artifacts.manifest import TOKENIZER_FILE
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, read_recipe, write_recipe
from trireme.artifacts.repository import is_built, version_dir
from trireme.errors import TriremeError, UnavailableError
from trireme.machine import read_versions
from trireme.settings import Settings
from trireme.stack import Stack

SEED = 1
EMBEDDING, RERANKER, PAIR_RANKER = "embedding", "reranker", "pair-ranker"
FP32, ONNX_INT8, OPENVINO = "embedding-fp32", "embedding-onnx-int8", "embedding-openvino"
OWN_BUILDS = (FP32, ONNX_INT8, OPENVINO, PAIR_RANKER)
SEARCH_CHAIN = ("search__retrieve", "search__sort", "search")
BASELINE = PROJECT / "benchmarks" / "encoders" / "baseline"
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "vocab.txt",
)
# The random head of the pair ranker scores nothing: there is no order to keep.
NO_GATE = {"min_rank_correlation": 0.0, "max_score_difference": 1e9}


@dataclass(frozen=True, slots=True)
class BenchModels:
    """`embedder` and `pair_ranker` are checkpoint folders, `repository` holds ours built from them.

    `missing`: models of ours that could not be built -> why.
    """

    embedder: Path
    pair_ranker: Path
    repository: Path
    missing: dict[str, str]

    def path(self, model: str) -> Path:
        return self.repository / model


def copy_embedder(source: Path, target: Path, max_length: int) -> Path:
    """`source` as a checkpoint that cuts texts at `max_length` tokens instead of where it was published to."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    path = target / "sentence_bert_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config["max_seq_length"] = max_length
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return target


def make_pair_ranker(source: Path, target: Path, seed: int = SEED) -> Path:
    """A plain cross-encoder of the shape and weights of `source` with a random head of one score.

    Its scores mean nothing; it does the same work as a trained one. Needs torch and transformers.
    """
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shutil.rmtree(target, ignore_errors=True)
    torch.manual_seed(seed)
    model = BertForSequenceClassification.from_pretrained(source, num_labels=1)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target


def prepare_models(settings: Settings, work: Path) -> BenchModels:
    """Checkpoints and our models below `work`; what is there and whole stays. Blocks for minutes the first time.

    Raises TriremeError where the served embedding cannot be built.
    """
    from trireme.checkpoints.source import fetch_source

    served = read_recipe(settings.model_repository / EMBEDDING / RECIPE_FILE)
    source = fetch_source(served, settings.data_dir / "sources", PROJECT)
    embedder, pairs, repository = work / "embedder", work / "pair-ranker", work / "models"
    made = work / "checkpoints.json"
    wanted = json.dumps({"source": source.name, "package": served.package, "seed": SEED, "length": LONGEST})
    if not made.is_file() or made.read_text(encoding="utf-8") != wanted:
        show_progress_note("Making the checkpoints that all engines load")
        # What rivals exported from the checkpoints before.
        for exported in (*work.glob(f"{embedder.name}-*"), *work.glob(f"{pairs.name}-*")):
            shutil.rmtree(exported, ignore_errors=True)
        copy_embedder(source, embedder, LONGEST)
        make_pair_ranker(source, pairs)
        made.write_text(wanted, encoding="utf-8")
    missing = {}
    for recipe in list_recipes_to_build(settings, embedder, pairs):
        show_progress_note(f"Building {recipe.model}")
        try:
            build(recipe, repository)
        except TriremeError as error:
            if recipe.model == EMBEDDING:
                raise
            missing[recipe.model] = str(error)
    return BenchModels(embedder, pairs, repository, missing)


def list_recipes_to_build(settings: Settings, embedder: Path, pairs: Path) -> list[Recipe]:
    """As the served models, from the benchmark's checkpoints: int8 as served, fp32, int8 for other engines."""
    served = read_recipe(settings.model_repository / EMBEDDING / RECIPE_FILE)
    ranker = read_recipe(settings.model_repository / RERANKER / RECIPE_FILE)
    here = {"package": "", "revision": "", "weights_sha256": "", "max_length": LONGEST}
    embedding = replace(served, source=str(embedder), response_cache=False, **here)
    plain = {"adapter": "", "embedder": "", "rerank_depth": 0, "source": str(pairs), **here, **NO_GATE}
    onnx: dict[str, Any] = {"min_cosine": None, "mean_cosine": None, "engine": "onnx"}
    return [
        embedding,
        replace(embedding, model=FP32, precision="fp32", **onnx),
        replace(embedding, model=ONNX_INT8, precision="int8", **onnx),
        replace(embedding, model=OPENVINO, engine="openvino"),
        replace(ranker, model=PAIR_RANKER, response_cache=False, **plain),
    ]


def link_model(source: Path, target: Path, recipe: Recipe) -> None:
    """One model folder with a configuration of its own and the version folders as links; no response cache."""
    target.mkdir(parents=True)
    copied = replace(recipe, response_cache=False) if recipe.response_cache else recipe
    write_recipe(target / RECIPE_FILE, copied)
    place_config(target, copied)
    for version in source.glob("[0-9]*"):
        (target / version.name).symlink_to(version.resolve())


def start_ours(settings: Settings, models: BenchModels, folder: Path, resources: ExitStack) -> Stack:
    """A server with the benchmark's embedding, both rerankers and the search chain, on a database of its own."""
    repository = folder / "models"
    for model in (EMBEDDING, PAIR_RANKER):
        if model not in models.missing:
            link_model(models.path(model), repository / model, read_recipe(models.path(model) / RECIPE_FILE))
    for model in (RERANKER, *SEARCH_CHAIN):
        source = settings.model_repository / model
        recipe = read_recipe(source / RECIPE_FILE)
        if is_built(settings.model_repository, recipe):
            link_model(source, repository / model, recipe)
    return resources.enter_context(Stack(make_settings(folder / "data", repository)))


def address_of(stack: Stack) -> ServerAddress:
    """Where perf_analyzer and the counters find it."""
    settings = stack.settings
    return ServerAddress(
        stack.server.pid, settings.host, settings.grpc_url, settings.metrics_port, read_versions()
    )


def place_baseline(models: BenchModels, repository: Path) -> None:
    """The plain models with graph and tokenizer beside their code. Raises ArtifactError without the fp32 build."""
    shutil.copytree(BASELINE, repository, ignore=shutil.ignore_patterns("*.md", "__pycache__", ".gitkeep"))
    (repository / "plain" / "1").mkdir(exist_ok=True)
    built = version_dir(models.repository, FP32)
    (repository / "plain_encoder" / "1" / MODEL_FILE).symlink_to((built / MODEL_FILE).resolve())
    for name in TOKENIZER_FILES:
        source = models.embedder / name
        if source.is_file():
            shutil.copy(source, repository / "plain_tokenizer" / "1" / name)


def start_baseline(models: BenchModels, folder: Path, resources: ExitStack) -> ServerAddress:
    """The plain Triton model on a tritonserver of its own. Raises TriremeError."""
    if FP32 in models.missing:
        raise UnavailableError(models.missing[FP32])
    place_baseline(models, folder / "models")
    server = resources.enter_context(start_server(folder / "models"))
    config = server.config
    url = f"{config.host}:{config.grpc_port}"
    return ServerAddress(server.pid, config.host, url, config.metrics_port, read_versions())


def count_operations(config: dict[str, Any], tokens: float, tokens_squared: float) -> float:
    """Operations of one text of a BERT encoder, a multiplication with its addition being two.

    layers * (2 L (4 H^2 + 2 H I) + 4 L^2 H) for L tokens, hidden size H and inner size I: the four square and two
    oblong projections, then the scores and the weighted sum of attention. Means over texts may be put in:
    `tokens` of L, `tokens_squared` of L^2. Norms, activations, embeddings and pooling are left out.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    projections = 2 * tokens * (4 * hidden**2 + 2 * hidden * inner)
    return float(config["num_hidden_layers"] * (projections + 4 * tokens_squared * hidden))
