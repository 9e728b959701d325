"""What lies beside a checkpoint that engine vllm serves, in files of ours. Needs no torch.

pooling.json says how the states of a row become its vector, its score or its labels. The others are safetensors
files: probe.tensors holds rows of tokens with what the original makes of them, `ids`, `lengths` and `outputs`, of a
reranker also how many rows each query has, `groups`, and how near is near enough, `bounds`: an engine that runs on
a GPU alone is compared with them where there is one, at its start. answers.tensors, of a language model that
answers, holds rows of its head, `answers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.encode.agreement import compare_scores, compare_vectors
from trireme.encode.session import TokenBatch
from trireme.errors import ArtifactError
from trireme.types import FloatArray

POOLING_FILE = "pooling.json"
# Not .safetensors: vLLM takes each of those in a folder for weights of the model.
PROBE_FILE = "probe.tensors"
ANSWERS_FILE = "answers.tensors"
POOLING_FORMAT_VERSION = 2
POOLINGS = ("mean", "cls", "lasttoken")
# embed: vLLM gives pooled states. classify: its own head's logits.
TASKS = ("embed", "classify")
# Of each bound its key in a recipe; in the order of the file's.
RECIPE_KEYS = {
    "cosine_min": "min_cosine",
    "cosine_mean": "mean_cosine",
    "rank_correlation": "min_rank_correlation",
    "score_difference": "max_score_difference",
}
# What the last numbers of a row are: a vector, logits that make a score, or those of labels.
HEADS = ("", "score", "labels")
PRECISIONS = ("fp16", "bf16")


@dataclass(frozen=True, slots=True)
class PoolingConfig:
    """What a checkpoint's own files do not say to vLLM.

    max_length: tokens of the longest row. vocabulary: rows of the table of words. truncate: dimensions kept of a
    vector, 0 for all. task: one of TASKS; head: one of HEADS. softcap: of answers' logits, 0 for none. padding: a
    token that ends no row, whatever it is followed by; None: each may.
    The last four: what the probe's vectors, or scores, must agree with the original's, as trireme.encode.agreement
    measures it; they lie beside the probe.
    """

    pooling: str
    precision: str
    max_length: int
    vocabulary: int
    truncate: int = 0
    task: str = "embed"
    head: str = ""
    softcap: float = 0.0
    padding: int | None = None
    cosine_min: float = 0.0
    cosine_mean: float = 0.0
    rank_correlation: float = 0.0
    score_difference: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolingFiles:
    """The files, read. `outputs` of `probe`: vectors [rows, D], scores [rows] or logits [rows, labels]; of a
    reranker each query has as many rows as `groups` says. answers: [1 or 2, H], None where vLLM makes all."""

    config: PoolingConfig
    probe: TokenBatch
    outputs: FloatArray
    groups: tuple[int, ...] = ()
    answers: FloatArray | None = None

    def cut(self, row: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A row up to its last token that is no padding: what stands behind it is not read."""
        if self.config.padding is None:
            return row
        kept = np.flatnonzero(row != self.config.padding)
        return row[: int(kept[-1]) + 1 if len(kept) else 1]

    def finish(self, pooled: FloatArray) -> FloatArray:
        """Vectors [rows, D], not normalized, scores [rows] or logits [rows, labels] of pooled states [rows, H]."""
        if self.answers is not None:
            pooled = pooled @ self.answers.T
        if self.config.softcap:
            pooled = np.tanh(pooled / self.config.softcap) * np.float32(self.config.softcap)
        if self.config.head == "score":
            # One label's logit; of two labels the second's, the relevant one's, less the first's.
            return pooled[:, 0] if pooled.shape[1] == 1 else pooled[:, 1] - pooled[:, 0]
        return pooled[:, : self.config.truncate] if self.config.truncate else pooled

    def compare(self, found: FloatArray) -> dict[str, float]:
        """How near the probe's outputs are to the original's. Raises ArtifactError beyond the bounds; NaN is beyond
        every one."""
        config = self.config
        if not config.head:
            figures = compare_vectors(self.outputs, found)
            self._judge(figures, "vectors", ("cosine_min", "cosine_mean"), ())
            return figures
        if config.head == "score":
            ends = np.cumsum(self.groups)[:-1]
            figures = compare_scores(np.split(self.outputs, ends), np.split(found, ends))
        else:
            figures = compare_scores(list(self.outputs.T), list(found.T))
        self._judge(figures, "scores", ("rank_correlation",), ("score_difference",))
        return figures

    def _judge(
        self, figures: Mapping[str, float], what: str, least: Sequence[str], most: Sequence[str]
    ) -> None:
        bounds = asdict(self.config)
        keeps = [figures[name] >= bounds[name] for name in least]
        keeps += [figures[name] <= bounds[name] for name in most]
        if all(keeps):
            return
        said = ", ".join(f"{name} {figures[name]:.6f}, not {bounds[name]}" for name in (*least, *most))
        keys = " and ".join(RECIPE_KEYS[name] for name in (*least, *most))
        raise ArtifactError(
            f"{what} are too far from the original's: {said}; use another engine or precision, or set {keys} in the"
            " recipe and build the model again"
        )


def write_pooling_files(folder: Path, files: PoolingFiles) -> None:
    """Writes them into `folder`."""
    probe: dict[str, npt.NDArray[Any]] = {
        "ids": files.probe.ids.astype(np.int32),
        "lengths": files.probe.lengths.astype(np.int32),
        "outputs": np.ascontiguousarray(files.outputs, np.float32),
        "groups": np.array(files.groups, np.int32),
        "bounds": np.array([getattr(files.config, name) for name in RECIPE_KEYS], np.float64),
    }
    _save(probe, folder / PROBE_FILE)
    if files.answers is not None:
        _save({"answers": np.ascontiguousarray(files.answers, np.float32)}, folder / ANSWERS_FILE)
    said = {name: value for name, value in asdict(files.config).items() if name not in RECIPE_KEYS}
    document = {"format_version": POOLING_FORMAT_VERSION, **said}
    (folder / POOLING_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _save(tensors: dict[str, npt.NDArray[Any]], path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(tensors, path)
    # The library leaves it to its owner alone; a server may run as somebody else.
    path.chmod(0o644)


def read_pooling_files(folder: Path) -> PoolingFiles:
    """Those of `folder`. Raises ArtifactError for one that is missing, damaged or of another version."""
    config = _read_config(folder / POOLING_FILE)
    probe = _load(folder / PROBE_FILE, ("ids", "lengths", "outputs", "groups", "bounds"))
    answers = folder / ANSWERS_FILE
    ids = probe["ids"].astype(np.int64)
    return PoolingFiles(
        replace(config, **dict(zip(RECIPE_KEYS, probe["bounds"].tolist(), strict=True))),
        TokenBatch(ids, np.zeros_like(ids), probe["lengths"].astype(np.int64)),
        probe["outputs"],
        tuple(probe["groups"].tolist()),
        _load(answers, ("answers",))["answers"] if answers.exists() else None,
    )


def _load(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Copies, as the file may change while it is served."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        return {name: tensors[name].copy() for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(f"cannot load {path.name}: {error}; build the model again") from error


def _read_config(path: Path) -> PoolingConfig:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format_version", None) != POOLING_FORMAT_VERSION:
            raise ValueError(f"it is not of format version {POOLING_FORMAT_VERSION}")
        config = PoolingConfig(**document)
        if unknown := [what for what, is_known in _known_values(config) if not is_known]:
            raise ValueError(f"it names an unknown {unknown[0]}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"cannot load {path.name}: {error}; build the model again") from error
    return config


def _known_values(config: PoolingConfig) -> Iterator[tuple[str, bool]]:
    yield "pooling", config.pooling in POOLINGS
    yield "precision", config.precision in PRECISIONS
    yield "task", config.task in TASKS
    yield "head", config.head in HEADS
