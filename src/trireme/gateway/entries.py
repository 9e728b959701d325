"""The providers of gateway.toml, opened with their secrets."""

from __future__ import annotations

from collections.abc import Mapping

from trireme.errors import SettingError
from trireme.gateway.file import LOCAL, GatewayFile, ProviderRow
from trireme.providers.port import AttemptLimits
from trireme.providers.registry import ProviderOptions, open_provider
from trireme.providers.targets import Entry


def open_entries(file: GatewayFile, own_url: str, secrets: Mapping[str, str]) -> dict[str, Entry]:
    """The providers of the file, one object for each key. own_url: host:port of our own Triton.

    Raises SettingError for a variable that is not set.
    """
    return {name: _open_entry(name, row, file, own_url, secrets) for name, row in file.providers.items()}


def read_keys(environ: Mapping[str, str], file: GatewayFile) -> dict[str, str]:
    """Those variables of the environment that the file names."""
    named = {variable for row in file.providers.values() for variable in row.keys}
    return {variable: environ[variable] for variable in named if variable in environ}


def _open_entry(
    name: str, row: ProviderRow, file: GatewayFile, own_url: str, secrets: Mapping[str, str]
) -> Entry:
    is_own = name == LOCAL and not row.url
    url = own_url if is_own else row.url
    missing = [variable for variable in row.keys if not secrets.get(variable)]
    if missing:
        raise SettingError(
            f"providers.{name}: the environment variable {missing[0]} is not set; it holds the key"
        )
    of_keys = [secrets[variable] for variable in row.keys] or [""]
    opened = [
        open_provider(row.kind, ProviderOptions(name, url, secret, row.cache_salt)) for secret in of_keys
    ]
    limits = AttemptLimits(row.first_seconds, row.between_seconds, row.total_seconds)
    region = row.region or (file.local.region if is_own else "")
    return Entry(name, tuple(opened), limits, region)
