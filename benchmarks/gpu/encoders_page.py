"""Writes results/DATE-gpu-encoders.json and prints tables, from the lines of encoders.py and encoder_server.py."""

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.common.report import RESULTS, render, write_json

VERSIONS = {
    "torch": "2.11.0+cu130",
    "vllm": "0.24.0",
    "sentence-transformers": "6.0.1",
    "transformers": "5.17.0",
    "triton (language)": "3.6.0",
    "tritonserver": "2.51.0",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results.jsonl files, of one machine")
    parser.add_argument("--server", type=Path, required=True, help="server.jsonl")
    folder = "the run's folder with texts.json and minilm/"
    parser.add_argument("--texts", type=Path, required=True, help=folder)
    parser.add_argument("--date", required=True)
    parser.add_argument("--gpu", default="NVIDIA H200")
    arguments = parser.parse_args()
    loads = _count(arguments.texts)
    models, peaks = _read([_lines(path) for path in arguments.results], loads)
    served = [line for line in _lines(arguments.server) if "texts_per_s" in line]
    document = {"gpu": arguments.gpu, "versions": VERSIONS, "precision": "fp16", "loads": loads}
    document |= {"peaks": peaks, "models": models, "server": served}
    write_json(RESULTS / f"{arguments.date}-gpu-encoders.json", _rounded(document))
    print(format_tables(document))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _count(folder: Path) -> dict[str, dict[str, float]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "minilm" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    found = {}
    for name, texts in json.loads((folder / "texts.json").read_text())["texts"].items():
        counts = [len(encoded.ids) for encoded in tokenizer.encode_batch(texts)]
        found[name] = {"texts": len(texts), "tokens": sum(counts)}
        found[name] |= {"shortest": min(counts), "longest": max(counts)}
    return found


def _read(
    files: Iterable[list[dict[str, Any]]], loads: dict[str, dict[str, float]]
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Figures by model, load and engine; the passes of the first file alone, where all engines took turns."""
    models: dict[str, Any] = {}
    peaks = []
    for number, lines in enumerate(files):
        for line in lines:
            if "gemm_tflops" in line:
                peaks.append({key: line[key] for key in ("gemm_tflops", "copy_tb_per_s")})
            if "model" not in line or not line["model"]:
                continue
            engine = line["engine"].partition("-")[0]
            place = models.setdefault(line["model"], {}).setdefault(line["load"], {}).setdefault(engine, {})
            if "seconds" in line and number == 0:
                for way, seconds in line["seconds"].items():
                    place.setdefault("seconds", {}).setdefault(way, []).append(seconds)
            place |= {key: line[key] for key in ("cosine_min", "single_ms", "batches") if key in line}
    for by_load in models.values():
        for load, engines in by_load.items():
            for figures in engines.values():
                medians = {way: statistics.median(all_) for way, all_ in figures.get("seconds", {}).items()}
                figures["texts_per_s"] = {way: loads[load]["texts"] / s for way, s in medians.items()}
                figures["tokens_per_s"] = {way: loads[load]["tokens"] / s for way, s in medians.items()}
                figures["passes"] = len(next(iter(figures.get("seconds", {"": []}).values())))
    return models, peaks


def format_tables(document: dict[str, Any]) -> str:
    """The tables of docs/gpu-encoders.md; rates of tokens are in millions."""
    rows, batches = [], []
    for model, by_load in document["models"].items():
        for load, engines in by_load.items():
            rates = {name: figures["texts_per_s"] for name, figures in engines.items()}
            tokens = {
                name: {way: rate / 1e6 for way, rate in figures["tokens_per_s"].items()}
                for name, figures in engines.items()
            }
            rows.append((model, load, rates, tokens))
            batches += [(model, load, one) for one in engines["packed"].get("batches", {}).values()]

    def stubs(line: dict[str, Any]) -> float:
        return sum(cores for name, cores in line["cores"].items() if name.startswith("triton_python"))

    return render(
        "gpu/encoders_page.md.j2",
        rows=rows,
        batches=batches,
        peak=max(found["gemm_tflops"] for found in document["peaks"]),
        server=[(line, stubs(line)) for line in document["server"]],
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
