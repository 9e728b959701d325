"""Merges a LoRA adapter (PEFT: adapter_config.json, adapter_model.safetensors) into its base checkpoint.

W + scale * B A for each adapted weight W (Hu et al., "LoRA", 2021); what was trained whole takes W's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trireme.checkpoints.config import (
    WEIGHTS_FILE,
    find_variant,
    read_json,
    read_list,
    read_optional,
    refuse,
)
from trireme.checkpoints.families import FAMILIES
from trireme.checkpoints.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PREFIX, read_lora_config, scale_of
from trireme.errors import UnsupportedError
from trireme.export.sentence_files import MODULES_FILE

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = dict[str, Tensor]


@contextmanager
def merged_source(folder: Path, cache: Path) -> Iterator[Path]:
    """`folder`; where it holds an adapter, a folder with the merged checkpoint, removed at the end.

    Raises UnsupportedError for an adapter that is no plain LoRA or whose base is not there.
    """
    place = _find_adapter(folder)
    if place is None:
        yield folder
        return
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache, prefix="merged-") as temporary:
        target = Path(temporary)
        mirror(folder, target)
        _merge(place, target / place.relative_to(folder))
        yield target


def mirror(folder: Path, target: Path) -> None:
    """Links every file below `folder` into `target`, which may hold others already."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            link = target / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())


def _find_adapter(folder: Path) -> Path | None:
    modules = folder / MODULES_FILE
    place = folder / str(read_list(modules)[0].get("path", "")) if modules.is_file() else folder
    return place if (place / ADAPTER_CONFIG).is_file() else None


def _merge(source: Path, target: Path) -> None:
    """Puts the merged weights, a config.json and the tokenizer of adapter `source` into `target`, its mirror."""
    from safetensors.torch import load_file, save_file

    config = read_lora_config(source / ADAPTER_CONFIG)
    if not (source / ADAPTER_WEIGHTS).is_file():
        raise UnsupportedError(f"{source} holds no {ADAPTER_WEIGHTS}; save the adapter as safetensors")
    base = _find_base(source, config)
    _take_files(base, source, target)
    model = read_json(target / "config.json")
    weights = _load_base(base, str(model.get("model_type")))
    _apply(source / ADAPTER_CONFIG, config, load_file(source / ADAPTER_WEIGHTS), weights)
    _describe_head(target / "config.json", config, model, weights)
    for path in [*target.glob("*.safetensors*"), target / ADAPTER_CONFIG]:
        path.unlink()
    save_file({name: value.contiguous() for name, value in weights.items()}, target / WEIGHTS_FILE)


def _find_base(source: Path, config: dict[str, Any]) -> Path:
    """The folder that base_model_name_or_path names, else the adapter's own where the base stands beside it."""
    name = str(config.get("base_model_name_or_path") or "")
    for folder in (Path(name), source / name):
        if name and folder.is_dir() and folder.resolve() != source.resolve():
            find_variant(folder)
            return folder
    if (source / "config.json").is_file() and any(
        path.name != ADAPTER_WEIGHTS for path in source.glob("*.safetensors")
    ):
        return source
    raise refuse(
        source / ADAPTER_CONFIG,
        "base_model_name_or_path",
        name,
        "this is no folder here; download the base and name its folder, or put the adapter's files into it",
    )


def _take_files(base: Path, source: Path, target: Path) -> None:
    """Links the base's config and tokenizer where the adapter has none of its own."""
    has_tokenizer = any((source / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    for path in sorted(base.iterdir()):
        is_config = path.name == "config.json"
        is_tokenizer = path.suffix in (".json", ".txt", ".model") and not is_config
        belongs = is_config or (is_tokenizer and not has_tokenizer)
        # What sentence-transformers says of the base is no part of the adapter's model.
        if path.name == MODULES_FILE or path.name.startswith(("config_sentence", "sentence_", "adapter_")):
            continue
        if (
            path.is_file()
            and belongs
            and ".safetensors" not in path.name
            and not (target / path.name).exists()
        ):
            (target / path.name).symlink_to(path.resolve())


def _load_base(base: Path, family: str) -> Tensors:
    """The base's tensors in float32, the encoder's under the names of a model with a head."""
    from safetensors.torch import load_file

    variant = find_variant(base)
    index = base / (f"{WEIGHTS_FILE}.index.{variant}.json" if variant else f"{WEIGHTS_FILE}.index.json")
    shards = set(read_optional(index).get("weight_map", {}).values())
    names = sorted(shards) or [f"model.{variant}.safetensors" if variant else WEIGHTS_FILE]
    if outside := [name for name in names if Path(name).name != name]:
        raise UnsupportedError(f"{index} names a file outside its folder: {outside[0]!r}")
    weights: Tensors = {}
    for name in names:
        for key, value in load_file(base / name).items():
            weights[key] = value.float() if value.is_floating_point() else value
    prefix = f"{FAMILIES[family].prefix}." if family in FAMILIES else ""
    is_bare = not any(key.startswith(prefix) for key in weights)
    return {prefix + key: value for key, value in weights.items()} if is_bare else weights


def _apply(path: Path, config: dict[str, Any], adapter: Tensors, weights: Tensors) -> None:
    """Changes `weights`: adds each low-rank update, and takes over what was trained whole."""
    left = {name.removeprefix(PREFIX): value.float() for name, value in adapter.items()}
    for name in sorted(left):
        match = re.fullmatch(r"(.+)\.lora_(embedding_)?A(\.weight)?", name)
        if match is None:
            continue
        module, kind, end = match[1], match[2] or "", match[3] or ""
        down, up = left.pop(name), left.pop(f"{module}.lora_{kind}B{end}", None)
        target = _find_weight(f"{module}.weight", weights)
        if up is None or target is None:
            raise UnsupportedError(
                f"{path.parent / ADAPTER_WEIGHTS}: {name!r} has no place in the base model"
            )
        update = (down.T @ up.T) if kind else (up @ down)
        if update.shape != weights[target].shape:
            raise UnsupportedError(
                f"{path.parent / ADAPTER_WEIGHTS}: {name!r} has another shape than the base"
            )
        weights[target] = weights[target] + scale_of(config, module, down.shape[0]) * update
    for name, value in left.items():
        if "lora_" in name:
            raise UnsupportedError(f"{path.parent / ADAPTER_WEIGHTS}: {name!r} is not supported")
        plain = re.sub(r"\.(modules_to_save|original_module)(\.default)?", "", name)
        weights[_find_weight(plain, weights) or plain] = value


def _find_weight(name: str, weights: Tensors) -> str | None:
    """The weight of that name, of a model with or without a head."""
    candidates = [name, *(f"{family.prefix}.{name}" for family in FAMILIES.values())]
    return next((candidate for candidate in candidates if candidate in weights), None)


def _describe_head(path: Path, config: dict[str, Any], model: dict[str, Any], weights: Tensors) -> None:
    """A classifier's adapter brings the head: config.json of the base knows neither head nor labels."""
    last = next((n for n in ("classifier.out_proj.weight", "classifier.weight") if n in weights), None)
    if config.get("task_type") != "SEQ_CLS" or last is None:
        return
    labels = weights[last].shape[0]
    if len(model.get("id2label") or {"0": "", "1": ""}) != labels:
        model["id2label"] = {str(number): f"LABEL_{number}" for number in range(labels)}
        model["label2id"] = {name: int(number) for number, name in model["id2label"].items()}
    family = FAMILIES.get(model["model_type"])
    model["architectures"] = [f"{family.class_name if family else ''}ForSequenceClassification"]
    path.unlink()
    path.write_text(json.dumps(model, indent=2), encoding="utf-8")
