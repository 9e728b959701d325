"""AWQ and GPTQ checkpoints, written and read by gptqmodel.

AWQ: Lin et al. 2023, Activation-aware Weight Quantization. GPTQ: Frantar et al. 2022. The formats are those of
auto-awq (version gemm) and auto-gptq (checkpoint format gptq); docs/quantization.md has their layout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.errors import UnavailableError
from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.clipping import find_bounds
from trireme.quantize.recipe import QuantizeRecipe
from trireme.quantize.texts import Windows

if TYPE_CHECKING:
    import torch

ENVIRONMENT_COMMAND = "make quantize-env, then .venv-quantize/bin/python build/quantize_llm.py"
# Projections in the order in which a block runs them; vLLM takes other layers for unquantized.
_BLOCK = [
    ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"],
    ["self_attn.o_proj"],
    ["mlp.up_proj", "mlp.gate_proj"],
    ["mlp.down_proj"],
]
_LEAST_WORKERS = 2
# vLLM's Marlin kernels of AWQ take so many outputs at once; GPTQ packs eight or four into a word.
OUTPUTS_MULTIPLE = {"awq": 64, "gptq": 32}


def check_tools() -> None:
    """Raises UnavailableError with the command to run when gptqmodel is not installed here."""
    # With one worker of its own pool, the default on two cores, gptqmodel 7.6.0 waits for itself.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(_LEAST_WORKERS, (os.cpu_count() or 1) // 2)))
    # AWQ's search allocates the same large tensors over and over: with huge pages in a third of the system time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        import gptqmodel  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"gptqmodel cannot be imported here ({error}); it has an environment of its own: {ENVIRONMENT_COMMAND}"
        ) from None


def write_quantized(
    model: CausalLM, out: Path, recipe: QuantizeRecipe, windows: Windows, advance: Callable[[], None]
) -> dict[str, Any]:
    """Quantizes the checkpoint of `model` into `out`; returns the quantization_config of its format.

    Blocks. `advance` is called after each decoder layer, from a thread of gptqmodel's. Activations are
    computed in the weights' 16-bit type on a GPU and in bfloat16 on a CPU, where float16 is slow.
    """
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.looper import loop_processor

    # Each run leaves its losses there, by default in a folder logs of whoever runs it.
    loop_processor._PROJECT_LOG_DIR = out / "logs"
    torch.manual_seed(recipe.seed)
    loaded = GPTQModel.load(
        str(model.folder),
        _make_config(recipe, out / "offload"),
        dtype=compute_dtype(model, recipe.device),
        trust_remote_code=False,
    )

    def layer_complete(layer_idx: int, submodule_finalized: bool) -> None:
        if submodule_finalized:
            advance()

    loaded.layer_callback = layer_complete
    rows = [torch.tensor(window) for window in windows]
    with clip_by_moments():
        loaded.quantize(
            [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows],
            batch_size=1,
            # Ours are of one length, and in an order that the seed decides.
            calibration_sort=None,
            backend=BACKEND.AWQ_TORCH if recipe.method == "awq" else BACKEND.GPTQ_TORCH,
        )
    loaded.save(str(out))
    return describe_format(recipe)


@contextmanager
def clip_by_moments() -> Iterator[None]:
    """While it is open, gptqmodel finds AWQ's clipping bounds by `find_bounds`. Mutates its module; not reentrant.

    gptqmodel makes the processor itself and takes no other one, nor an option for this search, so its class is
    replaced by a subclass with this one method for as long as a run takes.
    """
    import torch
    from gptqmodel.looper import awq_processor

    original = awq_processor.AWQProcessor

    class MomentClipping(original):  # type: ignore[misc, valid-type]
        @torch.inference_mode()
        def _compute_best_clip(self, w: torch.Tensor, input_feat: torch.Tensor) -> torch.Tensor:
            group_size = self.qcfg.group_size
            return find_bounds(w, input_feat, group_size, self._pseudo_quantize_tensor_into)

    awq_processor.AWQProcessor = MomentClipping
    try:
        yield
    finally:
        awq_processor.AWQProcessor = original


def describe_format(recipe: QuantizeRecipe) -> dict[str, Any]:
    """The quantization_config that auto-awq or auto-gptq would have written for `recipe`."""
    common = {"bits": recipe.width, "group_size": recipe.group}
    # Loaders tell by this that zero points of an asymmetric GPTQ checkpoint are stored less one.
    made_by = {"meta": {"quantizer": [f"gptqmodel:{version('gptqmodel')}"]}}
    if recipe.method == "awq":
        return {
            "quant_method": "awq",
            **common,
            "version": "gemm",
            "zero_point": True,
            "modules_to_not_convert": None,
            **made_by,
        }
    return {
        "quant_method": "gptq",
        **common,
        "checkpoint_format": "gptq",
        "desc_act": False,
        "sym": recipe.sym,
        "lm_head": False,
        "modules_in_block_to_quantize": _BLOCK,
        **made_by,
    }


def load_quantized(folder: Path, recipe: QuantizeRecipe) -> Any:
    """The written checkpoint, with gptqmodel's plain torch kernels. Blocks."""
    from gptqmodel import BACKEND, GPTQModel

    backend = BACKEND.AWQ_TORCH if recipe.method == "awq" else BACKEND.GPTQ_TORCH
    loaded = GPTQModel.load(str(folder), device=recipe.device, backend=backend, trust_remote_code=False)
    return loaded.model


def dequantize(module: Any) -> torch.Tensor | None:
    """The weight [outputs, inputs] that a kernel of gptqmodel multiplies with; None for any other module."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    if isinstance(module, AwqTorchLinear):
        packed = (module.qweight, module.qzeros, module.scales)
        weight: torch.Tensor = dequantize_gemm(*packed, bits=module.bits, group_size=module.group_size)
        return weight.t()
    if isinstance(module, TorchLinear):
        weight = module.dequantize_weight()
        return weight.t()
    return None


def compute_dtype(model: CausalLM, device: str) -> torch.dtype:
    """The 16-bit type to quantize in, which is also the type of what stays unquantized."""
    import torch

    return torch.float16 if device == "cuda" and model.dtype == "F16" else torch.bfloat16


def _make_config(recipe: QuantizeRecipe, offload: Path) -> Any:
    from gptqmodel.quantization.config import AWQConfig, GPTQConfig

    common = {
        "bits": recipe.width,
        "group_size": recipe.group,
        "device": recipe.device,
        "offload_to_disk_path": str(offload),
    }
    if recipe.method == "awq":
        return AWQConfig(sym=False, **common)
    return GPTQConfig(sym=recipe.sym, desc_act=False, **common)
