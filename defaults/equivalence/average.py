"""The adapter that is shipped: the weighted mean of the updates of several runs, in one adapter of the same rank.

    python average.py --out OUT --strength .67 RUN=2 RUN=1 RUN=1

The mean of the weights that runs end at generalizes better than the longest of them (Wortsman et al., "Model
soups", 2022). The mean of the low-rank updates is cut to the rank by its singular values.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    """Writes adapter.safetensors and adapter_config.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--strength", type=float, default=1.0, help="how much of the evidence is added to the cosine"
    )
    parser.add_argument("--base-sha256", help="of the base's weights, where training read a copy of them")
    parser.add_argument("runs", nargs="+", help="FOLDER=WEIGHT")
    given = parser.parse_args()
    parts = [(Path(run.rsplit("=", 1)[0]), float(run.rsplit("=", 1)[1])) for run in given.runs]
    total = sum(weight for _, weight in parts)
    states = [(load_file(folder / "adapter.safetensors"), weight / total) for folder, weight in parts]
    mean = {name: value.clone() for name, value in states[0][0].items()}
    for name, value in mean.items():
        if name.endswith(".up"):
            down = name.removesuffix("up") + "down"
            update = torch.stack([w * (s[name].double() @ s[down].double()) for s, w in states]).sum(0)
            left, size, right = torch.linalg.svd(update, full_matrices=False)
            root = size[: value.shape[1]].sqrt()
            mean[down] = (root[:, None] * right[: len(root)]).to(value.dtype).contiguous()
            mean[name] = (left[:, : len(root)] * root).to(value.dtype).contiguous()
        elif value.is_floating_point() and not name.endswith(".down"):
            mean[name] = torch.stack([w * s[name].double() for s, w in states]).sum(0).to(value.dtype)
    config = json.loads((parts[0][0] / "adapter_config.json").read_text(encoding="utf-8"))
    config["settings"]["strength"] = given.strength
    config["base_sha256"] = given.base_sha256 or config["base_sha256"]
    given.out.mkdir(parents=True, exist_ok=True)
    save_file(mean, given.out / "adapter.safetensors")
    (given.out / "adapter.safetensors").chmod(0o644)
    (given.out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
