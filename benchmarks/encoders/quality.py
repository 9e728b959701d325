"""nDCG@10 of every engine that embeds in process, and of our fp32 build, on one BEIR folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.common.report import show_progress_note
from benchmarks.encoders.contenders import Contender
from benchmarks.encoders.lineup import Bench
from benchmarks.encoders.results import FP32_IN_PROCESS, OURS, OURS_IN_PROCESS, ST, QualityFigure
from benchmarks.encoders.scenarios import RANKING, Runner
from benchmarks.search.ranking import leave_out_blank, rank_by_cosine
from trireme.errors import NotFoundError, UnavailableError
from trireme.quality import BeirData, evaluate, read_beir

COMPARED_TEXTS = 40


def measure_quality(
    bench: Bench, ready: Mapping[str, Contender], runner: Runner, *, rivals: bool
) -> list[QualityFigure]:
    """nDCG@10 of every library, or of our served files and our fp32 build; none without a BEIR folder."""
    if bench.data is None:
        return []
    try:
        beir = read_beir(bench.data, "dev")
    except NotFoundError:
        beir = read_beir(bench.data)
    # What runs through Triton are the same files and micro-batches.
    engines = {
        OURS if name == OURS_IN_PROCESS else name: ready[name] for name in ready if _ranks(name, rivals)
    }
    figures = []
    for name, contender in engines.items():
        if runner.is_late():
            runner.left_out.append(f"nDCG@10 of {name}")
            continue
        show_progress_note(f"nDCG@10 of {name}")
        try:
            figures.append(rank(name, contender, beir))
        except UnavailableError as error:
            show_progress_note(f"no nDCG@10 of {name}: {error}")
    return figures


def _ranks(name: str, rivals: bool) -> bool:
    if rivals:
        return name.startswith(ST) and name.endswith("int8")
    return name in (FP32_IN_PROCESS, OURS_IN_PROCESS)


def rank(name: str, contender: Contender, beir: BeirData) -> QualityFigure:
    """All passages for every judged query by exact cosine. Blocks; raises UnavailableError."""
    passages, queries = leave_out_blank(beir.corpus), leave_out_blank(beir.queries)
    vectors = contender.embed([*passages.values(), *queries.values()])
    ranked = rank_by_cosine(vectors[len(passages) :], vectors[: len(passages)], list(passages))
    found = evaluate(beir.name, dict(zip(queries, ranked, strict=True)), beir.qrels)
    return QualityFigure(name, beir.name, found.queries, found.ndcg_at_10)


def compare_vectors(ready: Mapping[str, Contender], texts: Sequence[str]) -> dict[str, float]:
    """Contender -> the smallest cosine of its vectors to fp32's, of those that embed. Empty without fp32.

    Texts that fill the model are among the first of workload c: another limit or pooling would show.
    """
    if FP32_IN_PROCESS not in ready:
        return {}
    wanted = ready[FP32_IN_PROCESS].embed(texts)
    found = {}
    for name, contender in ready.items():
        if name == FP32_IN_PROCESS or name in RANKING:
            continue
        contender.pause(False)
        try:
            vectors = contender.embed(texts)
        except UnavailableError as error:
            show_progress_note(f"no vectors of {name}: {error}")
            continue
        finally:
            contender.pause(True)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1)
        found[name] = float(((vectors * wanted).sum(axis=1) / lengths).min())
    return found
