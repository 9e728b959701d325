"""How long each kind of statement may take before its caller gets UnavailableError."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, waiting for a connection and for locks included. `connect` is whole, as libpq takes it."""

    connect: int = 2
    ready: float = 1.0
    # A search, and the list of collections.
    search: float = 3.0
    # Passages that are put, and every step of an index version.
    write_passages: float = 60.0
    # Samples, and passages that an index version lacks.
    read_passages: float = 60.0
    # Digests and ids of documents, and the collections that lack an index.
    read_documents: float = 30.0
    write_documents: float = 120.0
    # A page of documents, passages or jobs, for which somebody waits.
    catalog: float = 10.0
    # A document of a million passages moves in one transaction, with its entries in the HNSW index.
    move_document: float = 3600.0
    # A collection of a million passages is deleted within minutes.
    drop: float = 3600.0
    # An index over a million passages takes minutes; nobody waits for it but the put that crossed the size.
    build_index: float = 3600.0
    drop_index: float = 60.0
    # Every verb of the queue but `publish`, during which parts of a large document are parsed.
    queue: float = 10.0
    leave_queue: float = 2.0
    publish: float = 3600.0
    # One key that is made or revoked, and the list of them.
    keys: float = 5.0
    # All keys in force: 100,000 take about 1 s.
    read_keys: float = 10.0
    # A request waits for it.
    count_request: float = 2.0
    # One cap that is put, and the list of them.
    caps: float = 5.0
    # All caps.
    read_caps: float = 10.0
    # A batch of rows of the ledger.
    record_usage: float = 10.0
    # A million rows of the ledger take 2 to 3 s.
    read_usage: float = 30.0
    # The rows of one request.
    find_request: float = 5.0
    # A month of a busy gateway is many millions of rows, and who reads them writes a file meanwhile.
    export_usage: float = 3600.0
    # A machine says that it is up.
    beat: float = 5.0
    # A new version of the schema may rewrite a million passages.
    migrate: float = 3600.0


DEFAULT_TIMEOUTS = Timeouts()
