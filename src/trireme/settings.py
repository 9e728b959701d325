"""Settings of the entry points, read once from TRIREME_* variables. Nothing below an entry point reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from trireme.errors import SettingError

PREFIX = "TRIREME_"
SWITCH = ("on", "off")
# End of a setting's name -> its least value, and what it is.
_NUMBERS = {
    "_BYTES": (0, "a number of bytes"),
    "_SECONDS": (1, "a number of seconds, at least 1"),
    "_RESTARTS": (0, "a number"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user may set. Ports are TCP ports; paths may be relative to the working directory."""

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    data_dir: Path = Path(".trireme")
    model_repository: Path = Path("model_repository")
    backend_directory: Path = Path("python_backends")
    # Holds a password: kept out of repr, never logged.
    database_url: str = field(default="", repr=False)
    tenant: str = "default"
    collection: str = "default"
    # 0 leaves Triton's response cache off: it keeps errors and answers them empty (docs/decisions).
    response_cache_bytes: int = 0
    # Of one document: a larger one is refused by name. HTML and the XML of DOCX are parsed whole.
    max_document_bytes: int = 1 << 30
    max_parsed_bytes: int = 32 << 20

    # A worker without a sign of life for so long is taken for dead, and others get its documents.
    worker_timeout_seconds: int = 15
    # on: clients on this machine may register shared memory, also that of other processes of this user.
    shared_memory: str = "off"
    # A server that has grown by more since its start is started again at a quiet moment; 0: never.
    server_growth_bytes: int = 2 << 30
    # `trireme serve` tells its server, which shows it as a metric.
    server_restarts: int = 0

    @property
    def grpc_url(self) -> str:
        """host:port of the gRPC endpoint, as tritonclient takes it."""
        return f"{self.host}:{self.grpc_port}"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environ` (default: the process's). Raises SettingError naming the key.

    A TRIREME_ variable that is not a setting is an error, so that a misspelt one does not pass unseen.
    """
    environ = os.environ if environ is None else environ
    known = {PREFIX + f.name.upper(): f for f in fields(Settings)}
    values: dict[str, str | int | Path] = {}
    for key, raw in environ.items():
        if not key.startswith(PREFIX):
            continue
        if key not in known:
            raise SettingError(f"unknown setting {key}; known settings: {', '.join(sorted(known))}")
        default = getattr(Settings(), known[key].name)
        values[known[key].name] = _parse(key, raw, default)
    return Settings(**values)  # type: ignore[arg-type]


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make `read_settings` return `settings`, for a child process."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {PREFIX + name.upper(): str(value) for name, value in values.items() if value != ""}


def _parse(key: str, raw: str, default: object) -> str | int | Path:
    for suffix, (least, what) in _NUMBERS.items():
        if key.endswith(suffix):
            if not raw.isdecimal() or int(raw) < least:
                raise SettingError(f"{key} must be {what}, got {raw!r}")
            return int(raw)
    if isinstance(default, int):
        if not raw.isdecimal() or not 0 < int(raw) < 65536:
            raise SettingError(f"{key} must be a TCP port from 1 to 65535, got {raw!r}")
        return int(raw)
    if isinstance(default, Path):
        if not raw:
            raise SettingError(f"{key} must be a path, got an empty value")
        return Path(raw)
    if default in SWITCH and raw not in SWITCH:
        raise SettingError(f"{key} must be {' or '.join(SWITCH)}, got {raw!r}")
    if not raw and default:
        raise SettingError(f"{key} must not be empty; unset it for the default {default!r}")
    return raw
