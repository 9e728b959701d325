"""`trireme reindex`: another embedder for a collection, compared before searches use it; the way back."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope, database_url
from trireme.errors import GateError, InvalidInputError, NotFoundError, UnavailableError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.ingest.encoder import Encoder
    from trireme.reindex.compare import HeldQueries
    from trireme.reindex.fill import Filler
    from trireme.retrieve.store import VectorStore
    from trireme.served_encoders import ServedEncoders
    from trireme.types import CollectionInfo, Embedding, Hit, IndexVersion, QualityFigures

# trireme.reindex.compare.DEFAULT_TOLERANCE, without loading numpy for every command.
TOLERANCE = 0.02
LINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ReindexOptions:
    """What a change of the embedder is told: the model folder, its vectors' storage, and how it is compared.

    storage: "" for that of now. queries: a BEIR folder, None for sentences of the passages. force: no comparison.
    """

    embedding: str
    storage: str = ""
    queries: Path | None = None
    tolerance: float = TOLERANCE
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InvalidInputError(f"--tolerance must be from 0 to 1, got {self.tolerance:g}")


def add_reindex(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    reindex = commands.add_parser(
        "reindex", help="give a collection another embedder while searches go on; --rollback goes back"
    )
    what = reindex.add_mutually_exclusive_group(required=True)
    what.add_argument("--embedding", metavar="MODEL", help="the served text encoder to change to")
    what.add_argument("--status", action="store_true", help="list the index versions")
    what.add_argument("--rollback", action="store_true", help="search the former version again")
    what.add_argument("--drop", action="store_true", help="remove a version that is not searched")
    reindex.add_argument("--version", type=int, metavar="N", help="which version to drop, of several")
    reindex.add_argument(
        "--storage",
        choices=("float32", "float16", "binary"),
        default="",
        help="of the vectors (as they are now)",
    )
    reindex.add_argument("--queries", type=Path, metavar="DIR", help="compare on this BEIR folder's queries")
    reindex.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="X",
        help=f"by how much nDCG@10, MRR@10 and recall@100 may fall ({TOLERANCE:g})",
    )
    reindex.add_argument("--force", action="store_true", help="switch without comparing")
    reindex.set_defaults(run=run_reindex)
    add_scope(reindex)


def run_reindex(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    """Runs the command. Returns the exit code; raises TriremeError, and KeyboardInterrupt on a signal."""
    from trireme.reindex.fill import choose_drop
    from trireme.stack import interruptible
    from trireme.storage import open_store

    url = database_url(settings)
    with closing(open_store(url, pool_size=2)) as store:
        collection = Reindexing(settings, url, store, find_collection(store, settings), console)
        if arguments.status:
            print_versions(console, collection.info)
            return 0
        if arguments.drop:
            version = choose_drop(collection.info.versions, arguments.version)
            store.versions.drop(version.number)
            console.print(f"Dropped version {version.number} ({_name(version)}).", highlight=False)
            return 0
        try:
            with interruptible():
                if arguments.rollback:
                    collection.roll_back()
                else:
                    collection.change(_read_options(arguments))
        except KeyboardInterrupt:
            console.print("Stopped. What is embedded is kept: the same command goes on from there.")
            raise
    return 0


def _read_options(arguments: argparse.Namespace) -> ReindexOptions:
    return ReindexOptions(
        arguments.embedding, arguments.storage, arguments.queries, arguments.tolerance, arguments.force
    )


def find_collection(store: VectorStore, settings: Settings) -> CollectionInfo:
    """The settings' collection. Raises NotFoundError."""
    for info in store.collections(settings.tenant):
        if info.collection == settings.collection:
            return info
    raise NotFoundError(
        f"no collection {settings.collection!r}; `trireme collections` lists those that exist"
    )


@dataclass(frozen=True, slots=True)
class Reindexing:
    """One collection that changes its embedder, or goes back. Each verb blocks; whatever ends it, the same
    call goes on.
    """

    settings: Settings
    url: str
    store: VectorStore
    info: CollectionInfo
    console: Console

    def change(self, options: ReindexOptions) -> None:
        """Fill a version with the model's vectors, compare it with the one that is searched, switch.

        Raises GateError where the new version finds less, and every other TriremeError.
        """
        from trireme.reindex.compare import read_judged
        from trireme.reindex.fill import active_of

        judged = read_judged(options.queries) if options.queries else None
        check_kind(self.settings, options.embedding)
        with self._encoders() as encoders:
            encoder = _served(encoders.open(options.embedding))
            version = self.store.versions.begin(
                self.settings.tenant,
                self.settings.collection,
                encoder.embedder,
                encoder.model,
                options.storage,
            )
            with self._filler(version) as filler:
                filler.fill(version, encoder)
            if not options.force:
                self._compare(encoders, (active_of(self.info.versions), version), judged, options.tolerance)
            with self._filler(version) as filler:
                filler.switch(version, encoder)
        self.console.print(
            f"{self.settings.collection!r} is searched by {encoder.model!r} now (version {version.number});"
            " `trireme reindex --rollback` goes back.",
            highlight=False,
        )

    def roll_back(self) -> None:
        """Search the kept version again, with the passages that came after it was left. Raises NotFoundError."""
        from trireme.reindex.fill import kept_of

        version = kept_of(self.info.versions)
        with self._encoders() as encoders:
            if version.vectors < self.info.passages or self.store.versions.missing(version.number, 1):
                encoder = _served(_encoder_of(encoders, version))
                with self._filler(version) as filler:
                    filler.switch(version, encoder)
            else:
                # Complete: the way back must not need a server.
                self.store.versions.switch(version.number)
        self.console.print(
            f"{self.settings.collection!r} is searched by {_name(version)} again (version {version.number}).",
            highlight=False,
        )

    def _compare(
        self,
        encoders: ServedEncoders,
        versions: tuple[IndexVersion, IndexVersion],
        judged: HeldQueries | None,
        tolerance: float,
    ) -> None:
        """Ask both versions the same queries. Raises GateError where the second one finds less than tolerated."""
        from trireme.reindex.compare import KNOWN_ITEMS, check, known_items, measure
        from trireme.storage import sample_passages

        scope = (self.settings.tenant, self.settings.collection)
        held = judged or known_items(sample_passages(self.url, *scope, KNOWN_ITEMS))
        figures: list[QualityFigures] = []
        for version in versions:
            try:
                encoder = _served(_encoder_of(encoders, version))
            except (UnavailableError, NotFoundError, InvalidInputError) as error:
                raise GateError(
                    f"the versions cannot be compared: {error}; --force switches without that"
                ) from None
            ask = partial(_embed_queries, self.settings, encoder)
            found = measure(held, ask, partial(_search, self.store, version))
            figures.append(found)
            self.console.print(
                f"version {version.number}, {_name(version)}: nDCG@10 {found.ndcg_at_10:.3f}, MRR@10"
                f" {found.mrr_at_10:.3f}, recall@100 {found.recall_at_100:.3f} on {held.name}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        check(figures[0], figures[1], tolerance)

    @contextmanager
    def _encoders(self) -> Iterator[ServedEncoders]:
        from trireme.served_encoders import ServedEncoders

        with closing(ServedEncoders(self.settings, self.store)) as encoders:
            yield encoders

    @contextmanager
    def _filler(self, version: IndexVersion) -> Iterator[Filler]:
        """A filler that shows its progress: as a bar on a terminal, in a line every minute elsewhere."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from trireme.ingest.throttle import Throttle
        from trireme.reindex.fill import Filler
        from trireme.served_encoders import read_load, watched_models

        console, passages = self.console, self.info.passages
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
            throttle = Throttle(partial(read_load, self.settings, watched_models(self.settings)))
            yield Filler(self.store.versions, throttle, advance, notice)


def check_kind(settings: Settings, model: str) -> None:
    """Raises InvalidInputError unless the model folder is a text encoder's."""
    from trireme.artifacts.recipe import RECIPE_FILE, read_recipe

    if not model or Path(model).name != model:
        raise InvalidInputError(f"{model!r} is not the name of a model folder")
    recipe = read_recipe(settings.model_repository / model / RECIPE_FILE)
    if not recipe.traits.makes_vectors:
        raise InvalidInputError(f"model {model!r} is a {recipe.kind}; only a text_encoder makes embeddings")


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


def _encoder_of(encoders: ServedEncoders, version: IndexVersion) -> Encoder:
    """The encoder of a version: by its name, or by its digest where it has none or was built anew."""
    return encoders.find(version.collection, version.embedder.digest)


def _served(encoder: Encoder) -> Encoder:
    if not encoder.is_ready():
        raise UnavailableError(
            f"model {encoder.model!r} is not served; start the server with it (make serve), then try again"
        )
    return encoder


def _embed_queries(settings: Settings, encoder: Encoder, texts: Sequence[str]) -> list[Embedding]:
    from trireme.triton.call_route import STAYS
    from trireme.triton.client import TritonClient

    with TritonClient(settings.grpc_url, route=STAYS) as client:
        return client.embed_all(texts, "query", encoder.model, encoder.outputs, bulk=True)


def _search(store: VectorStore, version: IndexVersion, query: Embedding) -> list[Hit]:
    from trireme.reindex.compare import DEPTH
    from trireme.types import StoreQuery

    return store.search(
        StoreQuery(
            embedding=query.vector,
            embedder=version.embedder,
            mode="dense" if version.embedder.dimensions else "sparse",
            sparse=query.sparse,
            top_k=DEPTH,
            tenant=version.tenant,
            collection=version.collection,
            version=version.number,
        )
    )


def _name(version: IndexVersion) -> str:
    return repr(version.model) if version.model else f"embedder {version.embedder.digest[:12]}"
