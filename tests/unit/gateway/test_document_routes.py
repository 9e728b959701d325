"""Documents, jobs, files and vector stores through the gate, with ports in memory and real child processes."""

import asyncio
import json
from functools import partial
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.routing import Route, Router

from fakes.asgi import call
from fakes.forms import FORM_TYPE, form, part
from fakes.gateways import Keys
from fakes.memory_catalog import MemoryCatalog
from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from fakes.upload_readers import open_noting
from trireme.access.keys import Key
from trireme.gateway.document_routes import DOCUMENT_ROUTES
from trireme.gateway.file import GatewayFile, Limits
from trireme.gateway.gate import Gate
from trireme.gateway.holding_routes import HOLDING_ROUTES
from trireme.gateway.key_ring import KeyRing
from trireme.gateway.live.hub import Live
from trireme.gateway.live.recorder import Recorder
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.statuses import status_of
from trireme.gateway.surface import Failure
from trireme.gateway.uploads import Documents, DocumentStores, UploadOptions
from trireme.gateway.wire.openai_files import FileRef, decode_file_id, encode_file_id
from trireme.ingest.documents import Indexed
from trireme.observe.spans import NoSpans
from trireme.types import CollectionInfo, Document, Embedder, Passage

ANN = "tr-ann"
KEYS = {
    ANN: Key("key_ann", "acme"),
    "tr-bob": Key("key_bob", "acme", collections=("notes", "plans")),
    "tr-eve": Key("key_eve", "other"),
    "tr-root": Key("key_root", "other", endpoints=("admin", "documents", "search")),
    "tr-reader": Key("key_reader", "acme", endpoints=("search",)),
}
EMBEDDER = Embedder("d" * 64, 2)


def fail(error, request_id):
    """An error as OpenAI's wire has it."""
    return Failure(status_of(error), {"error": {"message": str(error), "param": getattr(error, "param", "")}})


APP = Router(
    [
        Route(path, Gate(endpoint, handler, fail), methods=[method])
        for method, path, endpoint, handler in (*DOCUMENT_ROUTES, *HOLDING_ROUTES)
    ]
)


class Store:
    """Collections of two tenants."""

    def collections(self, tenant):
        names = {"acme": ["default", "notes", "secret"], "other": ["theirs"]}[tenant]
        return [CollectionInfo(tenant, name, EMBEDDER, 12) for name in names]


class Bench:
    """The routes over fresh ports, one event loop for all requests of `run`."""

    def __init__(self, folder, **limits):
        self.folder = folder / "uploads"
        self.folder.mkdir()
        self._notes = folder / "notes"
        jobs = MemoryJobs()
        self.queue = MemoryQueue(jobs)
        self.stored = MemoryDocuments(jobs)
        self.documents = Documents(
            DocumentStores(self.queue, self.stored, Store(), MemoryCatalog(jobs, self.stored)),
            partial(open_noting, str(self._notes)),
            UploadOptions(readers=1, folder=self.folder),
        )
        self.ports = SimpleNamespace(
            file=GatewayFile(limits=Limits(**limits)),
            keys=KeyRing(Keys(KEYS)),
            documents=self.documents,
            metrics=GatewayMetrics(),
            live=Live(Recorder()),
            spans=NoSpans(),
            log=Log(StringIO()),
            default_collection="default",
        )

    @property
    def published(self):
        return (
            [json.loads(line) for line in self._notes.read_text().splitlines()]
            if self._notes.exists()
            else []
        )

    async def ask(self, method, path, body=b"", headers=None, secret=ANN, **more):
        given = {"authorization": f"Bearer {secret}", **(headers or {})}
        return await call(APP, method, path, body, given, state={"ports": self.ports}, **more)

    async def send(self, path, *parts, **more):
        return await self.ask("POST", path, form(*parts), {"content-type": FORM_TYPE}, **more)

    async def text(self, key="a", **more):
        """The id of the job of a text that was published."""
        secret = more.pop("secret", ANN)
        body = {"document_id": key, "text": "Text.", **more}
        answer = await self.ask("POST", "/v1/documents", body, secret=secret)
        assert answer.status == 202, answer.body
        return answer.value["data"][0]["job_id"]

    def publish_like(self, line):
        """Put what a child has published into the queue of this process."""
        document = Document(line["id"], line["title"], (line["text"],), line["source"], digest=line["digest"])
        self.queue.publish(line["tenant"], line["collection"], [document], line["batch"])

    def work(self):
        """What a worker does with one job."""
        (job,) = self.queue.take(1)
        passage = Passage(f"{job.document.id}#0", "Text.")
        self.stored.replace([Indexed(job, (passage,), np.ones((1, 2), np.float32))], EMBEDDER, "embedding")

    def run(self, work):
        async def closing():
            await self.ports.keys.start()
            try:
                return await work()
            finally:
                await self.ports.keys.close()
                await self.documents.close()

        result = asyncio.run(closing())
        assert list(self.folder.iterdir()) == []
        return result


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_texts_are_published_and_their_jobs_are_told(bench):
    async def work():
        body = {
            "documents": [{"document_id": "a", "text": "T"}, {"document_id": "b", "text": " "}],
            "collection": "notes",
        }
        answer = await bench.ask("POST", "/v1/documents", body)
        assert answer.status == 202
        first, second = answer.value["data"]
        assert (first["state"], second["state"], second["job_id"]) == ("waiting", "refused", None)
        job = await bench.ask("GET", f"/v1/jobs/{first['job_id']}")
        assert job.status == 200
        assert (job.value["state"], job.value["document_id"], job.value["collection"]) == (
            "waiting",
            "a",
            "notes",
        )
        bench.work()
        assert (await bench.ask("GET", f"/v1/jobs/{first['job_id']}")).value["state"] == "done"

    bench.run(work)


def test_a_file_is_published_under_its_name_in_the_default_collection(bench):
    async def work():
        answer = await bench.send(
            "/v1/documents", part("file", "# Text\n", "a.md"), part("title", "A"), sizes=16
        )
        assert answer.status == 202, answer.body
        (row,) = answer.value["data"]
        assert row == {"document_id": "a.md", "job_id": "1", "state": "waiting", "error": None}

    bench.run(work)
    (line,) = bench.published
    assert (line["tenant"], line["collection"], line["id"], line["title"]) == ("acme", "default", "a.md", "A")


def test_a_file_that_is_refused_or_kills_its_reader_is_an_error_and_the_next_one_is_not(bench):
    async def work():
        file = part("file", "x", "a.txt")
        died = await bench.send("/v1/documents", file, part("title", "die"))
        assert (died.status, "try again" in died.error) == (503, True)
        fault = await bench.send("/v1/documents", file, part("title", "fault"))
        assert fault.status == 500
        assert b"canary" not in fault.body
        refused = await bench.send("/v1/documents", part("file", b"%PDF-1.4 cut", "a.pdf"))
        assert (refused.status, refused.value["error"]["param"]) == (400, "file")
        assert (await bench.send("/v1/documents", file)).status == 202

    bench.run(work)


@pytest.mark.parametrize("path", ["/v1/documents", "/v1/files"])
def test_a_malformed_upload_is_refused_and_leaves_nothing(bench, path):
    async def work():
        whole = form(part("file", "x" * 5000, "a.txt"), part("purpose", "assistants"))
        cut = await bench.ask("POST", path, whole[:-9], {"content-type": FORM_TYPE})
        assert (cut.status, "last boundary" in cut.error) == (400, True)
        kind = await bench.ask("POST", path, whole, {"content-type": "multipart/mixed; boundary=b0undary"})
        assert (kind.status, "multipart/form-data" in kind.error) == (400, True)
        kind = await bench.ask("POST", path, b"a=b", {"content-type": "application/x-www-form-urlencoded"})
        assert kind.status == 400
        name = await bench.send(path, part("file", "x", "../a.txt"))
        assert (name.status, "not a path" in name.error) == (400, True)
        gone = await bench.ask("POST", path, whole, {"content-type": FORM_TYPE}, sizes=1000, gone=True)
        assert gone is None
        assert list(bench.folder.glob("*/*")) == []

    bench.run(work)
    assert bench.published == []


def test_an_upload_larger_than_the_limit_is_refused_with_both_numbers(tmp_path):
    bench = Bench(tmp_path, upload_bytes=2000)

    async def work():
        file = part("file", "x" * 3000, "a.txt")
        said = await bench.send("/v1/documents", file)
        assert (said.status, "2000 bytes" in said.error) == (413, True)
        unsaid = await bench.ask(
            "POST",
            "/v1/documents",
            form(file),
            {"content-type": FORM_TYPE, "content-length": "10"},
            sizes=500,
        )
        assert unsaid.status == 413
        body = {"document_id": "a", "text": "x" * 100}
        assert (await bench.ask("POST", "/v1/documents", body)).status == 202

    bench.run(work)


def test_the_tenant_is_the_keys_and_nobody_elses(bench):
    async def work():
        job = await bench.text("a")
        assert (await bench.ask("GET", f"/v1/jobs/{job}", secret="tr-eve")).status == 404
        assert (await bench.ask("DELETE", "/v1/documents/a", secret="tr-eve")).status == 404
        tenant = await bench.ask(
            "POST", "/v1/documents", {"document_id": "a", "text": "T", "tenant": "other"}
        )
        assert (tenant.status, "tenant" in tenant.error) == (400, True)
        assert (await bench.ask("GET", f"/v1/jobs/{job}")).value["state"] == "waiting"

    bench.run(work)


def test_a_key_reaches_its_collections_alone(bench):
    async def work():
        async def bob(method, path, body=b""):
            return await bench.ask(method, path, body, secret="tr-bob")

        text = {"document_id": "a", "text": "T", "collection": "secret"}
        for answer in (
            await bob("POST", "/v1/documents", text),
            await bob("DELETE", "/v1/documents/a?collection=secret"),
            await bob("GET", f"/v1/files/{encode_file_id(FileRef('secret', 'a'))}"),
            await bob("DELETE", f"/v1/files/{encode_file_id(FileRef('secret', 'a'))}"),
            await bob("GET", "/v1/vector_stores/secret"),
            await bench.send(
                "/v1/documents", part("file", "x", "a.txt"), part("collection", "secret"), secret="tr-bob"
            ),
        ):
            assert (answer.status, "it may use: notes, plans" in answer.error) == (403, True)
        job = await bench.text("a", collection="secret")
        assert (await bob("GET", f"/v1/jobs/{job}")).status == 404
        job = await bench.text("a", secret="tr-bob")
        assert (await bob("GET", f"/v1/jobs/{job}")).value["collection"] == "notes"
        stores = (await bob("GET", "/v1/vector_stores")).value["data"]
        assert [store["id"] for store in stores] == ["notes"]

    bench.run(work)


@pytest.mark.parametrize("key", ["a", "reports/2026/q1.md", "über 100%.txt", "a?b#c", "../x"])
def test_a_document_of_any_id_can_be_deleted_once(bench, key):
    from urllib.parse import quote

    async def work():
        await bench.text(key, collection="notes")
        path = f"/v1/documents/{quote(key, safe='')}"
        assert (await bench.ask("DELETE", path)).status == 404
        deleted = await bench.ask("DELETE", f"{path}?collection=notes")
        assert deleted.value == {"id": key, "object": "document.deleted", "deleted": True}
        missing = await bench.ask("DELETE", f"{path}?collection=notes")
        assert (missing.status, "in collection 'notes'" in missing.error) == (404, True)

    bench.run(work)


@pytest.mark.parametrize(
    "query", ["colection=notes", "collection=a&collection=b", "collection=%ff", "collection=", "a=1&" * 20]
)
def test_parameters_that_nobody_knows_delete_nothing(bench, query):
    async def work():
        await bench.text("a")
        assert (await bench.ask("DELETE", f"/v1/documents/a?{query}")).status == 400
        assert (await bench.ask("DELETE", "/v1/documents/a")).status == 200

    bench.run(work)


@pytest.mark.parametrize("job", ["999", "x", "-1", "0", "1%00", "9" * 400])
def test_a_job_that_nobody_has_is_not_found(bench, job):
    async def work():
        answer = await bench.ask("GET", f"/v1/jobs/{job}")
        assert (answer.status, "forgotten after a day" in answer.error) == (404, True)

    bench.run(work)


def test_a_file_is_uploaded_shown_and_deleted(bench):
    async def work():
        parts = (part("purpose", "assistants"), part("file", "# Text\n", "a.md"), part("collection", "notes"))
        answer = await bench.send("/v1/files", *parts)
        assert answer.status == 200, answer.body
        file = answer.value
        assert (file["status"], file["bytes"], file["filename"]) == ("uploaded", 7, "a.md")
        path, ref = f"/v1/files/{file['id']}", decode_file_id(file["id"])
        assert ref.collection == "notes"
        # The child has a queue of its own, and so nobody knows the document here.
        assert (await bench.ask("GET", path)).status == 404
        bench.publish_like(bench.published[0])
        assert (await bench.ask("GET", path)).value == file
        bench.work()
        assert (await bench.ask("GET", path)).value["status"] == "processed"
        content = await bench.ask("GET", f"{path}/content")
        assert (content.status, "not kept" in content.error) == (400, True)
        assert (await bench.ask("GET", path, secret="tr-eve")).status == 404
        assert (await bench.ask("DELETE", path)).value["deleted"] is True
        assert (await bench.ask("GET", path)).status == 404
        assert (await bench.ask("DELETE", path)).status == 404

    bench.run(work)


def test_a_file_whose_job_died_says_why_until_it_is_deleted(bench):
    async def work():
        file = (await bench.send("/v1/files", part("purpose", "user_data"), part("file", "x", "a.txt"))).value
        bench.publish_like(bench.published[0])
        bench.queue.settle(bench.queue.take(1), "dead", "its model is gone")
        shown = (await bench.ask("GET", f"/v1/files/{file['id']}")).value
        assert (shown["status"], shown["status_details"]) == ("error", "its model is gone")
        assert (await bench.ask("DELETE", f"/v1/files/{file['id']}")).status == 200
        assert (await bench.ask("GET", f"/v1/files/{file['id']}")).status == 404

    bench.run(work)


def test_a_document_of_any_origin_is_a_file(bench):
    async def work():
        await bench.text("a", collection="notes")
        path = f"/v1/files/{encode_file_id(FileRef('notes', 'a'))}"
        shown = (await bench.ask("GET", path)).value
        assert (shown["filename"], shown["status"], shown["bytes"]) == ("a", "uploaded", 0)
        assert (await bench.ask("GET", "/v1/files/file-x")).status == 404
        for document in ("", "a\x00", "b"):
            path = f"/v1/files/{encode_file_id(FileRef('notes', document))}"
            assert (await bench.ask("GET", path)).status == 404
            assert (await bench.ask("DELETE", path)).status == 404

    bench.run(work)


def test_what_cannot_be_honest_is_refused_by_name(bench):
    async def work():
        for method, path in (
            ("GET", "/v1/files"),
            ("POST", "/v1/vector_stores"),
            ("POST", "/v1/vector_stores/notes/files"),
        ):
            answer = await bench.ask(method, path)
            assert (answer.status, "POST /v1/files" in answer.error) == (400, True)
        purpose = await bench.send("/v1/files", part("file", "x", "a.txt"), part("purpose", "batch"))
        assert (purpose.status, "'batch'" in purpose.error) == (400, True)

    bench.run(work)


def test_vector_stores_are_the_tenants_collections(bench):
    async def work():
        await bench.text("a", collection="notes")
        page = (await bench.ask("GET", "/v1/vector_stores?limit=2")).value
        assert [store["id"] for store in page["data"]] == ["default", "notes"]
        assert (page["has_more"], page["last_id"]) == (True, "notes")
        rest = (await bench.ask("GET", "/v1/vector_stores?limit=2&after=notes")).value
        assert ([store["id"] for store in rest["data"]], rest["has_more"]) == (["secret"], False)
        one = (await bench.ask("GET", "/v1/vector_stores/notes")).value
        assert (one["status"], one["file_counts"]["in_progress"], one["passages"]) == ("in_progress", 1, 12)
        assert (await bench.ask("GET", "/v1/vector_stores/theirs")).status == 404

    bench.run(work)


def test_stored_documents_are_told_in_pages(bench):
    async def work():
        for key in ("a", "b/c", "b_d", "b%d"):
            await bench.text(key, collection="notes")
            bench.work()
        page = (await bench.ask("GET", "/v1/documents?collection=notes&limit=3")).value
        assert [one["id"] for one in page["data"]] == ["a", "b%d", "b/c"]
        assert (page["has_more"], page["last_id"]) == (True, "b/c")
        assert page["totals"] == {"documents": 4, "passages": 4}
        rest = (await bench.ask("GET", "/v1/documents?collection=notes&after=b%2Fc")).value
        assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["b_d"], False)
        found = (await bench.ask("GET", "/v1/documents?collection=notes&prefix=b%25")).value
        assert [one["id"] for one in found["data"]] == ["b%d"]
        missing = await bench.ask("GET", "/v1/documents?collection=elsewhere")
        assert (missing.status, "nothing is stored in collection 'elsewhere'" in missing.error) == (404, True)

    bench.run(work)


@pytest.mark.parametrize(
    "key",
    ["a", "reports/2026/q1.md", "über 100%.txt", "a?b#c", "../x", "x/retry", "船" * 600, "a\nb", "a\n"],
)
def test_a_document_of_any_id_is_opened_with_its_passages(bench, key):
    from urllib.parse import quote

    async def work():
        await bench.text(key, collection="notes")
        bench.work()
        path = f"/v1/documents/{quote(key, safe='')}?collection=notes"
        opened = (await bench.ask("GET", path)).value
        assert (opened["id"], opened["collection"], opened["passage_count"]) == (key, "notes", 1)
        assert [one["id"] for one in opened["passages"]] == [f"{key}#0"]
        around = await bench.ask("GET", f"{path}&around={quote(key, safe='')}%230")
        assert around.value == opened
        missing = await bench.ask("GET", f"{path}&around=elsewhere")
        assert (missing.status, "with a passage 'elsewhere'" in missing.error) == (404, True)

    bench.run(work)


def test_an_id_that_ends_with_a_line_break_is_not_the_one_without(bench):
    async def work():
        await bench.text("a", collection="notes")
        bench.work()
        for path in ("/v1/documents/a%0A?collection=notes", "/v1/vector_stores/notes%0A"):
            assert (await bench.ask("DELETE", path)).status == 404
        assert (await bench.ask("GET", "/v1/documents/a?collection=notes")).status == 200

    bench.run(work)


def test_jobs_are_told_retried_and_forgotten(bench):
    async def work():
        first, second = await bench.text("a", collection="notes"), await bench.text("b")
        bench.queue.settle(bench.queue.take(2), "dead", "its model is gone")
        page = (await bench.ask("GET", "/v1/jobs?state=dead")).value
        assert [job["id"] for job in page["data"]] == [second, first]
        assert (page["counts"]["dead"], page["workers"]) == (2, 1)
        assert page["data"][0]["error"] == "its model is gone"
        retried = await bench.ask("POST", f"/v1/jobs/{first}/retry")
        assert (retried.status, retried.value["state"]) == (200, "waiting")
        for again in (
            await bench.ask("POST", f"/v1/jobs/{first}/retry"),
            await bench.ask("DELETE", f"/v1/jobs/{first}"),
        ):
            assert (again.status, f"job {first} is waiting" in again.error) == (409, True)
        forgotten = await bench.ask("DELETE", f"/v1/jobs/{second}")
        assert forgotten.value == {"id": second, "object": "job.deleted", "deleted": True}
        assert (await bench.ask("DELETE", f"/v1/jobs/{second}")).status == 404
        assert (await bench.ask("POST", f"/v1/jobs/{second}/retry")).status == 404
        bench.work()
        done = await bench.ask("POST", f"/v1/jobs/{first}/retry")
        assert (done.status, "is done, and only a dead one can be retried" in done.error) == (409, True)

    bench.run(work)


@pytest.mark.parametrize("name", ["notes", "a/b", "ü 100%", "x/search", "x/files", "..", "船" * 170])
def test_a_collection_is_deleted_with_what_waits_for_it(bench, name):
    from urllib.parse import quote

    async def work():
        await bench.text("a", collection=name)
        bench.work()
        waiting = await bench.text("b", collection=name)
        path = f"/v1/vector_stores/{quote(name, safe='')}"
        deleted = await bench.ask("DELETE", path)
        assert deleted.value == {"id": name, "object": "vector_store.deleted", "deleted": True}
        missing = await bench.ask("GET", f"/v1/documents?collection={quote(name, safe='')}")
        assert missing.status == 404
        assert (await bench.ask("GET", f"/v1/jobs/{waiting}")).value["state"] == "cancelled"
        again = await bench.ask("DELETE", path)
        assert (again.status, "no vector store" in again.error) == (404, True)

    bench.run(work)


def test_a_key_holds_what_is_of_its_tenant_and_its_collections(bench):
    async def work():
        secret, plan = await bench.text("a", collection="secret"), await bench.text("b", collection="plans")
        bench.queue.settle(bench.queue.take(2), "dead", "x")
        mine = (await bench.ask("GET", "/v1/jobs", secret="tr-bob")).value
        assert ([job["id"] for job in mine["data"]], mine["counts"]["dead"]) == ([plan], 1)
        for method, path in (
            ("GET", "/v1/documents?collection=secret"),
            ("GET", "/v1/documents/a?collection=secret"),
            ("GET", "/v1/jobs?collection=secret"),
            ("DELETE", "/v1/vector_stores/secret"),
        ):
            assert (await bench.ask(method, path, secret="tr-bob")).status == 403, path
        for method, path in (
            ("GET", f"/v1/jobs/{secret}"),
            ("POST", f"/v1/jobs/{secret}/retry"),
            ("DELETE", f"/v1/jobs/{secret}"),
        ):
            assert (await bench.ask(method, path, secret="tr-bob")).status == 404, path
            assert (await bench.ask(method, path, secret="tr-eve")).status == 404, path
        theirs = (await bench.ask("GET", "/v1/jobs", secret="tr-eve")).value
        assert (theirs["data"], theirs["counts"]["dead"]) == ([], 0)

    bench.run(work)


def test_an_admin_names_a_tenant_and_nobody_else_does(bench):
    async def work():
        job = await bench.text("a", collection="notes")
        bench.work()
        for method, path in (
            ("GET", "/v1/documents?collection=notes"),
            ("GET", "/v1/documents/a?collection=notes"),
            ("GET", "/v1/jobs?"),
            ("GET", f"/v1/jobs/{job}?"),
            ("GET", "/v1/vector_stores?"),
            ("GET", "/v1/vector_stores/notes?"),
            ("DELETE", "/v1/documents/a?collection=notes"),
        ):
            refused = await bench.ask(method, f"{path}&tenant=acme", secret="tr-eve")
            assert (refused.status, "its own tenant alone" in refused.error) == (403, True), path
            found = await bench.ask(method, f"{path}&tenant=acme", secret="tr-root")
            assert found.status == 200, (path, found.body)
        # Without a name it is the key's own.
        assert (await bench.ask("GET", "/v1/jobs", secret="tr-root")).value["data"] == []
        own = await bench.ask("GET", "/v1/jobs?tenant=other", secret="tr-eve")
        assert own.status == 200

    bench.run(work)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/documents?colection=notes",
        "/v1/documents?prefix=",
        "/v1/documents?prefix=a%00",
        "/v1/documents?limit=201",
        "/v1/documents/a?after=a&around=b",
        "/v1/documents/a?prefix=b",
        "/v1/jobs?state=asleep",
        "/v1/jobs?after=x",
        "/v1/jobs?tenant=",
        "/v1/jobs/1?state=dead",
        "/v1/vector_stores/notes?limit=3",
    ],
)
def test_parameters_of_pages_that_nobody_knows_are_refused_by_name(bench, path):
    async def work():
        answer = await bench.ask("GET", path)
        assert answer.status == 400
        assert answer.value["error"]["param"]

    bench.run(work)


def test_who_may_only_search_deletes_nothing(bench):
    async def work():
        await bench.text("a", collection="notes")
        bench.work()
        assert (await bench.ask("DELETE", "/v1/vector_stores/notes", secret="tr-reader")).status == 403
        assert (await bench.ask("GET", "/v1/vector_stores", secret="tr-reader")).status == 200
        assert (await bench.ask("GET", "/v1/documents?collection=notes")).status == 200

    bench.run(work)
