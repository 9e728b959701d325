"""Which engine runs which encoder: one line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trireme.encode.session import Session, SessionOptions
from trireme.errors import SettingError


def open_session(engine: str, folder: Path, options: SessionOptions) -> Session:
    """The model in the version folder `folder`. Blocks. Raises SettingError for an unknown engine.

    Raises ArtifactError for files that cannot be loaded.
    """
    if engine not in OPENERS:
        raise SettingError(f"engine must be one of {', '.join(sorted(OPENERS))}, got {engine!r}")
    return OPENERS[engine](folder, options)


def _open_onnx(folder: Path, options: SessionOptions) -> Session:
    from trireme.encode.engines.onnx import OnnxSession

    return OnnxSession(folder, options)


def _open_openvino(folder: Path, options: SessionOptions) -> Session:
    from trireme.encode.engines.openvino import OpenVinoSession

    return OpenVinoSession(folder, options)


def _open_torch(folder: Path, options: SessionOptions) -> Session:
    from trireme.encode.engines.torch import TorchSession

    return TorchSession(folder, options)


def _open_vllm(folder: Path, options: SessionOptions) -> Session:
    from trireme.encode.engines.vllm import VllmSession

    return VllmSession(folder, options)


def _open_vnni(folder: Path, options: SessionOptions) -> Session:
    from trireme.encode.engines.vnni import VnniSession

    return VnniSession(folder, options)


OPENERS: dict[str, Callable[[Path, SessionOptions], Session]] = {
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "torch": _open_torch,
    "vllm": _open_vllm,
    "vnni": _open_vnni,
}
