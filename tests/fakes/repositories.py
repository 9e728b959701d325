"""A repository of made-up models: an embedder and a reranker that look built."""

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import Manifest, hash_file, write_manifest
from trireme.artifacts.recipe import read_recipe

EMBEDDING = """# The embedder.
kind = "text_encoder"

[checkpoint]
source = "a/b"

[serving]
# Rows of one batch.
max_batch_size = 64
dynamic_batching = true
threads = 0  # one per core
warmup = true
"""
RERANKER = """kind = "cross_encoder"
source = "a/b"
max_batch_size = 16
dynamic_batching = true
embedder = "embedding"
"""
CANDIDATES = 'kind = "retriever"\nembedder = "embedding"\n'
SEARCH = 'kind = "search"\nsteps = ["embedding", "search__retrieve", "reranker", "search__sort"]\n'
RECIPES = {
    "embedding": EMBEDDING,
    "reranker": RERANKER,
    "search__retrieve": CANDIDATES,
    "search__sort": 'kind = "sort"\n',
    "search": SEARCH,
}


def make_repository(folder):
    for model, text in RECIPES.items():
        version = folder / model / "1"
        version.mkdir(parents=True)
        (folder / model / "recipe.toml").write_text(text)
        recipe = read_recipe(folder / model / "recipe.toml")
        place_config(folder / model, recipe)
        if recipe.has_weights:
            names = ("model.onnx", "tokenizer.json")
            for name in names:
                (version / name).write_text(f"{model} {name}")
            files = {name: hash_file(version / name) for name in names}
            manifest = Manifest(model, recipe.kind, "a/b", "", "fp32", 8, 64, files, dict.fromkeys(names, 1))
            write_manifest(version, manifest)
    return folder


def read_files(folder):
    """Every file below the repository by name, but the locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
