"""Exports a language model with optimum-intel: run as a file in its environment, which has nothing of ours.

Lines in:  {"versions": [package, ...]}, or {"source": folder, "target": folder, "bits": 16, 8 or 4,
           "prompts": [[token ids], ...]}
Lines out: for each {"step": name} as it goes on, then one of {"versions": {package: version}}, {"done": true},
           {"refused": why}

It writes GRAPH_FILE with its weights, and before_N.npy: of prompt N the logits [tokens, vocabulary] of transformers
in float32. Code of a checkpoint's own and pickles are never loaded, and nothing is asked of a hub.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

GRAPH_FILE = "openvino_model.xml"
TASK = "text-generation-with-past"
# Inputs of one scale and minimum, as our own graph has them at 4 bits.
GROUP_SIZE = 32
# Gemma's rows stop at transformers 5.0 and are right with 5.5, windows included: tests compare them.
LIFTED = ("gemma", "gemma2", "gemma3_text")


class RefusedError(Exception):
    """What optimum-intel has no form for; the text says why."""


def export(request: dict[str, Any], say: Any) -> None:
    """Writes graph and logits."""
    import transformers

    source, target = Path(request["source"]), Path(request["target"])
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    check_type(config.model_type)
    say({"step": "load"})
    model = load(source, config)
    say({"step": "reference"})
    write_logits(model, request["prompts"], target)
    say({"step": "trace"})
    raw = target / "traced"
    trace(model, raw)
    del model
    say({"step": "write"})
    compress(raw, target / GRAPH_FILE, request["bits"])
    shutil.rmtree(raw)


def check_type(model_type: str) -> None:
    """Raises RefusedError for a model_type that is not exported with the transformers that is installed."""
    import transformers
    from optimum.exporters.openvino import model_configs  # noqa: F401 - fills the table
    from optimum.exporters.tasks import TasksManager
    from packaging.version import parse

    name = f"optimum-intel {version('optimum-intel')}"
    try:
        rows = TasksManager.get_supported_tasks_for_model_type(
            model_type, "openvino", library_name="transformers"
        )
    except KeyError:
        rows = {}
    if TASK not in rows:
        raise RefusedError(f"{name} exports no text generation of model_type {model_type!r}")
    row = getattr(rows[TASK], "func", rows[TASK])
    if model_type in LIFTED:
        row.MAX_TRANSFORMERS_VERSION = transformers.__version__
    least, most = (str(getattr(row, f"{end}_TRANSFORMERS_VERSION", "")) for end in ("MIN", "MAX"))
    have = parse(transformers.__version__)
    if (least and have < parse(least)) or (most and have > parse(most)):
        wanted = " and ".join(
            f"{word} {end}" for word, end in (("at least", least), ("at most", most)) if end
        )
        raise RefusedError(
            f"{name} exports model_type {model_type!r} with transformers {wanted}; {have} is installed"
        )


def load(source: Path, config: Any) -> Any:
    """The model in float32. Raises RefusedError where weights are missing or left over."""
    import torch
    import transformers

    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    for key, what in (
        ("missing_keys", "lacks the tensor"),
        ("unexpected_keys", "holds a tensor that transformers has no place for:"),
        ("mismatched_keys", "holds a tensor of another shape than config.json says:"),
    ):
        if names := sorted(map(str, found[key])):
            raise RefusedError(f"the checkpoint {what} {names[0]!r}")
    return model.eval()


def write_logits(model: Any, prompts: list[list[int]], target: Path) -> None:
    """before_N.npy of each prompt."""
    import numpy
    import torch

    for number, prompt in enumerate(prompts):
        with torch.no_grad():
            logits = model(torch.tensor([prompt]), use_cache=False).logits[0]
        numpy.save(target / f"before_{number}.npy", logits.float().numpy())


def trace(model: Any, target: Path) -> None:
    """The graph of `model` in float32, its keys and values as state."""
    from optimum.exporters.openvino import export_from_model
    from optimum.intel.openvino import OVConfig

    export_from_model(model, target, task=TASK, ov_config=OVConfig(dtype="fp32"), stateful=True)


def compress(source: Path, target: Path, bits: int) -> None:
    """Writes the graph with weights of 16, 8 or 4 bits; beside 4 tables of tokens have 8."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source / GRAPH_FILE)
    if bits == 8:
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    elif bits == 4:
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=GROUP_SIZE)
    openvino.save_model(model, target, compress_to_fp16=True)


def read_versions(names: list[str]) -> dict[str, str]:
    """Installed versions; "not installed" for one that is absent."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    """Answers what comes on standard input; libraries print to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

        def say(line: dict[str, Any]) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()

        for line in sys.stdin:
            say(answer(json.loads(line), say))


def answer(request: dict[str, Any], say: Any) -> dict[str, Any]:
    """The last line of a request."""
    if "versions" in request:
        return {"versions": read_versions(request["versions"])}
    try:
        export(request, say)
    except RefusedError as error:
        return {"refused": str(error)}
    except Exception as error:  # the libraries raise what they like
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {"refused": f"optimum-intel fails with {type(error).__name__}: {(lines or [''])[0][:300]}"}
    return {"done": True}


if __name__ == "__main__":
    main()
