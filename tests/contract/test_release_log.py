"""One suite for every ReleaseLog, the fake in memory and the real PostgreSQL."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from fakes.memory_costs import MemoryReleases
from trireme.cost.releases import MOST_NOTE, Deploy, quality_of, releases_of
from trireme.errors import InvalidInputError, NotFoundError
from trireme.storage import open_releases

MODELS = {
    "llm": {"digest": "abc", "figures": {"top-1": 0.98}, "quality": {"squad": {"before": 0.9, "after": 0.89}}}
}


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def log(request):
    if request.param == "memory":
        yield MemoryReleases(itertools.count(1).__next__)
        return
    url = request.getfixturevalue("database").url
    made = open_releases(url)
    yield made
    made.close()
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE trireme.releases DISABLE TRIGGER append_only")
        connection.execute("TRUNCATE trireme.releases")
        connection.execute("ALTER TABLE trireme.releases ENABLE TRIGGER append_only")


def deploy(name, models=MODELS):
    return Deploy(0, name, "0.1", "f" * 40, models)


def test_a_gateway_that_starts_again_is_no_new_deploy_and_a_rollback_is(log):
    done = [log.deploy(deploy(name)) for name in ("v1", "v1", "v2", "v2", "v1")]
    assert done == [True, False, True, False, True]
    entries = log.find()
    assert [one.release for one in entries] == ["v1", "v2", "v1"]
    assert [one.at for one in entries] == sorted(one.at for one in entries)
    assert entries[0].at > 0
    assert entries[0].models == MODELS


def test_models_that_were_built_anew_are_a_deploy_of_the_same_release(log):
    log.deploy(deploy("v1"))
    assert log.deploy(deploy("v1", {"llm": {"digest": "def"}}))
    (info,) = releases_of(log.find())
    assert info.models == {"llm": {"digest": "def"}}
    assert len(info.deployed) == 2


def test_a_note_is_of_the_last_deploy_or_of_the_one_that_is_named(log):
    log.deploy(deploy("v1"))
    log.deploy(deploy("v2"))
    assert log.note("", "  faster ").release == "v2"
    assert log.note("v1", "slow").note == "slow"
    second, first = releases_of(log.find())
    assert [note.note for note in second.notes] == ["faster"]
    assert [note.note for note in first.notes] == ["slow"]
    # A note is no deploy.
    assert log.deploy(deploy("v2")) is False


@pytest.mark.parametrize("name", ["", "v9"])
def test_a_note_of_what_was_never_deployed_is_refused(log, name):
    if name:
        log.deploy(deploy("v1"))
    with pytest.raises(NotFoundError):
        log.note(name, "text")
    assert [one.note for one in log.find() if one.note] == []


@pytest.mark.parametrize("text", ["", "  ", "a" * (MOST_NOTE + 1), "a\x00b"])
def test_a_note_has_some_text_and_not_too_much(log, text):
    log.deploy(deploy("v1"))
    with pytest.raises(InvalidInputError) as caught:
        log.note("", text)
    assert caught.value.param == "note"


def test_gateways_that_start_at_once_note_one_deploy(log):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: log.deploy(deploy("v1")), range(8)))
    assert sum(done) == 1


def test_the_quality_of_a_release_is_what_its_models_manifests_say(log):
    log.deploy(deploy("v1"))
    (info,) = releases_of(log.find())
    assert quality_of(info) == {"llm: top-1": 0.98, "llm: nDCG@10 squad": 0.89}


def test_a_model_without_a_figure_after_it_was_built_has_none():
    entries = [Deploy(1, "v1", models={"llm": {"quality": {"squad": {"before": 0.9}}}, "rag": {}})]
    assert quality_of(releases_of(entries)[0]) == {}
