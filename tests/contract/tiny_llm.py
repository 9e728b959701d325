"""A random Llama small enough to build in a test, exported as the CPU engine reads it."""

import json
from pathlib import Path

import numpy as np

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 64, 128, 2, 4, 2
EOS = 1


def write_ascii_tokenizer(folder: Path) -> None:
    """A tokenizer of 128 tokens: 0 and 1 are control tokens, each other id is its ASCII character."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    of_bytes = {0x20: "\u0120", 0x7F: "\u0121"} | {
        byte: chr(256 + byte) if byte < 0x20 else chr(byte) for byte in range(2, 0x7F) if byte != 0x20
    }
    vocabulary = {"<s>": 0, "</s>": EOS} | {text: byte for byte, text in of_bytes.items()}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "</s>")])
    made.save(str(folder / "tokenizer.json"))


def write_tiny_lora(folder: Path, seed: int, rank: int, layers: dict[str, tuple[int, int]]) -> None:
    """Writes a random adapter as PEFT does. layers: [out, in] by the end of their names."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for name, (rows, columns) in layers.items():
            start = f"base_model.model.model.layers.{layer}.{name}"
            down, up = random.normal(0, columns**-0.5, (rank, columns)), random.normal(0, 0.5, (rows, rank))
            tensors[f"{start}.lora_A.weight"] = down.astype(np.float32)
            tensors[f"{start}.lora_B.weight"] = up.astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "bias": "none",
        "target_modules": [name.rpartition(".")[2] for name in layers],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_tiny_loras(folder: Path) -> None:
    """Two adapters of the tiny LLM, of different layers and ranks, below `folder` as a build places them."""
    keys = KV_HEADS * HIDDEN // HEADS
    queries = {"self_attn.q_proj": (HIDDEN, HIDDEN)}
    write_tiny_lora(folder / "adapters" / "one", 1, 4, {**queries, "self_attn.v_proj": (keys, HIDDEN)})
    write_tiny_lora(folder / "adapters" / "two", 2, 8, {**queries, "mlp.down_proj": (HIDDEN, INNER)})


def write_tiny_llm(folder: Path, vocabulary: int = 128, adapters: tuple[str, ...] = ()) -> int:
    """Writes checkpoint and OpenVINO graph into `folder`, with `adapters` of it; returns the eos token."""
    import openvino
    from safetensors.numpy import save_file

    from trireme.checkpoints.config import read_config
    from trireme.checkpoints.lora import LoraAdapter
    from trireme.export_llm.architecture import read_architecture
    from trireme.export_llm.constants import ConstantStore
    from trireme.export_llm.graph import build_graph
    from trireme.export_llm.weights import Weights

    random = np.random.default_rng(11)
    head_dim = HIDDEN // HEADS

    def matrix(rows: int, columns: int) -> np.ndarray:
        # Wide enough that greedy answers do not repeat one token.
        return random.normal(0, 1.5 / columns**0.5, (rows, columns)).astype(np.float16)

    tensors = {
        "model.embed_tokens.weight": random.normal(0, 1, (vocabulary, HIDDEN)).astype(np.float16),
        "model.norm.weight": np.ones(HIDDEN, np.float16),
        "lm_head.weight": matrix(vocabulary, HIDDEN),
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        tensors |= {
            f"{name}input_layernorm.weight": np.ones(HIDDEN, np.float16),
            f"{name}post_attention_layernorm.weight": np.ones(HIDDEN, np.float16),
            f"{name}self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{name}self_attn.k_proj.weight": matrix(KV_HEADS * head_dim, HIDDEN),
            f"{name}self_attn.v_proj.weight": matrix(KV_HEADS * head_dim, HIDDEN),
            f"{name}self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            f"{name}mlp.gate_proj.weight": matrix(INNER, HIDDEN),
            f"{name}mlp.up_proj.weight": matrix(INNER, HIDDEN),
            f"{name}mlp.down_proj.weight": matrix(HIDDEN, INNER),
        }
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "bos_token_id": 0,
        "eos_token_id": EOS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    store = ConstantStore(folder / "constants")
    weights = Weights(folder, read_architecture(read_config(folder)))
    loras = [LoraAdapter(folder / "adapters" / name) for name in adapters]
    model = build_graph(weights, store, adapters=loras)
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    store.close()
    (folder / "constants").unlink()
    return EOS
