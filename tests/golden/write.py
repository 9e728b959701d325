"""Writes the golden vectors, scores and answers: PyTorch fp32, by transformers, not by our exporter."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.recipe import read_recipe
from trireme.checkpoints.lora import adapter_files
from trireme.checkpoints.source import fetch_source

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Of an answer of the LLM only the beginning is golden, in which every token is this much likelier (in logits) than
# the next: eight bits a weight and another processor's rounding move a logit by a fraction of it.
MARGIN = 1.0
MOST_TOKENS, LEAST_TOKENS = 12, 2


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
    write_answers()


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


def write_answers() -> None:
    """How the LLM begins to answer tests/golden/llm_prompts.json, greedily, its adapter beside the base weights."""
    recipe = read_recipe(ROOT / "model_repository/llm/recipe.toml")
    folder = str(fetch_source(recipe, ROOT / ".trireme/sources"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    adapter = ROOT / recipe.adapter if recipe.adapter else None
    if adapter is not None:
        put_beside(model, adapter)
    cases = []
    for messages in json.loads((HERE / "llm_prompts.json").read_text()):
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        tokens, margins = begin_answer(model, inputs["input_ids"])
        if len(tokens) >= LEAST_TOKENS:
            cases.append(
                {
                    "messages": messages,
                    "prompt_tokens": inputs["input_ids"][0].tolist(),
                    "tokens": tokens,
                    "text": tokenizer.decode(tokens, skip_special_tokens=True),
                    "least_margin": round(min(margins), 2),
                }
            )
    golden = {
        "weights_sha256": recipe.weights_sha256,
        "adapter_sha256": hash_file(adapter_files(adapter)[1]) if adapter else "",
        "cases": cases,
    }
    (HERE / "llm.json").write_text(json.dumps(golden, indent=1) + "\n")


def begin_answer(model: Any, ids: torch.Tensor) -> tuple[list[int], list[float]]:
    """The likeliest tokens after `ids`, while each is MARGIN ahead of the next, and by how much."""
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=MOST_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens: list[int] = []
    margins: list[float] = []
    for token, logits in zip(made.sequences[0, ids.shape[1] :].tolist(), made.logits, strict=True):
        first, second = logits[0].topk(2).values.tolist()
        if first - second < MARGIN or token == model.generation_config.eos_token_id:
            break
        tokens.append(token)
        margins.append(first - second)
    return tokens, margins


def put_beside(model: Any, folder: Path) -> None:
    """Computes the LoRA in `folder` beside each layer that it adapts, as PEFT does where it is not merged."""
    config_file, weights_file = adapter_files(folder)
    config = json.loads(config_file.read_text())
    tensors = load_file(weights_file)
    for name, down in tensors.items():
        module, is_down, _ = name.removeprefix("base_model.model.").partition(".lora_A")
        if is_down:
            up = tensors[name.replace(".lora_A", ".lora_B")].float()
            add_update(model.get_submodule(module), down.float(), up, config["lora_alpha"] / config["r"])


def add_update(layer: Any, down: torch.Tensor, up: torch.Tensor, scale: float) -> None:
    """Adds scale * up @ down @ input to what `layer` puts out."""
    layer.register_forward_hook(lambda _, inputs, output: output + scale * (inputs[0] @ down.T) @ up.T)


if __name__ == "__main__":
    main()
