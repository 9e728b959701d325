"""The tensors of a causal language model by their place in the block, checked against its architecture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trireme.checkpoints.lora import LoraAdapter
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.architecture import Architecture
from trireme.export_llm.quantization import PackedWeight, Quantization, unpack_weight
from trireme.types import FloatArray

EMBEDDING = "model.embed_tokens"
FINAL_NORM = "model.norm"
HEAD = "lm_head"

_PACKED_PARTS = ("qweight", "qzeros", "scales")
# Written by older releases, computed by everyone since.
_COMPUTED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


class Weights:
    """Reads one layer at a time. Raises UnsupportedError for a tensor that is missing, left over or misshapen.

    The updates of `adapter` are added where a layer is read, in float32.
    """

    def __init__(
        self,
        folder: Path,
        architecture: Architecture,
        quantization: Quantization | None = None,
        adapter: LoraAdapter | None = None,
    ) -> None:
        self.architecture = architecture
        self.quantization = quantization
        self._adapter = adapter
        self._tensors = TensorFiles(folder)
        self._linears = linear_shapes(architecture)
        self._check_names()
        if adapter is not None:
            # A table of embeddings is no linear layer, and what is tied to it would change with it.
            adapter.check_modules({name: shape for name, shape in self._linears.items() if name != EMBEDDING})
            if packed := sorted(filter(self._is_packed, adapter.modules)):
                raise UnsupportedError(
                    f"{packed[0]} is quantized: an adapter is merged into float weights alone"
                )

    def linear(self, prefix: str) -> FloatArray | PackedWeight:
        """Weight [out, in] of the layer `prefix`: an array of floats, or the checkpoint's own integers."""
        expected = self._linears[prefix]
        adapter = self._adapter if self._adapter is not None and prefix in self._adapter.modules else None
        if not self._is_packed(prefix):
            weight = self.array(f"{prefix}.weight", expected)
            return weight.astype(np.float32) + adapter.update(prefix) if adapter is not None else weight
        if self.quantization is None:
            raise UnsupportedError(
                f"{prefix}.qweight is quantized but config.json has no quantization_config"
            )
        packed = unpack_weight(self._tensors, prefix, self.quantization)
        _check_shape(f"{prefix}.qweight", packed.integers.shape, expected)
        return packed

    def bias(self, prefix: str) -> FloatArray | None:
        """Bias [out] of the layer `prefix`, or None."""
        name = f"{prefix}.bias"
        if name not in _biases(self.architecture):
            return None
        return self.array(name, self._linears[prefix][:1])

    def norm(self, prefix: str, size: int) -> FloatArray:
        """Weight [size] of an RMS norm."""
        return self.array(f"{prefix}.weight", (size,)).astype(np.float32)

    def array(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """A float tensor of `shape`: float16 as it is, anything else as float32."""
        entry = self._tensors.entry(name)
        if not entry.is_float:
            raise UnsupportedError(
                f"{name} is of type {entry.dtype}; float32, float16 and bfloat16 are known"
            )
        _check_shape(name, entry.shape, shape)
        return self._tensors.read(name)

    @property
    def head(self) -> str:
        """The layer that makes logits: the embedding itself in tied models."""
        return EMBEDDING if self.architecture.is_tied else HEAD

    def _is_packed(self, prefix: str) -> bool:
        return f"{prefix}.qweight" in self._tensors.entries

    def _check_names(self) -> None:
        known = _norms(self.architecture) | _biases(self.architecture)
        for prefix in self._linears:
            parts = _PACKED_PARTS if self._is_packed(prefix) else ("weight",)
            known |= {f"{prefix}.{part}" for part in parts}
        found = set(self._tensors.entries)
        if missing := known - found:
            raise UnsupportedError(f"the checkpoint lacks the tensor {min(missing)!r}")
        if left_over := sorted(name for name in found - known if not self._is_harmless(name)):
            raise UnsupportedError(
                f"the checkpoint holds a tensor {left_over[0]!r} that"
                f" model_type {self.architecture.family!r} has no place for"
            )

    def _is_harmless(self, name: str) -> bool:
        """Tensors that change nothing: the copy of a tied embedding, trivial group indices, zero biases."""
        prefix, _, part = name.rpartition(".")
        if part == "g_idx" and self._is_packed(prefix):
            return True  # checked when the layer is read
        if part == "bias" and self._is_packed(prefix):
            return not self._tensors.read(name).any()
        return bool(_COMPUTED.fullmatch(name)) or (self.architecture.is_tied and name == f"{HEAD}.weight")


def _check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise UnsupportedError(f"{name} is of shape {list(found)}, config.json says {list(expected)}")


def linear_shapes(model: Architecture) -> dict[str, tuple[int, int]]:
    """Every matrix by name, [out, in]; the table of embeddings is one of them."""
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    block = {
        "self_attn.q_proj": (queries, model.hidden),
        "self_attn.k_proj": (keys, model.hidden),
        "self_attn.v_proj": (keys, model.hidden),
        "self_attn.o_proj": (model.hidden, queries),
        "mlp.gate_proj": (model.inner, model.hidden),
        "mlp.up_proj": (model.inner, model.hidden),
        "mlp.down_proj": (model.hidden, model.inner),
    }
    shapes = {f"model.layers.{i}.{name}": shape for i in range(model.layers) for name, shape in block.items()}
    shapes[EMBEDDING] = (model.vocabulary, model.hidden)
    if not model.is_tied:
        shapes[HEAD] = (model.vocabulary, model.hidden)
    return shapes


def _biases(model: Architecture) -> set[str]:
    parts: list[str] = []
    if model.has_qkv_bias:
        parts += ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    if model.has_output_bias:
        parts += ["self_attn.o_proj"]
    if model.has_mlp_bias:
        parts += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    return {f"model.layers.{i}.{part}.bias" for i in range(model.layers) for part in parts}


def _norms(model: Architecture) -> set[str]:
    parts = ["input_layernorm", "post_attention_layernorm"]
    if model.has_head_norms:
        parts += ["self_attn.q_norm", "self_attn.k_norm"]
    names = {f"model.layers.{i}.{part}.weight" for i in range(model.layers) for part in parts}
    return names | {f"{FINAL_NORM}.weight"}
