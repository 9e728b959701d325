"""A collection changes its embedder under running searches, on the real server and PostgreSQL."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial

import pytest
from rich.console import Console
from stacks import ROOT, environment_of, settings_on_free_ports, try_until, wait_until

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import read_manifest, write_manifest
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.errors import TriremeError
from trireme.indexing import ingest_path
from trireme.stack import Stack
from trireme.storage import open_store
from trireme.triton.client import TritonClient
from trireme.types import StoreQuery

SERVED = ("embedding", "search__retrieve", "retriever", "reranker", "search__sort", "search")
# Two embedders of other vectors: one that knows its texts by a prompt, one that sees hardly a word of them.
SECOND, BLIND = "second", "blind"
CHANGES = {
    SECOND: {"query_prompt": "a question: ", "passage_prompt": "a passage of a handbook: "},
    BLIND: {"max_length": 3},
}
HANDBOOK = ("answers", "batching", "errors", "ingestion", "reindexing", "reranking", "settings", "tuning")
# Copies of it that take longer to embed than three runs live, mostly, that are killed once they have begun: seconds
# of embedding, and copies at most and at least. A busy machine without AVX-512 VNNI takes tens of seconds for one.
EMBED_SECONDS, MOST_COPIES, LEAST_COPIES = 30.0, 24, 3
QUESTION = "what does the dynamic batcher wait for?"


def place_embedder(repository, name):
    """The default embedder with something changed that changes its vectors, and so its digest."""
    shutil.copytree(ROOT / "model_repository" / "embedding", repository / name)
    version = repository / name / "1"
    write_manifest(version, dataclasses.replace(read_manifest(version), model=name, **CHANGES[name]))
    place_config(repository / name, read_recipe(repository / name / RECIPE_FILE))


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name in SERVED:
        (repository / name).symlink_to(ROOT / "model_repository" / name)
    for name in CHANGES:
        place_embedder(repository, name)
    with Stack(
        settings_on_free_ports(tmp_path_factory.mktemp("data"), model_repository=repository)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def handbook(tmp_path_factory):
    """Some hundred passages."""
    folder = tmp_path_factory.mktemp("handbook")
    for page in HANDBOOK:
        shutil.copy(ROOT / "docs" / f"{page}.md", folder)
    return folder


@pytest.fixture
def settings(stack, handbook, request, quiet_console):
    """A collection of its own, with the handbook in it."""
    own = dataclasses.replace(stack.settings, collection=request.node.name[:60])
    ingest_path(own, handbook, stack.database_url, quiet_console)
    return own


@pytest.fixture(scope="module")
def unchanged(stack, handbook):
    """A collection with the handbook, for tests that change nothing in it."""
    own = dataclasses.replace(stack.settings, collection="unchanged")
    ingest_path(own, handbook, stack.database_url, Console(quiet=True))
    return own


@pytest.fixture
def client(settings):
    with TritonClient(settings.grpc_url) as opened:
        yield opened


def command(*arguments):
    return [sys.executable, "-m", "trireme.cli", "reindex", *arguments]


def run(settings, *arguments):
    environ = environment_of(settings) | {"COLUMNS": "200"}
    done = subprocess.run(command(*arguments), env=environ, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done


def versions(stack, settings):
    with closing(open_store(stack.database_url)) as store:
        infos = [
            info for info in store.collections(settings.tenant) if info.collection == settings.collection
        ]
    return {version.state: version for version in infos[0].versions}, infos[0].passages


def find(client, settings, query=QUESTION):
    return client.search(query, 5, collection=settings.collection)


def retrieve(client, settings, query=QUESTION):
    """Ids and cosines of the retriever alone, as a client that embeds with the model it knows asks."""
    vector = client.embed([query], "query")
    inputs = {"embedding": vector.tolist(), "query": [[query]], "collection": [[settings.collection]]}
    outputs = client.infer("retriever", inputs)
    return [identity.decode() for identity in outputs["id"][0]], outputs["score"][0].tolist()


def cosines_of(client, model, query, texts):
    asked = client.embed([query], "query", model)[0]
    return [float(asked @ vector) for vector in client.embed(texts, "passage", model)]


def test_searches_answer_from_the_old_version_until_the_switch_and_from_the_new_one_after_it(
    stack, settings, client
):
    before = find(client, settings)
    done = run(settings, "--embedding", SECOND)
    assert done.returncode == 0, done.stderr
    assert "is searched by 'second' now" in done.stdout
    found, passages = versions(stack, settings)
    assert (found["active"].model, found["active"].vectors) == (SECOND, passages)
    after = find(client, settings)
    assert (
        json.loads(after[0].metadata)["source"] == json.loads(before[0].metadata)["source"] == "batching.md"
    )
    ids, scores = retrieve(client, settings)
    texts = {hit.id: hit.text for hit in client.search(QUESTION, 100, collection=settings.collection)}
    known = [
        (score, texts[identity]) for identity, score in zip(ids, scores, strict=True) if identity in texts
    ]
    assert len(known) >= 5
    expected = cosines_of(client, SECOND, QUESTION, [text for _, text in known])
    assert [score for score, _ in known] == pytest.approx(expected, abs=0.02)
    done = run(settings, "--rollback")
    assert done.returncode == 0, done.stderr
    assert "is searched by 'embedding' again" in done.stdout
    assert [hit.id for hit in find(client, settings)] == [hit.id for hit in before]
    # And forward again: nothing is left to embed.
    assert run(settings, "--rollback").returncode == 0
    assert versions(stack, settings)[0]["active"].model == SECOND


def test_no_search_during_reindex_and_rollback_fails_or_mixes_versions(stack, handbook, quiet_console):
    """Each answer's cosines are those of one embedder, whichever. Few passages: searches make the reindex slow."""
    settings = dataclasses.replace(stack.settings, collection="few")
    ingest_path(settings, handbook / "reranking.md", stack.database_url, quiet_console)
    answers, errors, ended = [], [], threading.Event()

    def ask():
        with TritonClient(settings.grpc_url) as own:
            while not ended.is_set():
                try:
                    answers.append(retrieve(own, settings))
                except TriremeError as error:
                    errors.append(error)
                time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for arguments in (("--embedding", SECOND, "--force"), ("--rollback",), ("--rollback",)):
            done = run(settings, *arguments)
            assert done.returncode == 0, done.stderr
            count = len(answers)
            # The first of them may have begun before.
            wait_until(lambda count=count: errors or len(answers) > count + 1)
    finally:
        ended.set()
        asking.join()
    assert errors == []
    distinct = {tuple(round(score, 3) for score in scores) for _, scores in answers}
    assert len(distinct) == 2
    assert len(answers) > 20


def test_a_run_that_is_killed_leaves_searches_as_they_were_and_goes_on_where_it_was(
    stack, settings, client, handbook, tmp_path
):
    shutil.copytree(handbook, tmp_path / "0")
    began = time.monotonic()
    ingest_path(settings, tmp_path, stack.database_url, Console(quiet=True))
    wanted = EMBED_SECONDS / (time.monotonic() - began)
    for copy in range(1, max(LEAST_COPIES, min(MOST_COPIES, round(wanted)))):
        shutil.copytree(handbook, tmp_path / str(copy))
    ingest_path(settings, tmp_path, stack.database_url, Console(quiet=True))
    before = find(client, settings)

    def is_ended_amid(number):
        """Whether the signal came before the run had embedded all; if not, all is as if it had not begun."""
        known = versions(stack, settings)[0].get("building")
        start = known.vectors if known else 0
        process = subprocess.Popen(
            command("--embedding", SECOND, "--force"), env=environment_of(settings), stdout=subprocess.DEVNULL
        )

        def has_grown():
            building = versions(stack, settings)[0].get("building")
            return process.poll() is not None or (building is not None and building.vectors > start)

        wait_until(has_grown)
        process.send_signal(number)
        code = process.wait(120)
        found, passages = versions(stack, settings)
        if code == 0:
            assert run(settings, "--rollback").returncode == 0
        if code == 0 or found["building"].vectors == passages:
            assert run(settings, "--drop").returncode == 0
            return False
        assert code == (130 if number != signal.SIGKILL else -signal.SIGKILL)
        assert found["active"].model in {"embedding", ""}
        assert 0 < found["building"].vectors < passages
        assert [hit.id for hit in find(client, settings)] == [hit.id for hit in before]
        return True

    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        try_until(partial(is_ended_amid, number), "each run was done before the signal")
    done = run(settings, "--embedding", SECOND, "--force")
    assert done.returncode == 0, done.stderr
    found, passages = versions(stack, settings)
    assert (found["active"].model, found["active"].vectors) == (SECOND, passages)


def test_documents_that_are_ingested_during_the_reindex_and_after_it_are_found_in_every_version(
    stack, settings, client, tmp_path, quiet_console
):
    process = subprocess.Popen(
        command("--embedding", SECOND, "--force"), env=environment_of(settings), stdout=subprocess.DEVNULL
    )
    wait_until(lambda: "building" in versions(stack, settings)[0] or process.poll() is not None)
    (tmp_path / "during.txt").write_text("The harbour master keeps the keys of the boathouse.")
    ingest_path(settings, tmp_path, stack.database_url, quiet_console)
    assert process.wait(300) == 0
    assert "during.txt" in {
        json.loads(hit.metadata)["source"] for hit in find(client, settings, "boathouse keys")
    }
    (tmp_path / "after.txt").write_text("Sails are mended by the sailmaker in the loft.")
    ingest_path(settings, tmp_path, stack.database_url, quiet_console)
    found, passages = versions(stack, settings)
    assert (found["active"].model, found["active"].vectors) == (SECOND, passages)
    assert "after.txt" in {
        json.loads(hit.metadata)["source"] for hit in find(client, settings, "mended sails")
    }
    done = run(settings, "--rollback")
    assert done.returncode == 0, done.stderr
    found, passages = versions(stack, settings)
    assert found["active"].vectors == passages
    assert "after.txt" in {
        json.loads(hit.metadata)["source"] for hit in find(client, settings, "mended sails")
    }


def test_an_embedder_that_finds_less_is_refused_with_the_figures_and_can_be_dropped(stack, settings, client):
    before = find(client, settings)
    done = run(settings, "--embedding", BLIND)
    assert done.returncode == 1
    assert "nothing was switched" in done.stderr
    assert "MRR@10" in done.stderr
    assert [hit.id for hit in find(client, settings)] == [hit.id for hit in before]
    status = run(settings, "--status")
    assert "building" in status.stdout
    assert BLIND in status.stdout
    done = run(settings, "--drop")
    assert done.returncode == 0, done.stderr
    assert set(versions(stack, settings)[0]) == {"active"}


def test_judged_queries_decide_where_they_are_given(stack, settings, tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": QUESTION}))
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tbatching.md\t1\n")
    done = run(settings, "--embedding", SECOND, "--queries", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"1 queries of {tmp_path.name}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--embedding", "unheard-of"], "unheard-of"),
        (["--embedding", "embedding"], "has vectors of this embedder already"),
        (["--embedding", "reranker"], "is a cross_encoder"),
        (["--embedding", "../embedding"], "not the name of a model"),
        (["--embedding", SECOND, "--tolerance", "7"], "--tolerance"),
        (["--embedding", SECOND, "--queries", "/nowhere"], "qrels"),
        (["--rollback"], "nothing to go back to"),
        (["--drop"], "no version but"),
        (["--status", "--collection", "unheard-of"], "unheard-of"),
    ],
)
def test_what_cannot_be_done_is_named_and_changes_nothing(stack, unchanged, arguments, reason):
    before = versions(stack, unchanged)
    assert set(before[0]) == {"active"}
    done = run(unchanged, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert versions(stack, unchanged) == before


def test_a_version_has_the_vectors_of_its_own_embedder_to_the_letter(stack, settings, client):
    run(settings, "--embedding", BLIND)
    version = versions(stack, settings)[0]["building"]
    asked = client.embed([QUESTION], "query", BLIND)[0]
    query = StoreQuery(
        asked, version.embedder, 20, settings.tenant, settings.collection, version=version.number
    )
    with closing(open_store(stack.database_url)) as store:
        hits = store.search(query)
    expected = cosines_of(client, BLIND, QUESTION, [hit.text for hit in hits])
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=0.02)
