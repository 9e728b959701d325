"""Publishing, working and asking, as a user does: the commands, and the `ingest` model by gRPC and HTTP."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing, suppress

import psutil
import psycopg
import pytest
from stacks import ROOT, environment_of, settings_on_free_ports, wait_until

from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.ingest.queue import JobQuery
from trireme.stack import Stack
from trireme.storage import open_queue
from trireme.triton.client import TritonClient


@pytest.fixture(scope="module")
def idle_stack(tmp_path_factory):
    """A stack of the embedding model alone, without a worker."""
    folder = tmp_path_factory.mktemp("idle")
    (folder / "models").mkdir()
    (folder / "models" / "embedding").symlink_to(ROOT / "model_repository" / "embedding")
    settings = settings_on_free_ports(folder / "data", model_repository=folder / "models")
    with Stack(settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(serving):
    with TritonClient(serving.settings.grpc_url) as opened:
        yield opened


def ask(client, **inputs):
    answer = client.infer("ingest", {name: [values] for name, values in inputs.items()})
    return list(
        zip(*([v.decode() for v in answer[name][0]] for name in ("job_id", "state", "error")), strict=True)
    )


def wait_for(client, jobs, seconds=120):
    """The jobs' states, once none is waiting or running."""
    answer = []

    def is_done():
        answer[:] = ask(client, job_id=jobs)
        return not {"waiting", "running"} & {state for _, state, _ in answer}

    wait_until(is_done, seconds)
    return answer


def texts(client, query, **scope):
    return [hit.text for hit in client.search(query, **scope)]


def test_a_client_publishes_documents_and_asks_for_their_jobs(client):
    rows = ask(
        client,
        document_id=["oars", "masts"],
        text=["A trireme has three banks of oars.", "# Masts\n\nThe mast is lowered before battle."],
        title=["Oars", "Masts"],
        metadata=['{"page": 3}', "{}"],
        collection=["published"],
    )
    jobs = [job for job, *_ in rows]
    assert [(state, error) for _, state, error in rows] == [("waiting", "")] * 2
    assert wait_for(client, jobs) == [(job, "done", "") for job in jobs]
    best = client.search("what is lowered before battle?", collection="published")[0]
    assert best.id == "masts#0"
    assert "mast is lowered" in best.text
    metadata = json.loads(client.search("banks of oars", collection="published")[0].metadata)
    assert metadata["page"] == 3
    assert (metadata["title"], metadata["source"]) == ("Oars", "oars")


def test_a_changed_document_takes_the_place_of_its_older_self(client):
    for text in ("The anchor is of stone. " * 60, "The anchor is of lead."):
        ((job, *_),) = ask(client, document_id=["anchor"], text=[text], collection=["changed"])
        wait_for(client, [job])
    assert texts(client, "anchor", collection="changed") == ["The anchor is of lead."]


def test_it_works_by_curl_too(serving):
    url = f"http://127.0.0.1:{serving.settings.http_port}/v2/models/ingest/generate"

    def post(body):
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as answer:
            return json.load(answer)

    answer = post({"document_id": ["a", "b"], "text": ["One text.", "Another."], "collection": "curled"})
    assert answer["state"] == ["waiting", "waiting"]
    job = answer["job_id"][0]
    wait_until(lambda: post({"job_id": [job, answer["job_id"][1]]})["state"] == ["done", "done"])
    # A list of one is a plain value here.
    single = post({"document_id": "c", "text": "A third.", "collection": "curled"})
    assert single["state"] == "waiting"
    with pytest.raises(urllib.error.HTTPError) as caught:
        post({"job_id": "4711471147"})
    assert "no job '4711471147'" in caught.value.read().decode()


@pytest.mark.parametrize(
    "inputs, error, text",
    [
        ({"document_id": ["a"], "text": [""]}, InvalidInputError, "empty"),
        ({"document_id": ["a"], "text": [" \n"]}, InvalidInputError, "empty"),
        ({"document_id": ["a"], "text": ["x\x00y"]}, InvalidInputError, "NUL"),
        ({"document_id": [""], "text": ["x"]}, InvalidInputError, "id must have 1 to"),
        ({"document_id": ["a"], "text": ["x" * 4_000_001]}, InvalidInputError, "4000000 bytes"),
        ({"document_id": ["a"], "text": ["x"], "metadata": ["no"]}, InvalidInputError, "not JSON"),
        ({"document_id": ["a"], "text": ["x"], "metadata": ["[1]"]}, InvalidInputError, "JSON object"),
        ({"document_id": ["a"], "text": ["x", "y"]}, InvalidInputError, "2 values for 1 ids"),
        ({"document_id": ["a"]}, InvalidInputError, "send document_id and text"),
        ({"document_id": ["a"], "text": ["x"], "job_id": ["1"]}, InvalidInputError, "not both"),
        ({"document_id": ["a"], "text": ["x"], "collection": ["c" * 600]}, InvalidInputError, "collection"),
        (
            {"document_id": [f"{n}" for n in range(1001)], "text": ["x"] * 1001},
            InvalidInputError,
            "1 to 1000",
        ),
        ({"job_id": ["4711471147"]}, NotFoundError, "no job '4711471147'"),
        ({"job_id": ["x'; DROP TABLE"]}, NotFoundError, "no job"),
    ],
)
def test_what_cannot_be_published_or_found_is_a_typed_error(client, inputs, error, text):
    with pytest.raises(error, match=text):
        ask(client, **inputs)


def test_a_bad_document_is_refused_alone(client):
    rows = ask(
        client,
        document_id=["a", "b", "a", "c", "d"],
        text=["first", "nul\x00", "again", "", "last"],
        collection=["partly"],
    )
    assert [state for _, state, _ in rows] == ["waiting", "refused", "refused", "refused", "waiting"]
    assert "NUL" in rows[1][2]
    assert "twice" in rows[2][2]
    assert "empty" in rows[3][2]
    wait_for(client, [rows[0][0], rows[4][0]])
    assert sorted(texts(client, "first", collection="partly")) == ["first", "last"]
    answer = ask(client, job_id=[rows[0][0], "4711471147"])
    assert [state for _, state, _ in answer] == ["done", "unknown"]


def test_no_tenant_sees_the_jobs_of_another(client):
    ((job, *_),) = ask(client, document_id=["a"], text=["secret"], tenant=["acme"], collection=["own"])
    with pytest.raises(NotFoundError):
        ask(client, job_id=[job], tenant=["other"])
    assert ask(client, job_id=[job], tenant=["acme"])[0][0] == job


def test_ingesting_again_does_nothing_for_what_is_unchanged(serving, tmp_path, client):
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.txt").write_text(f"This is file {name}.")
    done = serving.run("ingest", str(tmp_path), "--collection", "files")
    assert done.returncode == 0, done.stderr
    assert "Indexed 3 documents into 'files'" in done.stdout
    (tmp_path / "two.txt").write_text("This is file two, changed.")
    (tmp_path / "one.txt").unlink()
    done = serving.run("ingest", str(tmp_path), "--collection", "files", "--delete-missing")
    assert "Indexed 1 documents into 'files'" in done.stdout
    assert "1 unchanged" in done.stdout
    assert "1 deleted" in done.stdout
    assert "it holds 2 passages" in done.stdout
    assert sorted(texts(client, "file", collection="files")) == [
        "three\nThis is file three.",
        "two\nThis is file two, changed.",
    ]


def test_documents_are_deleted_by_their_ids(serving, tmp_path):
    for name in ("keep", "drop"):
        (tmp_path / f"{name}.txt").write_text(f"This is file {name}.")
    serving.run("ingest", str(tmp_path), "--collection", "deleted")
    done = serving.run("delete", "drop.txt", "--collection", "deleted")
    assert done.returncode == 0, done.stderr
    assert "Deleted 1 documents" in done.stdout
    done = serving.run("delete", "drop.txt", "--collection", "deleted")
    assert done.returncode == 1
    assert "no document 'drop.txt'" in done.stderr
    assert serving.run("search", "file", "--collection", "deleted").stdout.count("keep.txt") == 1


def test_a_poison_document_is_dead_with_its_error_and_can_be_retried(serving, client):
    # Its one passage has the id of a passage that is there.
    ((first, *_),) = ask(client, document_id=["clash"], text=["text"], collection=["poison"])
    wait_for(client, [first])
    with closing(open_queue(url_of(serving), 15)) as queue:
        from trireme.types import Document

        whole = Document("clash#0", "", ("other",), "clash#0", whole=True)
        published = queue.publish("default", "poison", [whole, Document("fine", "", ("fine",), "fine")])
    answer = wait_for(client, [one.job for one in published])
    assert [state for _, state, _ in answer] == ["dead", "done"]
    assert "belongs to document 'clash'" in answer[0][2]
    listed = serving.run("jobs", "--state", "dead", "--collection", "poison").stdout
    assert "1 dead" in listed
    assert "belongs to document" in listed
    assert published[0].job in listed
    serving.run("delete", "clash", "--collection", "poison")
    done = serving.run("jobs", "--retry", published[0].job, "--collection", "poison")
    assert "1 jobs will be tried again" in done.stdout
    assert wait_for(client, [published[0].job])[0][1] == "done"
    done = serving.run("jobs", "--retry", "4711471147")
    assert done.returncode == 1
    assert "no dead job" in done.stderr


def url_of(serving):
    from trireme.local.postgres import running_url

    return running_url(serving.settings.data_dir)


def worker_of(serving):
    """The process of the worker, once there is one."""
    found = []

    def has_one():
        for child in psutil.Process(serving.process.pid).children():
            with suppress(psutil.Error):
                if "worker" in child.cmdline():
                    found.append(child)
        return found

    wait_until(has_one)
    return found[0]


def test_serve_starts_a_worker_that_died_again(serving, client):
    worker_of(serving).kill()
    wait_until(lambda: "The worker ended; starting it again" in serving.output)
    ((job, *_),) = ask(client, document_id=["after"], text=["after"], collection=["after"])
    assert wait_for(client, [job]) == [(job, "done", "")]


def end_other_connections(connection):
    """Ends all that are open now, and waits until they are gone: until then they are as they were."""
    ended = connection.execute(
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchall()
    left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    pids = [pid for pid, _ in ended]
    wait_until(lambda: connection.execute(left, (pids,)).fetchone() == (0,))


def test_a_read_only_database_stops_nothing_for_good(serving, client):
    with psycopg.connect(url_of(serving), autocommit=True) as connection:
        name = connection.info.dbname
        ((job, *_),) = ask(client, document_id=["before"], text=["before"], collection=["readonly"])
        wait_for(client, [job])
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        try:
            end_other_connections(connection)
            with pytest.raises(UnavailableError, match="read-only"):
                ask(client, document_id=["during"], text=["during"], collection=["readonly"])
            done = serving.run("jobs")
            assert done.returncode == 0, done.stderr
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        end_other_connections(connection)
    ((job, *_),) = ask(client, document_id=["after"], text=["after"], collection=["readonly"])
    assert wait_for(client, [job])[0][1] == "done"


def test_without_a_worker_what_is_published_waits_and_says_so(tmp_path, idle_stack):
    stack = idle_stack
    settings = stack.settings
    (tmp_path / "note.txt").write_text("This waits for a worker.")
    environ = environment_of(settings) | {"TRIREME_DATABASE_URL": stack.database_url, "COLUMNS": "200"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "trireme.cli", *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = run("ingest", str(tmp_path), "--collection", "waits", "--no-wait")
    assert done.returncode == 0, done.stderr
    assert "1 waiting" in done.stdout
    assert "No worker is running" in done.stdout
    done = run("ingest", str(tmp_path), "--collection", "waits", "--no-wait")
    assert "1 unchanged" in done.stdout
    done = run("worker", "--drain")
    assert done.returncode == 0, done.stderr
    assert "Indexed 1 documents, 1 passages" in done.stdout
    assert "0 waiting, 0 running, 1 done" in run("jobs", "--collection", "waits").stdout
    assert run("worker", "--drain").stdout.count("Indexed 0 documents") == 1


def test_a_worker_ends_cleanly_on_sigterm(idle_stack):
    stack = idle_stack
    environ = environment_of(stack.settings) | {"TRIREME_DATABASE_URL": stack.database_url}
    worker = subprocess.Popen(
        [sys.executable, "-m", "trireme.cli", "worker"], env=environ, stdout=subprocess.PIPE, text=True
    )
    with closing(open_queue(stack.database_url, 15)) as queue:
        wait_until(lambda: queue.find(JobQuery(limit=0)).workers == 1)
        worker.terminate()
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        assert "Indexed 0 documents" in output
        assert queue.find(JobQuery(limit=0)).workers == 0
