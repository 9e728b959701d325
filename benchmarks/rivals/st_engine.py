"""sentence-transformers: `encode` and `CrossEncoder.predict` on torch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rivals.common import BATCH, CALIBRATION_TEXTS, read_versions

VERSIONS = ("sentence-transformers", "transformers", "torch")
BACKEND_VERSIONS = {
    "torch": (),
    "onnx": ("optimum", "optimum-onnx", "onnxruntime"),
    "openvino": ("optimum", "optimum-intel", "openvino", "nncf"),
}


FILES = {
    "onnx-int8": "onnx/model_qint8_avx512_vnni.onnx",
    "openvino-int8": "openvino/openvino_model_qint8_quantized.xml",
}


def _options(variant: str, threads: int) -> dict[str, Any]:
    """Keyword arguments of both classes for a variant whose file, where it needs one, is in the folder."""
    import torch

    torch.set_num_threads(threads)
    provider = {"provider": "CPUExecutionProvider"}
    hints = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY"}
    kwargs: dict[str, dict[str, Any]] = {
        "torch": {"dtype": torch.float32},
        "torch-bf16": {"dtype": torch.bfloat16},
        "onnx-int8": {**provider, "file_name": FILES["onnx-int8"]},
        "openvino-int8": {"file_name": FILES["openvino-int8"], "ov_config": hints},
    }
    if variant not in kwargs:
        raise ValueError(f"no variant named {variant!r}")
    return {"backend": variant.partition("-")[0], "model_kwargs": kwargs[variant]}


def prepare_folder(model_class: Any, variant: str, source: Path, work: Path) -> Path:
    """A copy of the checkpoint with the variant's exported file in it, made once.

    The library's own exporters make the files, as its documentation tells.
    """
    import shutil

    from sentence_transformers import (
        export_dynamic_quantized_onnx_model,
        export_static_quantized_openvino_model,
    )

    backend = variant.partition("-")[0]
    if backend == "torch":
        return source
    folder = work / f"{source.name}-{variant}"
    if (folder / ".done").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    kwargs = {"provider": "CPUExecutionProvider"} if backend == "onnx" else {}
    model = model_class(str(folder), backend=backend, model_kwargs={**kwargs, "export": True})
    model.save_pretrained(str(folder))
    if backend == "onnx":
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))
    else:
        _quantize_openvino(export_static_quantized_openvino_model, model, folder, work)
    (folder / ".done").touch()
    return folder


def _quantize_openvino(export: Any, model: Any, folder: Path, work: Path) -> None:
    """The library wants the name of a data set of the hub: a local folder with a train.jsonl is one too."""
    from optimum.intel import OVQuantizationConfig

    texts = json.loads((work / CALIBRATION_TEXTS).read_text(encoding="utf-8"))["texts"]
    lines = work / "calibration" / "train.jsonl"
    lines.parent.mkdir(exist_ok=True)
    lines.write_text("".join(json.dumps({"sentence": text}) + "\n" for text in texts), encoding="utf-8")
    export(
        model,
        OVQuantizationConfig(num_samples=len(texts)),
        str(folder),
        dataset_name=str(lines.parent.resolve()),
        dataset_config_name="default",
        dataset_split="train",
        column_name="sentence",
    )


class _Engine:
    """Both sort by length and run batches of 32."""

    def __init__(self, model_class: Any, variant: str, model: Path, work: Path, threads: int) -> None:
        self._backend = variant.partition("-")[0]
        folder = prepare_folder(model_class, variant, model, work)
        self._model = model_class(str(folder), device="cpu", **_options(variant, threads))

    def versions(self) -> dict[str, str]:
        return read_versions(*VERSIONS, *BACKEND_VERSIONS[self._backend])


class SentenceEngine(_Engine):
    """SentenceTransformer.encode."""

    def __init__(self, variant: str, model: Path, work: Path, threads: int) -> None:
        from sentence_transformers import SentenceTransformer

        super().__init__(SentenceTransformer, variant, model, work, threads)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [int(self._model.tokenize([text])["attention_mask"].sum()) for text in texts]

    def embed(self, texts: Sequence[str]) -> Any:
        return self._model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)


class CrossEncoderEngine(_Engine):
    """CrossEncoder.predict."""

    def __init__(self, variant: str, model: Path, work: Path, threads: int) -> None:
        from sentence_transformers import CrossEncoder

        super().__init__(CrossEncoder, variant, model, work, threads)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._model.tokenizer(list(texts), truncation=True)["input_ids"]]

    def rerank(self, query: str, passages: Sequence[str], prior: Sequence[float]) -> Any:
        pairs = [(query, passage) for passage in passages]
        return self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False)
