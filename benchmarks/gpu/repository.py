"""A model repository of one generator for a run on the GPU machine: NAME=CHECKPOINT becomes a model folder.

A checkpoint with weights goes the way of build/export_llm.py --target gpu. One without is placed as it is, for
vLLM to make weights up.
"""

import argparse
import json
from pathlib import Path

from benchmarks.gpu.machine import BATCHED_TOKENS, MODEL_LENGTH
from trireme.artifacts.build import BuildOptions
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import Manifest, hash_file, write_manifest
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, write_recipe
from trireme.export_llm.pipeline import build_llm

# Listed where vLLM makes the weights up itself, and nothing reads it.
NO_WEIGHTS = "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="NAME=CHECKPOINT")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.1)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    arguments = parser.parse_args()
    name, _, checkpoint = arguments.model.partition("=")
    folder = arguments.repository / name
    folder.mkdir(parents=True)
    recipe = Recipe(
        model=name,
        kind="generator",
        source=checkpoint,
        target="gpu",
        max_model_len=MODEL_LENGTH,
        max_num_seqs=arguments.streams,
        max_num_batched_tokens=BATCHED_TOKENS,
        # So that one more than twice the streams is refused, which signals.py looks at.
        max_waiting=arguments.streams,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        tensor_parallel_size=arguments.tensor_parallel_size,
        chat_text_input=False,
    )
    write_recipe(folder / RECIPE_FILE, recipe)
    if any(Path(checkpoint).glob("*.safetensors")):
        build_llm(recipe, BuildOptions(arguments.repository, arguments.repository / ".sources"))
    else:
        place_config(folder, recipe)
        _place_without_weights(folder / "1", recipe, Path(checkpoint))


def _place_without_weights(version: Path, recipe: Recipe, checkpoint: Path) -> None:
    version.mkdir()
    for file in checkpoint.iterdir():
        if file.is_file():
            (version / file.name).hardlink_to(file)
    (version / NO_WEIGHTS).touch()
    files = sorted(version.iterdir())
    config = json.loads((version / "config.json").read_text())
    manifest = Manifest(
        model=recipe.model,
        kind="generator",
        source=recipe.source,
        revision="",
        precision=config.get("quantization_config", {}).get("quant_method", "bf16"),
        dimensions=config["vocab_size"],
        max_length=recipe.max_model_len,
        files={path.name: hash_file(path) for path in files},
        sizes={path.name: path.stat().st_size for path in files},
    )
    write_manifest(version, manifest)


if __name__ == "__main__":
    main()
