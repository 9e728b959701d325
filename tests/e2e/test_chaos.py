"""Ten minutes (`make chaos`), or one, of faults at random moments under a mixed load.

CHAOS_SECONDS, CHAOS_SEED; CHAOS_STRICT=1 holds the times that docs/reliability.md promises on a quiet machine.
"""

import os
import random
import sys
import time
from contextlib import ExitStack, suppress

import psutil
import psycopg
import pytest
from stacks import ROOT, environment_of, settings_on_free_ports, wait_until

sys.path.insert(0, str(ROOT / "tests"))

from chaos.faults import Faults
from chaos.load import TENANTS, Clients, Judge, Watch, marker
from chaos.stack import ChaosStack
from trireme.artifacts.repository import list_recipes
from trireme.errors import UnavailableError
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_readiness

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
# A machine that runs other tests beside this one is slower than what is promised.
IS_STRICT = bool(os.environ.get("CHAOS_STRICT"))
HEAL_SECONDS = 10.0 if IS_STRICT else 60.0
LIE_SECONDS = 5.0 if IS_STRICT else 20.0
SETTLE_SECONDS = 120.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chaos")
    settings = settings_on_free_ports(folder / "data")
    running = ChaosStack(settings, environment_of(settings) | {"COLUMNS": "200"}, folder / "serve.out")
    try:
        wait_until(
            lambda: "Ctrl-C stops everything" in running.output() or running.process.poll() is not None, 300
        )
        assert running.process.poll() is None, running.output()
        yield running
    finally:
        print(running.output())
        for path in sorted((running.data_dir / "logs").glob("*.log")):
            print(path.name, path.read_text(errors="replace")[-3000:])
        family = running.family()
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.alone
@pytest.mark.timeout(int(SECONDS) * 2 + 900)
def test_whatever_dies_everything_serves_again_and_nothing_is_lost(stack):
    settings, judge = stack.settings, Judge()
    recipes = list_recipes(settings.model_repository)

    def is_ready():
        try:
            return all(read_readiness(settings.host, settings.metrics_port, recipes).values())
        except UnavailableError:
            return False

    index_first_documents(stack)
    with ExitStack() as running:
        watch = Watch(is_ready, settings.grpc_url)
        running.callback(watch.close)
        clients = Clients(settings.grpc_url, judge, random.Random(SEED))
        running.callback(clients.close)
        time.sleep(5)
        wait_until(is_ready)
        before = stack.sizes()
        done, heals = run_faults(stack, watch, is_ready)
        # On a slow machine the faults leave little time for that.
        wait_until(lambda: all(len(names) > 5 for names in clients.published.values()), SETTLE_SECONDS)
        clients.close()
        wait_until(lambda: watch.serves() and is_ready(), HEAL_SECONDS)
        # The worker gives way to whoever asks: with 200 documents in its hands that may take minutes.
        watch.close()
        wait_until(lambda: no_job_is_left(stack), SETTLE_SECONDS)
    report(stack, judge, done, heals, watch)

    assert judge.wrong == []
    assert max(heals) <= HEAL_SECONDS, sorted(heals)[-5:]
    assert watch.longest_lie <= LIE_SECONDS
    check_documents(stack, clients.published)
    check_sizes(stack, before)
    logs = stack.data_dir / "logs"
    said = "".join(path.read_text(errors="replace") for path in logs.iterdir()) + stack.output()
    assert "Traceback" not in said
    family = stack.family()
    assert stack.stop() == 0
    assert [process.pid for process in family if process.is_running()] == []


def run_faults(stack, watch, is_ready):
    """One fault after the other until the time is over: how often each was done, and how long each took to heal."""
    chance = random.Random(SEED)
    faults = Faults(stack, chance)
    done, heals = {}, []
    deadline = time.monotonic() + SECONDS
    order = []
    while time.monotonic() < deadline:
        # Each kind in its turn, in an order of chance.
        order = order or chance.sample(sorted(faults.kinds), len(faults.kinds))
        kind = order.pop()
        if not faults.do(kind):
            continue
        ended = time.monotonic()
        done[kind] = done.get(kind, 0) + 1
        print(f"{kind}: ", end="", flush=True)
        wait_until(lambda ended=ended: watch.answered_at > ended + 0.5 and is_ready(), HEAL_SECONDS + 5)
        heals.append(watch.answered_at - ended)
        print(f"healed {heals[-1]:.1f} s after its end", flush=True)
        time.sleep(chance.uniform(0.0, 2.0))
    return done, heals


def index_first_documents(stack):
    with TritonClient(stack.settings.grpc_url, timeout=60) as client:
        for tenant in TENANTS:
            texts = [f"A trireme has three banks of oars. {marker(tenant)} {n}" for n in range(4)]
            inputs = {"document_id": [[f"first-{n}" for n in range(4)]], "text": [texts]}
            client.infer("ingest", inputs | {"tenant": [[tenant]], "collection": [["default"]]})
        for tenant in TENANTS:
            wait_until(lambda tenant=tenant: found(client, tenant) == 4)


def found(client, tenant):
    try:
        return len(client.search("oars", 100, tenant=tenant))
    except Exception:
        return 0


def no_job_is_left(stack):
    try:
        with psycopg.connect(stack.database_url or "", connect_timeout=5) as database:
            waiting = "SELECT count(*) FROM trireme.procrastinate_jobs WHERE status IN ('todo', 'doing')"
            return database.execute(waiting).fetchone()[0] == 0
    except psycopg.Error:
        return False


def check_documents(stack, published):
    """Each document that the server took is there once, and nothing is anybody else's."""
    with psycopg.connect(stack.database_url, connect_timeout=5) as database:
        for tenant, names in published.items():
            rows = stored(database, tenant)
            assert len(names) > 5, "the clients published too little to tell"
            texts = {}
            for text in rows:
                assert marker(tenant) in text
                if text.startswith("document-"):
                    texts.setdefault(text[:14], []).append(text)
            assert names - set(texts) == set(), f"documents of {tenant!r} are lost"
            assert {name: len(found) for name, found in texts.items() if len(found) != 1} == {}


def stored(database, tenant):
    """The texts of all passages of a tenant."""
    query = "SELECT text FROM trireme.passages WHERE tenant = %s"
    return [text for (text,) in database.execute(query, [tenant])]


def check_sizes(stack, before):
    """Back to what it was, but for caches: the resident memory of new processes differs a little."""
    bounds = {
        name: value * (1.5 if name == "rss_mb" else 1.25) + {"rss_mb": 200, "descriptors": 60}.get(name, 8)
        for name, value in before.items()
    }
    wait_until(lambda: all(value <= bounds[name] for name, value in stack.sizes().items()), SETTLE_SECONDS)
    assert stack.sizes()["zombies"] == 0


def report(stack, judge, done, heals, watch):
    print(f"{sum(done.values())} faults: {dict(sorted(done.items()))}")
    print(f"healed after {sorted(heals)[len(heals) // 2]:.1f} s (median), {max(heals):.1f} s (longest)")
    print(
        f"ready without an answer: {watch.longest_lie:.1f} s at most; longest request {judge.longest:.1f} s"
    )
    print(f"requests: {dict(sorted(judge.counts.items()))}")
    print(f"sizes: {stack.sizes()}")
