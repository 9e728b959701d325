"""What several commands share: whose passages, and the database that is meant."""

from __future__ import annotations

import argparse

from trireme.errors import NotFoundError
from trireme.settings import Settings


def add_scope(command: argparse.ArgumentParser, *, with_collection: bool = True) -> None:
    """The options that say whose passages, and which."""
    command.add_argument("--tenant", help="whose passages (TRIREME_TENANT)")
    if with_collection:
        command.add_argument("--collection", help="which collection (TRIREME_COLLECTION)")


def database_url(settings: Settings) -> str:
    """The database to talk to: the setting's, or that of the running embedded server. Raises NotFoundError."""
    from trireme.local.postgres import running_url

    url = settings.database_url or running_url(settings.data_dir)
    if not url:
        raise NotFoundError(
            f"no database runs in {settings.data_dir}; start it with: make serve, or set TRIREME_DATABASE_URL"
        )
    return url
