"""Handlers of documents, jobs, files and vector stores. The tenant is always the key's."""

from __future__ import annotations

import time
from pathlib import Path

from trireme.gateway import paths
from trireme.gateway.bodies import Receive, decode_object, read_body
from trireme.gateway.chains import choose_collection
from trireme.gateway.exchange import Exchange
from trireme.gateway.forms import Form, read_form
from trireme.gateway.gate import Handler
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.uploads import Scope
from trireme.gateway.wire import documents as wire
from trireme.gateway.wire import openai_files as files
from trireme.ingest.queue import check_scope


async def post_documents(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/documents: texts as JSON, or one file as a form. 202 once they wait for a worker."""
    # What says nothing of a form is JSON: curl -d calls everything a form of the other kind.
    if not exchange.headers.get("content-type", "").lower().startswith("multipart/"):
        limits = ports.file.limits
        texts, collection = wire.read_texts(decode_object(await read_body(receive, limits), limits))
        rows = await ports.documents.publish_texts(texts, _scope(exchange, ports, collection))
        return JsonReply(wire.published_body(rows), 202)
    with ports.documents.place(exchange.caller.tenant) as folder:
        form = await _read_form(exchange, ports, receive, folder)
        upload, collection = wire.read_upload(form)
        row = await ports.documents.publish_file(upload, _scope(exchange, ports, collection))
    return JsonReply(wire.published_body([row]), 202)


async def post_file(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/files."""
    with ports.documents.place(exchange.caller.tenant) as folder:
        form = await _read_form(exchange, ports, receive, folder)
        upload, collection = files.read_file_upload(form, exchange.headers, int(time.time()))
        scope = _scope(exchange, ports, collection)
        await ports.documents.publish_file(upload, scope)
    return JsonReply(files.file_body(files.FileRef(scope[1], upload.key), "waiting"))


async def get_file(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/files/{id}."""
    ref = files.decode_file_id(exchange.path_params["id"])
    scope = _scope(exchange, ports, ref.collection)
    state, error = await ports.documents.find_state(ref.document, scope)
    return JsonReply(files.file_body(ref, state, error))


async def delete_file(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """DELETE /v1/files/{id}: the document goes, with its passages."""
    file_id = exchange.path_params["id"]
    ref = files.decode_file_id(file_id)
    scope = _scope(exchange, ports, ref.collection)
    if not await ports.documents.delete([ref.document], *scope):
        raise files.missing_file(ref)
    return JsonReply(files.deleted_file_body(file_id))


async def get_file_content(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/files/{id}/content: refused."""
    raise files.refuse_content()


async def get_files(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/files: refused."""
    raise files.refuse_list()


async def post_vector_store(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/vector_stores: refused."""
    raise files.refuse_create()


async def post_vector_store_file(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/vector_stores/{id}/files: refused."""
    raise files.refuse_attach()


# Method, path, the endpoint that a key can be limited to, and the handler. An id may hold slashes where nothing
# follows it.
DOCUMENT_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("POST", "/v1/documents", "documents", post_documents),
    ("POST", "/v1/files", "documents", post_file),
    ("GET", "/v1/files", "documents", get_files),
    ("GET", "/v1/files/{id}", "documents", get_file),
    ("DELETE", "/v1/files/{id}", "documents", delete_file),
    ("GET", "/v1/files/{id}/content", "documents", get_file_content),
    ("POST", "/v1/vector_stores", "search", post_vector_store),
    ("POST", f"/v1/vector_stores/{paths.ID}/files", "search", post_vector_store_file),
)


def _scope(exchange: Exchange, ports: Ports, asked: str | None) -> Scope:
    """Tenant and collection. Raises PermissionDeniedError, InvalidInputError for a name that nobody can have."""
    key = exchange.caller
    scope = (key.tenant, choose_collection(key, asked, ports.default_collection))
    check_scope(*scope)
    return scope


async def _read_form(exchange: Exchange, ports: Ports, receive: Receive, folder: Path) -> Form:
    kind, length = (exchange.headers.get(name, "") for name in ("content-type", "content-length"))
    return await read_form(receive, kind, length, folder, ports.file.limits)
