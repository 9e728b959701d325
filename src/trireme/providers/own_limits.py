"""How many tokens our own models take, by the files of their folders."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from trireme.artifacts.contracts import split_adapter
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.artifacts.repository import version_dir
from trireme.errors import TriremeError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Names that are kept, and for how long: a model may be built anew.
MOST_KEPT = 256
KEPT_SECONDS = 10.0


class OwnLimits:
    """Limits of the models in `repository`. For one event loop; blocks a few milliseconds when it reads anew."""

    def __init__(self, repository: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        # (read at, whether it finds its prompt itself, context length) of each name.
        self._kept: dict[str, tuple[float, bool, int | None]] = {}

    def context_length(self, model: str) -> int | None:
        """Most tokens of prompt and answer together; of a rag model, those of the model that writes for it.

        None where its files are not at hand.
        """
        return self._facts(model)[2]

    def finds_its_prompt(self, model: str) -> bool:
        """Whether the model's prompt holds what it finds: the call says nothing of its length."""
        return self._facts(model)[1]

    def _facts(self, model: str) -> tuple[float, bool, int | None]:
        now = self._clock()
        kept = self._kept.get(model)
        if kept is None or now - kept[0] > KEPT_SECONDS:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            kept = self._kept[model] = (now, *self._read(model))
        return kept

    def _read(self, model: str) -> tuple[bool, int | None]:
        finds_its_prompt = False
        try:
            model = split_adapter(model)[0]
            # Names come from clients, and go into a path.
            if not _NAME.fullmatch(model):
                return False, None
            recipe = read_recipe(self._repository / model / RECIPE_FILE)
            finds_its_prompt = recipe.kind == "rag"
            writer = recipe.steps[-1] if finds_its_prompt else model
            return finds_its_prompt, read_manifest(version_dir(self._repository, writer)).max_length
        except (TriremeError, OSError):
            return finds_its_prompt, None
