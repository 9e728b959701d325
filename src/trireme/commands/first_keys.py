"""The first keys of a database that never had one: where they are made, and to whom they are shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

# systemd says with it that what is printed goes into its journal.
JOURNAL = "JOURNAL_STREAM"


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """Secrets, "" for a key that was not made. app: of the setting's tenant. admin: may use every endpoint."""

    app: str = field(default="", repr=False)
    admin: str = field(default="", repr=False)


NONE = FirstKeys()


def make_first_keys(settings: Settings, database_url: str, *, has_admin: bool) -> FirstKeys:
    """Keys of the setting's tenant in a database that has never had one; none in any other.

    has_admin: also one of an admin. Raises UnavailableError.
    """
    from trireme.access.endpoints import ENDPOINTS
    from trireme.access.keys import Key, KeyQuery, new_key_id
    from trireme.commands.keys import create_key
    from trireme.storage import open_keys

    with closing(open_keys(database_url)) as store:
        if store.find(KeyQuery(limit=1)):
            return NONE
        app = create_key(store, Key(new_key_id(), settings.tenant))
        if not has_admin:
            return FirstKeys(app)
        return FirstKeys(
            app, create_key(store, Key(new_key_id(), settings.tenant, endpoints=tuple(ENDPOINTS)))
        )


def is_kept(stream: IO[str], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written there stays: in a file, or in systemd's journal. No admin's secret may."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode) or JOURNAL in environ
    except (OSError, ValueError):
        return False


def announce_console(settings: Settings, admin: str, console: Console, *, is_on: bool = True) -> None:
    """Where the web console is; a link that opens it with the secret `admin`, unless that is "".

    What stands behind # is never sent to a server. is_on: else nothing is served there.
    """
    url = console_url(settings)
    if not is_on:
        said = f"A key of an admin, shown this once: {admin}" if admin else ""
    elif admin:
        said = f"Console: {url}#key={admin}\nThe link is an admin's, shown this once."
    else:
        said = f"Console: {url}\ntrireme keys create --admin makes a key that opens all of it."
    if said:
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def announce_app_key(settings: Settings, app: str, console: Console) -> None:
    """The key for applications, as a shell takes it."""
    from trireme.commands.gateway import base_url

    console.print(
        f"A key of tenant {settings.tenant}, shown this once; trireme keys create makes more:\n"
        f"  export OPENAI_BASE_URL={base_url(settings)} OPENAI_API_KEY={app}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def console_url(settings: Settings) -> str:
    """Of the web console, as this machine reaches it."""
    from trireme.commands.gateway import base_url

    return f"{base_url(settings).removesuffix('/v1')}/console/"
