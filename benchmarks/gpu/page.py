"""From a run's results.jsonl: results/NAME-gpu.json, NAME-SHAPE-quantization-gpu.json per shape, and docs/gpu.md.

Logs of streams.py and exported.py (lines RESULT {json}) can follow as further files. With no file, docs/gpu.md is
written anew from the results that are there.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.report import DOCS, RESULTS, read_json, render, write_json, write_section

SERVER = "tritonserver 2.51.0"
SPEED = "output_tokens_per_s"
Line = dict[str, Any]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*", help="results.jsonl of run.py, and logs of streams.py")
    parser.add_argument("--name", help="what the results are called, such as 2026-11-24")
    arguments = parser.parse_args(words)
    if arguments.files:
        if not arguments.name:
            parser.error("give the results a --name")
        write_results(arguments.files, arguments.name)
    write_section(DOCS / "gpu.md", "benchmarks.gpu.page", format_results(RESULTS))


def write_results(files: list[Path], name: str) -> None:
    """One file of all models, and for each shape one of the speeds that docs/quantization.md shows."""
    models: dict[str, Line] = {}
    contract, exported = "", {}
    for found in (found for file in files for found in _read(file)):
        if found.get("name") == "contract" and found.get("lines"):
            contract = re.sub(r"=+", "", found["lines"][-1]).strip()
        if "export_s" in found:
            exported |= _without(found, "name")
        sort_line(models, found)
    for model in models.values():
        speeds = [model.get(way, {}).get(SPEED) for way in ("triton", "offline")]
        if all(speeds):
            model["ratio"] = round(speeds[0] / speeds[1], 3)
    offline = next(model["offline"] for model in models.values() if "gpu" in model.get("offline", {}))
    gpu, versions = offline["gpu"], {**offline["versions"], "server": SERVER}
    document = {"gpu": gpu, "versions": versions, "contract": contract}
    write_json(RESULTS / f"{name}-gpu.json", {**document, "exported": exported, "models": models})
    through = f"{gpu} through {SERVER} with vLLM {versions['vllm']}, run {name}"
    known = [(name, model) for name, model in models.items() if "checkpoint" in model]
    order = sorted(known, key=lambda item: (item[1]["checkpoint"]["bits"] != 16, item[0]))
    for shape in sorted({model["checkpoint"]["model"] for _, model in order}):
        of_shape = (model for _, model in order if model["checkpoint"]["model"] == shape)
        rows = [row for model in of_shape if (row := _row(model))]
        path = RESULTS / f"{name}-{shape.rpartition('/')[2]}-quantization-gpu.json"
        write_json(path, {"machine": through, "model": shape, "rows": rows})


def format_results(results: Path) -> str:
    """The tables of all results in a folder."""
    found = [(path.name, read_json(path)) for path in sorted(results.glob("*-gpu.json"))]
    documents = [(name, document) for name, document in found if "models" in document]
    return render("gpu/page.md.j2", documents=documents, sort=_sort_models, texts=_list_texts)


def _sort_models(models: Mapping[str, Line]) -> list[tuple[str, Line]]:
    """Those that were measured: small models apart from large ones, the fastest first."""
    measured = [(name, model) for name, model in models.items() if {"offline", "triton"} & set(model)]

    def place(item: tuple[str, Line]) -> tuple[bool, float]:
        return item[0].startswith("default"), -item[1].get("triton", {}).get(SPEED, 0.0)

    return sorted(measured, key=place)


def _list_texts(answers: Sequence[Line]) -> list[str]:
    """A text that both answers have once."""
    return list(dict.fromkeys(answer["text"].strip() for answer in answers))


def _read(file: Path) -> Iterator[Line]:
    for line in file.read_text().splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line[7:])
            name = f"client-{result['model']}-{result['mode']}" if "mode" in result else "exported"
            yield {"name": name, **result}
        elif line.startswith("{"):
            yield json.loads(line)


def _row(model: Line) -> Line | None:
    """What docs/quantization.md shows of a model; None where no speed was measured."""
    checkpoint, served = model["checkpoint"], model.get("triton", {})
    row = {key: checkpoint.get(key) for key in ("method", "bits", "group_size")}
    row["weights_gib"] = model.get("weights_gib")
    names = {
        SPEED: "output_tokens_per_second",
        "single_stream_tokens_per_s": "single_stream_tokens_per_second",
    }
    speeds = {name: round(served[key]) for key, name in names.items() if key in served}
    return {**row, **speeds} if speeds else None


def sort_line(models: dict[str, Line], found: Line) -> None:
    """Adds what a line of a run says to the model that it is of."""
    kind, _, name = found.get("name", "").partition("-")
    if kind == "client":
        name = name.rpartition("-")[0]
    model = models.get(name, {})
    if kind == "offline" and SPEED in found:
        model["offline"] = _without(found, "at", "name", "model")
    elif kind == "offline" and "tokens" in found:
        model.setdefault("offline", {"failed": _too_slow(found)})
    elif kind == "triton" and "checkpoint" in found:
        model["checkpoint"] = found["checkpoint"]
    elif kind == "triton" and found.get("ready"):
        model["weights_gib"] = found["weights_gib"]
    elif kind == "triton" and found.get("measured") == "throughput":
        model["processor_seconds"] = {key.split(":")[0]: value for key, value in found["cpu_s"].items()}
    elif kind == "client" and "mode" in found:
        said = _without(found, "at", "name", "mode", "model", "text", "prompt")
        place = model.setdefault("signals" if found["mode"] == "signals" else "triton", {})
        place.update(said)
    elif kind == "client" and "tokens" in found:
        model.setdefault("triton", {})["failed"] = _too_slow(found)
    if model:
        models[name] = model


def _too_slow(found: Line) -> str:
    """A run that was given up after so many seconds of so many tokens: its speed is below their ratio."""
    return f"below {found['tokens'] / found['seconds']:,.0f}"


def _without(found: Line, *keys: str) -> Line:
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in found.items()
        if key not in keys
    }


if __name__ == "__main__":
    main()
