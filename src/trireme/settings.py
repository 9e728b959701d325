"""Settings of the entry points, read once from TRIREME_* variables. Nothing below an entry point reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from trireme.errors import InvalidInputError, SettingError
from trireme.languages import AUTO, read_language

PREFIX = "TRIREME_"
SWITCH = ("on", "off")
# HMAC keys made by hand that are shorter could be guessed.
SHORTEST_SECRET = 32
# Of Valkey or Redis; an s: over TLS.
STORE_SCHEMES = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")

OFF = "off"
# What a collector's URL ends with, by OTLP's specification.
TRACES_PATH = "/v1/traces"
# OpenTelemetry's own variables, which count where TRIREME_OTLP_URL is not set.
OTEL_URL, OTEL_HEADERS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"
OTEL_PROTOCOL, OTEL_OFF = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SDK_DISABLED"
HTTP_PROTOBUF = "http/protobuf"
# Those that may hold a secret.
OTLP_VARIABLES = ("TRIREME_OTLP_HEADERS", OTEL_HEADERS)

# Labels of metrics, and columns of tables.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_HEADER = re.compile(r"[a-z0-9_-]{1,64}")

Value = str | int | Path
# A variable's text and the setting's default -> the value. Raises ValueError with what follows the key's name.
Parser = Callable[[str, Any], Value]


def _port(raw: str, _: Value) -> Value:
    if not raw.isdecimal() or not 0 < int(raw) < 65536:
        raise ValueError(f"must be a TCP port from 1 to 65535, got {raw!r}")
    return int(raw)


def _number(least: int, what: str) -> Parser:
    def parse(raw: str, _: Value) -> Value:
        if not raw.isdecimal() or int(raw) < least:
            raise ValueError(f"must be {what}, got {raw!r}")
        return int(raw)

    return parse


def _path(raw: str, _: Value) -> Value:
    if not raw:
        raise ValueError("must be a path, got an empty value")
    return Path(raw)


def _text(raw: str, default: Value) -> Value:
    if not raw:
        raise ValueError(f"must not be empty; unset it for the default {default!r}")
    return raw


def _text_or_nothing(raw: str, _: Value) -> Value:
    return raw


def _hosts(raw: str, _: Value) -> Value:
    if raw and not all(host and host == host.strip() for host in raw.split(",")):
        raise ValueError(f"must be hosts with commas between them, got {raw!r}")
    return raw


def _name(raw: str, _: Value) -> Value:
    if raw and not _NAME.fullmatch(raw):
        raise ValueError(f"must have up to 64 letters, digits and . _ + -, got {raw[:80]!r}")
    return raw


def _language(raw: str, _: Value) -> Value:
    try:
        return read_language(raw)
    except InvalidInputError as error:
        raise ValueError(f"is wrong: {error}") from None


def _switch(raw: str, _: Value) -> Value:
    if raw not in SWITCH:
        raise ValueError(f"must be {' or '.join(SWITCH)}, got {raw!r}")
    return raw


def _secret(raw: str, _: Value) -> Value:
    if raw and len(raw) < SHORTEST_SECRET:
        raise ValueError(f"must have at least {SHORTEST_SECRET} characters; openssl rand -hex 32 makes one")
    return raw


def _store_url(raw: str, _: Value) -> Value:
    if raw and not raw.startswith(STORE_SCHEMES):
        # The URL may hold a password: it is not quoted.
        raise ValueError(f"must begin with one of {', '.join(STORE_SCHEMES)}")
    return raw


def _otlp_url(raw: str, _: Value) -> Value:
    """With /v1/traces at its end. The URL may hold a secret by mistake: it is not quoted."""
    if raw in ("", OFF):
        return raw
    try:
        parts = urlsplit(raw)
        # Raises for what is no number.
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_url = is_url and not (parts.query or parts.fragment)
        # What HTTP has no place for.
        is_url = is_url and raw.isascii() and raw.isprintable() and " " not in raw
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError("must be off, or the URL of a collector such as http://127.0.0.1:4318")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and no password; they belong into TRIREME_OTLP_HEADERS")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(TRACES_PATH) else path + TRACES_PATH).geturl()


def _otlp_headers(raw: str, _: Value) -> Value:
    """They may hold a secret: nothing of them is quoted."""
    try:
        read_headers(raw)
    except ValueError:
        raise ValueError(
            "must be name=value with commas between several, as authorization=Bearer%20KEY"
        ) from None
    return raw


def read_headers(raw: str) -> dict[str, str]:
    """Header -> value of a text "name=value,name=value", values percent-encoded, as OpenTelemetry has it.

    Raises ValueError.
    """
    headers: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in raw.split(","))):
        name, mark, value = pair.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not mark or not _HEADER.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise ValueError(raw)
        headers[name] = value
    return headers


def _percent(raw: str, _: Value) -> Value:
    if not raw.isdecimal() or int(raw) > 100:
        raise ValueError(f"must be a number from 0 to 100, got {raw!r}")
    return int(raw)


def _regions(schemes: tuple[str, ...]) -> Parser:
    """Pairs region=url, with spaces between them. URLs may hold passwords: they are not quoted."""

    def parse(raw: str, _: Value) -> Value:
        try:
            urls = read_regions(raw)
        except ValueError:
            raise ValueError("must be region=url, with spaces between several, each region once") from None
        for region, url in urls.items():
            if not url.startswith(schemes):
                raise ValueError(f"of region {region} must begin with one of {', '.join(schemes)}")
        return raw

    return parse


def read_regions(raw: str) -> dict[str, str]:
    """Region -> URL of a text "eu-west=URL us-east=URL". Raises ValueError."""
    urls: dict[str, str] = {}
    for pair in raw.split():
        region, mark, url = pair.partition("=")
        if not region or not mark or region in urls:
            raise ValueError(raw)
        urls[region] = url
    return urls


def _reads(parse: Parser) -> dict[str, Parser]:
    """The metadata of a field that `parse` reads."""
    return {"parse": parse}


PORT, PATH, TEXT, SECRET = _reads(_port), _reads(_path), _reads(_text), _reads(_secret)
STORE = _reads(_store_url)
REGION_STORES = _reads(_regions(STORE_SCHEMES))
REGION_DATABASES = _reads(_regions(("postgresql://", "postgres://")))
BYTES = _reads(_number(0, "a number of bytes"))
# A server that holds nothing has 1 MiB; 0 would be no limit to Valkey.
CACHE_BYTES = _reads(_number(8 << 20, f"a number of bytes, at least {8 << 20}"))
# Below it a busy home would lose its followers at once.
REPLICATION_BYTES = _reads(_number(64 << 20, f"a number of bytes, at least {64 << 20}"))
# 0 opens none.
PORT_OR_NONE = _reads(lambda raw, default: 0 if raw == "0" else _port(raw, default))
NAME = _reads(_name)
SECONDS = _reads(_number(1, "a number of seconds, at least 1"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user may set. Ports are TCP ports; paths may be relative to the working directory."""

    host: str = field(default="127.0.0.1", metadata=TEXT)
    http_port: int = field(default=8000, metadata=PORT)
    grpc_port: int = field(default=8001, metadata=PORT)
    metrics_port: int = field(default=8002, metadata=PORT)
    data_dir: Path = field(default=Path(".trireme"), metadata=PATH)
    model_repository: Path = field(default=Path("model_repository"), metadata=PATH)
    backend_directory: Path = field(default=Path("python_backends"), metadata=PATH)
    # Holds a password: kept out of repr, never logged.
    database_url: str = field(default="", repr=False, metadata=_reads(_text_or_nothing))
    # Valkey or Redis of budgets, and of cached answers unless they have their own; both may hold passwords.
    redis_url: str = field(default="", repr=False, metadata=STORE)
    cache_url: str = field(default="", repr=False, metadata=STORE)
    # Of the other regions that are a tenant's home: their budget stores and databases, as region=url.
    region_redis_urls: str = field(default="", repr=False, metadata=REGION_STORES)
    region_database_urls: str = field(default="", repr=False, metadata=REGION_DATABASES)
    # on: other regions may follow the embedded database; its log for one that is away grows to so many bytes.
    replication: str = field(default="off", metadata=_reads(_switch))
    replication_wal_bytes: int = field(default=4 << 30, metadata=REPLICATION_BYTES)
    # Memory of the embedded store of cached answers.
    cache_bytes: int = field(default=256 << 20, metadata=CACHE_BYTES)
    # Where several tritonservers stand behind host:grpc_port: their hosts, with commas between them, at which HTTP
    # and metrics have http_port and metrics_port. A name may have several addresses. "": host is the one server.
    server_hosts: str = field(default="", metadata=_reads(_hosts))
    # YAML of the regions of which this machine is one: docs/regions.md. "": there are no others.
    regions_file: str = field(default="", metadata=_reads(_text_or_nothing))
    tenant: str = field(default="default", metadata=TEXT)
    collection: str = field(default="default", metadata=TEXT)
    # Of new collections: auto, or the language of all their documents.
    language: str = field(default=AUTO, metadata=_reads(_language))
    gateway_host: str = field(default="127.0.0.1", metadata=TEXT)
    gateway_port: int = field(default=8080, metadata=PORT)
    gateway_file: Path = field(default=Path("gateway.toml"), metadata=PATH)
    # What tenants' cache salts are derived from; "": kept in the data directory. Never logged.
    gateway_secret: str = field(default="", repr=False, metadata=SECRET)
    # 0 leaves Triton's response cache off: it keeps errors and answers them empty (docs/decisions).
    response_cache_bytes: int = field(default=0, metadata=BYTES)
    # Of one document: a larger one is refused by name. HTML and the XML of DOCX are parsed whole.
    max_document_bytes: int = field(default=1 << 30, metadata=BYTES)
    max_parsed_bytes: int = field(default=32 << 20, metadata=BYTES)

    # Of a worker's own page of metrics; 0: none.
    worker_metrics_port: int = field(default=0, metadata=PORT_OR_NONE)
    # Address that this page binds to; "": host, which of a worker beside no server is somebody else's.
    worker_metrics_host: str = field(default="", metadata=_reads(_text_or_nothing))
    # A worker without a sign of life for so long is taken for dead, and others get its documents.
    worker_timeout_seconds: int = field(default=15, metadata=SECONDS)
    # on: clients on this machine may register shared memory, also that of other processes of this user.
    shared_memory: str = field(default="off", metadata=_reads(_switch))
    # A server that has grown by more since its start is started again at a quiet moment; 0: never.
    server_growth_bytes: int = field(default=2 << 30, metadata=BYTES)
    # What figures of this deploy are grouped by; "": version and git revision.
    release: str = field(default="", metadata=NAME)
    # What this machine costs: a row of [machines] in gateway.toml; "": nothing is noted of it.
    machine_kind: str = field(default="", metadata=NAME)
    # Who is paid for by the hour; "": its host name.
    machine: str = field(default="", metadata=NAME)
    # Where spans are sent, over OTLP/HTTP; "": as OpenTelemetry's own variables say, off without them. headers:
    # sent beside them, never logged. percent: of the requests that bring no traceparent, those that are recorded.
    otlp_url: str = field(default="", metadata=_reads(_otlp_url))
    otlp_headers: str = field(default="", repr=False, metadata=_reads(_otlp_headers))
    otlp_percent: int = field(default=100, metadata=_reads(_percent))
    # `trireme serve` tells its server, which shows it as a metric.
    server_restarts: int = field(default=0, metadata=_reads(_number(0, "a number")))

    @property
    def grpc_url(self) -> str:
        """host:port of the gRPC endpoint, as tritonclient takes it."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def collector(self) -> dict[str, Any]:
        """Where spans are sent, as `otlp.opening.open_spans` takes it: url, "" for nowhere; headers; percent."""
        url = "" if self.otlp_url == OFF else self.otlp_url
        return {"url": url, "headers": read_headers(self.otlp_headers), "percent": self.otlp_percent}

    @property
    def listed_server_hosts(self) -> tuple[str, ...]:
        """Those of `server_hosts`; () where `host` is the one server."""
        return tuple(self.server_hosts.split(",")) if self.server_hosts else ()


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environ` (default: the process's). Raises SettingError naming the key.

    A TRIREME_ variable that is not a setting is an error, so that a misspelt one does not pass unseen.
    """
    environ = os.environ if environ is None else environ
    known = {PREFIX + f.name.upper(): f for f in fields(Settings)}
    values: dict[str, Value] = {}
    for key, raw in {**_of_opentelemetry(environ), **environ}.items():
        if not key.startswith(PREFIX):
            continue
        if key not in known:
            raise SettingError(f"unknown setting {key}; known settings: {', '.join(sorted(known))}")
        setting = known[key]
        try:
            values[setting.name] = setting.metadata["parse"](raw, setting.default)
        except ValueError as error:
            raise SettingError(f"{key} {error}") from None
    return Settings(**values)  # type: ignore[arg-type]


def _of_opentelemetry(environ: Mapping[str, str]) -> dict[str, str]:
    """Our settings where OpenTelemetry's variables name a collector and ours do not."""
    url = environ.get(OTEL_URL, "")
    is_off = environ.get(OTEL_OFF, "").lower() == "true"
    if not url or is_off or environ.get("TRIREME_OTLP_URL"):
        return {}
    if (protocol := environ.get(OTEL_PROTOCOL) or HTTP_PROTOBUF) != HTTP_PROTOBUF:
        raise SettingError(
            f"{OTEL_PROTOCOL} is {protocol[:40]!r}, but spans are sent as {HTTP_PROTOBUF}; set TRIREME_OTLP_URL"
            " to a collector's port for that, or to off"
        )
    return {"TRIREME_OTLP_URL": url, "TRIREME_OTLP_HEADERS": environ.get(OTEL_HEADERS, "")}


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make `read_settings` return `settings`, for a child process."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {PREFIX + name.upper(): str(value) for name, value in values.items() if value != ""}
