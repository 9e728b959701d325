"""Handlers of what a tenant holds: documents, jobs and collections, in pages, and their deletion.

The tenant is the key's; a key of the endpoint admin may name another. No key sees a collection that it may not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trireme.access.checks import check_tenant
from trireme.access.endpoints import can_use
from trireme.errors import NotFoundError, PermissionDeniedError
from trireme.gateway import paths
from trireme.gateway.bodies import Receive
from trireme.gateway.chains import choose_collection
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Handler
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.uploads import Scope
from trireme.gateway.wire import holdings as wire
from trireme.gateway.wire import openai_files as files
from trireme.ingest.catalog import JobNumbers, JobsQuery
from trireme.ingest.queue import check_scope


async def get_documents(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/documents?collection=&prefix=&after=&limit=&tenant=."""
    query = read_parameters(exchange)
    require_known(query, ("collection", "prefix", "after", "limit", "tenant"))
    asked = wire.read_documents(query, *_scope_of(exchange, ports, query))
    return JsonReply(wire.documents_body(await ports.documents.holdings.documents(asked), asked))


async def get_document(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/documents/{id}?collection=&after=&around=&limit=&tenant=."""
    query = read_parameters(exchange)
    require_known(query, ("collection", "after", "around", "limit", "tenant"))
    scope = _scope_of(exchange, ports, query)
    asked = wire.read_passages(query, *scope, exchange.path_params["id"])
    return JsonReply(wire.document_body(await ports.documents.holdings.passages(asked), asked))


async def delete_document(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """DELETE /v1/documents/{id}?collection=&tenant=."""
    wanted = exchange.path_params["id"]
    query = read_parameters(exchange)
    require_known(query, ("collection", "tenant"))
    tenant, collection = _scope_of(exchange, ports, query)
    if not await ports.documents.delete([wanted], tenant, collection):
        raise NotFoundError(f"no document {wanted[:200]!r} in collection {collection!r}")
    return JsonReply(wire.deleted_body(wanted, "document"))


async def get_jobs(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/jobs?state=&collection=&batch=&after=&limit=&tenant=."""
    query = read_parameters(exchange)
    require_known(query, ("state", "collection", "batch", "after", "limit", "tenant"))
    key, tenant = exchange.caller, _tenant_of(exchange, query)
    collections = [_scope_of(exchange, ports, query)[1]] if "collection" in query else key.collections
    asked = wire.read_jobs(query, tenant, collections)
    return JsonReply(wire.jobs_body(await ports.documents.holdings.jobs(asked)))


async def get_job(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/jobs/{id}?tenant=."""
    return JsonReply(wire.job_body(await ports.documents.holdings.job(_one_job(exchange))))


async def post_retry(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/jobs/{id}/retry?tenant=: the job is taken again, if it is dead."""
    return JsonReply(wire.job_body(await ports.documents.holdings.retry(_one_job(exchange))))


async def delete_job(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """DELETE /v1/jobs/{id}?tenant=: it is forgotten, if it is dead."""
    query = _one_job(exchange)
    await ports.documents.holdings.forget(query)
    return JsonReply(wire.deleted_body(query.ids[0], "job"))


async def get_vector_stores(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/vector_stores?after=&limit=&tenant=: the collections that the key may use."""
    key, query = exchange.caller, read_parameters(exchange)
    tenant = _tenant_of(exchange, query)
    known = {info.collection: info for info in await ports.documents.collections(tenant)}
    names = [name for name in known if not key.collections or name in key.collections]
    page, has_more = files.page_of(names, query)
    jobs = await _numbers(ports, tenant, page)
    stores = [files.store_body(known[name], jobs[name]) for name in page]
    return JsonReply(files.page_body(stores, has_more=has_more))


async def get_vector_store(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/vector_stores/{id}?tenant=."""
    scope = _store_of(exchange, ports)
    for info in await ports.documents.collections(scope[0]):
        if info.collection == scope[1]:
            jobs = await _numbers(ports, scope[0], [scope[1]])
            return JsonReply(files.store_body(info, jobs[scope[1]]))
    raise NotFoundError(f"no vector store {scope[1][:80]!r}; GET /v1/vector_stores lists those there are")


async def delete_vector_store(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """DELETE /v1/vector_stores/{id}?tenant=: the collection with its documents, and what waits for it."""
    tenant, collection = _store_of(exchange, ports)
    await ports.documents.holdings.drop(tenant, collection)
    return JsonReply(wire.deleted_body(collection, "vector_store"))


# As DOCUMENT_ROUTES. An id may hold slashes where nothing follows it.
HOLDING_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/v1/documents", "documents", get_documents),
    ("GET", f"/v1/documents/{paths.ID}", "documents", get_document),
    ("DELETE", f"/v1/documents/{paths.ID}", "documents", delete_document),
    ("GET", "/v1/jobs", "documents", get_jobs),
    ("GET", "/v1/jobs/{id}", "documents", get_job),
    ("DELETE", "/v1/jobs/{id}", "documents", delete_job),
    ("POST", "/v1/jobs/{id}/retry", "documents", post_retry),
    ("GET", "/v1/vector_stores", "search", get_vector_stores),
    ("GET", f"/v1/vector_stores/{paths.ID}", "search", get_vector_store),
    # Who may only search must not be able to.
    ("DELETE", f"/v1/vector_stores/{paths.ID}", "documents", delete_vector_store),
)


def _tenant_of(exchange: Exchange, query: Mapping[str, str]) -> str:
    """Whose holdings a request is about. Raises PermissionDeniedError."""
    key = exchange.caller
    tenant = query.get("tenant", key.tenant)
    if tenant != key.tenant and not can_use(key.endpoints, "admin"):
        raise PermissionDeniedError("this key may see its own tenant alone; one of the endpoint admin any")
    check_tenant(tenant)
    return tenant


def _scope_of(exchange: Exchange, ports: Ports, query: Mapping[str, str]) -> Scope:
    """Tenant and collection. Raises PermissionDeniedError, InvalidInputError for a name that nobody can have."""
    collection = choose_collection(exchange.caller, query.get("collection"), ports.default_collection)
    scope = (_tenant_of(exchange, query), collection)
    check_scope(*scope)
    return scope


def _store_of(exchange: Exchange, ports: Ports) -> Scope:
    query = read_parameters(exchange)
    require_known(query, ("tenant",))
    return _scope_of(exchange, ports, {**query, "collection": exchange.path_params["id"]})


async def _numbers(ports: Ports, tenant: str, collections: Sequence[str]) -> dict[str, JobNumbers]:
    """The numbers of jobs of each of these collections."""
    numbers = {name: JobNumbers(name) for name in collections}
    if not collections:
        return numbers
    asked = JobsQuery(tenant, collections=tuple(collections), limit=1)
    page = await ports.documents.holdings.jobs(asked)
    return numbers | {one.collection: one for one in page.numbers}


def _one_job(exchange: Exchange) -> JobsQuery:
    query = read_parameters(exchange)
    require_known(query, ("tenant",))
    return JobsQuery(
        _tenant_of(exchange, query),
        ids=(exchange.path_params["id"],),
        collections=exchange.caller.collections,
    )
