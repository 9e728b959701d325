"""What `trireme reindex` does: another embedder for a collection, compared before searches use it; the way back."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.errors import GateError, InvalidInputError, NotFoundError, UnavailableError
from trireme.ingest.held import DEPTH, KNOWN_ITEMS, HeldQueries, check, known_items, measure
from trireme.ingest.reindex import Filler, active_of, choose_drop, kept_of
from trireme.quality import read_queries
from trireme.retrieve.registry import ClosableStore, open_store
from trireme.settings import Settings
from trireme.types import CollectionInfo, FloatArray, Hit, IndexVersion, QualityFigures, StoreQuery

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.ingest.encoder import Encoder

LINE_SECONDS = 60.0


def run_reindex(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    """Runs the command. Returns the exit code; raises TriremeError, and KeyboardInterrupt on a signal."""
    from trireme.cli_ingest import database_url
    from trireme.serve import interruptible

    url = database_url(settings)
    with closing(open_store(url, pool_size=2)) as store:
        info = find_collection(store, settings)
        if arguments.status:
            print_versions(console, info)
            return 0
        if arguments.drop:
            version = choose_drop(info.versions, arguments.version)
            store.versions.drop(version.number)
            console.print(f"Dropped version {version.number} ({_name(version)}).", highlight=False)
            return 0
        try:
            with interruptible():
                if arguments.rollback:
                    roll_back(settings, store, info, console)
                else:
                    reindex(arguments, settings, url, store, info, console)
        except KeyboardInterrupt:
            console.print("Stopped. What is embedded is kept: the same command goes on from there.")
            raise
    return 0


def find_collection(store: ClosableStore, settings: Settings) -> CollectionInfo:
    """The settings' collection. Raises NotFoundError."""
    for info in store.collections(settings.tenant):
        if info.collection == settings.collection:
            return info
    raise NotFoundError(
        f"no collection {settings.collection!r}; `trireme collections` lists those that exist"
    )


def reindex(  # noqa: PLR0917 - what a run is made of
    arguments: argparse.Namespace,
    settings: Settings,
    url: str,
    store: ClosableStore,
    info: CollectionInfo,
    console: Console,
) -> None:
    """Fill a version with MODEL's vectors, compare it with the one that is searched, switch.

    Whatever ends it, the same call goes on. Raises GateError where the new version finds less.
    """
    if not 0 <= arguments.tolerance <= 1:
        raise InvalidInputError(f"--tolerance must be from 0 to 1, got {arguments.tolerance:g}")
    judged = read_judged(arguments.queries) if arguments.queries else None
    check_kind(settings, arguments.embedding)
    with _encoders(settings, store) as encoders:
        encoder = _served(encoders.open(arguments.embedding))
        version = store.versions.begin(
            settings.tenant, settings.collection, encoder.embedder, encoder.model, arguments.storage
        )
        with _filler(settings, store, version, info.passages, console) as filler:
            filler.fill(version, encoder)
        if not arguments.force:
            compare(
                arguments,
                settings,
                url,
                store,
                encoders,
                (active_of(info.versions), version),
                judged,
                console,
            )
        with _filler(settings, store, version, info.passages, console) as filler:
            filler.switch(version, encoder)
    console.print(
        f"{settings.collection!r} is searched by {encoder.model!r} now (version {version.number});"
        " `trireme reindex --rollback` goes back.",
        highlight=False,
    )


def check_kind(settings: Settings, model: str) -> None:
    """Raises InvalidInputError unless the model folder is a text encoder's."""
    if not model or Path(model).name != model:
        raise InvalidInputError(f"{model!r} is not the name of a model folder")
    recipe = read_recipe(settings.model_repository / model / RECIPE_FILE)
    if recipe.kind != "text_encoder":
        raise InvalidInputError(f"model {model!r} is a {recipe.kind}; only a text_encoder makes embeddings")


def compare(  # noqa: PLR0917 - both sides and what they are asked
    arguments: argparse.Namespace,
    settings: Settings,
    url: str,
    store: ClosableStore,
    encoders: Any,
    versions: tuple[IndexVersion, IndexVersion],
    judged: HeldQueries | None,
    console: Console,
) -> None:
    """Ask both versions the same queries. Raises GateError where the second one finds less than tolerated."""
    from trireme.retrieve.postgres_sample import sample_passages

    held = judged or known_items(sample_passages(url, settings.tenant, settings.collection, KNOWN_ITEMS))
    figures: list[QualityFigures] = []
    for version in versions:
        try:
            encoder = _served(_encoder_of(encoders, version))
        except (UnavailableError, NotFoundError, InvalidInputError) as error:
            raise GateError(
                f"the versions cannot be compared: {error}; --force switches without that"
            ) from None
        ask = partial(_embed_queries, settings, encoder.model)
        found = measure(held, ask, partial(_search, store, version))
        figures.append(found)
        console.print(
            f"version {version.number}, {_name(version)}: nDCG@10 {found.ndcg_at_10:.3f}, MRR@10"
            f" {found.mrr_at_10:.3f}, recall@100 {found.recall_at_100:.3f} on {held.name}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    check(figures[0], figures[1], arguments.tolerance)


def roll_back(settings: Settings, store: ClosableStore, info: CollectionInfo, console: Console) -> None:
    """Search the kept version again, with the passages that came after it was left. Raises NotFoundError."""
    version = kept_of(info.versions)
    with _encoders(settings, store) as encoders:
        if version.vectors < info.passages or store.versions.missing(version.number, 1):
            encoder = _served(_encoder_of(encoders, version))
            with _filler(settings, store, version, info.passages, console) as filler:
                filler.switch(version, encoder)
        else:
            # Complete: the way back must not need a server.
            store.versions.switch(version.number)
    console.print(
        f"{settings.collection!r} is searched by {_name(version)} again (version {version.number}).",
        highlight=False,
    )


def read_judged(folder: Path) -> HeldQueries:
    """The queries and judgements of a BEIR folder; its judgements may name passages or documents."""
    queries, qrels = read_queries(folder)
    return HeldQueries(f"{len(queries)} queries of {folder.resolve().name}", queries, qrels)


def print_versions(console: Console, info: CollectionInfo) -> None:
    """A table of a collection's index versions."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("version", "state", "embedder", "digest", "storage", "vectors", box=SIMPLE)
    for version in info.versions:
        table.add_row(
            str(version.number),
            version.state,
            version.model or "(not named)",
            version.embedder.digest[:12],
            version.storage,
            f"{version.vectors} of {info.passages}",
        )
    console.print(table)


def _encoder_of(encoders: Any, version: IndexVersion) -> Encoder:
    """The encoder of a version: by its name, or by its digest where it has none or was built anew."""
    encoder: Encoder = encoders.find(version.collection, version.embedder.digest)
    return encoder


def _served(encoder: Encoder) -> Encoder:
    if not encoder.is_ready():
        raise UnavailableError(
            f"model {encoder.model!r} is not served; start the server with it (make serve), then try again"
        )
    return encoder


def _embed_queries(settings: Settings, model: str, texts: Sequence[str]) -> FloatArray:
    from trireme.triton.client import TritonClient

    with TritonClient(settings.grpc_url) as client:
        return client.embed(texts, "query", model, bulk=True)


def _search(store: ClosableStore, version: IndexVersion, vector: FloatArray) -> list[Hit]:
    return store.search(
        StoreQuery(
            embedding=vector,
            embedder=version.embedder,
            top_k=DEPTH,
            tenant=version.tenant,
            collection=version.collection,
            version=version.number,
        )
    )


def _name(version: IndexVersion) -> str:
    return repr(version.model) if version.model else f"embedder {version.embedder.digest[:12]}"


@contextmanager
def _encoders(settings: Settings, store: ClosableStore) -> Iterator[Any]:
    from trireme.work import ServedEncoders

    with closing(ServedEncoders(settings, store)) as encoders:
        yield encoders


@contextmanager
def _filler(
    settings: Settings, store: ClosableStore, version: IndexVersion, passages: int, console: Console
) -> Iterator[Filler]:
    """A filler that shows its progress: as a bar on a terminal, in a line every minute elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trireme.ingest.pace import Pace
    from trireme.work import look, watched_models

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Embedding with {version.model}, passages", total=passages)
        progress.update(task, completed=min(version.vectors, passages))
        told = time.monotonic()

        def advance(count: int) -> None:
            nonlocal told
            progress.advance(task, count)
            if not console.is_terminal and time.monotonic() - told > LINE_SECONDS:
                told = time.monotonic()
                done = int(progress.tasks[0].completed)
                console.print(f"{done:,} of {passages:,} passages are embedded.", highlight=False)

        notice = partial(console.print, highlight=False, markup=False)
        pace = Pace(partial(look, settings, watched_models(settings)))
        yield Filler(store.versions, pace, advance, notice)
