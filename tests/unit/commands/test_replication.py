"""`trireme replication` and what `trireme ready` says of links, over a database that is told what to say."""

from io import StringIO

import pytest
from rich.console import Console

import trireme.storage
from trireme.cli import main
from trireme.commands import models
from trireme.errors import UnavailableError
from trireme.retrieve.replication import ReplicationLink
from trireme.settings import Settings

FOLLOWS = ReplicationLink("follower", "eu", True, "following", 1200, 0.4)
FOLLOWED = ReplicationLink("home", "asia", False, "away", 7, None, 4000)


class Told:
    """A replication that notes what it is asked for."""

    def __init__(self):
        self.links, self.asked = [], []

    def read(self):
        if self.links is None:
            raise UnavailableError("the database does not answer")
        return self.links

    def follow(self, *words, **options):
        self.asked.append(("follow", words, options))

    def promote(self, *words, **options):
        self.asked.append(("promote", words, options))

    def publish(self):
        self.asked.append("publish")

    def stop(self):
        self.asked.append("stop")

    def close(self):
        pass


@pytest.fixture
def told(monkeypatch, tmp_path):
    made = Told()
    monkeypatch.setattr(trireme.storage, "open_replication", lambda url: made)
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://u:password@h/db")
    monkeypatch.chdir(tmp_path)
    return made


def test_status_is_a_line_for_each_link_and_fails_where_one_is_down(told, capsys):
    told.links = [FOLLOWS]
    assert main(["replication", "status"]) == 0
    told.links = [FOLLOWS, FOLLOWED]
    assert main(["replication", "status"]) == 1
    line = "follows eu: following, 1,200 bytes behind, heard of 0 s ago"
    other = "followed by asia: away, 7 bytes behind, never heard of, 4,000 bytes left until it is lost"
    assert capsys.readouterr().out.splitlines() == [line, line, other]
    told.links = []
    assert main(["replication", "status"]) == 0


def test_ready_says_how_links_stand_and_nothing_where_the_database_is_away(told):
    out = StringIO()
    settings = Settings(database_url="postgresql://u@h/db")
    told.links = [FOLLOWS]
    models._say_links(settings, Console(file=out, width=200))
    told.links = None
    models._say_links(settings, Console(file=out, width=200))
    assert out.getvalue() == "database: follows eu: following, 1,200 bytes behind, heard of 0 s ago\n"


def test_a_follower_has_the_regions_name_and_refuses_tenants_that_forbid_it(told, tmp_path, capsys):
    words = ["replication", "follow", "--from", "postgresql://r@h/db", "--home", "eu"]
    assert main(words) == 1
    assert "give --name, or local.region" in capsys.readouterr().err
    (tmp_path / "gateway.toml").write_text(
        '[local]\nregion = "us"\nother_regions = ["eu"]\n[tenants.a]\nforbid_regions = ["US"]\n'
        '[tenants.b]\nforbid_regions = ["eu"]\n[providers.local]\nkind = "triton"\nregion = "us"\n'
    )
    assert main(words) == 0
    ((verb, given, options),) = told.asked
    assert (verb, given) == ("follow", ("postgresql://r@h/db", "eu", "us"))
    assert options == {"forbidden": ["a"], "replaces": False, "stores_password": False}


def test_each_verb_does_what_it_is_called(told):
    for words in (["publish"], ["stop"], ["promote", "--lost"]):
        assert main(["replication", *words]) == 0
    assert told.asked == ["publish", "stop", ("promote", ("",), {"is_lost": True})]
    with pytest.raises(SystemExit):
        main(["replication", "follow", "--home", "eu"])
