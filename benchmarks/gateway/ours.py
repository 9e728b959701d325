"""`trireme gateway` as a user runs it, with keys in a PostgreSQL of its own, before the fake upstream."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.gateway.page import BUDGETED, HITS
from benchmarks.gateway.servers import HOST, Server, run_process
from benchmarks.gateway.upstream import MODEL
from trireme.errors import UnavailableError
from trireme.machine import pick_ports

NAME = "Trireme"
START_S = 60.0
TRIREME = (sys.executable, "-m", "trireme.cli")
TENANT, USER = "default", "bench"
# Of the budgets that are in force: never reached.
MOST_TOKENS, MOST_NANOS = 10**12, 10**15
# US dollars for a million tokens, of gateway.toml.
PRICES = {"input": 1.0, "output": 4.0}
_SECRET = re.compile(r"\btr-[A-Za-z0-9_-]{20,}")


def make_gateway_file(upstream_port: int, exact: str = "off") -> str:
    """gateway.toml: one model at the fake upstream. exact: which answers are kept for equal questions."""
    prices = "".join(f"{name} = {dollars}\n" for name, dollars in PRICES.items())
    return (
        f'[providers.fake]\nkind = "openai"\nurl = "http://{HOST}:{upstream_port}/v1"\n'
        f'keys = ["FAKE_KEY"]\n\n[models.{MODEL}]\nchain = ["fake:{MODEL}"]\n\n'
        f'[cache]\nexact = "{exact}"\n\n[prices."fake:{MODEL}"]\n{prices}'
    )


def make_environ(folder: Path, port: int, database_url: str, more: Mapping[str, str]) -> dict[str, str]:
    """The environment without the user's own settings, with those of this gateway."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIREME_")}
    ours = {
        "TRIREME_GATEWAY_HOST": HOST,
        "TRIREME_GATEWAY_PORT": str(port),
        "TRIREME_GATEWAY_FILE": str(folder / "gateway.toml"),
        "TRIREME_DATA_DIR": str(folder / "data"),
        "TRIREME_DATABASE_URL": database_url,
        "FAKE_KEY": "sk-none",
    }
    return {**kept, **ours, **more}


def create_key(environ: Mapping[str, str], folder: Path, *more: str) -> str:
    """A new key's secret. more: options of `trireme keys create`. Raises UnavailableError."""
    command = [*TRIREME, "keys", "create", "--tenant", TENANT, "--user", USER, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=folder)
    found = _SECRET.search(done.stdout)
    if done.returncode or not found:
        raise UnavailableError(f"trireme keys create gave no key: {done.stderr.strip()[-300:]}")
    return found[0]


@contextmanager
def start_gateway(
    upstream_port: int | None,
    folder: Path,
    database_url: str,
    more: Mapping[str, str] | None = None,
    exact: str = "off",
) -> Iterator[Server]:
    """One process of the gateway. upstream_port: of the fake provider, if there is one, whose answers are kept
    as `exact` says.

    more: further settings, such as the ports of a tritonserver. Raises UnavailableError.
    """
    [port] = pick_ports(HOST, 1)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if upstream_port is not None:
        (folder / "gateway.toml").write_text(make_gateway_file(upstream_port, exact), encoding="utf-8")
    environ = make_environ(folder, port, database_url, more or {})
    secret = create_key(environ, folder)
    page = f"http://{HOST}:{port}/healthz"
    with run_process(folder, [*TRIREME, "gateway"], environ, page=page, seconds=START_S) as process:
        yield Server(NAME, port, {"authorization": f"Bearer {secret}"}, process.pid)


@contextmanager
def start_budgeted(
    upstream_port: int, folder: Path, database_url: str, more: Mapping[str, str] | None = None
) -> Iterator[list[Server]]:
    """A gateway with a Valkey of its own, every budget in force and every answer kept, as two servers: one is asked
    what differs each time, one the same again. more: as `start_gateway` has it. Raises UnavailableError."""
    from trireme.local.valkey import start_valkey

    set_budgets(database_url)
    with start_valkey(folder / "stores") as valkey:
        stores = {"TRIREME_REDIS_URL": valkey.budget_url, "TRIREME_CACHE_URL": valkey.cache_url}
        with start_gateway(
            upstream_port, folder, database_url, stores | dict(more or {}), exact="all"
        ) as server:
            yield [replace(server, name=BUDGETED, is_varied=True), replace(server, name=HITS)]


def set_budgets(database_url: str) -> None:
    """Of gateway, tenant and user, by minute, day and month, in tokens and money."""
    from trireme.budget.caps import WINDOWS, Cap
    from trireme.storage import open_caps

    with closing(open_caps(database_url)) as caps:
        for tenant, user in (("", ""), (TENANT, ""), (TENANT, USER)):
            for window in WINDOWS:
                caps.put(Cap(tenant, user, window, MOST_TOKENS, MOST_NANOS))


@contextmanager
def start_database(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL in `folder`, with our tables."""
    from trireme.local.postgres import start_postgres
    from trireme.storage import open_store

    with start_postgres(folder) as postgres:
        with closing(open_store(postgres.url)) as store:
            store.collections(None)
        yield postgres.url
