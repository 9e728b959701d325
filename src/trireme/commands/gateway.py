"""`trireme gateway`: the HTTP gateway alone, until a signal ends it."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from trireme.commands.machines import beat_of, deploy_of
from trireme.commands.scope import database_url, store_urls
from trireme.commands.work import watch_parent
from trireme.errors import ArtifactError, SettingError, UnavailableError
from trireme.gateway_process import SALT_VARIABLE, STORE_VARIABLES
from trireme.settings import SHORTEST_SECRET, Settings, read_regions

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console

    from trireme.gateway.caching.semantic_setup import SemanticStores
    from trireme.gateway.file import GatewayFile
    from trireme.gateway.server import GatewayParts
    from trireme.gateway.spending.home import HomeStores
    from trireme.gateway.uploads import Documents

# The gateway gives its requests 10 s when it is told to stop; one that hangs does not hear it.
LAST_SECONDS = 20.0


def add_gateway(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    gateway = commands.add_parser("gateway", help="run the HTTP gateway alone, until Ctrl-C")
    gateway.add_argument("--host", help="address to bind to (TRIREME_GATEWAY_HOST)")
    gateway.add_argument("--port", type=int, help="TCP port (TRIREME_GATEWAY_PORT)")
    # Started by `trireme serve`: ends with it, however that ends.
    gateway.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    gateway.set_defaults(run=_gateway)


def _gateway(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.gateway.server import bind, run_gateway

    if arguments.port is not None and not 0 < arguments.port < 65536:
        raise SettingError(f"--port must be a TCP port from 1 to 65535, got {arguments.port}")
    settings = replace(
        settings,
        gateway_host=arguments.host or settings.gateway_host,
        gateway_port=arguments.port or settings.gateway_port,
    )
    with ExitStack() as resources:
        resources.enter_context(_ended_by_signals())
        if arguments.parent:
            threading.Thread(target=watch_parent, args=(arguments.parent, _end), daemon=True).start()
        listening = resources.enter_context(bind(settings.gateway_host, settings.gateway_port))
        url = database_url(settings)
        parts = open_parts(settings, url, resources)
        # The processes that read strangers' files inherit what stands here.
        for variable in (SALT_VARIABLE, "TRIREME_DATABASE_URL", *STORE_VARIABLES, *parts.secrets):
            os.environ.pop(variable, None)
        console.print(f"Gateway: {base_url(settings)}; Ctrl-C ends it.", highlight=False, soft_wrap=True)
        if not arguments.parent:
            _greet(settings, url, console, has_console=parts.file.console.on)
        run_gateway(parts, listening)
    return 0


def _greet(settings: Settings, url: str, console: Console, *, has_console: bool) -> None:
    """The first keys, to a person at a terminal alone: what a service prints is kept in some log."""
    from trireme.commands.first_keys import NONE, announce_app_key, announce_console, make_first_keys

    keys = NONE
    if console.file.isatty():
        # A database that is away is asked for in the background, and told by /readyz.
        with suppress(UnavailableError):
            keys = make_first_keys(settings, url, has_admin=True)
    if keys.app:
        announce_app_key(settings, keys.app, console)
    announce_console(settings, keys.admin, console, is_on=has_console)


def open_parts(settings: Settings, url: str, resources: ExitStack) -> GatewayParts:
    """What a gateway of `settings` over the database `url` needs; `resources` closes it.

    Raises SettingError for a gateway.toml, a calibration or a secret that cannot be used.
    """
    from trireme.gateway.cascades.plan import read_cascades
    from trireme.gateway.costs import CostParts
    from trireme.gateway.file import read_gateway_file
    from trireme.gateway.server import GatewayParts
    from trireme.gateway.spending.no_budgets import NoBudgets
    from trireme.observe.build_info import read_build
    from trireme.providers.registry import TritonPorts
    from trireme.storage import (
        open_budgets,
        open_cache,
        open_caps,
        open_costs,
        open_keys,
        open_ledger,
        open_releases,
        open_replication,
        open_revisions,
        open_tenants,
    )

    file = read_gateway_file(settings.gateway_file)
    check_regions(settings, file)
    cascades = read_cascades(file, settings.gateway_file)
    budgets, cache = store_urls(settings)
    return GatewayParts(
        file=file,
        triton=TritonPorts(
            settings.host,
            settings.grpc_port,
            settings.http_port,
            settings.metrics_port,
            settings.listed_server_hosts,
        ),
        keys=resources.enter_context(closing(open_keys(url))),
        caps=resources.enter_context(closing(open_caps(url))),
        ledger=resources.enter_context(closing(open_ledger(url))),
        open_documents=_uploads_opener(settings, url, resources),
        model_repository=settings.model_repository,
        salt_key=read_salt_key(settings),
        secrets=_read_secrets(file),
        default_collection=settings.collection,
        open_budgets=partial(open_budgets, budgets) if budgets else NoBudgets,
        homes=_home_stores(settings, file, budgets, resources),
        replication=resources.enter_context(closing(open_replication(url))),
        revisions=resources.enter_context(closing(open_revisions(url))),
        open_cache=partial(open_cache, cache) if cache else None,
        semantic=_semantic_stores(settings, url, file, has_cache=bool(cache)),
        cascades=cascades,
        costs=CostParts(
            book=resources.enter_context(closing(open_costs(url))),
            releases=resources.enter_context(closing(open_releases(url))),
            deploy=deploy_of(settings),
            beat=beat_of(settings),
        ),
        build=read_build(settings.release),
        tenants=resources.enter_context(closing(open_tenants(url))),
    )


def check_regions(settings: Settings, file: GatewayFile) -> None:
    """Raises SettingError where the gateway's file does not name the regions that this machine's Envoy knows."""
    if not settings.regions_file:
        return
    from trireme.fleet.regions import names_of_regions
    from trireme.gateway.own_regions import check_regions_of_file

    has_rules = any(rule.forbid_regions for rule in file.tenants.values())
    names = names_of_regions(Path(settings.regions_file))
    check_regions_of_file(file.local, names, str(settings.gateway_file), has_rules=has_rules)


def _home_stores(
    settings: Settings, file: GatewayFile, budgets: str, resources: ExitStack
) -> dict[str, HomeStores]:
    """The stores of the other regions that are some tenant's home; `resources` closes those of their databases.

    Raises SettingError for one whose URLs are not set.
    """
    from trireme.gateway.spending.home import HomeStores
    from trireme.gateway.spending.no_budgets import NoBudgets
    from trireme.storage import open_budgets, open_caps, open_ledger

    stores, databases = read_regions(settings.region_redis_urls), read_regions(settings.region_database_urls)
    homes = {}
    for region in file.homes():
        for name, urls in (("REDIS", stores), ("DATABASE", databases)):
            if region not in urls:
                raise SettingError(
                    f"{settings.gateway_file}: region {region!r} is a tenant's home;"
                    f" TRIREME_REGION_{name}_URLS must have {region}=URL"
                )
        homes[region] = HomeStores(
            caps=resources.enter_context(closing(open_caps(databases[region], is_own=False))),
            ledger=resources.enter_context(closing(open_ledger(databases[region], is_own=False))),
            open_store=partial(open_budgets, stores[region], is_far=True),
            open_stand_in=partial(open_budgets, budgets, region) if budgets else NoBudgets,
        )
    return homes


def _semantic_stores(
    settings: Settings, url: str, file: GatewayFile, *, has_cache: bool
) -> SemanticStores | None:
    """What the semantic tier needs; None where the file leaves it off.

    Raises SettingError where there is no store of answers, or the embedding or equivalence model is not built.
    """
    from trireme.artifacts.manifest import read_manifest
    from trireme.artifacts.repository import version_dir
    from trireme.artifacts.thresholds import read_thresholds
    from trireme.gateway.caching.semantic_models import EQUIVALENCE
    from trireme.gateway.caching.semantic_setup import SemanticStores, is_wanted
    from trireme.storage import open_promises, open_semantic_index

    if not is_wanted(file):
        return None
    wish = f"{settings.gateway_file} turns the semantic cache on"
    if not has_cache:
        raise SettingError(f"{wish}, which needs a store of answers; set TRIREME_CACHE_URL")
    model = file.defaults.embed
    try:
        embedder = read_manifest(version_dir(settings.model_repository, model)).embedder
        thresholds = read_thresholds(version_dir(settings.model_repository, EQUIVALENCE))
    except ArtifactError as error:
        raise SettingError(f"{wish}: {error}") from None
    return SemanticStores(
        open_index=partial(open_semantic_index, url, embedder.digest, embedder.dimensions),
        open_promises=partial(open_promises, url),
        embedder=model,
        thresholds=thresholds,
    )


def _uploads_opener(settings: Settings, url: str, resources: ExitStack) -> Callable[[], Documents]:
    """Makes the documents of all tenants, which the gateway closes, over stores that `resources` closes."""
    from trireme.documents.load import Limits
    from trireme.gateway.reader_process import ReaderOptions
    from trireme.gateway.uploads import Documents, DocumentStores, UploadOptions
    from trireme.storage import open_catalog, open_documents, open_queue, open_store

    reopened = partial(open_queue, url, settings.worker_timeout_seconds)
    stores = DocumentStores(
        resources.enter_context(closing(reopened())),
        resources.enter_context(closing(open_documents(url))),
        resources.enter_context(closing(open_store(url))),
        resources.enter_context(closing(open_catalog(url, settings.worker_timeout_seconds))),
    )
    limits = Limits(settings.max_document_bytes, settings.max_parsed_bytes)
    return partial(Documents, stores, reopened, UploadOptions(reader=ReaderOptions(limits=limits)))


def _read_secrets(file: GatewayFile) -> dict[str, str]:
    """The variables that the file names. Raises SettingError for one that is not set, or an unknown provider."""
    from trireme.gateway.server import read_keys
    from trireme.providers.registry import PROVIDERS

    found = read_keys(os.environ, file)
    for name, row in file.providers.items():
        if row.kind not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise SettingError(f"providers.{name}.kind {row.kind!r} is unknown; known: {known}")
        for variable in row.keys:
            if not found.get(variable):
                raise SettingError(
                    f"providers.{name}: the environment variable {variable} is not set; it holds the key"
                )
    return found


def read_salt_key(settings: Settings) -> bytes:
    """The setting's secret, or that of the data directory, which is made there once with mode 0600.

    Safe in several processes. Raises SettingError where it cannot be read or made.
    """
    if settings.gateway_secret:
        return settings.gateway_secret.encode("utf-8", "surrogateescape")
    path = settings.data_dir / "gateway.secret"
    try:
        if not path.exists():
            _make_secret(path)
        made = path.read_bytes().strip()
    except OSError as error:
        raise SettingError(
            f"cannot keep a secret in {path} ({error.strerror}); set TRIREME_GATEWAY_SECRET"
        ) from None
    if len(made) < SHORTEST_SECRET:
        raise SettingError(f"{path} holds no secret of {SHORTEST_SECRET} characters; remove it")
    return made


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, and then the final one: nobody reads half a secret, and the first one stays.
    half_made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(half_made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Another process may have been first.
        with suppress(FileExistsError):
            path.hardlink_to(half_made)
    finally:
        half_made.unlink()


def base_url(settings: Settings) -> str:
    """What clients of this machine set as OPENAI_BASE_URL."""
    from trireme.triton.wire import own_address

    return f"http://{own_address(settings.gateway_host, settings.gateway_port)}/v1"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within it SIGTERM and SIGINT raise KeyboardInterrupt, which ends here; the server has its own handlers."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end() -> None:
    """Ends this process: in order, and at last in any case."""
    os.kill(os.getpid(), signal.SIGTERM)
    sleep(LAST_SECONDS)
    os._exit(1)
