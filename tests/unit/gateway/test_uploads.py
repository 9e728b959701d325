"""Documents over a real child process and ports in memory."""

import asyncio
import json
from functools import partial

import pytest

from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from fakes.upload_readers import open_noting
from trireme.errors import (
    DeadlineError,
    InvalidInputError,
    ResourceExhaustedError,
    TriremeError,
    UnavailableError,
)
from trireme.gateway.reader_process import ReaderOptions
from trireme.gateway.uploads import Documents, DocumentStores, SubmittedText, Upload, UploadOptions
from trireme.ingest.queue import JobQuery

SCOPE = ("acme", "notes")


class Bench:
    """Documents, with what its children published in `notes`, and what its own queue has in `queue`."""

    def __init__(self, folder, **options):
        self.folder = folder / "uploads"
        self.folder.mkdir()
        self._notes = folder / "notes"
        jobs = MemoryJobs()
        self.queue = MemoryQueue(jobs)
        options = UploadOptions(folder=self.folder, **{"readers": 1, **options})
        opener = partial(open_noting, str(self._notes))
        self.documents = Documents(
            DocumentStores(self.queue, MemoryDocuments(jobs), None, None), opener, options
        )

    async def upload(self, name, content, suffix=".md", **more):
        with self.documents.place("acme") as folder:
            path = folder / f"upload{suffix}"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            return await self.documents.publish_file(Upload(path, name, more.pop("key", name), **more), SCOPE)

    @property
    def published(self):
        return (
            [json.loads(line) for line in self._notes.read_text().splitlines()]
            if self._notes.exists()
            else []
        )

    def run(self, work):
        async def closing():
            try:
                return await work()
            finally:
                await self.documents.close()

        result = asyncio.run(closing())
        assert list(self.folder.iterdir()) == []
        return result


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_files_are_published_with_what_they_and_the_request_say(bench):
    async def work():
        first = await bench.upload("a.md", "---\nlang: en\n---\n# Über uns\n\nText.\n")
        second = await bench.upload(
            "b.txt", "Text.", ".txt", key="b", title="B", metadata={"source": 7, "page": 3}
        )
        third = await bench.upload("a.md", "---\nlang: en\n---\n# A\n", metadata={"lang": "de"})
        return first, second, third

    assert [(one.document, one.job, one.error) for one in bench.run(work)] == [
        ("a.md", "1", ""),
        ("b", "2", ""),
        ("a.md", "3", ""),
    ]
    first, second, third = bench.published
    assert (first["tenant"], first["collection"], first["batch"]) == ("acme", "notes", "gateway")
    assert (first["title"], first["source"], first["extra"]) == ("Über uns", "a.md", {"lang": "en"})
    assert "# Über uns\n\nText." in first["text"]
    assert (second["title"], second["source"], second["extra"]) == ("B", "7", {"source": 7, "page": 3})
    assert third["extra"] == {"lang": "de"}
    assert len({one["digest"] for one in bench.published}) == 3


def test_the_digest_changes_with_title_and_metadata_and_not_without(bench):
    async def work():
        for title, metadata in (("", {}), ("", {}), ("T", {}), ("", {"a": 1})):
            await bench.upload("a.txt", "Text.", ".txt", title=title, metadata=metadata)

    bench.run(work)
    digests = [one["digest"] for one in bench.published]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_document_that_cannot_be_read_is_refused_by_its_name_and_the_next_one_is_read(bench):
    async def work():
        for name, content, suffix, wanted in (
            ("empty.md", "", ".md", "empty.md: it is empty"),
            ("blank.txt", " \n", ".txt", "blank.txt: it holds no text"),
            ("broken.pdf", b"%PDF-1.7 and nothing more", ".pdf", "broken.pdf: it is"),
            ("broken.docx", b"PK\x03\x04", ".docx", "broken.docx: it is"),
            ("nul.txt", b"\x00" * 4, ".txt", "nul.txt: "),
        ):
            with pytest.raises(InvalidInputError, match=wanted) as refused:
                await bench.upload(name, content, suffix)
            assert refused.value.param == "file"
            assert "upload" not in str(refused.value)
        with pytest.raises(InvalidInputError, match="its metadata holds a NUL"):
            await bench.upload("a.txt", "x", ".txt", metadata={"a": "\x00"})
        with pytest.raises(InvalidInputError, match="its id must have"):
            await bench.upload("a.txt", "x", ".txt", key="k" * 4000)
        await bench.upload("b.txt", "x", ".txt")

    bench.run(work)
    assert [one["id"] for one in bench.published] == ["b.txt"]


def test_a_poisonous_document_costs_its_own_request_alone(tmp_path, caplog):
    bench = Bench(tmp_path, reader=ReaderOptions(memory_bytes=64 << 20))

    async def work():
        died, fine = await asyncio.gather(
            bench.upload("a.txt", "x", ".txt", title="die"),
            bench.upload("b.txt", "x", ".txt"),
            return_exceptions=True,
        )
        assert type(died) is UnavailableError
        assert fine.job
        with pytest.raises(InvalidInputError, match="more than 64 MiB of memory"):
            await bench.upload("c.txt", "x", ".txt", title="greedy")
        with pytest.raises(UnavailableError, match="the queue is away"):
            await bench.upload("c.txt", "x", ".txt", title="away")
        with pytest.raises(TriremeError) as failed:
            await bench.upload("c.txt", "x", ".txt", title="fault")
        assert failed.value.code == "INTERNAL"
        assert "canary" not in str(failed.value) + caplog.text
        assert "RuntimeError at upload_readers.py" in caplog.text
        await bench.upload("d.txt", "x", ".txt")

    bench.run(work)
    assert [one["id"] for one in bench.published] == ["b.txt", "d.txt"]


def test_a_document_that_takes_too_long_is_given_up(tmp_path):
    bench = Bench(tmp_path, reader=ReaderOptions(seconds=3.0))

    async def work():
        with pytest.raises(DeadlineError, match="more than 3 s; split it"):
            await bench.upload("a.txt", "x", ".txt", title="spin")

    bench.run(work)
    assert bench.published == []


def test_a_cancelled_upload_leaves_no_file_and_frees_its_place(tmp_path):
    bench = Bench(tmp_path, uploads=1)

    async def work():
        task = asyncio.create_task(bench.upload("a.txt", "x", ".txt", title="spin"))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="1 uploads are in hand"):
            await bench.upload("b.txt", "x", ".txt")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await bench.upload("c.txt", "x", ".txt")

    bench.run(work)
    assert [one["id"] for one in bench.published] == ["c.txt"]


def test_one_tenant_does_not_take_all_places(tmp_path):
    bench = Bench(tmp_path, uploads=3, tenant_uploads=2)

    async def work():
        place = bench.documents.place
        with place("acme"), place("acme"):
            with (
                pytest.raises(ResourceExhaustedError, match="2 uploads of this tenant") as refused,
                place("acme"),
            ):
                pass
            assert refused.value.retry_after > 0
            with place("other"), pytest.raises(UnavailableError), place("third"):
                pass
        with place("acme"):
            pass

    bench.run(work)


def test_texts_are_published_in_one_call_and_refused_one_by_one(bench):
    texts = [
        SubmittedText("a", "Text.", "A", {"lang": "en"}),
        SubmittedText("b", " "),
        SubmittedText("c", "Text.", metadata={"deep": json.loads("[" * 200 + "]" * 200)}),
        SubmittedText("a", "Again."),
        SubmittedText("", "Text."),
        SubmittedText("d", "Text."),
    ]
    rows = bench.run(lambda: bench.documents.publish_texts(texts, SCOPE))
    assert [row.document for row in rows] == ["a", "b", "c", "a", "", "d"]
    assert [bool(row.job) for row in rows] == [True, False, False, False, False, True]
    wanted = ["", "its text is empty", "its metadata is nested", "is given twice", "its id must have", ""]
    assert all(text in row.error for text, row in zip(wanted, rows, strict=True))
    first, last = bench.queue.take(9)
    assert (first.document.title, first.document.extra, first.document.source) == ("A", {"lang": "en"}, "a")
    assert last.document.id == "d"


def test_jobs_of_another_tenant_are_not_found(bench):
    async def work():
        (mine,) = await bench.documents.publish_texts([SubmittedText("a", "x")], SCOPE)
        (other,) = await bench.documents.publish_texts([SubmittedText("a", "x")], ("other", "notes"))
        assert await bench.documents.delete(["a", "b"], *SCOPE) == ["a"]
        states = {job.id: job.state for job in bench.queue.find(JobQuery()).jobs}
        assert states == {mine.job: "cancelled", other.job: "waiting"}

    bench.run(work)
