"""What a process says of the machine that it runs on: that it is up, and which release and models it serves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import database_url
from trireme.errors import TriremeError
from trireme.observe.build_info import read_build
from trireme.settings import Settings

if TYPE_CHECKING:
    from trireme.cost.port import Beat
    from trireme.cost.releases import Deploy


def beat_of(settings: Settings) -> Beat | None:
    """What is noted each minute; None where the machine has no kind."""
    from trireme.cost.port import Beat

    if not settings.machine_kind:
        return None
    name = settings.machine or socket.gethostname()
    return Beat(name, settings.machine_kind, read_build(settings.release).release)


@contextmanager
def noted_up(settings: Settings) -> Iterator[None]:
    """Within it the machine's hours are noted, if it has a kind. Raises NotFoundError: there is no database."""
    from trireme.cost.rounds import Rounds
    from trireme.storage import open_costs

    beat = beat_of(settings)
    if beat is None:
        yield
        return
    with closing(open_costs(database_url(settings))) as book:
        rounds = Rounds([lambda: book.beat(beat)])
        rounds.start()
        try:
            yield
        finally:
            rounds.close()


def deploy_of(settings: Settings) -> Deploy:
    """The release of this process, with the models of the repository folder that are built and readable."""
    from trireme.cost.releases import Deploy

    build = read_build(settings.release)
    return Deploy(0, build.release, build.version, build.revision, _models(settings))


def _models(settings: Settings) -> dict[str, dict[str, Any]]:
    from trireme.artifacts.manifest import read_manifest
    from trireme.artifacts.repository import list_recipes, version_dir

    models: dict[str, dict[str, Any]] = {}
    try:
        recipes = list_recipes(settings.model_repository)
    except TriremeError:
        # A gateway of its own machine has no models beside it.
        return {}
    for recipe in recipes:
        try:
            manifest = read_manifest(version_dir(settings.model_repository, recipe.model))
        except TriremeError:
            continue
        models[recipe.model] = {
            "digest": manifest.version,
            "precision": manifest.precision,
            "figures": manifest.figures,
            "quality": manifest.quality,
        }
    return models
