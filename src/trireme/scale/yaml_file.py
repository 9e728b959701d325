"""Reads a file of YAML, in which each key stands at most once and numbers are what Helm takes for numbers."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from trireme.errors import SettingError, UnsupportedError
from trireme.scale.value_readers import shown

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_REASON = 500


def read_yaml(path: Path) -> Any:
    """What a file of YAML says, each key at most once. Raises SettingError naming the file;
    UnsupportedError without PyYAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: {getattr(error, 'strerror', None) or 'is no UTF-8'}") from None
    return _load(text, str(path))


def _load(text: str, name: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise UnsupportedError("values.yaml needs PyYAML: pip install 'trireme[envoy]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses a key that stands twice, of which YAML would silently keep the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            # A merge ("<<") is no key; what it brings may be said again.
            named = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            seen = set()
            for key in (self.construct_object(key, deep=True) for key in named):
                # What is not hashable is refused below.
                if isinstance(key, Hashable) and key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{shown(key)} stands twice", node.start_mark
                    )
                seen.update([key] if isinstance(key, Hashable) else [])
            return super().construct_mapping(node, deep)

        def construct_scalar(self, node: Any) -> Any:
            if node.tag in _NUMBERS and ":" in node.value:
                # To YAML 1.1, which this is, 1:30 is 90; to Helm it is a text.
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(node.value)} is no number", node.start_mark
                )
            return super().construct_scalar(node)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date or a number that is none.
        told = " ".join(str(error).split())
        raise SettingError(f"{name}: {told[:_LONGEST_REASON]}") from None
