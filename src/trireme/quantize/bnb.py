"""bitsandbytes checkpoints: NF4 (Dettmers et al. 2023, QLoRA) and int8 (Dettmers et al. 2022, LLM.int8())."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.errors import UnavailableError
from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.gptq import ENVIRONMENT_COMMAND, compute_dtype
from trireme.quantize.recipe import QuantizeRecipe


def check_tools() -> None:
    """Raises UnavailableError with the command to run when bitsandbytes is not installed here."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"bitsandbytes cannot be imported here ({error}); it has an environment of its own:"
            f" {ENVIRONMENT_COMMAND}"
        ) from None


def write_quantized(model: CausalLM, out: Path, recipe: QuantizeRecipe) -> dict[str, Any]:
    """Quantizes the checkpoint of `model` into `out`; returns its quantization_config. Blocks."""
    import transformers

    dtype = compute_dtype(model, recipe.device)
    if recipe.method == "bnb-nf4":
        chosen = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    else:
        chosen = transformers.BitsAndBytesConfig(load_in_8bit=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        model.folder,
        quantization_config=chosen,
        dtype=dtype,
        device_map={"": recipe.device},
        local_files_only=True,
        use_safetensors=True,
    )
    loaded.save_pretrained(out)
    described = dict(chosen.to_dict())
    # Keys of the library's own bookkeeping, which differ between its versions.
    return {key: value for key, value in described.items() if not key.startswith("_")}


def load_quantized(folder: Path, recipe: QuantizeRecipe) -> Any:
    """The written checkpoint, with the kernels of bitsandbytes. Blocks."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, device_map={"": recipe.device}, local_files_only=True, use_safetensors=True
    )
