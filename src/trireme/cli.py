"""`trireme`: serve, search, ask, models, collections, drop, ready, env; cli_ingest.py has the rest."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.cli_ingest import add_ingest, add_scope, database_url
from trireme.cli_reindex import add_reindex
from trireme.errors import TriremeError, UnavailableError
from trireme.settings import Settings, read_settings

# trireme.rag.ports.ANSWER_MODES, without loading numpy for every command.
MODES = ("auto", "extractive", "generative")

if TYPE_CHECKING:
    from rich.console import Console


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for an error (named on stderr), 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trireme", description="Search and rerank on NVIDIA Triton.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start PostgreSQL and tritonserver in the foreground")
    serve.add_argument("--corpus", type=Path, help="index this file or folder on the first run")
    serve.set_defaults(run=_serve)

    search = commands.add_parser("search", help="print the best passages for a question")
    search.add_argument("query")
    search.add_argument("--top-k", type=int, help="passages to print (server default: 10)")
    search.add_argument("--filter", help='JSON that their metadata must contain, such as {"source": "a.md"}')
    search.add_argument("--mode", choices=("dense", "text", "hybrid"), help="by vectors, words or both")
    search.add_argument("--url", help="gRPC host:port of the server")
    search.set_defaults(run=_search)

    ask = commands.add_parser("ask", help="answer a question from what is indexed, with its sources")
    ask.add_argument("question")
    ask.add_argument("--mode", choices=MODES, help="how to answer (server default: auto)")
    ask.add_argument("--top-k", type=int, help="passages an answer may come from (server default: 5)")
    ask.add_argument("--json", action="store_true", help="print one JSON object with citations and usage")
    ask.add_argument("--url", help="gRPC host:port of the server")
    ask.set_defaults(run=_ask)

    add_ingest(commands)
    add_reindex(commands)

    models = commands.add_parser("models", help="show what is served, with precision, size and quality")
    models.set_defaults(run=_models)

    collections = commands.add_parser("collections", help="list what is indexed")
    collections.set_defaults(run=_collections)

    drop = commands.add_parser("drop", help="delete a collection")
    drop.add_argument("name")
    drop.set_defaults(run=_drop)

    ready = commands.add_parser("ready", help="exit 0 when every model, its files and the database answer")
    ready.set_defaults(run=_ready)

    env = commands.add_parser("env", help="print shell exports that make `tritonserver` a command")
    env.set_defaults(run=_env)

    for command in (search, ask):
        add_scope(command)
    for command in (collections, drop):
        add_scope(command, with_collection=False)
    return parser


def _serve(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.serve import serve

    try:
        serve(settings, arguments.corpus, console)
    except KeyboardInterrupt:
        console.print("Stopped.")
    return 0


def _search(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.report import print_hits
    from trireme.triton.client import TritonClient

    with TritonClient(arguments.url or settings.grpc_url) as client:
        hits = client.search(
            arguments.query,
            arguments.top_k,
            settings.tenant,
            settings.collection,
            filter=arguments.filter,
            search_mode=arguments.mode,
        )
    print_hits(console, hits, console.width)
    return 0


def _ask(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.ask import print_answer, print_answer_json
    from trireme.triton.client import TritonClient

    scope = (arguments.mode, arguments.top_k, settings.tenant, settings.collection)
    with (
        TritonClient(arguments.url or settings.grpc_url) as client,
        closing(client.ask(arguments.question, *scope)) as parts,
    ):
        if arguments.json:
            print_answer_json(parts)
        else:
            print_answer(console, parts)
    return 0


def _models(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.report import models_table
    from trireme.triton.served_models import read_served_models

    repository = settings.model_repository
    try:
        served = read_served_models(settings.host, settings.http_port, settings.metrics_port)
    except UnavailableError as error:
        if not repository.is_dir():
            raise UnavailableError(f"{error}, and {repository} is no folder with models") from None
        console.print(models_table(repository))
        console.print(f"No server answers; this is what {repository} holds. Start one with: make serve")
        return 0
    console.print(models_table(repository, served))
    for model in served:
        if model.reason:
            console.print(f"{model.name}: {model.reason}", highlight=False, markup=False)
    if not repository.is_dir():
        console.print(
            f"Precision, size and quality are in the served model repository, which is not {repository.resolve()}:"
            " name it with TRIREME_MODEL_REPOSITORY.",
            highlight=False,
        )
    return 0


def _collections(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.report import collections_table
    from trireme.retrieve.registry import open_store

    with closing(open_store(database_url(settings))) as store:
        console.print(collections_table(store.collections(settings.tenant)))
    return 0


def _drop(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.retrieve.registry import open_store

    with closing(open_store(database_url(settings))) as store:
        passages = store.drop(settings.tenant, arguments.name)
    console.print(f"Dropped {arguments.name!r}: {passages} passages.", highlight=False)
    return 0


def _ready(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.triton.metrics import read_metrics
    from trireme.triton.served_models import read_served_models

    # Without the metrics, models say nothing of their files and database: that is an error here.
    read_metrics(settings.host, settings.metrics_port)
    served = read_served_models(settings.host, settings.http_port, settings.metrics_port)
    for model in served:
        console.print(f"{model.name}: {'ready' if model.is_ready else 'not ready'}", highlight=False)
    return 0 if served and all(model.is_ready for model in served) else 1


def _env(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.triton.server import find_server, place_python_backend, shell_exports

    place_python_backend(find_server(), settings.backend_directory)
    # print, not the console: a shell reads this.
    print(shell_exports(os.environ))
    return 0


if __name__ == "__main__":
    sys.exit(main())
