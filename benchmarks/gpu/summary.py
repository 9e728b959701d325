"""From a run's results.jsonl: results/DATE-gpu.json and DATE-quantization-gpu.json for quantization.py."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
SERVER = "tritonserver 2.51.0"
SHAPE = "llama-3-8b-shape"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results.jsonl of run.py")
    parser.add_argument("--date", required=True)
    arguments = parser.parse_args()
    models: dict[str, dict[str, Any]] = {}
    contract = ""
    for line in arguments.results.read_text().splitlines():
        found = json.loads(line)
        if found.get("name") == "contract":
            contract = re.sub(r"=+", "", found["lines"][-1]).strip()
        _sort(models, found)
    for model in models.values():
        if "offline" in model and "triton" in model:
            ratio = model["triton"]["output_tokens_per_s"] / model["offline"]["output_tokens_per_s"]
            model["ratio"] = round(ratio, 3)
    gpu, versions = _machine(models)
    document = {"gpu": gpu, "versions": versions, "contract": contract, "models": models}
    _write(f"{arguments.date}-gpu.json", document)
    rows = [
        {
            "method": "none" if name == "bf16" else name,
            "bits": 16 if name == "bf16" else 4,
            "output_tokens_per_second": round(model["triton"]["output_tokens_per_s"]),
            "single_stream_tokens_per_second": round(model["triton"]["single_stream_tokens_per_s"]),
            "weights_gib": model["weights_gib"],
        }
        for name, model in sorted(models.items())
        if name != "default"
    ]
    through = f"{gpu} through {SERVER} with vLLM {versions['vllm']}, 64 streams"
    _write(f"{arguments.date}-quantization-gpu.json", {"machine": through, "model": SHAPE, "rows": rows})


def _sort(models: dict[str, dict[str, Any]], found: dict[str, Any]) -> None:
    kind, _, name = found.get("name", "").partition("-")
    if kind == "offline" and "output_tokens_per_s" in found:
        models.setdefault(name, {})["offline"] = _without(found, "at", "name", "model")
    elif kind == "triton" and found.get("ready"):
        models.setdefault(name, {})["weights_gib"] = found["weights_gib"]
    elif kind == "triton" and found.get("measured") == "throughput":
        used = {key.split(":")[0]: value for key, value in found["cpu_s"].items()}
        models[name]["processor_seconds"] = used
    elif kind == "client" and "mode" in found:
        name = name.rpartition("-")[0]
        models[name].setdefault("triton", {}).update(
            _without(found, "at", "name", "mode", "model", "text", "prompt")
        )


def _without(found: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in found.items()
        if key not in keys
    }


def _machine(models: dict[str, dict[str, Any]]) -> tuple[str, dict[str, str]]:
    offline = next(model["offline"] for model in models.values() if "offline" in model)
    return offline["gpu"], {**offline["versions"], "server": SERVER}


def _write(name: str, document: Any) -> None:
    (RESULTS / name).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
