"""One request to an ASGI app in this process, without a socket."""

import json
from dataclasses import dataclass
from urllib.parse import quote, unquote

from fakes.forms import receive_of


@dataclass
class Answer:
    """What an app sent; `value` is its body decoded from JSON."""

    status: int
    headers: dict
    body: bytes

    @property
    def value(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The text of an error in OpenAI's form."""
        return self.value["error"]["message"]


async def call(app, method, path, body=b"", headers=None, *, state=None, sizes=65_536, gone=False):
    """The answer of `app`. body: bytes, or what is sent as JSON. path: percent-encoded, with its query."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if isinstance(body, bytes) else {"content-type": "application/json"}
    given = {**kind, "content-length": str(len(raw)), **(headers or {})}
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": quote(path, safe="%/").encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 9),
        "server": ("127.0.0.1", 80),
        "state": state or {},
    }
    sent = []

    async def send(message):
        sent.append(message)

    await app(scope, receive_of(raw, sizes, gone=gone), send)
    if not sent:
        return None
    start, *rest = sent
    return Answer(
        start["status"],
        {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )
