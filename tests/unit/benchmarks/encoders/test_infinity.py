import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.encoders import infinity
from benchmarks.encoders.contenders import Load, Task
from benchmarks.encoders.infinity import InfinityContender
from trireme.errors import UnavailableError

INFINITY = """#!{python}
import http.server, json, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{{}}")
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        items = body.get("input") or body["documents"]
        answer = {{"data": items}} if "input" in body else {{"results": items}}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def task(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"texts": [f"text {i}" for i in range(10)]}), encoding="utf-8")
    return Task("c", file, {"embedding": file}, {}, tokens=(10, 20, 10, 20))


def make_infinity(folder, script):
    binary = folder / "env" / "bin" / "infinity_emb"
    binary.parent.mkdir(parents=True)
    binary.write_text(script, encoding="utf-8")
    binary.chmod(0o755)
    return InfinityContender(
        "Infinity torch",
        "what",
        environment=folder / "env",
        engine="torch",
        models={"embedder": folder / "e", "ranker": folder / "r"},
        work=folder,
        versions={"infinity_emb": "0.0.77"},
    )


def test_infinity_is_measured_over_http_and_stopped_while_others_run(tmp_path, task):
    server = make_infinity(tmp_path, INFINITY.format(python=sys.executable))
    try:
        assert server.start() == {"infinity_emb": "0.0.77"}
        sample = server.measure(task, Load(2, 3), 0.3)
        assert sample.requests >= 4
        assert sample.texts_per_s > 0
        server.pause(True)
        stat = Path("/proc") / str(server._process.pid) / "stat"
        # The signal takes effect when the process is next scheduled.
        deadline = time.monotonic() + 60
        while (
            state := stat.read_text().rpartition(")")[2].split()[0]
        ) != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state == "T"
    finally:
        server.stop()
    assert server._process is None


def test_infinity_that_does_not_start_says_why(tmp_path, monkeypatch):
    server = make_infinity(tmp_path, "#!/bin/sh\necho 'ImportError: no optimum' >&2\nexit 1\n")
    with pytest.raises(UnavailableError, match="ImportError: no optimum"):
        server.start()


def test_an_environment_that_is_not_set_up_is_named(tmp_path):
    server = make_infinity(tmp_path, "")
    (tmp_path / "env" / "bin" / "infinity_emb").unlink()
    with pytest.raises(UnavailableError, match="environment is not set up"):
        server.start()


def test_a_load_that_never_ends_is_an_error(tmp_path, task, monkeypatch):
    server = make_infinity(tmp_path, INFINITY.format(python=sys.executable))
    try:
        server.start()
        monkeypatch.setattr(infinity, "JOB_S", 0.001)
        with pytest.raises(UnavailableError, match="embedder took over"):
            server.measure(task, Load(1), 0.1)
    finally:
        server.stop()
