"""Measures an exported LLM behind tritonserver against the same engine called directly; or lets it soak."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.common.report import (
    DOCS,
    RESULTS,
    read_circumstances,
    read_json,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_server
from benchmarks.generation.clients import DirectEngine, Run, ServedModel
from benchmarks.generation.prompts import Prompts
from benchmarks.generation.soak import soak
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, read_recipe
from trireme.generate.engine import EngineOptions
from trireme.generate.openvino import OpenVinoEngine
from trireme.triton.server import TritonServer

SEED = 1
BATCHED_TOKENS = 256
# A soak whose answers have at most so many tokens is one of many short requests.
SHORT = 16


@contextmanager
def served_model(options: argparse.Namespace) -> Iterator[tuple[TritonServer, Recipe, EngineOptions]]:
    """A server over a copy of the model's folder, with places for the streams and a step of BATCHED_TOKENS."""
    source = options.model.resolve()
    places: dict[str, Any] = {
        "max_num_seqs": max(options.streams),
        "max_num_batched_tokens": BATCHED_TOKENS,
        "kv_cache_gb": options.kv_cache_gb,
    }
    with tempfile.TemporaryDirectory(prefix="trireme-") as folder:
        home = Path(folder) / "models" / source.name
        shutil.copytree(source, home, ignore=shutil.ignore_patterns(".lock"))
        recipe = dataclasses.replace(read_recipe(home / RECIPE_FILE), chat_text_input=False, **places)
        place_config(home, recipe)
        length = read_manifest(home / "1").max_length
        with start_server(home.parent) as server:
            yield server, recipe, EngineOptions(home / "1", (), length, threads=recipe.threads, **places)


def measure(
    options: argparse.Namespace, server: TritonServer, recipe: Recipe, engine: EngineOptions
) -> list[dict[str, Any]]:
    """One row per number of streams: medians of runs that alternate between the two ways."""
    prompts = Prompts(engine.model_dir, options.input)
    url = f"{server.config.host}:{server.config.grpc_port}"
    rows = []
    with (
        closing(DirectEngine(OpenVinoEngine(engine))) as direct,
        closing(ServedModel(url, recipe.model)) as served,
    ):
        texts = prompts.texts(max(options.streams), seed=0)
        direct.run([prompts.ids(text) for text in texts], 4)
        served.run(texts, 4)
        for streams in options.streams:
            pairs: list[tuple[Run, Run]] = []
            for number in range(options.runs):
                texts = prompts.texts(streams, seed=1000 * streams + number)
                ids = [prompts.ids(text) for text in texts]
                if number % 2:
                    first = direct.run(ids, options.output)
                    pairs.append((first, served.run(texts, options.output)))
                else:
                    last = served.run(texts, options.output)
                    pairs.append((direct.run(ids, options.output), last))
                rates = " and ".join(f"{run.tokens_per_second:.1f}" for run in pairs[-1])
                show_progress_note(f"{streams} streams: direct and served {rates} tokens/s")
            rows.append(compute_row(streams, pairs))
    return rows


def compute_row(streams: int, pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    """Medians of pairs (called directly, served)."""
    ratios = [served.tokens_per_second / direct.tokens_per_second for direct, served in pairs]
    row: dict[str, Any] = {"streams": streams, "ratios": [round(ratio, 3) for ratio in ratios]}
    row["ratio"] = round(statistics.median(ratios), 3)
    for name, runs in zip(("direct", "served"), zip(*pairs, strict=True), strict=True):
        row[f"{name}_tokens_per_s"] = round(statistics.median(run.tokens_per_second for run in runs), 3)
        row[f"{name}_first_token_s"] = round(statistics.median(run.first_token_s for run in runs), 3)
    return row


def format_section(results: dict[str, Any]) -> str:
    """The table and the soaks of docs/generation.md; of a soak's memory the beginning and each quarter."""
    quarters = {}
    for name in {"soak", "short_soak"} & set(results):
        parts = results[name]["measured"].get("parts", [])
        shown = [parts[round(share * (len(parts) - 1))] for share in (0, 0.25, 0.5, 0.75, 1) if parts]
        quarters[name] = [one for one in (parts or [{}])[-1] if one.endswith("private")], shown
    return render("generation/throughput.md.j2", results=results, quarters=quarters)


def write(result: dict[str, Any], options: argparse.Namespace, words: list[str]) -> None:
    """Adds the result to benchmarks/results/generation.json and the table to docs/generation.md."""
    seen = dataclasses.asdict(read_circumstances("benchmarks.generation.run", words, SEED))
    seen["versions"]["openvino-genai"] = metadata.version("openvino-genai")
    shown = {"model": options.model.name, "precision": read_manifest(options.model / "1").precision}
    shown |= {"input_tokens": options.input, "output_tokens": options.output, **seen}
    kept = read_json(RESULTS / "generation.json")
    kept |= {name: {"measured": value, "circumstances": shown} for name, value in result.items()}
    write_json(RESULTS / "generation.json", kept)
    write_section(DOCS / "generation.md", "benchmarks.generation.run", format_section(kept))


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Prints what it measures; with --write it writes results and page, too."""
    with served_model(options) as (server, recipe, engine):
        if options.soak:
            name = "soak" if options.longest > SHORT else "short_soak"
            result: dict[str, Any] = {name: soak(server, recipe.model, options.soak, SEED, options.longest)}
        else:
            result = {"throughput": measure(options, server, recipe, engine)}
    print(json.dumps(result, indent=1))
    if options.write:
        write(result, options, words)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path, help="an exported model's folder, with recipe.toml and version 1")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--input", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--kv-cache-gb", type=float, default=0.5)
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS", help="mixed requests instead")
    parser.add_argument("--longest", type=int, default=256, help="tokens of the longest answer of a soak")
    parser.add_argument("--write", action="store_true", help="write results and docs/generation.md")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
