"""Requests of a stranger, byte for byte; and what every endpoint takes when it is meant well."""

import http.client
import json
import secrets
import socket
from contextlib import closing

from stacks import wait_until

from trireme.access.keys import Key, digest_of, new_key_id
from trireme.storage import open_keys

# Of docs/gateway.md, all but 500; 422 and 424 are text-embeddings-inference's words, 529 is Anthropic's.
STATUSES = {200, 202, 400, 401, 403, 404, 405, 409, 413, 422, 424, 429, 502, 503, 504, 529}
# Parts of what must never be in an answer.
INSIDE = (
    b"Traceback",
    b".py",
    b"/work",
    b"/tmp",
    b"/root",
    b"/home",
    b"psycopg",
    b"SELECT ",
    b"trireme.keys",
)


def new_key(gateway, tenant, **limits):
    """The secret of a new key that is in force."""
    secret = limits.pop("secret", "") or f"tr-{secrets.token_urlsafe(24)}"
    with closing(open_keys(gateway.environ["TRIREME_DATABASE_URL"])) as keys:
        keys.create(Key(new_key_id(), tenant, "ann", **limits), digest_of(secret))
    wait_until(lambda: ask(gateway, "GET", "/v1/jobs/0", secret=secret)[0] != 401)
    return secret


def ask(gateway, method, path, body=None, headers=(), *, secret=""):
    """Status, headers and body of one request; `body` is sent as JSON unless it is bytes."""
    address = gateway.url.removeprefix("http://")
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {secret}"} if secret else {}
        connection.request(method, path, raw, {**sent, **dict(headers)})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def connect(gateway):
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)), timeout=60)
    client.settimeout(60)
    return client


def send_raw(gateway, *parts):
    """All that comes back for these bytes until the connection is closed."""
    data = b""
    with connect(gateway) as client:
        try:
            for part in parts:
                client.sendall(part)
            while piece := client.recv(65536):
                data += piece
        except ConnectionError:
            # Closed while we were still sending.
            pass
    return data


def chat(model="assistant", text="hello", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def bodies(text, chat_model="assistant", messages_model="claude"):
    """Path -> a body that it takes, with `text` where texts stand."""
    return {
        "/v1/chat/completions": chat(chat_model, text),
        "/v1/completions": {"model": chat_model, "prompt": text},
        "/v1/messages": chat(messages_model, text, max_tokens=16),
        "/v1/messages/count_tokens": chat(messages_model, text),
        "/v1/embeddings": {"model": "embedding", "input": [text, "oars"]},
        "/embed": {"inputs": text},
        "/v2/rerank": {"model": "reranker", "query": text, "documents": ["oars", "sails"]},
        "/v1/rerank": {"model": "reranker", "query": text, "documents": ["oars", "sails"]},
        "/rerank": {"query": text, "texts": ["oars", "sails"]},
        "/predict": {"inputs": text},
        "/v1/search": {"query": text, "top_k": 2, "collection": "hostile"},
        "/v1/documents": {"document_id": "one", "text": text, "collection": "hostile"},
        "/v1/vector_stores/hostile/search": {"query": text},
    }
