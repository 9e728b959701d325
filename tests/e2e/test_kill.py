"""The worker, tritonserver and PostgreSQL are killed at random moments while documents are indexed.

KILL_TEST_KILLS, KILL_TEST_DOCUMENTS and KILL_TEST_SEED set its size: `make kill-test` is the full run.
"""

import os
import random
import signal
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from stacks import ROOT, Serving, settings_on_free_ports, wait_until

from trireme.errors import NotFoundError, UnavailableError
from trireme.indexing import publish_path
from trireme.ingest.queue import JobQuery
from trireme.local.postgres import running_url
from trireme.postgres.queue import ProcrastinateQueue
from trireme.served_encoders import ServedEncoders
from trireme.triton.client import TritonClient

KILLS = int(os.environ.get("KILL_TEST_KILLS", "6"))
DOCUMENTS = int(os.environ.get("KILL_TEST_DOCUMENTS", "150"))
assert DOCUMENTS > KILLS, "a slice of documents is published before each kill"
SEED = int(os.environ.get("KILL_TEST_SEED", "7"))
TARGETS = ("worker", "tritonserver", "postgres")
# After a kill, at most so long until the next.
LONGEST_PAUSE = 1.5
# And once a worker has begun, so long.
PAUSE_AT_WORK = 0.2
RECOVERY_SECONDS = 120
# Every document has this many sections, each a passage of its own; the last of a slice is long enough to be staged,
# and takes long enough to be killed at work.
SECTIONS = (1, 2, 3, 4)
LONG_SECTIONS = 600
WORDS = (
    "oar",
    "rower",
    "trireme",
    "harbour",
    "helm",
    "mast",
    "anchor",
    "keel",
    "rope",
    "sail",
    "wave",
    "crew",
)


class Victims:
    """The processes of one `trireme serve`, found anew after each kill."""

    def __init__(self, serving):
        self.serving = serving

    def find(self, target):
        """The process now, or None while it is not there."""
        if target == "postgres":
            pid_file = self.serving.settings.data_dir / "postgres" / "cluster" / "postmaster.pid"
            try:
                process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
                return process if process.name() == "postgres" else None
            except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
                return None
        try:
            for child in psutil.Process(self.serving.process.pid).children():
                try:
                    line = child.cmdline()
                except psutil.NoSuchProcess:
                    continue
                if child.status() == psutil.STATUS_ZOMBIE or not line:
                    continue
                if target == "worker" and "worker" in line:
                    return child
                if target == "tritonserver" and Path(line[0]).name == "tritonserver":
                    return child
        except psutil.NoSuchProcess:
            pass
        return None

    def kill(self, target):
        """Waits until it is there, and kills it."""
        found = []

        def killed():
            """It may end by itself between the look and the kill, as a worker does without its database."""
            if (process := self.find(target)) is None:
                return False
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
                found.append(process.pid)
            return found

        wait_until(killed, RECOVERY_SECONDS)
        return found[0]


def write_documents(folder, random_):
    """Folders of documents to publish one after the other, and the texts that every document must have."""
    expected = {}
    slices = []
    size = DOCUMENTS // (KILLS + 1)
    for n in range(DOCUMENTS):
        if n % size == 0:
            slices.append(folder / f"slice-{len(slices):04d}")
            slices[-1].mkdir()
        sections = LONG_SECTIONS if n % size == size - 1 else random_.choice(SECTIONS)
        lines = [
            f"# Section {k}\n\n{' '.join(random_.choices(WORDS, k=8))} {n} {k}." for k in range(sections)
        ]
        name = f"document-{n:05d}.md"
        (slices[-1] / name).write_text("\n\n".join(lines))
        expected[name] = sections
    return slices, expected


def publish(settings, folder, console):
    """Publish a folder, again and again until the database has it."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            url = running_url(settings.data_dir)
            if url:
                return publish_path(settings, folder, url, console, wait=False)
        except (UnavailableError, NotFoundError):
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "the database did not come back"
        time.sleep(0.2)


def state_of_jobs(settings):
    """Numbers of jobs, or None while the database is away."""
    url = running_url(settings.data_dir)
    if not url:
        return None
    with closing(ProcrastinateQueue(url)) as queue:
        try:
            return queue.find(JobQuery(limit=20))
        except UnavailableError:
            return None


def has_jobs_in_hand(settings):
    """Whether a worker is at work; no while the database is away."""
    found = state_of_jobs(settings)
    return found is not None and found.running > 0


@pytest.fixture
def victim(tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "embedding").symlink_to(ROOT / "model_repository" / "embedding")
    settings = settings_on_free_ports(
        tmp_path / "data", model_repository=repository, worker_timeout_seconds=2
    )
    running = Serving(settings)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


@pytest.mark.timeout(7200)
def test_whatever_is_killed_every_document_is_there_exactly_once(victim, tmp_path, quiet_console):
    random_ = random.Random(SEED)
    settings = victim.settings
    victims = Victims(victim)
    (tmp_path / "corpus").mkdir()
    slices, expected = write_documents(tmp_path / "corpus", random_)
    # As many of each, in any order.
    targets = [TARGETS[n % len(TARGETS)] for n in range(KILLS)]
    random_.shuffle(targets)

    publish(settings, slices[0], quiet_console)
    killed = Counter()
    in_flight = 0
    for n, target in enumerate(targets):
        time.sleep(random_.uniform(0.0, LONGEST_PAUSE))
        publish(settings, slices[n + 1], quiet_console)
        # However fast the machine is, every second kill meets a worker that is at work.
        if n % 2 == 0:
            wait_until(lambda: has_jobs_in_hand(settings), RECOVERY_SECONDS)
            time.sleep(random_.uniform(0.0, PAUSE_AT_WORK))
        else:
            time.sleep(random_.uniform(0.0, LONGEST_PAUSE))
        in_flight += has_jobs_in_hand(settings)
        victims.kill(target)
        killed[target] += 1
    for left in slices[KILLS + 1 :]:
        publish(settings, left, quiet_console)

    def is_done():
        found = state_of_jobs(settings)
        return found is not None and not found.unfinished

    wait_until(is_done, RECOVERY_SECONDS + DOCUMENTS)
    print(f"killed {dict(killed)} with seed {SEED}, {in_flight} times with jobs in hand")
    found = state_of_jobs(settings)
    assert found.dead == 0, found.jobs
    check_what_is_stored(settings, tmp_path / "corpus", expected)
    assert "Traceback" not in victim.output
    assert "Traceback" not in (settings.data_dir / "logs" / "worker.log").read_text()
    assert sum(killed.values()) == KILLS
    assert in_flight > 0


def check_what_is_stored(settings, corpus, expected):
    url = running_url(settings.data_dir)
    with psycopg.connect(url) as connection:
        documents = connection.execute("SELECT id, chunks FROM trireme.documents").fetchall()
        assert dict(documents) == expected
        assert len(documents) == len(expected)
        rows = connection.execute(
            "SELECT d.id, p.id, p.text, e.embedding::text FROM trireme.documents d "
            "JOIN trireme.passages p ON p.document_key = d.key "
            "JOIN trireme.embeddings e ON e.passage_key = p.key ORDER BY p.key"
        ).fetchall()
        # One vector each, nothing besides, and the count of the collection is right.
        total = sum(expected.values())
        assert len(rows) == total
        for table in ("passages", "embeddings"):
            assert connection.execute(f"SELECT count(*) FROM trireme.{table}").fetchone() == (total,)
        assert connection.execute("SELECT passages FROM trireme.collections").fetchone() == (total,)
        for table in ("submissions", "submission_parts", "staged"):
            assert connection.execute(f"SELECT count(*) FROM trireme.{table}").fetchone() == (0,)
        left = connection.execute(
            "SELECT count(*) FROM trireme.procrastinate_jobs WHERE status <> 'succeeded'"
        ).fetchone()
        assert left == (0,)
    stored = {}
    for document, passage, text, _ in rows:
        stored.setdefault(document, {})[passage] = text
    files = {path.name: path for path in corpus.rglob("*.md")}
    encoder = None
    with closing(ServedEncoders(settings, None)) as encoders:
        encoder = encoders.open("embedding")
        from trireme.types import Document

        for name, texts in stored.items():
            given = Document(name, name.removesuffix(".md"), (files[name].read_text(),), name)
            assert texts == {passage.id: passage.text for passage in encoder.cut(_titled(given, files[name]))}
    check_vectors(settings, rows)


def _titled(document, path):
    """As the loader reads it: the first heading is the title."""
    import dataclasses

    return dataclasses.replace(document, title=path.read_text().splitlines()[0].removeprefix("# "))


def check_vectors(settings, rows):
    """Some of the vectors are those of their texts."""
    import json

    import numpy as np

    sample = random.Random(SEED).sample(rows, min(40, len(rows)))
    with TritonClient(settings.grpc_url) as client:
        wait_until(lambda: client.is_ready("embedding"), RECOVERY_SECONDS)
        vectors = client.embed([text for _, _, text, _ in sample], "passage")
    for (_, passage, _, stored), vector in zip(sample, vectors, strict=True):
        cosine = float(np.dot(np.array(json.loads(stored)), vector))
        assert cosine > 0.999, passage
