"""The ingester over a queue in memory: what it publishes, what it refuses, and whose jobs it tells of."""

import json

import pytest

import trireme.triton.backends.ingester as module
from fakes.fake_pb import arguments, strings
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.triton.backends.ingester import IngesterModel


class Ingest:
    def __init__(self, folder, queue):
        self.queue = queue
        self.model = IngesterModel()
        self.model.initialize(arguments(folder, max_documents=10, max_text_bytes=1000))

    def ask(self, **columns):
        tensors = {
            name: strings([value] if isinstance(value, str) else value) for name, value in columns.items()
        }
        (answer,) = self.model.execute([tensors])
        return answer

    def publish(self, *metadata, tenant="t"):
        ids = [f"d{n}" for n in range(len(metadata))]
        return self.ask(document_id=ids, text=["A text."] * len(ids), metadata=list(metadata), tenant=tenant)


@pytest.fixture
def ingest(pb, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    queue = MemoryQueue(MemoryJobs())
    monkeypatch.setattr(module, "open_queue", lambda *_: queue)
    made = Ingest(tmp_path / "ingest", queue)
    yield made
    made.model.finalize()


def column(answer, name):
    assert answer.error is None, answer.error.message
    return [value.decode() for value in answer.outputs[name][0]]


@pytest.mark.parametrize(
    "metadata",
    [{"source": 7}, {"source": {"file": "a"}}, {"source": None}, {"title": "other", "position": "x"}, {}],
)
def test_metadata_is_published_as_it_was_given(ingest, metadata):
    assert column(ingest.publish(json.dumps(metadata)), "state") == ["waiting"]
    (job,) = ingest.queue.take(1)
    assert job.document.extra == metadata


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "1",
        '"x"',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": "\\u0000"}',
        '{"\\ud800": 1}',
        '{"a":' * 500 + "1" + "}" * 500,
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        json.dumps({"a": "x" * 70_000}),
    ],
    ids=lambda text: text[:12],
)
def test_metadata_that_cannot_be_kept_refuses_its_document_and_no_other(ingest, bad):
    answer = ingest.publish(bad, "{}")
    assert column(answer, "state") == ["refused", "waiting"]
    assert "metadata" in column(answer, "error")[0]


def test_a_job_is_known_to_its_own_tenant_alone(ingest):
    (job,) = column(ingest.publish("{}", tenant="t"), "job_id")
    assert column(ingest.ask(job_id=job, tenant="t"), "state") == ["waiting"]
    for tenant in ("T", "t ", "other"):
        assert ingest.ask(job_id=job, tenant=tenant).error.code == "NOT_FOUND"


@pytest.mark.parametrize("tenant", ["", "a\x00", "n" * 600])
def test_a_name_that_no_tenant_has_is_refused_and_never_means_all_of_them(ingest, tenant):
    (job,) = column(ingest.publish("{}"), "job_id")
    assert ingest.ask(job_id=job, tenant=tenant).error.code == "INVALID_ARG"
    assert ingest.publish("{}", tenant=tenant).error.code == "INVALID_ARG"


@pytest.mark.parametrize("odd", ["", "1; drop", "-1", "01", " 1", "1_0", "\u0661", "9" * 300, "\x00"])
def test_what_is_no_job_id_is_unknown(ingest, odd):
    (job,) = column(ingest.publish("{}"), "job_id")
    assert ingest.ask(job_id=odd, tenant="t").error.code == "NOT_FOUND"
    answer = ingest.ask(job_id=[odd, job], tenant="t")
    assert column(answer, "state") == ["unknown", "waiting"]


def test_an_id_that_is_a_path_is_a_name(ingest):
    answer = ingest.ask(document_id=["/etc/passwd", "../x"], text=["one", "two"], tenant="t")
    assert column(answer, "state") == ["waiting", "waiting"]
    assert [job.document.text for job in ingest.queue.take(2)] == ["one", "two"]
