"""Writes the golden vectors: the published checkpoint in PyTorch fp32, by transformers, not by our exporter."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.recipe import read_recipe
from trireme.checkpoints.source import fetch_source

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> None:
    """Embeds tests/golden/texts.json by mean pooling and unit length, as the model's card says."""
    recipe = read_recipe(ROOT / "model_repository/embedding/recipe.toml")
    folder = str(fetch_source(recipe, ROOT / ".trireme/sources"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, use_safetensors=True).eval()
    vectors = []
    for text in json.loads((HERE / "texts.json").read_text()):
        inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            vector = model(**inputs).last_hidden_state[0].mean(0)
        vectors.append([round(x, 6) for x in torch.nn.functional.normalize(vector, dim=0).tolist()])
    golden = {"weights_sha256": recipe.weights_sha256, "vectors": vectors}
    (HERE / "embedding.json").write_text(json.dumps(golden) + "\n")
    write_scores(tokenizer, folder, "reranker", "pairs.json")
    write_scores(tokenizer, folder, "equivalence", "questions.json")


def write_scores(tokenizer: Any, folder: str, model_name: str, texts: str) -> None:
    """Scores pairs one by one with the adapter beside the base weights, not merged into them."""
    from trireme.export.residual import load_unmerged

    adapter = ROOT / "defaults" / model_name
    model = load_unmerged(Path(folder), adapter)
    pairs = json.loads((HERE / texts).read_text())
    scores = []
    for passage, prior in zip(pairs["passages"], pairs["prior"], strict=True):
        inputs = tokenizer(
            pairs["query"], passage, truncation="only_second", max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            adjustment = model(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"])
        scores.append(round(prior + adjustment.item(), 6))
    golden = {"adapter_sha256": hash_file(adapter / "adapter.safetensors"), "scores": scores}
    (HERE / f"{model_name}.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
