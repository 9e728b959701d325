"""A worker over fakes of everything: a queue and documents in memory, a server whose vectors are known."""

import hashlib
import threading
import time

import numpy as np

from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.documents.chunk import chunk
from trireme.ingest.encoder import Encoder, Vectors
from trireme.ingest.options import DEFAULT_SIZES, WorkerTiming
from trireme.ingest.queue import BackOff, JobQuery
from trireme.ingest.throttle import Throttle, ThrottleLimits
from trireme.ingest.worker import Worker
from trireme.retry import Pauses
from trireme.types import Document, Embedder

EMBEDDER = Embedder("a" * 64, 4)
OTHER = Embedder("b" * 64, 4)
QUICK = WorkerTiming(idle=0.02, write=0.02, retry=Pauses(0.01, 0.02))


def vector(text):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).normal(size=4).astype(np.float32) + 0.1


class Server:
    """Embeds predictably; `trouble` may raise, with the texts of each request."""

    def __init__(self):
        self.requests = []
        self.trouble = lambda texts: None
        self.ready = True
        self.looks = 0

    def is_ready(self):
        self.looks += 1
        return self.ready

    def embed(self, texts):
        self.requests.append(list(texts))
        self.trouble(texts)
        return Vectors(np.stack([vector(text) for text in texts]))


class Builder:
    """Notes how many jobs are unfinished at each look; `trouble` may raise or block."""

    def __init__(self, jobs):
        self.queue = MemoryQueue(jobs)
        self.looks = []
        self.is_cancelled = threading.Event()
        self.trouble = lambda: None

    def build_due(self):
        self.looks.append(self.queue.find(JobQuery(limit=0)).unfinished)
        self.trouble()
        return 1

    def cancel(self):
        self.is_cancelled.set()

    def close(self):
        pass


class Bench:
    """Queue, documents, server, index builder and one worker that waits for next to nothing."""

    def __init__(self, timing=QUICK, sizes=DEFAULT_SIZES):
        self.timing, self.sizes, self.limits = timing, sizes, ThrottleLimits()
        self.jobs = MemoryJobs()
        self.queue = self.open_queue()
        self.documents = MemoryDocuments(self.jobs)
        self.server = Server()
        self.notices = []
        self.embedder = EMBEDDER
        self.choose_error = None
        self.builder = Builder(self.jobs)
        self.worker = self.hire()

    def open_queue(self):
        return MemoryQueue(self.jobs, back_off=BackOff(0.0))

    def hire(self):
        self.taker = self.open_queue()
        return Worker(
            self.taker,
            self.documents,
            self,
            self.builder,
            throttle=Throttle(lambda: None, limits=self.limits),
            notice=self.notices.append,
            timing=self.timing,
            sizes=self.sizes,
        )

    def choose(self, tenant, collection):
        if self.choose_error:
            raise self.choose_error
        return Encoder(
            "embedding",
            self.embedder,
            lambda document: chunk(document, max_tokens=64),
            lambda texts: [len(text.split()) for text in texts],
            self.server.embed,
            self.server.is_ready,
        )

    def forget(self):
        self.embedder = self.documents.embedders.get(("t", "c"), self.embedder)

    def publish(self, *documents, collection="c"):
        return [one.job for one in self.queue.publish("t", collection, documents)]

    def run(self):
        self.worker.run(drain=True)

    def start(self):
        thread = threading.Thread(target=self.worker.run)
        thread.start()
        return thread

    def rows(self, document, collection="c"):
        return self.documents.stored[("t", collection)][document].rows

    def states(self):
        found = self.queue.find(JobQuery())
        return found.waiting, found.running, found.done, found.dead

    def info(self, job):
        (found,) = self.queue.find(JobQuery(ids=(job,))).jobs
        return found


def document(key, text="Some text.", digest=None, whole=True):
    return Document(
        key, "", (text,), key, whole=whole, digest=digest or hashlib.sha256(text.encode()).hexdigest()
    )


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def long_text(sections):
    return "\n\n".join(f"# Part {n}\n\nSentence of part {n}." for n in range(sections))
