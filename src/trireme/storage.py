"""Which database serves which URL scheme: one row each, with all that opens from one URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trireme.access.keys import KeyStore
from trireme.access.tenants import TenantList
from trireme.budget.caps import CapStore
from trireme.budget.ledger import Ledger
from trireme.cache.index import SemanticIndex
from trireme.cache.port import CacheStore
from trireme.cache.promise import PromiseStore
from trireme.cost.port import CostBook
from trireme.cost.releases import ReleaseLog
from trireme.errors import SettingError
from trireme.ingest.catalog import Catalog
from trireme.ingest.documents import DocumentStore
from trireme.ingest.index_builder import IndexBuilder
from trireme.ingest.queue import JobQueue
from trireme.languages import AUTO
from trireme.retrieve.languages import CollectionLanguages
from trireme.retrieve.revisions import CollectionRevisions
from trireme.retrieve.store import VectorStore
from trireme.types import Passage

if TYPE_CHECKING:
    from trireme.postgres.replication import PostgresReplication
    from trireme.redis.budgets import RedisBudgets

# Measured, 384 dimensions, one busy core: exact takes 1.5, 3, 9, 17 ms for 1,000, 2,000, 5,000, 10,000 passages,
# HNSW with 100 candidates 2, 2.5, 4, 5 ms with recall@10 of 0.998 or more on clustered vectors. They meet here.
DEFAULT_EXACT_BELOW = 2_000
DEFAULT_EF_SEARCH = 100
DEFAULT_POOL_SIZE = 4
# To a budget store of another region: at 82 ms they carry 780 attempts a second, of two commands each.
FAR_CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class Storage:
    """What opens the ports of one database. Each connects at first use, so the database may start later."""

    store: Callable[[str, int, int, int, str], VectorStore]
    documents: Callable[[str, str, str], DocumentStore]
    languages: Callable[[str], CollectionLanguages]
    queue: Callable[[str, float], JobQueue]
    index_builder: Callable[[str, int], IndexBuilder]
    sample: Callable[[str, str, str, int], list[Passage]]
    keys: Callable[[str], KeyStore]
    caps: Callable[[str, bool], CapStore]
    ledger: Callable[[str, bool], Ledger]
    revisions: Callable[[str], CollectionRevisions]
    semantic_index: Callable[[str, str, int], SemanticIndex]
    promises: Callable[[str], PromiseStore]
    costs: Callable[[str], CostBook]
    releases: Callable[[str], ReleaseLog]
    catalog: Callable[[str, float], Catalog]
    tenants: Callable[[str], TenantList]


def open_store(
    url: str,
    pool_size: int = DEFAULT_POOL_SIZE,
    exact_below: int = DEFAULT_EXACT_BELOW,
    ef_search: int = DEFAULT_EF_SEARCH,
    storage: str = "float32",
) -> VectorStore:
    """The vector store of `url`.

    `pool_size` bounds the connections; collections under `exact_below` passages are searched exactly, larger
    ones by HNSW with `ef_search` candidates. `storage` is how collections made here keep their vectors: float32,
    float16 or binary. Raises SettingError for a URL of no known database.
    """
    return _find(url).store(url, pool_size, exact_below, ef_search, storage)


def open_documents(url: str, storage: str = "float32", language: str = AUTO) -> DocumentStore:
    """The documents of `url`. storage, language: of a new collection. Raises SettingError."""
    return _find(url).documents(url, storage, language)


def open_languages(url: str) -> CollectionLanguages:
    """The languages of collections of `url`. Raises SettingError."""
    return _find(url).languages(url)


def open_queue(url: str, timeout: float) -> JobQueue:
    """The queue of `url`; a worker without heartbeats for `timeout` seconds counts as dead. Raises SettingError."""
    return _find(url).queue(url, timeout)


def open_catalog(url: str, timeout: float) -> Catalog:
    """What tenants hold at `url`. timeout: as of `open_queue`. Raises SettingError."""
    return _find(url).catalog(url, timeout)


def open_index_builder(url: str, exact_below: int) -> IndexBuilder:
    """The index builder of `url`. exact_below: passages from which on a collection gets a vector index.

    Raises SettingError.
    """
    return _find(url).index_builder(url, exact_below)


def sample_passages(url: str, tenant: str, collection: str, count: int) -> list[Passage]:
    """At most `count` passages of a collection in a random but repeatable choice. Raises UnavailableError."""
    return _find(url).sample(url, tenant, collection, count)


def open_keys(url: str) -> KeyStore:
    """The keys of `url`. Raises SettingError."""
    return _find(url).keys(url)


def open_caps(url: str, *, is_own: bool = True) -> CapStore:
    """The caps of `url`. is_own: else another region's database, which is migrated there. Raises SettingError."""
    return _find(url).caps(url, is_own)


def open_ledger(url: str, *, is_own: bool = True) -> Ledger:
    """The ledger of `url`, as `open_caps`. Raises SettingError."""
    return _find(url).ledger(url, is_own)


def open_budgets(url: str, home: str = "", *, is_far: bool = False) -> RedisBudgets:
    """The budget store of `url`, for one event loop; it connects at first use. Raises SettingError.

    home: another region, whose budgets it stands in for: a space apart. is_far: in another region, where each
    command keeps its connection for a round trip.
    """
    from trireme.redis.budgets import SPACE, RedisBudgets
    from trireme.redis.connection import MOST_CONNECTIONS, RedisStore

    most = FAR_CONNECTIONS if is_far else MOST_CONNECTIONS
    return RedisBudgets(RedisStore(url, most=most), space=f"{SPACE}:{home}" if home else SPACE)


def open_revisions(url: str) -> CollectionRevisions:
    """The revisions of the collections of `url`. Raises SettingError."""
    return _find(url).revisions(url)


def open_semantic_index(url: str, embedder: str, dimensions: int) -> SemanticIndex:
    """The index of answered questions at `url`, of one embedder by its digest. Raises SettingError."""
    return _find(url).semantic_index(url, embedder, dimensions)


def open_promises(url: str) -> PromiseStore:
    """What is known of the semantic cache's promises at `url`. Raises SettingError."""
    return _find(url).promises(url)


def open_costs(url: str) -> CostBook:
    """What cost is reckoned from at `url`. Raises SettingError."""
    return _find(url).costs(url)


def open_releases(url: str) -> ReleaseLog:
    """The deploys and notes of `url`. Raises SettingError."""
    return _find(url).releases(url)


def open_tenants(url: str) -> TenantList:
    """The list of tenants at `url`. Raises SettingError."""
    return _find(url).tenants(url)


def open_replication(url: str) -> PostgresReplication:
    """How the database of `url` follows others and is followed. Raises SettingError."""
    from trireme.postgres.replication import PostgresReplication

    # Of no other database: the acts are its own statements.
    _find(url)
    return PostgresReplication(url)


def open_cache(url: str) -> CacheStore:
    """The store of kept answers at `url`, a Valkey's or Redis's. Raises SettingError without quoting it."""
    from trireme.redis.cache import RedisCache
    from trireme.redis.connection import RedisStore

    return RedisCache(RedisStore(url))


def _find(url: str) -> Storage:
    scheme = url.partition("://")[0]
    # libpq takes both names.
    scheme = "postgresql" if scheme == "postgres" else scheme
    if scheme not in STORAGES:
        known = " or ".join(f"{name}://" for name in (*sorted(STORAGES), "postgres"))
        raise SettingError(f"TRIREME_DATABASE_URL must start with {known}")
    return STORAGES[scheme]


def _postgres_store(url: str, pool_size: int, exact_below: int, ef_search: int, storage: str) -> VectorStore:
    from trireme.postgres.store import PostgresStore

    return PostgresStore(url, pool_size, exact_below, ef_search, storage)


def _postgres_documents(url: str, storage: str, language: str) -> DocumentStore:
    from trireme.postgres.documents import PostgresDocuments

    return PostgresDocuments(url, storage, language=language)


def _postgres_languages(url: str) -> CollectionLanguages:
    from trireme.postgres.languages import PostgresLanguages

    return PostgresLanguages(url)


def _postgres_queue(url: str, timeout: float) -> JobQueue:
    from trireme.postgres.queue import ProcrastinateQueue, QueueTiming

    return ProcrastinateQueue(url, QueueTiming(timeout))


def _postgres_catalog(url: str, timeout: float) -> Catalog:
    from trireme.postgres.catalog import PostgresCatalog

    return PostgresCatalog(url, timeout)


def _postgres_index_builder(url: str, exact_below: int) -> IndexBuilder:
    from trireme.postgres.index_builder import PostgresIndexBuilder

    return PostgresIndexBuilder(url, exact_below)


def _postgres_sample(url: str, tenant: str, collection: str, count: int) -> list[Passage]:
    from trireme.postgres.sample import sample_passages as sample

    return sample(url, tenant, collection, count)


def _postgres_keys(url: str) -> KeyStore:
    from trireme.postgres.keys import PostgresKeys

    return PostgresKeys(url)


def _postgres_caps(url: str, is_own: bool) -> CapStore:
    from trireme.postgres.caps import PostgresCaps

    return PostgresCaps(url, is_own=is_own)


def _postgres_ledger(url: str, is_own: bool) -> Ledger:
    from trireme.postgres.ledger import PostgresLedger

    return PostgresLedger(url, is_own=is_own)


def _postgres_revisions(url: str) -> CollectionRevisions:
    from trireme.postgres.revisions import PostgresRevisions

    return PostgresRevisions(url)


def _postgres_semantic_index(url: str, embedder: str, dimensions: int) -> SemanticIndex:
    from trireme.postgres.semantic import PostgresSemanticIndex

    return PostgresSemanticIndex(url, embedder, dimensions)


def _postgres_promises(url: str) -> PromiseStore:
    from trireme.postgres.semantic_promises import PostgresPromises

    return PostgresPromises(url)


def _postgres_costs(url: str) -> CostBook:
    from trireme.postgres.cost import PostgresCosts

    return PostgresCosts(url)


def _postgres_releases(url: str) -> ReleaseLog:
    from trireme.postgres.releases import PostgresReleases

    return PostgresReleases(url)


def _postgres_tenants(url: str) -> TenantList:
    from trireme.postgres.tenants import PostgresTenants

    return PostgresTenants(url)


STORAGES = {
    "postgresql": Storage(
        _postgres_store,
        _postgres_documents,
        _postgres_languages,
        _postgres_queue,
        _postgres_index_builder,
        _postgres_sample,
        _postgres_keys,
        _postgres_caps,
        _postgres_ledger,
        _postgres_revisions,
        _postgres_semantic_index,
        _postgres_promises,
        _postgres_costs,
        _postgres_releases,
        _postgres_catalog,
        _postgres_tenants,
    ),
}
