"""Indexing a path: the loaded files, the served embedder and the store, put together."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest
from trireme.artifacts.repository import version_dir
from trireme.encode.tokenizer import Tokenizer
from trireme.ingest.chunk import chunk
from trireme.ingest.job import IngestReport, ingest
from trireme.ingest.load import Limits, Skipped, load, open_all
from trireme.retrieve.registry import open_store
from trireme.settings import Settings
from trireme.triton.client import TritonClient

if TYPE_CHECKING:
    from rich.console import Console

EMBEDDING_MODEL = "embedding"


def ingest_path(
    settings: Settings, path: Path, database_url: str, console: Console, model: str = EMBEDDING_MODEL
) -> IngestReport:
    """Indexes a file or folder into the settings' tenant and collection, with a progress line.

    Embeds on the running server, with its text encoder `model`. Blocks until all is stored; raises
    TriremeError. What was stored before an error stays, and the same call again completes it.
    """
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    built = version_dir(settings.model_repository, model)
    manifest = read_manifest(built)
    tokenizer = Tokenizer.load(built / TOKENIZER_FILE, manifest.max_length)
    cut = partial(chunk, max_tokens=manifest.max_length, count_tokens=tokenizer.count_all)
    skipped = Skipped()
    limits = Limits(settings.max_document_bytes, settings.max_parsed_bytes)
    # How many passages there will be is known only at the end: files are read as they are indexed.
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        TritonClient(settings.grpc_url) as client,
        closing(open_store(database_url)) as store,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task(f"Indexing {path}, passages", total=None)
        return ingest(
            open_all(load(path, skipped, limits), skipped),
            partial(client.embed, input_type="passage", model=model),
            store,
            manifest.embedder,
            settings.tenant,
            settings.collection,
            progress=partial(progress.advance, task),
            skipped=skipped,
            cut=cut,
        )
