"""The original: loaded to be compared with, or written in 16 bits as a checkpoint like the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.quantize.checkpoint import CausalLM


def write_half(model: CausalLM, out: Path) -> str:
    """Writes the checkpoint in 16 bits into `out` and returns the type: float32 becomes bfloat16. Blocks."""
    import torch
    import transformers

    dtype = torch.float16 if model.dtype == "F16" else torch.bfloat16
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        model.folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    loaded.save_pretrained(out)
    return name_of(dtype)


def load_original(folder: Path, device: str) -> Any:
    """The checkpoint in `folder` in its own type, in evaluation mode. Blocks."""
    import transformers

    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", local_files_only=True, use_safetensors=True
    )
    return loaded.to(device).eval()


def open_tokenizer(folder: Path) -> tuple[Any, tuple[int, ...]]:
    """A function from text to ids, special tokens left out, and the ids that a text starts with (BOS or none)."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    started = tokenizer("a")["input_ids"]
    begins = tokenizer.bos_token_id is not None and started[:1] == [tokenizer.bos_token_id]
    return encode, (tokenizer.bos_token_id,) if begins else ()


def name_of(dtype: Any) -> str:
    """The name of a torch type as config.json writes it."""
    return str(dtype).removeprefix("torch.")
