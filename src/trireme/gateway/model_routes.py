"""Handlers of what our own Triton does beside chats: embeddings, reranking, classifying, searching, the models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.gateway import paths
from trireme.gateway.bodies import decode_object, read_body
from trireme.gateway.caching.validators import Subject
from trireme.gateway.chains import choose_collection, may_use
from trireme.gateway.degrade.chats import FEWER, NO_RERANKING, depth_of
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Fail, Handler, Receive
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.spending.bounds import bound_of_pairs, bound_of_texts
from trireme.gateway.steps import PUBLIC
from trireme.gateway.tagged import answer_tagged, get_kept
from trireme.gateway.wire import (
    anthropic_models,
    cohere,
    jina,
    openai_embeddings,
    openai_models,
    openai_stores,
    search,
    tei,
)
from trireme.gateway.wire.openai_chat import OPENAI
from trireme.gateway.wire.openai_files import FileRef, encode_file_id
from trireme.gateway.wire.ranking import RerankCall
from trireme.providers.chat import Usage
from trireme.providers.models import Embedded, Reranked, SearchCall, ServedModel
from trireme.types import Hit, OverLength

T = TypeVar("T")
Body = dict[str, Any]
# What an endpoint says of its body: one JSON value.
Answer = Callable[[Exchange, Ports, Body], Awaitable[Any]]


def _json(answer: Answer, default: str) -> Handler:
    """default: the field of [defaults], or the model, of a body that names no model."""

    async def handle(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
        limits = ports.file.limits
        body = decode_object(await read_body(receive, limits), limits)
        subject = _subject(exchange, ports, body, default)
        return await answer_tagged(exchange, ports, subject, body, lambda: answer(exchange, ports, body))

    return handle


def _subject(exchange: Exchange, ports: Ports, body: Body, default: str) -> Subject:
    """What a body will be answered from, if it is right. Raises PermissionDeniedError for a model or a collection
    that the key may not use: who knows a tag is told no more than others."""
    key, named, collection = exchange.caller, body.get("model"), ""
    model = named if isinstance(named, str) and named else getattr(ports.file.defaults, default, default)
    if model:
        ports.chains.check_own(model, key)
    if exchange.endpoint == "search":
        given = exchange.path_params.get("id", body.get("collection"))
        collection = choose_collection(
            key, given if isinstance(given, str) else None, ports.default_collection
        )
    path, is_public = str(exchange.scope["path"]), key.id == PUBLIC
    return Subject(path, key.tenant, key.user, model, collection, is_public)


async def _embeddings(exchange: Exchange, ports: Ports, body: Body) -> Any:
    call = openai_embeddings.read_embeddings(body)
    _take_model(exchange, ports, call.model)
    texts = call.texts
    if call.tokens:
        texts = tuple(await asyncio.to_thread(ports.token_texts.decode, call.model, call.tokens))
    act = partial(ports.server.embed, texts, call.model, call.input_type, call.dimensions)
    embedded = await _embed(exchange, ports, texts, act, call.over_length)
    return openai_embeddings.write_embeddings(call, embedded)


async def _tei_embed(exchange: Exchange, ports: Ports, body: Body) -> Any:
    call = tei.read_embed(body)
    model = _take_model(exchange, ports, call.model or _default(ports.file.defaults.embed, "embed"))
    act = partial(ports.server.embed, call.texts, model, call.input_type, call.dimensions)
    embedded = await _embed(exchange, ports, call.texts, act, call.over_length)
    return tei.write_embed(call, embedded)


async def _embed(
    exchange: Exchange,
    ports: Ports,
    texts: Sequence[str],
    act: Callable[..., Awaitable[Embedded]],
    over_length: OverLength | None,
) -> Embedded:
    embedded = await ports.degrade.run(
        exchange,
        exchange.model,
        lambda: ports.spending.pay(
            exchange,
            bound_of_texts(texts, over_length),
            lambda: act(seconds=exchange.seconds_left(), over_length=over_length),
            lambda embedded: int(embedded.tokens.sum()),
        ),
    )
    exchange.usage = Usage(input_tokens=int(embedded.tokens.sum()))
    return embedded


async def _cohere_rerank(exchange: Exchange, ports: Ports, body: Body) -> Any:
    call = cohere.read_rerank(body)
    reranked = await _rerank(exchange, ports, call, call.model)
    return cohere.write_rerank(call, reranked, exchange.request_id)


async def _jina_rerank(exchange: Exchange, ports: Ports, body: Body) -> Any:
    call = jina.read_rerank(body)
    return jina.write_rerank(call, await _rerank(exchange, ports, call, call.model))


async def _tei_rerank(exchange: Exchange, ports: Ports, body: Body) -> Any:
    asked = tei.read_rerank(body)
    model = asked.call.model or _default(ports.file.defaults.rerank, "rerank")
    reranked = await _rerank(exchange, ports, asked.call, model)
    return tei.write_rerank(asked, reranked)


async def _rerank(exchange: Exchange, ports: Ports, call: RerankCall, model: str) -> Reranked:
    model = _take_model(exchange, ports, model)
    asked = (call.query, call.documents, model)
    return await _run(
        exchange,
        ports,
        bound_of_pairs(call.query, call.documents, call.over_length),
        lambda: ports.server.rerank(*asked, seconds=exchange.seconds_left(), over_length=call.over_length),
    )


async def _tei_predict(exchange: Exchange, ports: Ports, body: Body) -> Any:
    call = tei.read_predict(body)
    model = _take_model(exchange, ports, call.model or _default(ports.file.defaults.classify, "classify"))
    labels = await _run(
        exchange,
        ports,
        bound_of_texts(call.texts),
        lambda: ports.server.classify(
            call.texts, model, seconds=exchange.seconds_left(), over_length=call.over_length
        ),
    )
    return tei.write_predict(call, labels)


async def _search(exchange: Exchange, ports: Ports, body: Body) -> Any:
    key = exchange.caller
    given = body.get("collection")
    collection = choose_collection(key, given if isinstance(given, str) else None, ports.default_collection)
    call = search.read_search(body, tenant=key.tenant, user=key.user, collection=collection)
    hits = await _find(exchange, ports, call)
    return search.write_search(call, hits, exchange.degraded)


async def _search_store(exchange: Exchange, ports: Ports, body: Body) -> Any:
    key = exchange.caller
    store = choose_collection(key, exchange.path_params["id"], ports.default_collection)
    asked = openai_stores.read_store_search(body, store, tenant=key.tenant, user=key.user)
    hits = [await _find(exchange, ports, call) for call in asked.calls]
    return openai_stores.write_page(asked, hits, lambda document: encode_file_id(FileRef(store, document)))


async def _find(exchange: Exchange, ports: Ports, call: SearchCall) -> list[Hit]:
    _take_model(exchange, ports, call.model)
    if call.rerank_depth == 0:
        await _check_takes_depth(ports, call.model)
        # Nothing is left out that was asked for; the time it takes is that of the step all the same.
        steps: tuple[str, ...] = (NO_RERANKING,)
    else:
        served = (ports.served.known or {}).get(call.model)
        can = (FEWER, NO_RERANKING) if served is not None and served.takes_rerank_depth else ()
        steps = ports.degrade.choose(exchange, call.model, can)
    depth = depth_of(ports.degrade.row_of(call.model), steps)

    def act() -> Awaitable[list[Hit]]:
        asked = replace(call, rerank_depth=depth, seconds=exchange.seconds_left())
        return ports.server.search(asked)

    hits = await _run(exchange, ports, bound_of_texts([call.query]), act, steps)
    if call.rerank_depth is None:
        exchange.note_degraded(steps)
    return hits


async def _check_takes_depth(ports: Ports, model: str) -> None:
    """Raises InvalidInputError for a search that cannot do without its reranker."""
    served = (await ports.served.read()).get(model)
    if served is not None and served.ability == "search" and not served.takes_rerank_depth:
        raise InvalidInputError(
            f"rerank: the configuration of {model!r} has no rerank_depth; write it anew, or leave rerank out",
            "rerank",
        )


async def _run(
    exchange: Exchange,
    ports: Ports,
    bound: int,
    act: Callable[[], Awaitable[T]],
    steps: tuple[str, ...] = (),
) -> T:
    """What `act` gives, once it is the request's turn and its budgets pay for all of the bound."""

    def pay() -> Awaitable[T]:
        return ports.spending.pay(exchange, bound, act, _unsaid)

    return await ports.degrade.run(exchange, exchange.model, pay, steps)


async def get_models(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/models, in OpenAI's words, or in Anthropic's to its own clients."""
    wire = anthropic_models if anthropic_models.is_asked(exchange.headers) else openai_models
    return JsonReply(wire.write_models(await _owned(exchange, ports), ports.started))


async def get_model(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/models/{id}, as `get_models`."""
    wire = anthropic_models if anthropic_models.is_asked(exchange.headers) else openai_models
    models = await _owned(exchange, ports)
    return JsonReply(wire.write_model(models, exchange.path_params["id"], ports.started))


async def get_info(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /info, of the default embedder."""
    name = _default(ports.file.defaults.embed, "embed")
    may_use(exchange.caller, name)
    model: ServedModel | None = (await ports.served.read()).get(name)
    if model is None:
        raise NotFoundError(
            f"the default embedder {name!r} is not served; defaults.embed in gateway.toml names it"
        )
    return JsonReply(tei.write_info(model, version("trireme"), ports.file.limits.requests))


async def _owned(exchange: Exchange, ports: Ports) -> list[tuple[str, str]]:
    """Names that the key may call, with who answers first for each."""
    try:
        served = await ports.served.read()
    except UnavailableError:
        # Models of other providers are there all the same.
        served = ports.served.known or {}
    return [
        (name, "trireme" if name in served else ports.chains.owner(name))
        for name in ports.chains.names(exchange.caller, served)
    ]


def _take_model(exchange: Exchange, ports: Ports, model: str) -> str:
    """Note the model that answers. Raises PermissionDeniedError unless key and tenant allow it."""
    ports.chains.check_own(model, exchange.caller)
    exchange.model = model
    exchange.served_by = f"local:{model}"
    return model


def _default(name: str, what: str) -> str:
    if not name:
        raise InvalidInputError(
            f"model is missing: defaults.{what} in gateway.toml names none; send one", "model"
        )
    return name


def _unsaid(_: Any) -> None:
    """Used tokens of what does not say them: all that were held."""


# Path, endpoint, handler, and whose words an error is told in. Each is asked by POST, and by QUERY, which HTTP's
# caches know to change nothing (RFC 10008).
_ASKED: tuple[tuple[str, str, Handler, Fail], ...] = (
    ("/v1/embeddings", "embeddings", _json(_embeddings, "embed"), OPENAI.fail),
    ("/embed", "embeddings", _json(_tei_embed, "embed"), tei.fail),
    ("/v2/rerank", "rerank", _json(_cohere_rerank, "rerank"), cohere.fail),
    ("/v1/rerank", "rerank", _json(_jina_rerank, "rerank"), jina.fail),
    ("/rerank", "rerank", _json(_tei_rerank, "rerank"), tei.fail),
    ("/predict", "classify", _json(_tei_predict, "classify"), tei.fail),
    ("/v1/search", "search", _json(_search, "search"), OPENAI.fail),
    (f"/v1/vector_stores/{paths.ID}/search", "search", _json(_search_store, "search"), OPENAI.fail),
)

# Method, path, endpoint, handler, and whose words an error is told in.
MODEL_ROUTES: tuple[tuple[str, str, str, Handler, Fail], ...] = (
    *((method, *row) for row in _ASKED for method in ("POST", "QUERY")),
    ("GET", "/v1/embeddings/{digest}", "embeddings", get_kept, OPENAI.fail),
    ("GET", "/v1/rerank/{digest}", "rerank", get_kept, OPENAI.fail),
    ("GET", "/v1/search/{digest}", "search", get_kept, OPENAI.fail),
    ("GET", "/info", "models", get_info, tei.fail),
    ("GET", "/v1/models", "models", get_models, OPENAI.fail),
    ("GET", f"/v1/models/{paths.ID}", "models", get_model, OPENAI.fail),
)
