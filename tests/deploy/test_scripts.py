"""The scripts that pods run before they end, against servers that answer as the real ones do."""

import http.server
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from trireme.agent.replica import FAULT_KINDS

FILES = Path(__file__).parents[2] / "deploy" / "chart" / "files"


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with the next page of the server's list, and the last one again."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        pages = self.server.pages
        page = (pages.pop(0) if len(pages) > 1 else pages[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        served.asked, served.pages = [], []
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def run(script, *words):
    shell = "bash" if script == "drain-envoy.sh" else "sh"
    for tool in (shell, "curl") if shell == "sh" else (shell,):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing")
    return subprocess.run(
        [shell, FILES / script, *map(str, words)], capture_output=True, text=True, timeout=60
    )


def gateway(running):
    return "\n".join(
        (
            "# TYPE trireme_gateway_requests_running gauge",
            'trireme_gateway_requests_running{endpoint="metrics"} 1.0',
            f'trireme_gateway_requests_running{{endpoint="chat"}} {running}.0',
            'trireme_gateway_requests_running{endpoint="embeddings"} 0.0',
            "",
        )
    )


def test_a_gateway_waits_until_its_requests_have_ended_not_counting_the_question(server):
    server.pages = [gateway(2), gateway(0)]
    done = run("wait-for-requests.sh", 0, 60, f"http://127.0.0.1:{server.server_port}/metrics")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.asked) == 2


def test_a_gateway_waits_no_longer_than_the_longest_answer(server):
    server.pages = [gateway(1)]
    assert run("wait-for-requests.sh", 0, 1, f"http://127.0.0.1:{server.server_port}/metrics").returncode == 0
    assert server.asked


def test_a_gateway_that_is_gone_is_not_waited_for():
    assert run("wait-for-requests.sh", 0, 60, "http://127.0.0.1:9/metrics").returncode == 0


def test_envoy_is_drained_and_then_waited_for(server):
    server.pages = ["OK\n", "http.grpc.downstream_rq_active: 3\n", "http.grpc.downstream_rq_active: 0\n"]
    done = run("drain-envoy.sh", 0, 60, server.server_port)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.asked[0] == ("POST", "/drain_listeners?graceful&skip_exit")
    assert len(server.asked) == 3


def test_an_envoy_that_is_gone_is_not_waited_for():
    assert run("drain-envoy.sh", 0, 60, 9).returncode == 0


def fault(kind):
    """The page of an agent that finds one fault."""
    kinds = ("starting", "server_silent", "model_not_ready", "model_gone", "model_silent", "draining")
    assert set(kinds) < set(FAULT_KINDS)
    return "".join(f'trireme_replica_fault{{kind="{one}"}} {float(one == kind)}\n' for one in kinds)


@pytest.mark.parametrize(
    ("kind", "lives"),
    [
        ("", True),
        # Such as of a database that is away.
        ("model_not_ready", True),
        ("draining", True),
        ("model_gone", False),
        ("model_silent", False),
        ("server_silent", False),
    ],
)
def test_a_server_is_started_again_for_what_only_a_new_start_mends(server, objects, kind, lives):
    server.pages = [fault(kind)]
    for one in objects:
        if one["kind"] == "Deployment" and one["metadata"]["name"] in ("trireme-llm", "trireme-retrieval"):
            pod = one["spec"]["template"]["spec"]
            words = pod["containers"][0]["livenessProbe"]["exec"]["command"]
            port = pod["initContainers"][0]["ports"][1]["containerPort"]
            asked = [word.replace(f"127.0.0.1:{port}/", f"127.0.0.1:{server.server_port}/") for word in words]
            assert asked != words
            assert (subprocess.run(asked, capture_output=True).returncode == 0) is lives


def test_an_agent_that_is_gone_is_no_reason_to_start_its_server_again(objects):
    named = (
        one for one in objects if one["metadata"]["name"] == "trireme-llm" and one["kind"] == "Deployment"
    )
    probe = next(named)["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    assert (
        subprocess.run([*probe[:-1], re.sub(r":\d+/", ":9/", probe[-1])], capture_output=True).returncode == 0
    )
