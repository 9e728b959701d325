"""Loads a checkpoint's weights into torch modules, and refuses what does not fit them tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.export.sentence_files import DenseLayer

# Tables that old checkpoints carry and modules make themselves.
_BUFFERS = ("position_ids", "token_type_ids")

_HEADS = ("classifier.", "pre_classifier.", "score.")


class DenseBlock(nn.Module):
    """A Dense module of sentence-transformers: [B, in] -> [B, out]."""

    def __init__(self, layer: DenseLayer) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.has_bias)
        self.activation = layer.activation
        self.function: nn.Module = getattr(nn, layer.activation)()
        self.is_residual = layer.is_residual
        if layer.is_residual and layer.in_features != layer.out_features:
            self.residual = nn.Linear(layer.in_features, layer.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, with its input added where it is residual."""
        out: Tensor = self.function(self.linear(x))
        if not self.is_residual:
            return out
        added: Tensor = self.residual(x) if hasattr(self, "residual") else x
        return out + added


def load_pretrained_model(checkpoint: Checkpoint, auto_class: str) -> nn.Module:
    """The checkpoint's module in fp32, from its folder alone.

    Raises UnsupportedError naming a weight that an output reads and the checkpoint lacks, or one that the
    encoder has no place for.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = checkpoint.transformer_dir
    try:
        model, loading = getattr(transformers, auto_class).from_pretrained(
            str(folder),
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=True,
            variant=checkpoint.variant or None,
            # They are refused below by their names.
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # configs and loaders raise errors of many libraries
        raise UnsupportedError(f"{folder} cannot be loaded: {type(error).__name__}: {error}") from error
    _check_missing(checkpoint, loading["missing_keys"], auto_class)
    if mismatched := loading.get("mismatched_keys"):
        raise UnsupportedError(
            f"{folder}: weight {min(map(str, mismatched))} has another shape than {auto_class}'s"
        )
    _check_unexpected(checkpoint, model, loading["unexpected_keys"])
    # Each text is read once: keys and values of earlier tokens are of no use, and a cache cannot be exported.
    model.config.use_cache = False
    loaded: nn.Module = model
    return loaded


def load_dense(layer: DenseLayer) -> DenseBlock:
    """The layer with its weights in fp32. Raises UnsupportedError where they are not the layer's."""
    from safetensors.torch import load_file

    block = DenseBlock(layer)
    try:
        tensors = load_file(layer.weights)
        if layer.prefix is not None:
            names = ("weight", "bias") if layer.has_bias else ("weight",)
            tensors = {f"linear.{name}": tensors[layer.prefix + name] for name in names}
        block.load_state_dict({name: value.float() for name, value in tensors.items()})
    except Exception as error:  # safetensors and torch raise errors of their own
        reason = str(error).splitlines()[-1].strip()
        raise UnsupportedError(f"{layer.weights} does not fit the config.json beside it: {reason}") from error
    return block


def _check_missing(checkpoint: Checkpoint, names: Iterable[str], auto_class: str) -> None:
    # Of AutoModel's outputs only the states are read: the pooler of a bare encoder goes unused.
    missing = [
        name
        for name in names
        if not name.endswith(_BUFFERS) and not (auto_class == "AutoModel" and name.startswith("pooler."))
    ]
    if missing:
        raise UnsupportedError(
            f"{checkpoint.transformer_dir} holds no weight {min(missing)!r} that {auto_class} needs: random"
            " numbers would stand in its place; save the whole model"
        )


def _check_unexpected(checkpoint: Checkpoint, model: Any, names: Iterable[str]) -> None:
    """A head that nothing reads may be left over, a part of the encoder may not: it would be another encoder."""
    heads = [name for name in names if name.startswith(_HEADS)]
    if heads and not model.config.architectures:
        raise UnsupportedError(
            f"{checkpoint.transformer_dir} holds {min(heads)!r}, a classifier's head, and config.json names no"
            " architectures; add them, such as BertForSequenceClassification"
        )
    prefix = f"{model.base_model_prefix}."
    base = getattr(model, model.base_model_prefix, model)
    parts = {name for name, _ in base.named_children()} - {"pooler"}
    over = [
        name
        for name in names
        if name.removeprefix(prefix).partition(".")[0] in parts and not name.endswith(_BUFFERS)
    ]
    if over:
        raise UnsupportedError(
            f"{checkpoint.transformer_dir} holds a weight {min(over)!r} that {type(model).__name__} has no place"
            " for: config.json does not describe this model"
        )
