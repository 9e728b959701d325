"""What several commands share: whose passages, and the database that is meant."""

from __future__ import annotations

import argparse

from trireme.errors import InvalidInputError, NotFoundError
from trireme.settings import Settings


def add_scope(command: argparse.ArgumentParser, *, with_collection: bool = True) -> None:
    """The options that say whose passages, and which."""
    command.add_argument("--tenant", help="whose passages (TRIREME_TENANT)")
    if with_collection:
        command.add_argument("--collection", help="which collection (TRIREME_COLLECTION)")


def add_period(command: argparse.ArgumentParser, default: str = "") -> None:
    """The options that say from when to when, as `trireme.budget.periods` reads them."""
    command.add_argument(
        "--since", default=default, metavar="TIME", help="ISO 8601; without it from this month's start on"
    )
    command.add_argument(
        "--until", default=default, metavar="TIME", help="ISO 8601, not included; without it until now"
    )


def refuse_empty(arguments: argparse.Namespace, *names: str) -> None:
    """Raises InvalidInputError for an option that was given without a value."""
    # An unset variable of a shell script would else mean another tenant.
    for name in names:
        if getattr(arguments, name) == "":
            raise InvalidInputError(f"--{name} is empty; name one or leave it out", name)


def require_own_tenant(settings: Settings, tenant: str) -> None:
    """Raises InvalidInputError for a tenant whose home in gateway.toml is another region."""
    from trireme.gateway.file import read_gateway_file

    if home := read_gateway_file(settings.gateway_file).home_of(tenant):
        raise InvalidInputError(
            f"budgets and usage of tenant {tenant} are kept in region {home}; ask there", "tenant"
        )


def database_url(settings: Settings) -> str:
    """The database to talk to: the setting's, or that of the running embedded server. Raises NotFoundError."""
    from trireme.local.postgres import running_url

    url = settings.database_url or running_url(settings.data_dir)
    if not url:
        raise NotFoundError(
            f"no database runs in {settings.data_dir}; start it with: make serve, or set TRIREME_DATABASE_URL"
        )
    return url


def store_urls(settings: Settings) -> tuple[str, str]:
    """Where budgets and cached answers are: the settings' stores, or the embedded ones that run; "" for none."""
    from trireme.local.valkey import running_urls

    budgets, cache = ("", "") if settings.redis_url else running_urls(settings.data_dir) or ("", "")
    return settings.redis_url or budgets, settings.cache_url or settings.redis_url or cache
