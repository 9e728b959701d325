"""sentence-transformers: `encode` and `CrossEncoder.predict` on torch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines import BATCH, CALIBRATION_TEXTS, read_versions

VERSIONS = ("sentence-transformers", "transformers", "torch")
BACKEND_VERSIONS = {
    "torch": (),
    "onnx": ("optimum", "optimum-onnx", "onnxruntime"),
    "openvino": ("optimum", "optimum-intel", "openvino", "nncf"),
}


def _options(variant: str, threads: int) -> dict[str, Any]:
    """Keyword arguments of both classes for a variant whose file, where it needs one, is in the folder."""
    import torch

    torch.set_num_threads(threads)
    if variant == "torch":
        return {"backend": "torch", "model_kwargs": {"dtype": torch.float32}}
    if variant == "torch-bf16":
        return {"backend": "torch", "model_kwargs": {"dtype": torch.bfloat16}}
    if variant in ("onnx", "onnx-o3", "onnx-int8"):
        names = {
            "onnx": "model.onnx",
            "onnx-o3": "model_O3.onnx",
            "onnx-int8": "model_qint8_avx512_vnni.onnx",
        }
        return {
            "backend": "onnx",
            "model_kwargs": {"provider": "CPUExecutionProvider", "file_name": f"onnx/{names[variant]}"},
        }
    if variant in ("openvino", "openvino-int8"):
        name = "openvino_model.xml" if variant == "openvino" else "openvino_model_qint8_quantized.xml"
        hints = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY"}
        return {
            "backend": "openvino",
            "model_kwargs": {"file_name": f"openvino/{name}", "ov_config": hints},
        }
    raise ValueError(f"no variant named {variant!r}")


def prepare_folder(model_class: Any, variant: str, source: Path, work: Path) -> Path:
    """A copy of the checkpoint with the variant's exported file in it, made once.

    The library's own exporters make the files, as its documentation tells.
    """
    import shutil

    from sentence_transformers import (
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
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
    if variant == "onnx-int8":
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))
    elif variant == "onnx-o3":
        export_optimized_onnx_model(model, "O3", str(folder))
    elif variant == "openvino-int8":
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


class SentenceEngine:
    """SentenceTransformer.encode, which sorts by length and runs batches of 32."""

    def __init__(self, variant: str, model: Path, work: Path, threads: int) -> None:
        from sentence_transformers import SentenceTransformer

        self._backend = variant.partition("-")[0]
        folder = prepare_folder(SentenceTransformer, variant, model, work)
        self._model = SentenceTransformer(str(folder), device="cpu", **_options(variant, threads))

    def versions(self) -> dict[str, str]:
        return read_versions(*VERSIONS, *BACKEND_VERSIONS[self._backend])

    def count(self, texts: Sequence[str]) -> list[int]:
        return [int(self._model.tokenize([text])["attention_mask"].sum()) for text in texts]

    def embed(self, texts: Sequence[str]) -> Any:
        return self._model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)

    def rerank(self, query: str, passages: Sequence[str], prior: Sequence[float]) -> Any:
        raise NotImplementedError("an embedding model scores no pairs")


class CrossEncoderEngine:
    """CrossEncoder.predict, which sorts by length and runs batches of 32."""

    def __init__(self, variant: str, model: Path, work: Path, threads: int) -> None:
        from sentence_transformers import CrossEncoder

        self._backend = variant.partition("-")[0]
        folder = prepare_folder(CrossEncoder, variant, model, work)
        self._model = CrossEncoder(str(folder), device="cpu", **_options(variant, threads))

    def versions(self) -> dict[str, str]:
        return read_versions(*VERSIONS, *BACKEND_VERSIONS[self._backend])

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._model.tokenizer(list(texts), truncation=True)["input_ids"]]

    def embed(self, texts: Sequence[str]) -> Any:
        raise NotImplementedError("a cross-encoder makes no vectors")

    def rerank(self, query: str, passages: Sequence[str], prior: Sequence[float]) -> Any:
        pairs = [(query, passage) for passage in passages]
        return self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False)
