"""`trireme`: one line for each command of trireme.commands."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys

from trireme.commands.agent import add_agent, add_drain
from trireme.commands.ask import add_ask
from trireme.commands.budgets import add_budgets
from trireme.commands.collections import add_collections, add_drop, add_set_language
from trireme.commands.cost import add_cost
from trireme.commands.delete import add_delete
from trireme.commands.envoy import add_envoy
from trireme.commands.gateway import add_gateway
from trireme.commands.ingest import add_ingest
from trireme.commands.jobs import add_jobs
from trireme.commands.keys import add_keys
from trireme.commands.models import add_env, add_models, add_ready
from trireme.commands.regions import add_regions
from trireme.commands.reindex import add_reindex
from trireme.commands.release import add_release
from trireme.commands.replication import add_replication
from trireme.commands.restart import add_restart
from trireme.commands.search import add_search
from trireme.commands.serve import add_serve
from trireme.commands.usage import add_usage
from trireme.commands.work import add_worker
from trireme.errors import InvalidInputError, TriremeError
from trireme.settings import read_settings

# In the order of help.
COMMANDS = (
    add_serve,
    add_restart,
    add_gateway,
    add_search,
    add_ask,
    add_ingest,
    add_worker,
    add_jobs,
    add_delete,
    add_reindex,
    add_keys,
    add_budgets,
    add_usage,
    add_cost,
    add_release,
    add_models,
    add_collections,
    add_set_language,
    add_drop,
    add_replication,
    add_ready,
    add_env,
    add_envoy,
    add_regions,
    add_agent,
    add_drain,
)


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for an error (named on stderr), 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        _require_text(arguments)
        settings = read_settings()
        for key in ("tenant", "collection"):
            if getattr(arguments, key, None):
                settings = dataclasses.replace(settings, **{key: getattr(arguments, key)})
        from rich.console import Console

        code: int = arguments.run(arguments, settings, Console())
        return code
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; so must be the attempt to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _require_text(arguments: argparse.Namespace) -> None:
    """Raises InvalidInputError for an argument that is no UTF-8. Names of files may be any bytes."""
    for name, value in vars(arguments).items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and any("\ud800" <= sign <= "\udfff" for sign in one):
                raise InvalidInputError(f"{name} is not valid UTF-8; write it so", name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trireme", description="Search and rerank on NVIDIA Triton.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
