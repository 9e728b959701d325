"""Two regions, each with a gateway, an Envoy and a real tritonserver: what clients notice of a loss."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path as File

import pytest
from gateways import create_key
from generators import Hold, place_generator
from regional import FAR, HOME, PATHS, SETTINGS
from stacks import ROOT, environment_of, wait_until

from benchmarks.regions.links import Link
from benchmarks.regions.namespaces import Namespace
from benchmarks.regions.region import GRPC_PORT, REGION_PORT, Region
from trireme.local.postgres import start_postgres
from trireme.scale.endpoints import Endpoint
from trireme.settings import Settings
from trireme.triton.metrics import count_answered, read_metrics, read_samples
from trireme.triton.server import ServerConfig, TritonServer

pytestmark = pytest.mark.namespaces
MODELS = {
    # A busy machine takes more than the second of the other tests.
    "all": {"serves": ["embedding", "llm"], "idempotent": ["embedding"], "perTryTimeoutSeconds": 5},
}
FILE = """
[local]
region = "{own}"
other_regions = ["{other}"]

[tenants.kept]
forbid_regions = ["{other}"]
"""
SERVER_PORT, HTTP_PORT, METRICS_PORT, GATEWAY_PORT = 9001, 8000, 8002, 8080
PROMPT = "one two three four five six"
DEADLINE_S = 60


class Site:
    """One region: its Envoy, its server and its gateway, which may be started again."""

    def __init__(self, folder, envoy, servers, address, database_url):
        """servers: the namespace of its server, which is reached at `address`."""
        self.name, self.space, self.address, self.envoy = envoy.name, envoy.namespace, address, envoy
        self._servers, self._folder = servers, folder
        self.hold = Hold(folder)
        models = folder / "models"
        models.mkdir()
        (models / "embedding").symlink_to(ROOT / "model_repository" / "embedding")
        place_generator(models, "llm", self.hold.knobs, chat_text_input=False, max_num_seqs=8)
        file = folder / "gateway.toml"
        other = FAR if self.name == HOME else HOME
        file.write_text(FILE.format(own=self.name, other=other))
        self.settings = Settings(
            grpc_port=GRPC_PORT,
            http_port=HTTP_PORT,
            metrics_port=METRICS_PORT,
            gateway_port=GATEWAY_PORT,
            server_hosts=address,
            data_dir=folder / "data",
            model_repository=models,
            backend_directory=ROOT / "python_backends",
            gateway_file=file,
            database_url=database_url,
        )
        config = ServerConfig(
            host=address,
            http_port=HTTP_PORT,
            grpc_port=SERVER_PORT,
            metrics_port=METRICS_PORT,
            model_repository=models,
            backend_directory=ROOT / "python_backends",
            log_file=folder / "server.log",
        )
        with servers.entered():
            self.server = TritonServer(config, os.environ)
        self.gateway = None

    def start_gateway(self):
        log = (self._folder / "gateway.log").open("ab")
        with log:
            self.gateway = self.space.start(
                [sys.executable, "-m", "trireme.cli", "gateway"],
                env=environment_of(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self):
        with self._servers.entered():
            if not self.server.has_started():
                return False
        assert self.gateway.poll() is None, (self._folder / "gateway.log").read_text()
        return self.gateway_answers()

    def gateway_answers(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/healthz")[0] == 200
        return False

    def ask(self, method, path, body=None, secret=""):
        """Status and text of an answer of its gateway, to a client in its region."""
        connection = http.client.HTTPConnection("127.0.0.1", GATEWAY_PORT)
        connection.sock = self.space.connect("127.0.0.1", GATEWAY_PORT, DEADLINE_S)
        with closing(connection):
            headers = {"content-type": "application/json", "authorization": f"Bearer {secret}"}
            connection.request(method, path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def readiness(self):
        """Status of /readyz, and what it says."""
        status, text = self.ask("GET", "/readyz")
        return status, json.loads(text)

    def models(self, secret):
        """Names that its gateway lists."""
        return {one["id"] for one in json.loads(self.ask("GET", "/v1/models", secret=secret)[1])["data"]}

    def answered(self, model):
        """Requests that its server has ended."""
        with self._servers.entered():
            return count_answered(read_metrics(self.address, METRICS_PORT)).get(model, 0.0)

    def running(self):
        """Answers that its LLM writes now."""
        with self._servers.entered():
            page = read_metrics(self.address, METRICS_PORT)
        return sum(value for _, value in read_samples(page, "vllm:num_requests_running"))

    def close(self):
        if self.gateway is not None:
            self.gateway.kill()
            self.gateway.wait()
        self.server.kill()


class Sites:
    """Both, over links. secret, kept_secret: of keys that both gateways know; calls of the second stay near."""

    def __init__(self, folder, resources):
        add = resources.enter_context
        home, servers, far = (add(closing(Namespace())) for _ in range(3))
        self.near_link = add(closing(Link(home, servers, PATHS[HOME])))
        far_link = add(closing(Link(home, far, PATHS[FAR])))
        url = add(start_postgres(File(add(tempfile.TemporaryDirectory())))).url
        places = {
            HOME: (home, servers, self.near_link.far, far_link.near),
            FAR: (far, far, "127.0.0.1", far_link.far),
        }
        for name, (space, machine, address, listen) in places.items():
            own = folder / name
            own.mkdir()
            other = HOME if name == FAR else FAR
            envoy = add(
                Region(
                    name,
                    own,
                    MODELS,
                    namespace=space,
                    others={other: f"{places[other][3]}:{REGION_PORT}"},
                    listen=listen,
                    **SETTINGS,
                )
            )
            site = add(closing(Site(own, envoy, machine, address, url)))
            setattr(self, {HOME: "home", FAR: "far"}[name], site)
        for site in (self.home, self.far):
            site.envoy.place("all", Endpoint(site.address, SERVER_PORT, region=site.name))
            site.envoy.start_envoy()
            site.envoy.start_controller()
        environ = os.environ | {"TRIREME_DATABASE_URL": url}
        self.secret, self.kept_secret = (create_key(environ, "--tenant", one) for one in ("acme", "kept"))
        for site in (self.home, self.far):
            site.start_gateway()
        for site in (self.home, self.far):
            wait_until(site.is_ready)
        for site in (self.home, self.far):
            wait_until(lambda site=site: self.embed(site) == 200)

    def embed(self, site, secret=""):
        """The status of one embedding."""
        body = {"model": "embedding", "input": ["a trireme has three rows of oars"]}
        return site.ask("POST", "/v1/embeddings", body, secret or self.secret)[0]

    def write(self, site):
        """What the LLM streams."""
        body = {"model": "llm", "prompt": PROMPT, "stream": True}
        status, text = site.ask("POST", "/v1/completions", body, self.secret)
        if status != 200:
            return text
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
        return "".join(
            choice.get("text", "") for one in events for choice in json.loads(one).get("choices", ())
        )

    def serve_from(self, site):
        """Whether a call of eu's clients is answered by the server of `site`."""
        before = site.answered("embedding")
        return self.embed(self.home) == 200 and site.answered("embedding") > before


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with ExitStack() as resources:
        yield Sites(tmp_path_factory.mktemp("sites"), resources)


@pytest.fixture
def sites(made):
    """Both whole, and eu's clients are served near."""
    made.near_link.heal()
    wait_until(lambda: made.serve_from(made.home))
    return made


class Calls:
    """Embeddings of eu's clients without a pause, in two threads; `statuses` are those of the answers."""

    def __init__(self, sites):
        self.statuses = []
        self._sites, self._end = sites, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        while not self._end.is_set():
            self.statuses.append(self._sites.embed(self._sites.home))

    def end(self):
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_clients_of_a_gateway_are_served_near(sites):
    before = sites.far.answered("embedding"), sites.far.answered("llm")
    assert [sites.embed(sites.home) for _ in range(5)] == [200] * 5
    assert sites.write(sites.home) == PROMPT
    assert (sites.far.answered("embedding"), sites.far.answered("llm")) == before


def test_clients_of_a_gateway_do_not_notice_that_its_region_has_lost_its_servers(sites):
    with closing_calls(sites) as calls:
        for site, act in ((sites.far, sites.near_link.cut), (sites.home, sites.near_link.heal)):
            act()
            wait_until(lambda site=site: sites.serve_from(site))
            before = len(calls.statuses)
            wait_until(lambda before=before: len(calls.statuses) >= before + 20)
    assert set(calls.statuses) == {200}


@contextlib.contextmanager
def closing_calls(sites):
    calls = Calls(sites)
    try:
        wait_until(lambda: len(calls.statuses) >= 5)
        yield calls
    finally:
        calls.end()


def test_an_answer_that_had_not_begun_is_written_elsewhere(sites):
    texts = []
    with sites.home.hold.at(0):
        thread = threading.Thread(target=lambda: texts.append(sites.write(sites.home)))
        before = sites.far.answered("llm")
        thread.start()
        wait_until(lambda: sites.home.running() == 1)
        sites.near_link.cut()
        thread.join(DEADLINE_S)
    assert texts == [PROMPT]
    # The server counts it once it has let go of the request.
    wait_until(lambda: sites.far.answered("llm") == before + 1)


def test_a_gateway_that_starts_while_its_servers_are_lost_lists_the_other_regions_models_and_says_so(sites):
    wait_until(lambda: "degraded" not in sites.home.readiness()[1])
    sites.near_link.cut()

    def is_degraded():
        status, said = sites.home.readiness()
        return status == 200 and said.get("degraded")

    wait_until(is_degraded)
    sites.home.gateway.kill()
    sites.home.gateway.wait()
    sites.home.start_gateway()
    wait_until(sites.home.gateway_answers)
    wait_until(is_degraded)
    _, said = sites.home.readiness()
    assert said["details"] == [f"no server of this region has embedding, llm: {FAR} answers"]
    assert {"embedding", "llm"} <= sites.home.models(sites.secret)
    assert sites.embed(sites.home) == 200
    sites.near_link.heal()
    wait_until(lambda: "degraded" not in sites.home.readiness()[1])


def test_a_killed_gateway_is_that_of_its_region_alone(sites):
    sites.home.gateway.kill()
    sites.home.gateway.wait()
    assert not sites.home.gateway_answers()
    assert sites.embed(sites.far) == 200
    sites.home.start_gateway()
    wait_until(sites.home.gateway_answers)
    wait_until(lambda: sites.embed(sites.home) == 200)


def test_a_tenant_that_forbids_the_other_region_is_served_near_or_not_at_all(sites):
    wait_until(lambda: sites.embed(sites.home, sites.kept_secret) == 200)
    sites.near_link.cut()
    wait_until(lambda: sites.serve_from(sites.far))
    # Nobody else calls meanwhile.
    before = sites.far.answered("embedding")
    assert sites.embed(sites.home, sites.kept_secret) == 503
    assert sites.far.answered("embedding") == before
    assert sites.embed(sites.home) == 200
    sites.near_link.heal()
    wait_until(lambda: sites.embed(sites.home, sites.kept_secret) == 200)
