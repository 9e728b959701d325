"""Everything that exports metrics, and load that makes each of them say something."""

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import grpc
from cascades import versions_of
from gateways import gateway_over
from prometheuses import job, prometheus_over
from rich.console import Console
from stacks import environment_of, free_ports, wait_until
from tritonclient.grpc import service_pb2 as messages

from fakes.agents import AgentRun
from fakes.balancers import Balancer
from fakes.cascade_gateways import calibration_of
from fakes.collectors import collecting, traces_of
from trireme.agent.options import AgentOptions
from trireme.budget.caps import Cap
from trireme.cascade.calibration import write_calibration
from trireme.errors import InvalidInputError, UnavailableError
from trireme.indexing import publish_path
from trireme.observe import metrics as names
from trireme.scale.endpoints import Endpoint
from trireme.storage import open_caps
from trireme.triton.client import TritonClient

FILE = """
[providers.fakeopenai]
kind = "openai"
url = "{url}/v1"
keys = ["FAKE_PROVIDER_KEY"]

[prices."fakeopenai:echo"]
input = 1000.0
output = 2000.0

[models.assistant]
chain = ["fakeopenai:echo"]

[models.assistant.semantic]
threshold = 0.8

[models.careful]
exact = "off"
[[models.careful.steps]]
name = "sentence"
target = "rag"
answer_mode = "extractive"
calibration = "careful.json"
[[models.careful.steps]]
name = "big"
chain = ["fakeopenai:echo"]

[models.failing]
chain = ["fakeopenai:fault-status_502"]

[models.crowded]
chain = ["fakeopenai:echo"]

[[machines.small]]
dollars_per_hour = 1.0
always = 2

[degrade.crowded]
running = 1
waiting = 1
"""
# What a machine with a GPU says beside it, here without one: as DCGM's exporter writes it, and the counters of
# vLLM's prefix cache, which OpenVINO leaves at 0. {0}: how often it was read.
GPU = """# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-1",device="nvidia0",modelName="H200",Hostname="node"}} 61
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="GPU-1",device="nvidia0",modelName="H200",Hostname="node"}} 90000
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="GPU-1",device="nvidia0",modelName="H200",Hostname="node"}} 53000
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{{model="llm"}} {0}00
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{{model="llm"}} {0}0
"""
DOCUMENTS, LEAST_WAITING = 60, 20
# What answers with a sentence.
CALIBRATED = ("embedding", "rag", "reranker", "search__retrieve")
RELEASE = "r-of-tests"


@dataclasses.dataclass(frozen=True)
class Observed:
    """What runs. pages: exporter -> URL of its page."""

    stack: object
    gateway: object
    upstream: object
    balancer: Balancer
    prometheus: object
    pages: dict


@contextlib.contextmanager
def observed(stack, upstream, folder):
    """A gateway, a worker, an agent and an Envoy over `stack`, each with its page, and a Prometheus over them."""
    settings = stack.settings
    (worker_port, agent_port, agent_http) = free_ports(3)
    with contextlib.ExitStack() as opened:
        collector = opened.enter_context(collecting())
        gateway = opened.enter_context(_gateway(stack, upstream, _new(folder, "gateway"), collector))
        agent = AgentRun(
            AgentOptions(
                server=settings.grpc_url,
                metrics_url=f"http://{settings.host}:{settings.metrics_port}/metrics",
                port=agent_port,
                http_port=agent_http,
                release=RELEASE,
            ),
            folder / "agent.log",
        )
        opened.callback(agent.close)
        worker = opened.enter_context(_worker(stack, worker_port, folder / "worker.log", collector))
        balancer = Balancer(_new(folder, "envoy"), {"all": {"serves": ["embedding"]}})
        opened.callback(balancer.close)
        balancer.place(Endpoint("127.0.0.1", settings.grpc_port))
        gpu = opened.enter_context(_page(GPU))
        pages = {
            "server": f"{settings.host}:{settings.metrics_port}/metrics",
            "gateway": f"{gateway.url.removeprefix('http://')}/metrics",
            "worker": f"{settings.host}:{worker_port}/metrics",
            "agent": f"127.0.0.1:{agent_http}/metrics",
            "envoy": f"127.0.0.1:{balancer.metrics_port}/stats/prometheus",
            "gpu": f"127.0.0.1:{gpu}/metrics",
        }
        agent.wait_until_ready()
        assert worker.poll() is None, (folder / "worker.log").read_text()
        jobs = [job(name, *_split(page)) for name, page in pages.items()]
        prometheus = opened.enter_context(prometheus_over(_new(folder, "prometheus"), jobs))
        yield Observed(
            stack, gateway, upstream, balancer, prometheus, {k: f"http://{v}" for k, v in pages.items()}
        )


class Load:
    """Requests of all kinds, again and again, each round with texts of its own; `close` it."""

    def __init__(self, observed, folder):
        self._all, self._folder = observed, folder
        self._key = observed.gateway.new_key("--tenant", "default")
        with contextlib.closing(open_caps(observed.stack.database_url)) as caps:
            caps.put(Cap("default", "", "day", tokens=1_000_000_000))
        self._closed = threading.Event()
        self._rounds = count()
        self.faults = []
        # Workers hold back while others ask: on a slow machine they would get to little else.
        acts = ((self._ask, 2.0), (self._index, 0.1))
        self._threads = [threading.Thread(target=self._run, args=act) for act in acts]
        for thread in self._threads:
            thread.start()

    def close(self):
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _run(self, act, pause):
        while not self._closed.wait(pause):
            try:
                act(next(self._rounds))
            except (UnavailableError, OSError):
                # A machine that is slow: once more.
                continue
            except Exception as error:
                self.faults.append(error)
                return

    def _ask(self, number):
        text = f"say {number} please, as you said the number before it"
        self._chat("assistant", "the same each time", temperature=0)
        self._chat("assistant", text)
        self._chat("llm", f"Count the banks of oars of a trireme, and then {number} more.", stream=True)
        self._chat("rag", "How many banks of oars had a trireme?", trireme={"answer_mode": "extractive"})
        self._chat("failing", text, expected=(502, 503))
        self._chat("assistant", f"How many oars has a ship of {number} banks?", temperature=0)
        self._chat("careful", "How many banks of oars had a trireme?")
        self._chat("careful", f"Which enzyme of the liver breaks down {number} grams of paracetamol?")
        self._chat("assistant", text, stream=True)
        self._post("/v1/embeddings", {"model": "embedding", "input": [text, "short"]})
        self._post("/v1/rerank", {"model": "reranker", "query": text, "documents": ["oars", "sails"]})
        self._post("/v1/search", {"query": f"banks of oars {number}", "top_k": 2})
        with (
            contextlib.suppress(InvalidInputError),
            TritonClient(self._all.stack.settings.grpc_url) as client,
        ):
            client.infer("embedding", {"text": [[" "]]})
        self._embed_through_envoy(text)
        self._crowd(text)

    def _embed_through_envoy(self, text):
        request = messages.ModelInferRequest(model_name="embedding")
        request.inputs.add(name="text", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(
            text.encode()
        )
        with contextlib.suppress(grpc.RpcError):
            self._all.balancer.stub.ModelInfer(
                request, metadata=[("trireme-model", "embedding")], timeout=30.0
            )

    def _crowd(self, text):
        """One runs, one waits, and the third is refused."""
        upstream, before = self._all.upstream, self._all.upstream.answering
        upstream.hold()
        try:
            held = [threading.Thread(target=self._chat, args=("crowded", f"{text} {n}")) for n in range(2)]
            for thread in held:
                thread.start()
            upstream.wait_until(lambda seen: seen.answering > before)
            wait_until(lambda: self._waiting() == 1)
            self._chat("crowded", f"{text} 2", expected=(503,))
        finally:
            upstream.let_go()
        for thread in held:
            thread.join()

    def _waiting(self):
        address = self._all.pages["gateway"].removeprefix("http://").removesuffix("/metrics")
        with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        sample = f'{names.ROUTE_WAITING.name}{{model="crowded"}} '
        return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(sample)), 0)

    def _index(self, number):
        """Keeps some documents waiting."""
        waiting = self._all.prometheus.values(f'sum({names.QUEUE_DEPTH.name}{{model="ingest"}})')
        if waiting and waiting[0] >= LEAST_WAITING:
            self._closed.wait(0.5)
            return
        stack = self._all.stack
        folder = _new(self._folder, f"documents-{number}")
        for one in range(DOCUMENTS):
            lines = (
                f"Line {line} of paper {one} in batch {number} is about ships.\n\n" for line in range(60)
            )
            (folder / f"{number}-{one}.txt").write_text("".join(lines))
        settings = dataclasses.replace(stack.settings, collection="dashboards")
        publish_path(settings, folder, stack.database_url, Console(quiet=True), wait=False)

    def _chat(self, model, text, expected=(200,), **more):
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}
        self._post("/v1/chat/completions", body, expected)

    def _post(self, path, body, expected=(200,)):
        address = self._all.gateway.url.removeprefix("http://")
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        with contextlib.closing(http.client.HTTPConnection(address, timeout=120)) as connection:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in expected, (path, body.get("model"), answer.status, said[:500])


def _new(folder, name):
    made = folder / name
    made.mkdir()
    return made


def _split(page):
    target, slash, path = page.partition("/")
    return target, slash + path


@contextlib.contextmanager
def _gateway(stack, upstream, folder, collector):
    """With a step that the models of `stack` are calibrated for; it sends spans."""
    versions = versions_of(stack, *CALIBRATED)
    write_calibration(
        folder / "careful.json", calibration_of("sentence_score", center=0.5, versions=versions)
    )
    more = (("FAKE_PROVIDER_KEY", "fake-provider-key"), ("TRIREME_OTLP_URL", traces_of(collector)))
    with gateway_over(stack, upstream, folder, FILE, more) as gateway:
        yield gateway


@contextlib.contextmanager
def _worker(stack, port, log, collector):
    settings = dataclasses.replace(
        stack.settings,
        database_url=stack.database_url,
        worker_metrics_port=port,
        release=RELEASE,
        otlp_url=traces_of(collector),
    )
    with log.open("wb") as out:
        command = [sys.executable, "-m", "trireme.cli", "worker"]
        process = subprocess.Popen(command, env=environment_of(settings), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)


@contextlib.contextmanager
def _page(text):
    """The port of a server that says `text`, whatever it is asked. {0} in it counts how often it was."""
    asked = count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            # A Prometheus that ends reads no further.
            with contextlib.suppress(ConnectionError):
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.format(next(asked)).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
