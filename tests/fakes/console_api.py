"""The console's real files over an API of answers that a test sets, on a real socket of this machine."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from trireme.gateway.console.files import FILES, INDEX, SAFETY

ME = {
    "object": "key",
    "id": "key_root",
    "tenant": "acme",
    "user": "",
    "endpoints": ["chat", "models", "search", "documents", "usage", "admin"],
    "is_admin": True,
    "release": "v1",
    "limits": {"upload_bytes": 1000},
    "suffixes": [".pdf"],
}


class ConsoleApi:
    """Serves while it is entered. `answers`: path -> (status, value), or a function of the key that gives both.

    Those of another method than GET stand under "METHOD path". A third item are headers. `asked`: (path, key) of
    each GET, `sent`: (method, path, value) of each other call.

    A value that is a list of (event, data) under `streams` is sent as server-sent events; the stream stays open
    until `end_streams`. `headers`: more of them for a stream, under its name.
    """

    def __init__(self):
        self.answers = {"/v1/me": (200, ME), "/readyz": (200, {"ready": True, "reasons": []})}
        self.streams, self.headers = {}, {}
        self.asked, self.sent = [], []
        self._ends = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def end_streams(self):
        """Those that are open end; later ones stay open again."""
        ends, self._ends = self._ends, threading.Event()
        ends.set()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(api):  # noqa: C901, N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path = urlsplit(self.path).path
                if path.startswith("/console/"):
                    file = FILES[path.removeprefix("/console/") or INDEX]
                    self._send(200, file.body, file.content_type, dict(SAFETY))
                    return
                key = self.headers.get("authorization", "").removeprefix("Bearer ")
                api.asked.append((self.path, key))
                if path in api.streams:
                    self._stream(path)
                    return
                self._answer(path, path, key)

            def _other(self):
                path = urlsplit(self.path).path
                key = self.headers.get("authorization", "").removeprefix("Bearer ")
                text = self.rfile.read(int(self.headers.get("content-length") or 0))
                api.sent.append((self.command, self.path, json.loads(text) if text else None))
                if (name := f"{self.command} {path}") in api.streams:
                    self._stream(name)
                else:
                    self._answer(name, path, key)

            do_POST = do_PUT = do_DELETE = _other  # noqa: N815

            def _answer(self, name, path, key):
                answer = api.answers.get(name, (404, {"error": {"message": f"no {path}"}}))
                status, value, *headers = answer(key) if callable(answer) else answer
                with suppress(ConnectionError):
                    self._send(status, json.dumps(value).encode(), "application/json", *(headers or [{}]))

            def _send(self, status, body, content_type, headers):
                self.send_response(status)
                for name, value in {**headers, "content-type": content_type}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, name):
                ends = api._ends
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                for header, value in api.headers.get(name, {}).items():
                    self.send_header(header, value)
                self.end_headers()
                # A page that was left meanwhile reads no more.
                with suppress(ConnectionError):
                    for event, data in api.streams[name]:
                        self.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
                    self.wfile.flush()
                    ends.wait(60)

            def log_message(self, *_):
                return

        return Handler
