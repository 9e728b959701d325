"""Random weights in the shapes of three embedding models and a reranker, what these make in fp32, and our files.

    python -m benchmarks.gpu.pooling_models NAME

It needs no network and downloads nothing. POOL_TINY=1 makes tiny models of the same kinds, for a try without a GPU.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

WORK = Path(os.environ.get("POOL_WORK", ".pooling")).resolve()
IS_TINY = bool(os.environ.get("POOL_TINY"))
SEED = 11
ROWS = 12 if IS_TINY else 1024
CHECKED = 8 if IS_TINY else 64
SHORTEST, MAX_LENGTH = 16, 512
# Of the texts that a start is compared by; a build has sixty.
PROBE_TEXTS = 12
RERANKER = "qwen3-reranker-0.6b"
NAMES = ("bge-m3", "qwen3-embedding-0.6b", "embeddinggemma-300m", RERANKER)
# Of the reranker: the tokens of its answers.
TEMPLATE, ANSWERS = "Is {passage} what {query} asks for?", (14, 30)
CLASSES = {"xlm-roberta": "XLMRobertaModel", "qwen3": "Qwen3Model", "gemma3_text": "Gemma3TextModel"}

XLM_ROBERTA = {
    "vocab_size": 250002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 8194,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
QWEN3 = {
    "vocab_size": 151669,
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
GEMMA3 = {
    "vocab_size": 262144,
    "hidden_size": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 1152,
    "max_position_embeddings": 2048,
    "sliding_window": 512,
    "query_pre_attn_scalar": 256,
    "use_bidirectional_attention": True,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_SMALL = {"vocab_size": 1200, "hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 2}
TINY: dict[str, dict[str, Any]] = {
    "bge-m3": _SMALL | {"num_attention_heads": 4},
    "qwen3-embedding-0.6b": _SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24},
    RERANKER: _SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24},
    "embeddinggemma-300m": _SMALL
    | {"num_hidden_layers": 6, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 32},
}


def find_shape(name: str) -> tuple[Any, str, tuple[tuple[int, int], ...]]:
    """transformers' config, the pooling by sentence-transformers' old keys, sizes of the layers behind it."""
    import transformers

    small = TINY[name] if IS_TINY else {}
    if name == "bge-m3":
        return transformers.XLMRobertaConfig(**XLM_ROBERTA | small), "cls_token", ()
    if sizes_of := {"qwen3-embedding-0.6b": QWEN3, RERANKER: QWEN3}.get(name):
        return transformers.Qwen3Config(**sizes_of | small), "lasttoken", ()
    sizes = GEMMA3 | small
    kinds = [
        "full_attention" if n % 6 == 5 else "sliding_attention" for n in range(sizes["num_hidden_layers"])
    ]
    hidden, inner = sizes["hidden_size"], 4 * sizes["hidden_size"]
    config = transformers.Gemma3TextConfig(**sizes, layer_types=kinds)
    return config, "mean_tokens", ((hidden, inner), (inner, hidden))


def draw_rows(name: str) -> list[list[int]]:
    """ROWS rows of token ids, their lengths drawn evenly; the same in every process."""
    import numpy as np

    size = json.loads((WORK / name / "source" / "config.json").read_text())["vocab_size"]
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(SHORTEST, MAX_LENGTH + 1, ROWS)
    return [rng.integers(10, size - 10, length).tolist() for length in lengths]


def write_weights(
    source: Path, config: Any, dense: tuple[tuple[int, int], ...], device: str, *, is_reranker: bool
) -> None:
    """Numbers that bfloat16 holds, so that no engine loses any by rounding them."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    name = "Qwen3ForCausalLM" if is_reranker else CLASSES[config.model_type]
    with torch.device(device):
        model = getattr(transformers, name)(config)
    model.to(torch.bfloat16).save_pretrained(source)
    stated = json.loads((source / "config.json").read_text())
    # As published checkpoints state them: transformers 5 writes no position_embedding_type, for which vLLM asks.
    stated["position_embedding_type"] = "absolute"
    stated["architectures"] = ["Qwen3ForCausalLM" if name == "Qwen3Model" else name]
    (source / "config.json").write_text(json.dumps(stated))
    for number, (inner, outer) in enumerate(dense, 2):
        place = source / f"{number}_Dense"
        place.mkdir(exist_ok=True)
        said = {"in_features": inner, "out_features": outer, "bias": False}
        said["activation_function"] = "torch.nn.modules.linear.Identity"  # type: ignore[assignment]
        (place / "config.json").write_text(json.dumps(said))
        weight = (torch.randn(outer, inner) / inner**0.5).to(torch.bfloat16).float()
        save_file({"linear.weight": weight}, place / "model.safetensors", {"format": "pt"})


def write_head(source: Path) -> None:
    """The reranker for vLLM alone: the same weights, and a head that is the difference of its answers' rows."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    target = source.with_name("source-head")
    target.mkdir(exist_ok=True)
    for file in source.iterdir():
        (target / file.name).unlink(missing_ok=True)
        (target / file.name).symlink_to(file)
    stated = json.loads((source / "config.json").read_text())
    stated |= {
        "architectures": ["Qwen3ForSequenceClassification"],
        "id2label": {"0": "yes"},
        "label2id": {"yes": 0},
    }
    (target / "config.json").unlink()
    (target / "config.json").write_text(json.dumps(stated))
    with safe_open(source / "model.safetensors", "pt") as tensors:
        rows = tensors.get_tensor("model.embed_tokens.weight")[list(ANSWERS)].float()
    save_file({"score.weight": rows[1:] - rows[:1]}, target / "score.safetensors", {"format": "pt"})


def write_side_files(source: Path, pooling: str, layers: int, hidden: int) -> None:
    """What sentence-transformers writes, and a tokenizer that is loaded and never asked."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    kinds = ["Transformer", "Pooling", *["Dense"] * layers, "Normalize"]
    modules = [
        {
            "idx": n,
            "name": str(n),
            "path": "" if n == 0 else f"{n}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    (source / "modules.json").write_text(json.dumps(modules))
    for module in modules[1:]:
        (source / str(module["path"])).mkdir(exist_ok=True)
    said = {"word_embedding_dimension": hidden, f"pooling_mode_{pooling}": True}
    (source / "1_Pooling" / "config.json").write_text(json.dumps(said))
    (source / "config_sentence_transformers.json").write_text("{}")
    settings = {"max_seq_length": MAX_LENGTH, "do_lower_case": False}
    (source / "sentence_bert_config.json").write_text(json.dumps(settings))
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {chr(97 + n): 4 + n for n in range(26)}
    unknown = "<unk>"
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(source / "tokenizer.json"))
    stated = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": MAX_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (source / "tokenizer_config.json").write_text(json.dumps(stated))


def write_reference(name: str, pooling: str, layers: int, device: str) -> None:
    """Vectors, or scores, of the first CHECKED rows by transformers in fp32, each row alone."""
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import load_file

    source = WORK / name / "source"
    encoder: Any = transformers.AutoModel.from_pretrained(
        source, dtype=torch.float32, attn_implementation="eager"
    )
    encoder.to(device).eval()
    weights = [
        load_file(source / f"{n}_Dense" / "model.safetensors")["linear.weight"].to(device)
        for n in range(2, 2 + layers)
    ]
    if name == RERANKER:
        # Its head is its table of words.
        no, yes = encoder.get_input_embeddings().weight[list(ANSWERS)].detach()
        weights = [(yes - no)[None]]
    found = []
    with torch.inference_mode():
        for row in draw_rows(name)[:CHECKED]:
            states = encoder(input_ids=torch.tensor([row], device=device)).last_hidden_state[0]
            pooled = {"cls_token": states[0], "lasttoken": states[-1], "mean_tokens": states.mean(0)}
            vector = pooled[pooling]
            for weight in weights:
                vector = weight @ vector
            found.append(vector.float().cpu().numpy())
    np.save(WORK / name / "reference.npy", np.stack(found))


def export(name: str) -> None:
    """By the functions of our exporter, for engine vllm and, where the family has a packed form, engine torch."""
    from dataclasses import replace

    from trireme.artifacts.parity_texts import TEXTS
    from trireme.export.checkpoint import read_checkpoint
    from trireme.export.graph import load_graph
    from trireme.export.packed import write_packed
    from trireme.export.tokenizer_file import write_tokenizer
    from trireme.export.vllm_files import write_vllm

    is_reranker = name == RERANKER
    checkpoint = read_checkpoint(WORK / name / "source", "cross_encoder" if is_reranker else "")
    checkpoint = replace(checkpoint, max_length=MAX_LENGTH)
    if is_reranker:
        checkpoint = replace(checkpoint, template=TEMPLATE, answers=ANSWERS)
    graph = load_graph(checkpoint)
    target = WORK / name / "ours-vllm"
    target.mkdir(exist_ok=True)
    write_tokenizer(checkpoint, target / "tokenizer.json")
    # What is found is written down; a start is not to end on it.
    bounds = (
        {"rank_correlation": -1.0, "score_difference": 10.0}
        if is_reranker
        else {"cosine_min": 0.5, "cosine_mean": 0.5}
    )
    write_vllm(graph, checkpoint, "bf16", target, bounds, texts=TEXTS[:PROBE_TEXTS])
    if checkpoint.family.layers is not None:
        packed = WORK / name / "ours-torch"
        packed.mkdir(exist_ok=True)
        write_packed(graph, checkpoint, "bf16", packed)


def main() -> None:
    import torch

    name, began = sys.argv[1], time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, pooling, dense = find_shape(name)
    source = WORK / name / "source"
    source.mkdir(parents=True, exist_ok=True)
    write_weights(source, config, dense, device, is_reranker=name == RERANKER)
    write_side_files(source, pooling, len(dense), config.hidden_size)
    if name == RERANKER:
        # A language model has none of sentence-transformers' files.
        for file in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
            (source / file).unlink()
        write_head(source)
    print(f"{name}: weights after {time.monotonic() - began:.1f} s", flush=True)
    write_reference(name, pooling, len(dense), device)
    print(f"{name}: reference after {time.monotonic() - began:.1f} s", flush=True)
    if device == "cuda":
        torch.cuda.empty_cache()
    export(name)
    print(f"{name}: exported after {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
