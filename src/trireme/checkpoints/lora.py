"""LoRA adapters as PEFT saves them: adapter_config.json, and low-rank updates of weights by their names.

W + scale * B A for each adapted weight W (Hu et al., "LoRA", 2021).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trireme.checkpoints.config import read_json, refuse
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import NotFoundError, UnsupportedError
from trireme.types import FloatArray

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# PEFT's own name first.
WEIGHT_NAMES = (ADAPTER_WEIGHTS, "adapter.safetensors")

PREFIX = "base_model.model."
_ADVICE = "merge it with PEFT's merge_and_unload and save the whole model"
# Keys that make another calculation of an adapter; the others say how it was trained.
_OTHER_KINDS = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
)
# These take a part out of the base's weights before training.
_BASE_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
_UPDATE = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")


def read_lora_config(path: Path) -> dict[str, Any]:
    """adapter_config.json at `path`. Raises UnsupportedError for an adapter that is no plain LoRA."""
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        raise refuse(path, "peft_type", config.get("peft_type"), f"only LORA is merged here; {_ADVICE}")
    for key in _OTHER_KINDS:
        if config.get(key):
            raise refuse(path, key, config[key], f"only plain LoRA is merged here; {_ADVICE}")
    if config.get("bias", "none") != "none":
        raise refuse(path, "bias", config["bias"], f"only plain LoRA is merged here; {_ADVICE}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_BASE_CHANGING_STARTS):
        raise refuse(path, "init_lora_weights", start, f"it changes the base's weights; {_ADVICE}")
    _check_alphas(path, config)
    return config


def _check_alphas(path: Path, config: dict[str, Any]) -> None:
    """Raises UnsupportedError unless `scale_of` can count with what the configuration says."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise refuse(path, "alpha_pattern", patterns, "it must be an object of numbers")
    for key, value in (("lora_alpha", config.get("lora_alpha", 8)), *patterns.items()):
        if type(value) not in (int, float) or not math.isfinite(value):
            raise refuse(path, key, value, "alpha must be a finite number")
    for key in patterns:
        try:
            re.compile(key)
        except re.error as error:
            raise refuse(path, "alpha_pattern", key, f"no regular expression: {error}") from None


def scale_of(config: dict[str, Any], module: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rank-stabilized LoRA; patterns name the end of a module."""
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    found = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
    alpha = float(config.get("lora_alpha", 8) if found is None else patterns[found])
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


class LoraAdapter:
    """The adapter in `folder`, read a module at a time. `modules` are the names of the layers that it changes."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFoundError without an adapter, UnsupportedError naming what is no plain LoRA of linear layers.

        The file's names are PEFT's: base_model.model.MODULE.lora_A.weight [rank, in], lora_B [out, rank].
        """
        self._config_file, self._weights_file = self.files = adapter_files(folder)
        self.config = read_lora_config(self._config_file)
        self._tensors = TensorFiles(folder, [self._weights_file])
        self._names: dict[str, dict[str, str]] = {}
        for name in self._tensors.entries:
            match = _UPDATE.fullmatch(name)
            if match is None or not name.startswith(PREFIX):
                raise UnsupportedError(
                    f"{self._weights_file}: {name!r} is no LoRA of a linear layer; {_ADVICE}"
                )
            parts = self._names.setdefault(match[1].removeprefix(PREFIX), {})
            if match[2] in parts:
                raise UnsupportedError(
                    f"{self._weights_file} has both {parts[match[2]]!r} and {name!r}; save the adapter with PEFT"
                )
            parts[match[2]] = name
        self.modules = frozenset(self._names)
        if half := next((module for module, found in sorted(self._names.items()) if len(found) == 1), None):
            raise UnsupportedError(f"{self._weights_file}: {half!r} has only one of lora_A and lora_B")

    def check_base(self, hub_id: str, weights_sha256: str) -> None:
        """Raises UnsupportedError where the adapter says that it was trained on another model. "" is not compared.

        It says so by base_sha256, the hash of the weights that it was trained on, and by the base's hub id.
        """
        trained_on = str(self.config.get("base_sha256") or "")
        if trained_on and weights_sha256 and trained_on != weights_sha256:
            raise refuse(
                self._config_file, "base_sha256", trained_on, f"the recipe's weights are {weights_sha256}"
            )
        name = str(self.config.get("base_model_name_or_path") or "")
        if hub_id and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name != hub_id:
            raise refuse(
                self._config_file, "base_model_name_or_path", name, f"the recipe's source is {hub_id}"
            )

    @property
    def rank(self) -> int:
        """The largest of its updates'; 0 where it has none."""
        return max((self._rank(module) for module in self.modules), default=0)

    def check_plain_names(self) -> None:
        """Raises UnsupportedError where the file names the adapter itself, as PEFT's state does in memory."""
        for names in self._names.values():
            if odd := next((name for name in names.values() if ".default." in name), None):
                raise UnsupportedError(f"{self._weights_file}: {odd!r} names the adapter; save it with PEFT")

    def find_uneven(self) -> str:
        """A layer whose update is not scaled as lora_alpha and r alone say it; "" for none."""
        plain: dict[str, Any] = {
            key: self.config[key] for key in ("lora_alpha", "use_rslora") if key in self.config
        }
        even = scale_of(plain, "", int(self.config.get("r", 8)))
        uneven = (one for one in sorted(self.modules) if scale_of(self.config, one, self._rank(one)) != even)
        return next(uneven, "")

    def _rank(self, module: str) -> int:
        shape = self._tensors.entry(self._names[module]["A"]).shape
        return shape[0] if shape else 0

    def check_modules(self, known: Mapping[str, tuple[int, int] | None]) -> None:
        """Raises UnsupportedError unless every update has a layer, of `known` [out, in] by name, and its shape.

        None: a layer of a shape that is not known, whose update must be one.
        """
        for module in sorted(self.modules):
            if module not in known:
                raise UnsupportedError(f"{self._weights_file}: the model has no layer {module!r}")
            entries = [self._tensors.entry(self._names[module][part]) for part in "AB"]
            if odd := next((one.dtype for one in entries if not one.is_float), None):
                raise UnsupportedError(
                    f"{self._weights_file}: the update of {module!r} is of type {odd}; save it in F32, F16 or BF16"
                )
            down, up = (entry.shape for entry in entries)
            is_product = len(down) == len(up) == 2 and up[1] == down[0] > 0
            layer = known[module]
            if not is_product or layer not in (None, (up[0], down[1])):
                raise UnsupportedError(
                    f"{self._weights_file}: the update of {module!r} is {list(up)} times {list(down)}, the layer"
                    f" {list(layer or ('?', '?'))}"
                )

    def update(self, module: str) -> FloatArray:
        """What is added to the weight of `module`, float32 [out, in]. Reads it from the file."""
        down, up = (self._tensors.read(self._names[module][part]).astype(np.float32) for part in "AB")
        found: FloatArray = np.float32(scale_of(self.config, module, down.shape[0])) * (up @ down)
        return found

    def factors(self, module: str) -> tuple[FloatArray, FloatArray]:
        """Of what is added to the weight of `module`, float32 [rank, in] and [out, rank], which has the scale."""
        down, up = (self._tensors.read(self._names[module][part]).astype(np.float32) for part in "AB")
        return down, np.float32(scale_of(self.config, module, down.shape[0])) * up


def adapter_files(folder: Path) -> tuple[Path, Path]:
    """An adapter's configuration and weights in `folder`. Raises NotFoundError naming what is not there."""
    config = folder / ADAPTER_CONFIG
    pickle = folder / Path(ADAPTER_WEIGHTS).with_suffix(".bin")
    weights = next((folder / name for name in WEIGHT_NAMES if (folder / name).is_file()), None)
    if weights is None and pickle.is_file():
        raise UnsupportedError(
            f"{pickle} is a pickle, which can run code when loaded; save the adapter as safetensors"
        )
    if weights is None or not config.is_file():
        lacks = ADAPTER_CONFIG if weights else " or ".join(WEIGHT_NAMES)
        raise NotFoundError(f"adapter folder {folder} holds no {lacks}; train it or change the recipe")
    return config, weights
