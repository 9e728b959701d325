"""Tables and lists for people, in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.artifacts.contracts import ADAPTER_MARK
from trireme.artifacts.kinds import KINDS
from trireme.artifacts.repository import ModelEntry, find_model, list_models
from trireme.rag.passages import source_of
from trireme.triton.served_models import ServedModel
from trireme.types import CollectionInfo, Hit

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trireme.access.keys import Key
    from trireme.budget.caps import Cap
    from trireme.budget.ledger import UsageRow
    from trireme.budget.port import Counter
    from trireme.budget.standing import Place
    from trireme.ingest.queue import JobInfo


def models_table(repository: Path, served: Sequence[ServedModel] | None = None) -> Table:
    """Kind, precision, size and quality of each model of the repository folder.

    With `served`, of each that the server has, and whether it is ready; what only the folder says of it is left
    empty where the folder does not hold it built.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["model", "kind", "precision", "size", "quality"]
    for column in columns if served is None else [*columns, "ready"]:
        table.add_column(column, justify="right" if column == "size" else "left")
    if served is None:
        for model in list_models(repository):
            table.add_row(*_described(model, "" if model.is_built else "not built"))
            for adapter, rank in model.adapters.items():
                table.add_row(*_adapter(model.name, adapter, rank))
        return table
    for one in served:
        known = find_model(repository, one.name, one.kind)
        row = _described(known, "") if known is not None else [one.name, one.kind, "", "", ""]
        ready = "yes" if one.is_ready else "no"
        table.add_row(*row, ready)
        ranks = known.adapters if known is not None else {}
        for adapter in one.adapters:
            table.add_row(*_adapter(one.name, adapter, ranks.get(adapter)), ready)
    return table


def _adapter(model: str, adapter: str, rank: int | None) -> list[str]:
    return [f"{model}{ADAPTER_MARK}{adapter}", "adapter", f"rank {rank}" if rank else "", "", ""]


def _described(model: ModelEntry, size: str) -> list[str]:
    size = f"{model.bytes / 1e6:.1f} MB" if model.bytes else size
    return [model.name, model.kind, model.precision, size, _quality(model)]


def _quality(model: ModelEntry) -> str:
    """Parity figures against the original, then nDCG@10 before and after where it was measured.

    A generator's are all shown: those of its export, and those of its quantized checkpoint.
    """
    shown = len(model.figures) if KINDS[model.kind].is_generator else 2
    parts = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in list(model.figures.items())[:shown]]
    for dataset, pair in model.quality.items():
        parts.append(f"nDCG@10 {dataset} {pair['before']:.3f} -> {pair['after']:.3f}")
    return ", ".join(parts)


def print_hits(console: Console, hits: Sequence[Hit], width: int = 100) -> None:
    """Ranked passages with score and source."""
    if not hits:
        console.print("No passages in this collection.")
    for rank, hit in enumerate(hits, 1):
        console.print(
            f"{rank:2}. {hit.score:.3f}  {source_of(hit)}", style="bold", highlight=False, markup=False
        )
        text = textwrap.shorten(hit.text, 400, placeholder=" ...")
        for line in textwrap.wrap(text, width - 4, break_long_words=False):
            console.print(f"    {line}", highlight=False, markup=False)


def collections_table(infos: Sequence[CollectionInfo]) -> Table:
    """Collections with their exact number of passages and the embedder that made their vectors."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tenant", "collection", "passages", "embedder"):
        table.add_column(column, justify="right" if column == "passages" else "left")
    for info in infos:
        table.add_row(info.tenant, info.collection, str(info.passages), info.embedder.digest[:12])
    return table


def jobs_table(jobs: Sequence[JobInfo]) -> Table:
    """Jobs with their document, state, attempts and last error."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("job", "collection", "document", "state", "attempts", "error"):
        table.add_column(column, justify="right" if column in ("job", "attempts") else "left")
    for job in jobs:
        row = (job.id, job.collection, job.document, job.state, str(job.attempts), job.error)
        table.add_row(*(escape(cell) for cell in row))
    return table


def keys_table(keys: Sequence[Key]) -> Table:
    """Keys with what they are limited to, the time of this machine's zone, and whether they are in force."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "key",
        "tenant",
        "user",
        "models",
        "collections",
        "endpoints",
        "a minute",
        "priority",
        "made",
        "state",
    ):
        table.add_column(column, justify="right" if column == "a minute" else "left", overflow="fold")
    for key in keys:
        lists = (", ".join(names) or "all" for names in (key.models, key.collections, key.endpoints))
        made = datetime.fromtimestamp(key.created_at).astimezone().strftime("%Y-%m-%d %H:%M")
        limit = str(key.requests_per_minute or "all")
        state = "revoked" if key.is_revoked else "in force"
        row = (key.id, key.tenant, key.user, *lists, limit, key.priority, made, state)
        table.add_row(*(escape(cell) for cell in row))
    return table


def budgets_table(caps: Sequence[Cap], counters: Mapping[Place, Counter] | None) -> Table:
    """Caps in both units; with `counters` also what is spent and held now, empty where that is not known."""
    from rich.markup import escape
    from rich.table import Table

    from trireme.budget.dollars import write_dollars
    from trireme.budget.standing import place_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    now = [] if counters is None else ["spent", "held"]
    for column in ("tenant", "user", "window"):
        table.add_column(column, overflow="fold")
    for column in ("tokens", *now, "dollars", *now):
        table.add_column(column, justify="right")
    for cap in caps:
        tokens = ["" if cap.tokens is None else f"{cap.tokens:,}"]
        dollars = ["" if cap.nanos is None else write_dollars(cap.nanos)]
        if counters is not None:
            found = counters.get(place_of(cap))
            tokens += [f"{found.spent_tokens:,}", f"{found.held_tokens:,}"] if found else ["", ""]
            nanos = (found.spent_nanos, found.held_nanos) if found else ()
            dollars += [write_dollars(one) for one in nanos] or ["", ""]
        whose = (_whose(cap.tenant, "the gateway"), _whose(cap.user, ""))
        table.add_row(*(escape(name) for name in whose), cap.window, *tokens, *dollars)
    return table


def _whose(name: str, nobody: str) -> str:
    from trireme.budget.caps import EACH

    return "each" if name == EACH else name or nobody


def plain(text: str) -> str:
    """Without control characters: a name or a document must not be able to steer the terminal."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else "\ufffd" for mark in text)


def usage_table(by: str, rows: Sequence[UsageRow], total: UsageRow) -> Table:
    """Groups with what was used and what it cost, and a line of all."""
    from rich.markup import escape
    from rich.table import Table

    from trireme.budget.dollars import write_dollars

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by, overflow="fold")
    for column in ("requests", "attempts", "input", "cached", "output", "dollars", "saved"):
        table.add_column(column, justify="right")
    for row in (*rows, total):
        counts = (row.requests, row.attempts, row.input_tokens, row.cached_tokens, row.output_tokens)
        money = (write_dollars(row.nanos), write_dollars(row.saved_nanos))
        style = "bold" if row is total else ""
        table.add_row(plain(escape(row.name)) or "none", *(f"{one:,}" for one in counts), *money, style=style)
    return table
