"""One model instance as Triton describes it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from trireme.artifacts.contracts import OVER_LENGTH
from trireme.artifacts.recipe import ATTENTION_TOKENS
from trireme.errors import SettingError
from trireme.types import OverLength

# The key of recipes.
ATTENTION = "max_attention_tokens"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model instance as Triton describes it. `device_id` is None on CPU.

    warms_up: whether the configuration asks for a warm-up before the model is ready. instances: how many there are.
    """

    name: str
    repository: Path
    version_dir: Path
    inputs: frozenset[str]
    parameters: dict[str, str]
    device_id: int | None
    warms_up: bool = False
    instance: str = ""
    instances: int = 1
    outputs: frozenset[str] = frozenset()

    def read_int(self, key: str) -> int:
        """A whole number from the configuration's parameters; SettingError names a missing or bad one."""
        raw = self.read_text(key)
        if not raw.isdecimal():
            raise SettingError(f"parameter {key} of model {self.name} must be a whole number, got {raw!r}")
        return int(raw)

    def read_number(self, key: str) -> float:
        """A number of at least 0 from the parameters; SettingError names a missing or bad one."""
        raw = self.read_text(key)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", raw):
            raise SettingError(f"parameter {key} of model {self.name} must be a number, got {raw!r}")
        return float(raw)

    def read_flag(self, key: str) -> bool:
        """true or false from the parameters; SettingError names a missing or bad one."""
        raw = self.read_text(key)
        if raw not in ("true", "false"):
            raise SettingError(f"parameter {key} of model {self.name} must be true or false, got {raw!r}")
        return raw == "true"

    def read_over_length(self) -> OverLength:
        """What becomes of a text that is too long; configurations of before there was a choice cut it."""
        raw = self.parameters.get(OVER_LENGTH, "truncate")
        if raw not in get_args(OverLength):
            raise SettingError(
                f"parameter {OVER_LENGTH} of model {self.name} must be one of"
                f" {', '.join(get_args(OverLength))}, got {raw!r}"
            )
        return cast("OverLength", raw)

    def read_attention(self) -> int:
        """Pairs of tokens of a micro-batch; of older configurations as many as a recipe has without the key."""
        return self.read_int(ATTENTION) ** 2 if ATTENTION in self.parameters else ATTENTION_TOKENS**2

    def read_text(self, key: str) -> str:
        """A parameter as text; SettingError where it is missing."""
        if key not in self.parameters:
            raise SettingError(f"config.pbtxt of model {self.name} lacks the parameter {key}; write it again")
        return self.parameters[key]


def read_model_config(args: dict[str, str], known: frozenset[str]) -> ModelConfig:
    """The arguments of `initialize`. A parameter outside `known` raises SettingError naming it."""
    config = json.loads(args["model_config"])
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    model_dir = Path(args["model_repository"])
    for key in parameters:
        if key not in known:
            raise SettingError(f"unknown parameter {key} in config.pbtxt of model {args['model_name']}")
    return ModelConfig(
        name=args["model_name"],
        repository=model_dir.parent,
        version_dir=model_dir / args["model_version"],
        inputs=frozenset(tensor["name"] for tensor in config["input"]),
        parameters=parameters,
        device_id=int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None,
        warms_up=bool(config.get("model_warmup")),
        instance=args.get("model_instance_name", args["model_name"]),
        outputs=frozenset(tensor["name"] for tensor in config.get("output", ())),
        instances=sum(group.get("count", 1) for group in config.get("instance_group", ())) or 1,
    )
