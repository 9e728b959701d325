"""results/DATE-gpu-encoders.json and tables, from the lines of encoders.py and encoder_server.py."""

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results.jsonl files, of one machine")
    parser.add_argument("--server", type=Path, required=True, help="server.jsonl")
    parser.add_argument(
        "--texts", type=Path, required=True, help="the run's folder with texts.json and minilm/"
    )
    parser.add_argument("--date", required=True)
    parser.add_argument("--gpu", default="NVIDIA H200")
    arguments = parser.parse_args()
    loads = _count(arguments.texts)
    models, peaks = _read([_lines(path) for path in arguments.results], loads)
    document = {
        "gpu": arguments.gpu,
        "versions": {
            "torch": "2.11.0+cu130",
            "vllm": "0.24.0",
            "sentence-transformers": "6.0.1",
            "transformers": "5.17.0",
            "triton (language)": "3.6.0",
            "tritonserver": "2.51.0",
        },
        "precision": "fp16",
        "loads": loads,
        "peaks": peaks,
        "models": models,
        "server": [line for line in _lines(arguments.server) if "texts_per_s" in line],
    }
    target = RESULTS / f"{arguments.date}-gpu-encoders.json"
    target.write_text(json.dumps(_rounded(document), indent=1) + "\n")
    print_tables(document)


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
        found[name] = {
            "texts": len(texts),
            "tokens": sum(counts),
            "shortest": min(counts),
            "longest": max(counts),
        }
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


def print_tables(document: dict[str, Any]) -> None:
    """The tables of docs/gpu-encoders.md."""
    print(
        "| model | texts | ours | vLLM | ratio | transformers, padded | ratio |\n| - | - | - | - | - | - | - |"
    )
    for model, load, way, row in _rows(document, ("ids",)):
        del way
        print(f"| {model} | {load} | {row} |")
    print(
        "\n| model | texts | ours, 1 thread | ours, 4 threads | vLLM | ratio | sentence-transformers | ratio |"
    )
    print("| - | - | - | - | - | - | - | - |")
    for model, by_load in document["models"].items():
        for load, engines in by_load.items():
            rate = {name: figures["texts_per_s"] for name, figures in engines.items()}
            one, four = rate["packed"]["texts"], rate["packed"]["texts_threads"]
            vllm, sentence = rate["vllm"]["texts"], rate["sentence"]["texts"]
            print(
                f"| {model} | {load} | {one:,.0f} | {four:,.0f} | {vllm:,.0f} | {one / vllm:.1f} "
                f"| {sentence:,.0f} | {one / sentence:.1f} |"
            )
    print(
        "\n| model | texts | tokens in a batch | GPU, ms | whole run, ms | M tokens/s | TFLOP/s | of the peak |"
    )
    print("| - | - | - | - | - | - | - | - |")
    peak = max(found["gemm_tflops"] for found in document["peaks"])
    for model, by_load in document["models"].items():
        for load, engines in by_load.items():
            for batch in engines["packed"].get("batches", {}).values():
                rate = batch["tokens"] / batch["gpu_ms"] / 1000
                print(
                    f"| {model} | {load} | {batch['tokens']:,} | {batch['gpu_ms']:.2f} | {batch['run_ms']:.2f} "
                    f"| {rate:.2f} | {batch['tflops']:.0f} | {100 * batch['tflops'] / peak:.0f} % |"
                )
    print(
        "\n| instances | texts | requests at once | texts in each | texts/s | median, ms | 99 %, ms | stub cores |"
    )
    print("| - | - | - | - | - | - | - | - |")
    for line in document["server"]:
        stubs = sum(cores for name, cores in line["cores"].items() if name.startswith("triton_python"))
        print(
            f"| {line['model'].rpartition('-')[2]} | {line['load']} | {line['concurrency']} | {line['batch']} "
            f"| {line['texts_per_s']:,.0f} | {line['p50_ms']:.1f} | {line['p99_ms']:.1f} | {stubs:.1f} |"
        )


def _rows(document: dict[str, Any], ways: tuple[str, ...]) -> Iterable[tuple[str, str, str, str]]:
    for model, by_load in document["models"].items():
        for load, engines in by_load.items():
            for way in ways:
                rate = {name: figures["tokens_per_s"][way] / 1e6 for name, figures in engines.items()}
                ours, vllm, padded = rate["packed"], rate["vllm"], rate["sentence"]
                yield (
                    model,
                    load,
                    way,
                    f"{ours:.2f} | {vllm:.2f} | {ours / vllm:.1f} | {padded:.2f} | {ours / padded:.1f}",
                )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
