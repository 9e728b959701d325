"""The whole repository with a generator in the place of `llm` that tests can predict: it echoes its prompt."""

import shutil
from contextlib import contextmanager
from pathlib import Path

from generators import place_generator
from stacks import ROOT, settings_on_free_ports

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.rag.prompt import PROMPT_FILE
from trireme.rag.relevance import RELEVANCE_FILE
from trireme.stack import Stack

REPOSITORY = ROOT / "model_repository"
LLM = "llm"


def place_repository(folder: Path, knobs: dict, **llm) -> Path:
    """Every built model as it is, `rag` copied, `llm` on the fake engine with these knobs and recipe keys."""
    rag = REPOSITORY / "rag"
    for model in read_recipe(rag / RECIPE_FILE).steps:
        if model != LLM:
            (folder / model).symlink_to(REPOSITORY / model)
    (folder / "rag" / "1").mkdir(parents=True)
    for name in (RECIPE_FILE, PROMPT_FILE, RELEVANCE_FILE):
        shutil.copy(rag / name, folder / "rag" / name)
    place_config(folder / "rag", read_recipe(rag / RECIPE_FILE))
    place_generator(folder, LLM, knobs, **llm)
    return folder


@contextmanager
def rag_stack(folder: Path, knobs: dict, **llm):
    """A running stack over such a repository."""
    (folder / "models").mkdir()
    repository = place_repository(folder / "models", knobs, **llm)
    with Stack(settings_on_free_ports(folder / "data", model_repository=repository)) as running:
        yield running
