"""ONNX Runtime alone on our graph: its own defaults, rows sorted by length, small batches of near lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rivals.common import read_versions

# Of 512 to 4,096 tokens a run, 512 and 1,024 were fastest on two AVX-512 cores, for passages and for the mix.
RUN_TOKENS = 1024


class OrtEngine:
    """model.onnx and tokenizer.json of a version folder."""

    def __init__(self, model: Path, threads: int) -> None:
        import json

        import onnxruntime as ort
        from tokenizers import Tokenizer

        folder = max(
            (path for path in model.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name)
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        limit = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["max_length"]
        self._tokenizer.enable_truncation(limit)

    def versions(self) -> dict[str, str]:
        return read_versions("onnxruntime", "tokenizers", "numpy")

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]

    def embed(self, texts: Sequence[str]) -> Any:
        import numpy as np

        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(encodings)), key=lambda i: -len(encodings[i].ids))
        vectors: list[Any] = [None] * len(encodings)
        start = 0
        while start < len(order):
            width = len(encodings[order[start]].ids)
            rows = order[start : start + max(RUN_TOKENS // width, 1)]
            ids = np.zeros((len(rows), width), np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(rows):
                count = len(encodings[i].ids)
                ids[row, :count], mask[row, :count] = encodings[i].ids, 1
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            output = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
            for row, i in enumerate(rows):
                vectors[i] = output[row] / max(float(np.linalg.norm(output[row])), 1e-12)
            start += len(rows)
        return vectors
