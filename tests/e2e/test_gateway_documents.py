"""Documents through the gateway, over the real database, worker and models: uploaded, found, deleted."""

import contextlib
import http.client
import io
import json
import os
import re
import subprocess
from contextlib import closing
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from gateways import create_key
from stacks import ROOT, environment_of, free_ports, has_ended, settings_on_free_ports, wait_until

from fakes.forms import FORM_TYPE, form, part
from trireme.stack import Stack
from trireme.storage import open_store
from trireme.types import Embedder, Passage

# All that a search needs.
MODELS = ("embedding", "reranker", "search", "search__retrieve", "search__sort")


class Client:
    """Calls the gateway of `stack` with one key."""

    def __init__(self, stack, secret):
        self.port = stack.settings.gateway_port
        self.secret = secret

    def ask(self, method, path, body=None, headers=None):
        """Status and decoded body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(
                method, path, raw, {"authorization": f"Bearer {self.secret}", **(headers or {})}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def upload(self, name, content, path="/v1/documents", **fields):
        """What came of a file."""
        parts = [part(key, value) for key, value in fields.items()]
        status, value = self.ask(
            "POST", path, form(*parts, part("file", content, name)), {"content-type": FORM_TYPE}
        )
        assert status in (200, 202), value
        return value

    def wait_for(self, job):
        """The job, once it has ended."""
        found = {}

        def is_over():
            found.update(self.ask("GET", f"/v1/jobs/{job}")[1])
            return found["state"] not in ("waiting", "running")

        wait_until(is_over, 120)
        return found

    def sources(self, query, collection):
        """Where the passages of a search come from, best first."""
        status, value = self.ask(
            "POST", "/v1/search", {"query": query, "collection": collection, "top_k": 10}
        )
        assert status == 200, value
        return [passage["metadata"]["source"] for passage in value["passages"]]


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """The gateway's folder for temporary files."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def stack(tmp_path_factory, uploads):
    """The models of a search, a worker and a gateway, which leaves no file behind."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "models").mkdir()
    for model in MODELS:
        (folder / "models" / model).symlink_to(ROOT / "model_repository" / model)
    settings = settings_on_free_ports(
        folder / "data", model_repository=folder / "models", gateway_port=free_ports(1)[0]
    )
    with Stack(settings, has_gateway=True) as running:
        running.start_worker()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(uploads))
            running.start_gateway()
        yield running
    assert list(uploads.iterdir()) == []


@pytest.fixture(scope="module")
def new_client(stack):
    """new_client(tenant, *arguments of `keys create`)."""

    def make(tenant, *arguments):
        environ = environment_of(stack.settings) | {"TRIREME_DATABASE_URL": stack.database_url}
        client = Client(stack, create_key(environ, "--tenant", tenant, *arguments))
        wait_until(lambda: client.ask("GET", "/v1/jobs/0")[0] == 404)
        return client

    return make


@pytest.fixture(scope="module")
def client(new_client):
    return new_client("acme")


def pdf(text):
    """A PDF of one page."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out) + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1,
        start,
    )


def docx(text):
    """A DOCX of one paragraph."""
    import docx as writer

    document, out = writer.Document(), io.BytesIO()
    document.add_paragraph(text)
    document.save(out)
    return out.getvalue()


FILES = {
    "oars.md": (b"# Oars\n\nThe oars of a trireme are made of fir.", "what are oars made of?"),
    "mast.txt": (b"The mast is lowered before battle.", "what is lowered before battle?"),
    "sails.pdf": (pdf("Sails are woven from flax and dyed red."), "what are sails woven from?"),
    "ram.docx": (docx("The ram is cast in bronze."), "what is cast in bronze?"),
}


def test_files_of_each_kind_are_found_once_they_are_indexed_and_not_once_they_are_deleted(client):
    rows = {
        name: client.upload(name, content, collection="ships")["data"][0]
        for name, (content, _) in FILES.items()
    }
    for name, row in rows.items():
        assert (row["document_id"], row["state"]) == (name, "waiting")
        job = client.wait_for(row["job_id"])
        assert (job["state"], job["error"], job["collection"]) == ("done", None, "ships")
    for name, (_, query) in FILES.items():
        assert client.sources(query, "ships")[0] == name
    for name in FILES:
        assert client.ask("DELETE", f"/v1/documents/{name}?collection=ships")[0] == 200
        assert client.ask("DELETE", f"/v1/documents/{name}?collection=ships")[0] == 404
    assert client.sources("oars", "ships") == []


def test_texts_keep_their_metadata_and_a_new_text_takes_the_place_of_the_old_one(client):
    text = {"document_id": "a/b ü", "collection": "texts", "metadata": {"page": 3, "source": "shelf"}}
    for words in ("Rowers are free men.", "Rowers are citizens."):
        _, answer = client.ask("POST", "/v1/documents", {**text, "text": words})
        assert client.wait_for(answer["data"][0]["job_id"])["state"] == "done"
    _, found = client.ask(
        "POST", "/v1/search", {"query": "who rows?", "collection": "texts", "filter": {"page": 3}}
    )
    (passage,) = found["passages"]
    assert "citizens" in passage["text"]
    assert passage["metadata"]["source"] == "shelf"


def test_another_tenant_sees_nothing_of_it(client, new_client):
    row = client.upload("secret.txt", b"The harbour is at Zea.", collection="plans")["data"][0]
    client.wait_for(row["job_id"])
    other = new_client("globex")
    assert other.ask("GET", f"/v1/jobs/{row['job_id']}")[0] == 404
    assert other.ask("DELETE", "/v1/documents/secret.txt?collection=plans")[0] == 404
    assert other.ask("POST", "/v1/search", {"query": "harbour", "collection": "plans"})[0] == 404
    assert "plans" not in str(other.ask("GET", "/v1/vector_stores")[1])
    assert client.sources("where is the harbour?", "plans") == ["secret.txt"]


def test_a_file_of_openais_wire_is_processed_found_and_deleted(client):
    file = client.upload(
        "anchors.md", b"Anchors are of lead and wood.", "/v1/files", purpose="assistants", collection="files"
    )
    path = f"/v1/files/{file['id']}"
    assert (file["filename"], file["bytes"], file["status"]) == ("anchors.md", 29, "uploaded")
    wait_until(lambda: client.ask("GET", path)[1]["status"] == "processed", 120)
    assert client.ask("GET", path)[1] == {**file, "status": "processed"}
    assert client.sources("what are anchors made of?", "files") == ["anchors.md"]
    store = client.ask("GET", "/v1/vector_stores/files")[1]
    assert (store["status"], store["passages"]) == ("completed", 1)
    status, page = client.ask("POST", "/v1/vector_stores/files/search", {"query": "anchors"})
    assert status == 200, page
    assert page["data"][0]["filename"] == "anchors.md"
    assert client.ask("DELETE", path)[1]["deleted"] is True
    assert client.ask("GET", path)[0] == 404


def test_what_is_stored_is_read_in_pages_and_a_hit_opens_in_its_document(client):
    text = "\n\n".join(f"# Part {n}\n\n" + f"Oar number {n} is of fir. " * 40 for n in range(12))
    names = ["a/b c.md", "100%_ü.md", "long.md"]
    for name in names:
        content = text if name == "long.md" else f"# {name}\n\nNothing of interest."
        row = client.upload(name.rpartition("/")[2], content.encode(), collection="shelf", document_id=name)[
            "data"
        ][0]
        assert client.wait_for(row["job_id"])["state"] == "done"
    first = client.ask("GET", "/v1/documents?collection=shelf&limit=2")[1]
    assert [one["id"] for one in first["data"]] == ["100%_ü.md", "a/b c.md"]
    rest = client.ask("GET", f"/v1/documents?collection=shelf&after={quote(first['last_id'], safe='')}")[1]
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["long.md"], False)
    store = client.ask("GET", "/v1/vector_stores/shelf")[1]
    assert first["totals"] == {"documents": 3, "passages": store["passages"]}
    query = {"query": "what is oar number 7 of?", "collection": "shelf", "top_k": 1}
    (hit,) = client.ask("POST", "/v1/search", query)[1]["passages"]
    assert hit["document_id"] == "long.md"
    path = f"/v1/documents/{quote(hit['document_id'], safe='')}?collection=shelf"
    status, opened = client.ask("GET", f"{path}&around={quote(hit['id'], safe='')}&limit=5")
    assert status == 200, opened
    assert hit["text"] in [passage["text"] for passage in opened["passages"]]
    assert (len(opened["passages"]), opened["passage_count"] > 5) == (5, True)
    everything = client.ask("GET", f"{path}&limit=200")[1]["passages"]
    assert [one["metadata"]["position"] for one in everything] == list(range(opened["passage_count"]))
    assert client.ask("GET", f"/v1/documents/{quote('a/b c.md', safe='')}?collection=shelf")[0] == 200


def test_a_dead_job_says_why_is_retried_and_forgotten_and_its_collection_deleted(client, stack):
    # The vectors of a model that nobody serves.
    with closing(open_store(stack.database_url)) as store:
        store.put("acme", "alien", Embedder("f" * 64, 2), [Passage("x", "x")], np.ones((1, 2), np.float32))
    row = client.upload("a.md", b"Oars.", collection="alien")["data"][0]
    assert client.wait_for(row["job_id"])["state"] == "dead"
    page = client.ask("GET", "/v1/jobs?state=dead&collection=alien")[1]
    (dead,) = page["data"]
    assert (dead["id"], page["counts"]["dead"], page["workers"]) == (row["job_id"], 1, 1)
    assert dead["error"]
    status, retried = client.ask("POST", f"/v1/jobs/{dead['id']}/retry")
    assert status == 200, retried
    assert client.wait_for(dead["id"])["state"] == "dead"
    assert client.ask("DELETE", f"/v1/jobs/{dead['id']}")[0] == 200
    status, refused = client.ask("POST", f"/v1/jobs/{dead['id']}/retry")
    assert (status, refused["error"]["code"]) == (404, "not_found")
    assert client.ask("DELETE", "/v1/vector_stores/alien")[1]["deleted"] is True
    # Now it is nobody's, and so anybody's.
    row = client.upload("a.md", b"Oars.", collection="alien")["data"][0]
    assert client.wait_for(row["job_id"])["state"] == "done"
    status, refused = client.ask("POST", f"/v1/jobs/{row['job_id']}/retry")
    assert (status, refused["error"]["code"]) == (409, "conflict")


def test_a_collection_that_is_deleted_while_documents_come_is_whole_or_gone(client):
    """Whatever was published before the deletion is gone, and what came after it is found."""
    jobs = []
    for _ in range(4):
        body = {
            "documents": [{"document_id": f"d{n}", "text": f"Oar {n}. " * 200} for n in range(40)],
            "collection": "busy",
        }
        status, answer = client.ask("POST", "/v1/documents", body)
        assert status == 202, answer
        jobs += [row["job_id"] for row in answer["data"]]
        assert client.ask("DELETE", "/v1/vector_stores/busy")[0] == 200
    states = {client.wait_for(job)["state"] for job in jobs}
    assert states <= {"done", "cancelled"}
    assert client.ask("GET", "/v1/documents?collection=busy")[0] == 404
    assert "busy" not in str(client.ask("GET", "/v1/vector_stores")[1])
    row = client.upload("last.md", b"The last oar.", collection="busy")["data"][0]
    assert client.wait_for(row["job_id"])["state"] == "done"
    page = client.ask("GET", "/v1/documents?collection=busy")[1]
    assert ([one["id"] for one in page["data"]], page["totals"]["passages"]) == (["last.md"], 1)


def test_a_reader_that_is_killed_is_replaced_and_no_list_of_processes_has_the_databases_url(client, stack):
    def readers():
        found = []
        for one in psutil.Process(stack.gateway.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if not has_ended(one) and "spawn_main" in " ".join(one.cmdline()):
                    found.append(one)
        return found

    client.upload("a.txt", b"Text.", collection="killed")
    for reader in readers():
        reader.kill()
    wait_until(lambda: not readers())
    assert client.upload("b.txt", b"Text.", collection="killed")["data"][0]["state"] == "waiting"
    (reader,) = readers()
    assert stack.database_url not in " ".join(reader.cmdline())


def test_the_commands_of_the_document_work_as_they_stand(client, tmp_path):
    (tmp_path / "report.pdf").write_bytes(pdf("We earned nothing."))
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "uploads.md").read_text(), re.DOTALL)
    job = ""
    for line in block[1].splitlines():
        command = line.replace("127.0.0.1:8080", f"127.0.0.1:{client.port}").replace("jobs/17", f"jobs/{job}")
        done = subprocess.run(
            ["bash", "-c", command],
            env={**os.environ, "KEY": client.secret},
            cwd=tmp_path,
            capture_output=True,
        )
        answer = json.loads(done.stdout)
        assert not answer.get("error"), (command, answer)
        job = answer["data"][0]["job_id"] if "data" in answer else job
    assert answer == {"id": "oars", "object": "document.deleted", "deleted": True}


def test_nothing_of_uploads_is_left_behind(client, uploads):
    client.upload("a.txt", b"Text.", collection="left")
    status, _ = client.ask(
        "POST", "/v1/documents", form(part("file", b"x", "a.exe")), {"content-type": FORM_TYPE}
    )
    assert status == 400
    (folder,) = uploads.glob("trireme-uploads-*")
    assert list(folder.iterdir()) == []
