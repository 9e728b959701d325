"""Answers with a tag: not made where the client has them, and kept for a GET where a QUERY asked for them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from trireme.errors import NotFoundError
from trireme.gateway.bodies import Receive
from trireme.gateway.caching.conditional import Validator, judge
from trireme.gateway.caching.kept_replies import KeptReply
from trireme.gateway.caching.validators import Subject
from trireme.gateway.caching.wishes import read_wish
from trireme.gateway.chains import choose_collection
from trireme.gateway.exchange import Exchange
from trireme.gateway.ports import Ports
from trireme.gateway.replies import EmptyReply, JsonReply, Reply
from trireme.gateway.steps import PUBLIC

# Endpoint -> where an answer of it can be fetched by its digest.
KEPT_AT = {"embeddings": "/v1/embeddings", "rerank": "/v1/rerank", "search": "/v1/search"}


async def answer_tagged(
    exchange: Exchange,
    ports: Ports,
    subject: Subject,
    body: Mapping[str, Any],
    answer: Callable[[], Awaitable[Any]],
) -> Reply:
    """What `answer` makes, one JSON value, with its tag; 304 or 412 where the client has it already."""
    found = await ports.validators.of(subject, body) if subject.model else None
    if found is None:
        return JsonReply(await answer())
    validator, version = found
    method = str(exchange.scope["method"])
    verdict = judge(method, exchange.headers, validator.tag)
    if verdict != "answer":
        return EmptyReply(304 if verdict == "not_modified" else 412, validator.headers(is_kept=False))
    value = await answer()
    if exchange.degraded:
        # The tag is of the whole answer, which comes once there is less to do.
        return JsonReply(value, headers=(("cache-control", "no-store"),))
    headers = validator.headers(is_kept=False)
    at = KEPT_AT.get(exchange.endpoint)
    if method == "QUERY" and at is not None and read_wish(exchange.headers).may_keep:
        value = msgspec.json.encode(value)
        if await ports.kept.keep(validator.tag, _kept(exchange, subject, version, validator, value)):
            headers = (*headers, ("content-location", f"{at}/{validator.tag}"))
    return JsonReply(value, headers=headers)


async def get_kept(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/embeddings/{digest} and the like: what a QUERY of this tenant was answered, as long as it holds."""
    key, tag = exchange.caller, exchange.path_params["digest"]
    kept = await ports.kept.find(key.tenant, tag)
    if kept is None or kept.endpoint != exchange.endpoint or kept.user not in ("", key.user):
        raise _gone()
    ports.chains.check_own(kept.model, key)
    if kept.collection:
        choose_collection(key, kept.collection, ports.default_collection)
    # A model that was built anew or a collection that changed would answer otherwise now.
    if await ports.versions.version_of(kept.model, kept.tenant, kept.collection) != kept.version:
        raise _gone()
    exchange.model, exchange.served_by = kept.model, f"local:{kept.model}"
    age = max(0, int(time.time() - kept.made_at))
    # The public's own answers alone are for everybody: a key's stay private, whoever asks.
    validator = Validator(tag, max(0, kept.seconds - age), key.id == PUBLIC)
    headers = validator.headers(is_kept=True)
    if judge("GET", exchange.headers, tag) == "not_modified":
        return EmptyReply(304, headers)
    return JsonReply(kept.body, headers=headers)


def tag_headers(exchange: Exchange, seconds: int) -> tuple[tuple[str, str], ...]:
    """Of a chat's answer that is kept; of any other one none. It is written anew each time: its tag is weak."""
    return Validator(exchange.tag, seconds).headers(is_kept=False) if exchange.tag else ()


def find_known(exchange: Exchange, seconds: int) -> Reply | None:
    """304 or 412 in place of a chat's kept answer that the client has already."""
    if not exchange.tag:
        return None
    verdict = judge(str(exchange.scope["method"]), exchange.headers, exchange.tag)
    if verdict == "answer":
        return None
    return EmptyReply(304 if verdict == "not_modified" else 412, tag_headers(exchange, seconds))


def _kept(exchange: Exchange, subject: Subject, version: str, validator: Validator, body: bytes) -> KeptReply:
    return KeptReply(
        tenant=subject.tenant,
        path=subject.path,
        endpoint=exchange.endpoint,
        model=subject.model,
        collection=subject.collection,
        user=subject.user if subject.collection else "",
        version=version,
        made_at=time.time(),
        seconds=validator.seconds,
        body=body,
    )


def _gone() -> NotFoundError:
    return NotFoundError("no answer of this digest is kept; send its request again by QUERY")
