"""Kept answers on the whole stack with a real Valkey: what changed is never answered for by what was before."""

import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import json
import shutil
from functools import partial

import pytest
from gateways import Gateway, create_key
from generators import place_generator
from rag_stack import LLM, place_repository
from rich.console import Console
from stacks import environment_of, free_ports, settings_on_free_ports, try_until, wait_until

from trireme.gateway_process import GatewayProcess
from trireme.indexing import ingest_path
from trireme.rag.prompt import PROMPT_FILE
from trireme.stack import Stack
from trireme.triton.client import TritonClient
from valkeys import valkey

# The engine echoes its prompt, so that an answer tells what it was asked with.
KNOBS = {"step_seconds": 0.0}
QUESTION = [{"role": "user", "content": "how many banks of oars had a trireme?"}]
SOMETHING = [{"role": "user", "content": "say it again"}]


@dataclasses.dataclass
class World:
    """A stack over a repository of its own, and two gateways over one Valkey."""

    stack: Stack
    gateways: list
    key: str

    def ask(self, body, gateway=0, **headers):
        """The cache's header and the text of the answer; None and its error where there is none."""
        address = self.gateways[gateway].url.removeprefix("http://")
        sent = {"authorization": f"Bearer {self.key}", "content-type": "application/json", **headers}
        with contextlib.closing(http.client.HTTPConnection(address, timeout=120)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), sent)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        if answer.status != 200:
            return None, value
        return answer.headers["x-trireme-cache"].partition(";")[0], value["choices"][0]["message"]["content"]

    def serve_again(self):
        """A server that has loaded the repository as it is now."""
        kept, settings = self.stack.kept, self.stack.settings
        kept.server.stop()
        with TritonClient(settings.grpc_url) as client:
            wait_until(lambda: (kept.look_after(print), client.is_ready("rag"))[1], 180)

    def kept(self, body):
        """The answer once it is kept, which needs the gateway to know all that is loaded."""
        wait_until(lambda: self.ask(body)[0] == "exact", 180)
        return self.ask(body)[1]


def chat(**more):
    return {"model": LLM, "messages": SOMETHING, "temperature": 0, "max_tokens": 8, **more}


def rag(mode, **more):
    return {"model": "rag", "messages": QUESTION, "max_tokens": 60, "trireme": {"answer_mode": mode, **more}}


@pytest.fixture(scope="module")
def world(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("caches")
    (folder / "models").mkdir()
    repository = place_repository(folder / "models", KNOBS, max_num_seqs=8)
    settings = settings_on_free_ports(folder / "data", model_repository=repository)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(Stack(settings))
        store = stack.enter_context(valkey(maxmemory="64mb", maxmemory_policy="allkeys-lru"))
        for collection in ("default", "other"):
            scope = dataclasses.replace(running.settings, collection=collection)
            ingest_path(scope, corpus, running.database_url, Console(quiet=True))
        gateways = [stack.enter_context(_gateway(running, store, folder, name)) for name in ("one", "two")]
        key = create_key(gateways[0].environ, "--tenant", "default")
        for gateway in gateways:
            gateway.wait_until_known(key)
        yield World(running, gateways, key)


@contextlib.contextmanager
def _gateway(running, store, folder, name):
    settings = dataclasses.replace(
        running.settings, gateway_port=free_ports(1)[0], redis_url=store.url, cache_url=store.url
    )
    environ = environment_of(settings) | {
        "TRIREME_DATABASE_URL": running.database_url,
        "TRIREME_REDIS_URL": store.url,
        "TRIREME_CACHE_URL": store.url,
    }
    log = folder / f"{name}.log"
    process = GatewayProcess(settings, environ, log)
    try:
        process.wait_until_ready()
        yield Gateway(f"http://127.0.0.1:{settings.gateway_port}", environ, process, log)
    finally:
        process.stop()


def test_an_answer_that_one_gateway_kept_is_served_by_another(world):
    numbers = itertools.count(10)

    def is_shared():
        """Each time of another question: where the store is late, as on a busy machine, it is a miss."""
        body = chat(max_tokens=next(numbers))
        kept = ("exact", world.kept(body))
        return kept == world.ask(body, gateway=1) == world.ask({**body, "stream": False}, gateway=1)

    try_until(is_shared, "the other gateway did not serve it")
    assert world.ask(chat(max_tokens=7), gateway=1)[0] == "miss"
    assert world.ask(chat(), **{"cache-control": "no-store"})[0] == "bypass"
    assert world.ask(chat(temperature=0.7))[0] == "bypass"


def test_a_changed_collection_never_serves_an_old_answer(world, tmp_path):
    old = world.kept(rag("extractive"))
    assert "three banks" in old
    other = world.kept(rag("extractive", collection="other"))
    (tmp_path / "rowing.html").write_text(
        "<html><body><h1>Triremes</h1><p>A trireme had nine banks of oars.</p></body></html>"
    )
    (tmp_path / "more.txt").write_text("A trireme had nine banks of oars, not fewer.")
    ingest_path(world.stack.settings, tmp_path, world.stack.database_url, Console(quiet=True))
    seen = []
    # The revision is at most a second old, an answer is kept for an hour; nobody keeps one alive by asking for it.
    wait_until(lambda: seen.append(world.ask(rag("extractive"))) or seen[-1][0] != "exact", 60)
    new = world.kept(rag("extractive"))

    def is_kept(gateway):
        header, text = world.ask(rag("extractive"), gateway)
        assert text == new
        return header == "exact"

    for gateway in (0, 1, 0, 1):
        wait_until(partial(is_kept, gateway))
    # Another collection is another matter.
    assert world.ask(rag("extractive", collection="other")) == ("exact", other)


def test_a_new_prompt_template_never_serves_an_old_answer(world):
    old = world.kept(rag("generative"))
    chatted = world.kept(chat())
    prompt = world.stack.settings.model_repository / "rag" / PROMPT_FILE
    prompt.write_text(prompt.read_text().replace("Answer the question", "Zebras answer the question", 1))
    world.serve_again()
    header, text = world.ask(rag("generative"))
    assert header != "exact"
    assert text != old
    new = world.kept(rag("generative"))
    assert "Zebras" in new
    assert "Zebras" not in old
    assert world.kept(chat()) == chatted


def test_a_rebuilt_model_never_serves_an_old_answer(world):
    old = world.kept(chat(messages=SOMETHING))
    answered = world.kept(rag("generative"))
    folder = world.stack.settings.model_repository
    shutil.rmtree(folder / LLM)
    # The template of a chat is one of its files.
    version = place_generator(folder, LLM, KNOBS, max_num_seqs=8) / "1"
    _edit_template(version)
    world.serve_again()
    for body, before in ((chat(), old), (rag("generative"), answered)):
        header, text = world.ask(body)
        assert header != "exact"
        new = world.kept(body)
        assert new != before
        assert text == new or header is None


def _edit_template(version):
    """Another template of chats, named in the manifest as a build would."""
    path = version / "chat_template.jinja"
    path.write_text("Rebuilt. " + path.read_text())
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["sizes"][path.name] = path.stat().st_size
    (version / "manifest.json").write_text(json.dumps(manifest))
