"""Puts what pooling.py measured into results/DATE-gpu-pooling.json and docs/gpu-encoders.md."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.report import DOCS, RESULTS, render, write_json, write_section
from benchmarks.gpu.pooling_models import RERANKER

ENGINES = {"vllm": "vLLM alone", "ours-vllm": "ours, engine vllm", "ours-torch": "ours, engine torch"}


@dataclass(frozen=True, slots=True)
class Line:
    """One model on one engine. rate: tokens per second, None where it was not measured, and `error` says why.

    embed_rate: of LLM.embed, which makes lists of Python of its vectors. ratio: rate over that of vLLM alone.
    Cosines are of vectors; rank_correlation and score_difference of a reranker's scores.
    """

    model: str
    engine: str
    start_s: float | None
    rate: float | None
    embed_rate: float | None
    ratio: float | None
    cosine_min: float | None
    cosine_median: float | None
    centred_min: float | None
    rank_correlation: float | None
    score_difference: float | None
    is_within: bool | None
    error: str


def read_lines(document: dict[str, Any]) -> list[Line]:
    """A line for each model and engine that was tried, in the order in which they were."""
    lines = []
    for model, engines in document["models"].items():
        base = engines.get("vllm", {}).get("tokens_per_s")
        for engine, found in engines.items():
            rate = found.get("tokens_per_s")
            lines.append(
                Line(
                    model,
                    ENGINES[engine],
                    found.get("ready_s"),
                    rate,
                    found.get("embed_tokens_per_s"),
                    rate / base if rate and base else None,
                    found.get("cosine_min"),
                    found.get("cosine_median"),
                    found.get("centred_min"),
                    found.get("rank_correlation"),
                    found.get("score_difference"),
                    found.get("within_bounds"),
                    found.get("error", ""),
                )
            )
    return lines


def format_section(document: dict[str, Any]) -> str:
    """The tables, and what was said of them beforehand."""
    deaths = [
        engines["ours-vllm"]["death"]
        for engines in document["models"].values()
        if "death" in engines.get("ours-vllm", {})
    ]
    alike = {
        model: found["between_texts_median"]
        for model, engines in document["models"].items()
        for found in list(engines.values())[:1]
        if "between_texts_median" in found
    }
    lines = read_lines(document)
    return render(
        "gpu/pooling_page.md.j2",
        lines=[line for line in lines if line.model != RERANKER],
        scored=[line for line in lines if line.model == RERANKER],
        every=lines,
        score_bounds=document.get("score_bounds"),
        machine=document["machine"],
        rows=document["rows"],
        bounds=document["bounds"],
        deaths=deaths,
        alike=alike,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="pool.json, as pooling.py wrote it")
    arguments = parser.parse_args()
    document = json.loads(arguments.result.read_text(encoding="utf-8"))
    write_json(RESULTS / f"{document['machine']['when']}-gpu-pooling.json", document)
    write_section(DOCS / "gpu-encoders.md", "pooling", format_section(document))


if __name__ == "__main__":
    main()
