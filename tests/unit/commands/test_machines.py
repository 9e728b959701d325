"""What processes note of the machine that they run on."""

import json
from dataclasses import replace

import pytest

import trireme.storage
from fakes.memory_costs import MemoryCosts
from fakes.memory_ledger import MemoryLedger
from trireme.commands.machines import beat_of, deploy_of, noted_up
from trireme.errors import NotFoundError
from trireme.settings import Settings

URL = "postgresql://u:password@h/db"


@pytest.fixture
def book(monkeypatch):
    made = MemoryCosts(MemoryLedger())
    monkeypatch.setattr(trireme.storage, "open_costs", lambda url: made)
    return made


def test_a_machine_is_called_as_the_settings_say_or_by_its_host_name():
    settings = Settings(machine_kind="gpu", machine="node-7", release="v1")
    beat = beat_of(settings)
    assert (beat.machine, beat.kind, beat.release) == ("node-7", "gpu", "v1")
    assert beat_of(replace(settings, machine="")).machine


def test_without_a_kind_nothing_is_noted_and_no_database_is_needed(tmp_path):
    assert beat_of(Settings()) is None
    with noted_up(Settings(data_dir=tmp_path)):
        pass


def test_a_machine_is_up_from_the_first_to_the_last_moment(book):
    with noted_up(Settings(machine_kind="gpu", machine="m", database_url=URL)):
        pass
    assert [(one.machine, one.kind) for one in book.kept] == [("m", "gpu")]


def test_a_machine_with_a_kind_and_no_database_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="TRIREME_DATABASE_URL"):
        with noted_up(Settings(machine_kind="gpu", data_dir=tmp_path)):
            pass


def test_a_deploy_names_the_models_that_are_built(tmp_path):
    settings = Settings(release="v1", model_repository=tmp_path / "nowhere")
    deploy = deploy_of(settings)
    assert (deploy.release, deploy.models) == ("v1", {})
    assert deploy.version
    json.dumps(deploy.models)
