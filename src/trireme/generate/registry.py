"""Which engine serves which recipe: one line each."""

from __future__ import annotations

from collections.abc import Callable

from trireme.errors import SettingError
from trireme.generate.engine import Engine, EngineOptions


def open_engine(name: str, options: EngineOptions) -> Engine:
    """Load the model and start the engine; blocks until it could serve. Raises SettingError for an unknown name.

    Raises ArtifactError or UnavailableError when the model cannot be loaded.
    """
    if name not in _ENGINES:
        raise SettingError(f"engine must be one of {', '.join(sorted(_ENGINES))}, got {name!r}")
    return _ENGINES[name](options)


def _open_fake(options: EngineOptions) -> Engine:
    from trireme.generate.fake import FakeEngine

    return FakeEngine(options)


def _open_openvino(options: EngineOptions) -> Engine:
    from trireme.generate.openvino import OpenVinoEngine

    return OpenVinoEngine(options)


def _open_vllm(options: EngineOptions) -> Engine:
    from trireme.generate.vllm import VllmEngine

    return VllmEngine(options)


_ENGINES: dict[str, Callable[[EngineOptions], Engine]] = {
    "fake": _open_fake,
    "openvino": _open_openvino,
    "vllm": _open_vllm,
}
