"""nDCG@10 of every engine that embeds in process, and of our fp32 build, on one BEIR folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from bench_contenders import Bench
from bench_models import FP32
from bench_results import OURS, OURS_IN_PROCESS, ST, QualityFigure
from bench_scenarios import Runner
from contenders import Contender, WorkerContender
from quality import rank_by_cosine
from report import show_progress_note

from trireme.errors import NotFoundError, UnavailableError
from trireme.quality import evaluate, read_beir


def measure_quality(bench: Bench, ready: Mapping[str, Contender], runner: Runner) -> list[QualityFigure]:
    """nDCG@10 of every engine that runs in process, and of our fp32 build; none without a BEIR folder."""
    if bench.data is None:
        return []
    try:
        beir = read_beir(bench.data, "dev")
    except NotFoundError:
        beir = read_beir(bench.data)
    passages = {key: text for key, text in beir.corpus.items() if text.strip()}
    queries = {key: text for key, text in beir.queries.items() if text.strip()}
    file, out = bench.folder / "quality.json", bench.folder / "vectors.npy"
    file.write_text(json.dumps({"texts": [*passages.values(), *queries.values()]}), encoding="utf-8")
    engines = {"fp32": start_fp32(bench)}
    named = {OURS: OURS_IN_PROCESS}
    for name in (OURS, *(n for n in ready if n.startswith(ST) and n.endswith(("int8", "bf16")))):
        found = ready.get(named.get(name, name))
        if isinstance(found, WorkerContender):
            engines[name] = found
    figures = []
    for name, worker in engines.items():
        if runner.is_late():
            runner.left_out.append(f"nDCG@10 of {name}")
            continue
        show_progress_note(f"nDCG@10 of {name}")
        try:
            worker.ask(do="vectors", file=str(file), out=str(out))
        except UnavailableError as error:
            show_progress_note(f"no nDCG@10 of {name}: {error}")
            continue
        vectors = np.load(out)
        ranked = rank_by_cosine(vectors[len(passages) :], vectors[: len(passages)], list(passages))
        found_figures = evaluate(beir.name, dict(zip(queries, ranked, strict=True)), beir.qrels)
        figures.append(QualityFigure(name, beir.name, found_figures.queries, found_figures.ndcg_at_10))
    engines["fp32"].stop()
    return figures


def start_fp32(bench: Bench) -> WorkerContender:
    """Our fp32 build in process; a job to one that does not start raises UnavailableError."""
    worker = WorkerContender(
        "fp32",
        "our fp32 build on ONNX Runtime",
        python=Path(sys.executable),
        engine="trireme/fp32",
        model=bench.models.path(FP32),
        work=bench.work,
        threads=0,
    )
    try:
        worker.start()
    except UnavailableError as error:
        show_progress_note(f"no fp32 to compare with: {error}")
    return worker
