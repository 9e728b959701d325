"""From a run's results.jsonl: results/NAME-gpu.json, NAME-SHAPE-quantization-gpu.json per shape, and docs/gpu.md.

Logs of streams.py and exported.py (lines RESULT {json}) can follow as further files. With no file, docs/gpu.md is
written anew from the results that are there.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
MARKS = ("<!-- begin: benchmarks/gpu/summary.py -->", "<!-- end -->")
SERVER = "tritonserver 2.51.0"
HEADER = (
    "checkpoint",
    "vLLM alone, tokens/s",
    "through Triton, tokens/s",
    "ratio",
    "one stream alone, tokens/s",
    "one stream, Triton",
    "first token, ms",
    "between tokens, ms",
    "weights, GiB",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="*", help="results.jsonl of run.py, and logs of streams.py")
    parser.add_argument("--name", help="what the results are called, such as 2026-11-24")
    arguments = parser.parse_args()
    if arguments.files:
        if not arguments.name:
            parser.error("give the results a --name")
        write_results(arguments.files, arguments.name)
    write_page()


def write_results(files: list[Path], name: str) -> None:
    models: dict[str, dict[str, Any]] = {}
    contract, exported = "", {}
    for found in (found for file in files for found in _read(file)):
        if found.get("name") == "contract" and found.get("lines"):
            contract = re.sub(r"=+", "", found["lines"][-1]).strip()
        if "export_s" in found:
            exported = {**exported, **_without(found, "name")}
        _sort(models, found)
    for model in models.values():
        if "output_tokens_per_s" in model.get("offline", {}) and "output_tokens_per_s" in model.get(
            "triton", {}
        ):
            ratio = model["triton"]["output_tokens_per_s"] / model["offline"]["output_tokens_per_s"]
            model["ratio"] = round(ratio, 3)
    gpu, versions = _machine(models)
    document = {
        "gpu": gpu,
        "versions": versions,
        "contract": contract,
        "exported": exported,
        "models": models,
    }
    _write(f"{name}-gpu.json", document)
    through = f"{gpu} through {SERVER} with vLLM {versions['vllm']}, run {name}"
    for shape in sorted({model["checkpoint"]["model"] for model in models.values() if "checkpoint" in model}):
        named = [
            model
            for _, model in sorted(
                models.items(), key=lambda item: (item[1]["checkpoint"]["bits"] != 16, item[0])
            )
        ]
        rows = [_row(model) for model in named if model["checkpoint"]["model"] == shape]
        slug = shape.rpartition("/")[2]
        measured = [row for row in rows if len(row) > len(_row({"checkpoint": {}}))]
        _write(f"{name}-{slug}-quantization-gpu.json", {"machine": through, "model": shape, "rows": measured})


def write_page() -> None:
    """The tables of all results between the marks of docs/gpu.md."""
    lines = []
    for path in sorted(RESULTS.glob("*-gpu.json")):
        document = json.loads(path.read_text())
        if "models" not in document:
            continue
        versions = ", ".join(
            f"{key} {value}" for key, value in document["versions"].items() if key != "server"
        )
        lines += [f"`{path.name}`, {document['gpu']}, {document['versions']['server']}, {versions}:", ""]
        rows = [HEADER, ("---", *["---:"] * (len(HEADER) - 1))]
        measured = {
            name: model for name, model in document["models"].items() if {"offline", "triton"} & set(model)
        }
        # Small models apart from large ones, the fastest first.
        order = sorted(measured, key=lambda name: (name.startswith("default"), -_speed(measured[name])))
        rows += [_cells(name, measured[name]) for name in order]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.append("")
        for name in order:
            if rate := measured[name].get("triton", {}).get("answers_tokens_per_s"):
                lines += [
                    f"`{name}` with each answer in one response: {rate:,.0f} tokens/s through Triton.",
                    "",
                ]
        if exported := document.get("exported"):
            lines += [*_exported_lines(exported), ""]
    before, begin, rest = PAGE.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no lines {MARKS[0]} and {MARKS[1]}")
    PAGE.write_text(before + begin + "\n\n" + "\n".join(lines) + "\n" + end + after)


def _exported_lines(found: dict[str, Any]) -> list[str]:
    """What exported.py says, as a paragraph."""
    group, seconds = found["instance_group"][0], found["export_s"]
    size = f"{found['bytes'] / 1e9:.1f} GB" if found["bytes"] >= 1e9 else f"{found['bytes'] / 1e6:.1f} MB"
    lines = [
        f"`build/export_llm.py --target gpu` took {seconds:.{0 if seconds >= 10 else 1}f} s and"
        f" {found['export_memory_mb']} MB of memory for `{found['checkpoint']}`, {size}, and wrote `{group}`."
    ]
    if "answers" in found:
        served = found["served_instance_group"][0]
        lines.append(
            f"tritonserver {found['server']} served that folder after {found['ready_after_s']:.0f} s on"
            f" {served['kind']} {served['gpus']} and answered {_quote_answers(found['answers'])}; after SIGTERM:"
            f" {found['stopped']}."
        )
    return lines


def _quote_answers(answers: list[dict[str, Any]]) -> str:
    """A streamed and a whole answer in words; a text that both have once."""
    said = [
        f"{'streamed' if answer['stream'] else 'whole'} in {answer['parts']}"
        f" {'response' if answer['parts'] == 1 else 'responses'}"
        for answer in answers
    ]
    texts = list(dict.fromkeys(answer["text"].strip() for answer in answers))
    quoted = " and ".join(f'"{text}"' for text in texts)
    return f"{' and '.join(said)} of {answers[0]['tokens'][1]} tokens: {quoted}"


def _read(file: Path) -> list[dict[str, Any]]:
    found = []
    for line in file.read_text().splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line[7:])
            name = f"client-{result['model']}-{result['mode']}" if "mode" in result else "exported"
            found.append({"name": name, **result})
        elif line.startswith("{"):
            found.append(json.loads(line))
    return found


def _row(model: dict[str, Any]) -> dict[str, Any]:
    checkpoint, served = model["checkpoint"], model.get("triton", {})
    row = {key: checkpoint.get(key) for key in ("method", "bits", "group_size")}
    row["weights_gib"] = model.get("weights_gib")
    names = {
        "output_tokens_per_second": "output_tokens_per_s",
        "single_stream_tokens_per_second": "single_stream_tokens_per_s",
    }
    return row | {name: round(served[key]) for name, key in names.items() if key in served}


def _speed(model: dict[str, Any]) -> float:
    speed: float = model.get("triton", {}).get("output_tokens_per_s", 0.0)
    return speed


def _cells(name: str, model: dict[str, Any]) -> tuple[str, ...]:
    alone, served = model.get("offline", {}), model.get("triton", {})

    def cell(part: dict[str, Any], key: str, form: str) -> str:
        return format(part[key], form) if key in part else "not measured"

    def note(part: dict[str, Any]) -> str:
        speed = cell(part, "output_tokens_per_s", ",.0f")
        return speed if "output_tokens_per_s" in part else part.get("failed", speed)

    return (
        name,
        note(alone),
        note(served),
        cell(model, "ratio", ".3f"),
        cell(alone, "single_stream_tokens_per_s", ",.0f"),
        cell(served, "single_stream_tokens_per_s", ",.0f"),
        cell(served, "ttft_ms_median", ".0f"),
        cell(served, "inter_token_ms_median", ".1f"),
        cell(model, "weights_gib", ".2f"),
    )


def _sort(models: dict[str, dict[str, Any]], found: dict[str, Any]) -> None:
    kind, _, name = found.get("name", "").partition("-")
    if kind == "offline" and "output_tokens_per_s" in found:
        models.setdefault(name, {})["offline"] = _without(found, "at", "name", "model")
    elif kind == "offline" and "tokens" in found:
        models.setdefault(name, {}).setdefault("offline", {"failed": _too_slow(found)})
    elif kind == "triton" and "checkpoint" in found:
        models.setdefault(name, {})["checkpoint"] = found["checkpoint"]
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
    elif kind == "client" and "tokens" in found:
        models[name.rpartition("-")[0]].setdefault("triton", {})["failed"] = _too_slow(found)


def _too_slow(found: dict[str, Any]) -> str:
    """A run that was given up after so many seconds of so many tokens: its speed is below their ratio."""
    return f"below {found['tokens'] / found['seconds']:,.0f}"


def _without(found: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in found.items()
        if key not in keys
    }


def _machine(models: dict[str, dict[str, Any]]) -> tuple[str, dict[str, str]]:
    offline = next(model["offline"] for model in models.values() if "gpu" in model.get("offline", {}))
    return offline["gpu"], {**offline["versions"], "server": SERVER}


def _write(name: str, document: Any) -> None:
    (RESULTS / name).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
