"""What an encoder's further outputs cost, and a late interaction with and without its cache.

    python -m benchmarks.encoders.outputs --corpus DIR [--passages 48] [--runs 5]

The model is the default embedding model's checkpoint with layers of random numbers for tokens, as bge-m3 has
them: costs do not depend on what they hold. Prints JSON, with processor milliseconds: other work on the machine
changes them little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.manifest import Manifest, read_manifest
from trireme.artifacts.recipe import Recipe, read_recipe
from trireme.checkpoints.source import fetch_source
from trireme.encode.cross_encoder import RankerSpec, RankRequest
from trireme.encode.engines.table import open_session
from trireme.encode.late_interaction import LateInteraction, LateSpec
from trireme.encode.session import SessionOptions
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.export.adapter import mirror
from trireme.export.pipeline import build_model
from trireme.quality import read_beir
from trireme.types import TokenRules

WIDTH = 128
DEPTH = 20
BATCH_TOKENS = 2048
TEXT_BYTES = 1_000_000


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of BEIR's form")
    parser.add_argument("--cache", type=Path, default=Path(".trireme/sources"))
    parser.add_argument("--passages", type=int, default=48)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    data = read_beir(given.corpus)
    texts, queries = list(data.corpus.values())[: given.passages], list(data.queries.values())
    recipe = read_recipe(Path("model_repository/embedding/recipe.toml"))
    with TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        source.mkdir()
        mirror(fetch_source(recipe, given.cache), source)
        add_layers(source)
        found = measure(source, Path(temporary), texts, queries, given.runs)
    print(json.dumps(found, indent=2))


def add_layers(folder: Path) -> None:
    """Layers for weights and vectors of tokens, of random numbers."""
    from safetensors.numpy import save_file

    hidden = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    rng = np.random.default_rng(1)
    for name, rows in (("sparse_linear", 1), ("colbert_linear", WIDTH)):
        weight = rng.normal(size=(rows, hidden), scale=hidden**-0.5).astype(np.float32)
        save_file({"weight": weight, "bias": np.zeros(rows, np.float32)}, folder / f"{name}.safetensors")


def measure(
    source: Path, place: Path, texts: Sequence[str], queries: Sequence[str], runs: int
) -> dict[str, Any]:
    """Figures by what was asked."""
    found: dict[str, Any] = {"texts": len(texts), "runs": runs}
    outputs = ("dense", "sparse", "multi")
    for name, kind, more in (
        ("several", "text_encoder", {"outputs": outputs}),
        ("dense alone", "text_encoder", {}),
        ("late", "late_interaction", {}),
    ):
        model = Recipe(name.replace(" ", "-"), kind, source=str(source), engine="openvino", **more)
        manifest, _ = build_model(model, BuildOptions(place / "models", place / "cache"))
        version = place / "models" / model.model / "1"
        if kind == "late_interaction":
            found |= measure_ranking(version, manifest, texts, queries, runs)
            continue
        for asked in (outputs, ("dense",)) if more else (("dense",),):
            took = measure_encoding(version, manifest, texts, asked, runs)
            found[f"{name}, asked for {' '.join(asked)}: ms a text"] = took
    return found


def measure_encoding(
    version: Path, manifest: Manifest, texts: Sequence[str], asked: Sequence[Any], runs: int
) -> float:
    """Processor milliseconds of a text, the median of `runs`."""
    spec = EncoderSpec(manifest.dimensions, manifest.normalize, "", "", BATCH_TOKENS, TEXT_BYTES)
    made: Any = manifest.outputs or ("dense",)
    spec = replace(spec, outputs=made, rules=manifest.token_rules or TokenRules())
    encoder = TextEncoder(*_open(version), spec)
    request = EmbedRequest(texts, ["passage"] * len(texts), outputs=frozenset(asked))
    took = _median(lambda: encoder.submit(request).result(), runs) / len(texts)
    encoder.queue.close()
    return round(took, 2)


def measure_ranking(
    version: Path, manifest: Manifest, texts: Sequence[str], queries: Sequence[str], runs: int
) -> dict[str, Any]:
    """Processor milliseconds of a query with DEPTH passages: none read before, and all of them."""
    found: dict[str, Any] = {}
    rules = manifest.token_rules or TokenRules()
    for name, size in (("no cache", 0), ("all passages in the cache", 1 << 28)):
        ranker = RankerSpec(BATCH_TOKENS, TEXT_BYTES, 1000)
        late = LateInteraction(*_open(version), LateSpec(ranker, rules, cache_bytes=size))
        ranked = iter(queries)
        ask = lambda late=late, ranked=ranked: late.rank([RankRequest(next(ranked), texts[:DEPTH])]).result()  # noqa: E731
        ask()
        found[f"late interaction, {DEPTH} passages, {name}: ms"] = round(_median(ask, runs), 1)
        late.close()
    tokenizer = Tokenizer.load(version / "tokenizer.json", manifest.max_length)
    tokens = statistics.mean(len(row.ids) for row in tokenizer.encode_texts(texts))
    return found | {"tokens a passage": round(tokens), "bytes a passage": round(tokens * WIDTH * 4)}


def _open(version: Path) -> tuple[Tokenizer, Any]:
    manifest = read_manifest(version)
    tokenizer = Tokenizer.load(version / "tokenizer.json", manifest.max_length)
    return tokenizer, open_session(manifest.engine, version, SessionOptions(max_length=manifest.max_length))


def _median(act: Callable[[], Any], runs: int) -> float:
    act()
    took = []
    for _ in range(runs):
        began = time.process_time()
        act()
        took.append(1000 * (time.process_time() - began))
    return statistics.median(took)


if __name__ == "__main__":
    main()
