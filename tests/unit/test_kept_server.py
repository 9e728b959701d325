"""The keeper over servers that a person can predict: when it starts one again, and when it gives up."""

import dataclasses
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from trireme import kept_server
from trireme.artifacts.recipe import Recipe, write_recipe
from trireme.errors import SettingError, UnavailableError
from trireme.kept_server import KeeperTiming, KeptServer
from trireme.machine import CoreShare, read_machine
from trireme.settings import Settings


class Server:
    """A tritonserver that does what the test says."""

    made: list["Server"] = []
    refuse: list[Exception] = []
    starts_ready = True

    def __init__(self, config, environ):
        if Server.refuse:
            raise Server.refuse.pop()
        self.config, self.environ = config, environ
        self.running, self.ready, self.was_ended = True, Server.starts_ready, False
        self.pid = os.getpid()
        Server.made.append(self)

    def is_running(self):
        return self.running

    def is_ready(self):
        return self.ready

    def was_killed(self):
        return False

    def wait_until_ready(self):
        pass

    def kill(self):
        self.was_ended = True

    stop = kill

    def has_started(self):
        if not self.running:
            raise UnavailableError("tritonserver stopped while starting: no weights")
        return self.ready


class Stubs:
    """The stubs of the last server."""

    gone: list[str] = []
    bytes = 1_000_000_000

    def resident_bytes(self):
        return Stubs.bytes

    def __init__(self, pid):
        self.stubs = (SimpleNamespace(model="embedding"),)

    def ended(self):
        return Stubs.gone


class Canary:
    """The models that hang."""

    hung: list[str] = []

    def __init__(self, settings, models, timing):
        assert models == ["embedding"]

    def close(self):
        pass


def settings_of(data_dir, **changes):
    """Ports that nobody serves: those of a `make serve` beside the tests stay free of them."""
    ports = {"http_port": 1, "grpc_port": 2, "metrics_port": 3}
    return Settings(**{"data_dir": data_dir, "model_repository": data_dir / "models", **ports, **changes})


class Clock:
    """Time that passes only where the test says so."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def pass_pause(self):
        """So long that a server may be started again."""
        self.now += KeeperTiming().pause


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def changes():
    """Settings that are not the default ones."""
    return {}


@pytest.fixture
def kept(tmp_path, monkeypatch, clock, changes):
    Server.made, Server.refuse, Server.starts_ready, Stubs.gone, Canary.hung = [], [], True, [], []
    Stubs.bytes = 1_000_000_000
    monkeypatch.setattr(kept_server, "TritonServer", Server)
    monkeypatch.setattr(kept_server, "StubTable", Stubs)
    monkeypatch.setattr(kept_server, "_CanaryThread", Canary)
    (tmp_path / "logs").mkdir()
    (tmp_path / "models").mkdir(exist_ok=True)
    keeper = KeptServer(settings_of(tmp_path, **changes), clock=clock, sleep=clock.sleep)
    keeper.claim()
    keeper.start("postgresql://x")
    yield keeper
    keeper.stop()


def look_after(keeper):
    said = []
    keeper.look_after(said.append)
    return said


def test_a_server_that_serves_is_left_alone(kept):
    assert look_after(kept) == []
    assert len(Server.made) == 1


@pytest.fixture
def sixteen_cores(monkeypatch, tmp_path):
    recipe = Recipe("embedding", "text_encoder", source="x/y", instances=0)
    (tmp_path / "models" / "embedding").mkdir(parents=True)
    write_recipe(tmp_path / "models" / "embedding" / "recipe.toml", recipe)
    machine = dataclasses.replace(read_machine(), cores=16)
    monkeypatch.setattr(kept_server, "read_machine", lambda: machine)


def test_the_server_is_started_with_the_configurations_of_the_machine(sixteen_cores, kept):
    assert Server.made[0].config.config_name == "machine"


def test_a_recipe_that_is_being_edited_does_not_keep_the_server_from_a_start_again(
    sixteen_cores, kept, tmp_path
):
    (tmp_path / "models" / "embedding" / "recipe.toml").write_text("kind = ")
    Stubs.gone = ["embedding"]
    look_after(kept)
    assert [one.config.config_name for one in Server.made] == ["machine", "machine"]


def test_a_server_whose_stub_ended_is_replaced_at_once_and_the_model_is_named(kept):
    Stubs.gone = ["embedding", "rag"]
    (said,) = look_after(kept)
    assert said.startswith("The process of model embedding, rag ended; starting tritonserver again.")
    first, second = Server.made
    assert first.was_ended
    assert kept.server is second


def test_a_model_that_hangs_costs_the_server_and_is_named(kept):
    Canary.hung = ["search__sort"]
    (said,) = look_after(kept)
    assert said.startswith("Model search__sort has not answered for 30 s; starting tritonserver again.")


PAGE = """nv_inference_request_success{model="embedding",version="1"} %d
nv_inference_pending_request_count{model="embedding",version="1"} %d
"""


def test_a_server_that_has_grown_is_started_again_once_it_is_quiet(kept, clock, monkeypatch):
    pages = iter([(1, 0), (2, 0), (2, 1), (2, 0), (2, 0)])
    monkeypatch.setattr(kept_server, "read_metrics", lambda *_: PAGE % next(pages))
    assert look_after(kept) == []
    Stubs.bytes += Settings().server_growth_bytes + 1
    # Its counters are read for the first time, move, then a request waits.
    assert [look_after(kept) for _ in range(3)] == [[], [], []]
    # It is quiet for the first time, and then for long enough.
    assert look_after(kept) == []
    clock.now += KeeperTiming().quiet + 1
    said = look_after(kept)
    assert said[0].startswith("tritonserver has grown by 2.1 GB; starting tritonserver again.")


@pytest.mark.parametrize("changes", [{"server_growth_bytes": 0}])
def test_growth_is_nobodys_concern_where_the_setting_is_zero(kept):
    Stubs.bytes *= 100
    assert look_after(kept) == []


@pytest.mark.parametrize("changes", [{"warm_up": "on"}, {"warm_up": "off"}], ids=["on", "off"])
def test_a_server_is_told_whether_its_models_warm_up(kept, changes):
    assert Server.made[-1].environ["TRIREME_WARM_UP"] == changes["warm_up"]


def test_each_server_knows_how_often_it_was_started_again(kept):
    kept.server.running = False
    look_after(kept)
    look_after(kept)
    kept.server.running = False
    look_after(kept)
    assert [server.environ["TRIREME_SERVER_RESTARTS"] for server in Server.made] == ["0", "1", "2"]
    assert kept.restarts == 2


def test_the_last_log_of_a_server_that_ended_is_kept(kept, tmp_path):
    log = tmp_path / "logs" / "tritonserver.log"
    log.write_text("Signal (6) received.")
    kept.server.running = False
    (said,) = look_after(kept)
    assert "tritonserver.previous.log" in said
    assert log.with_name("tritonserver.previous.log").read_text() == "Signal (6) received."


def test_one_that_was_ready_once_is_started_again_for_ever_but_not_at_once(kept, clock):
    Server.starts_ready = False
    kept.server.running = False
    for _ in range(3):
        look_after(kept)
        kept.server.running = False
    # The first goes at once, the next one after a pause.
    assert len(Server.made) - 1 < 3
    for _ in range(20):
        clock.pass_pause()
        look_after(kept)
        kept.server.running = False
    assert len(Server.made) > 20


def test_one_that_never_was_ready_is_given_up(kept, clock):
    kept._was_ever_ready = kept._was_ready = False
    Server.starts_ready = False
    with pytest.raises(UnavailableError, match="tritonserver stopped; its log is"):
        for _ in range(10):
            clock.pass_pause()
            kept.server.running = False
            look_after(kept)
    assert len(Server.made) <= 1 + kept_server.MOST_FALSE_STARTS


def test_ports_that_are_not_free_yet_are_tried_again(kept):
    kept.server.running = False
    Server.refuse = [SettingError("cannot listen")]
    assert look_after(kept) == []
    (said,) = look_after(kept)
    assert said.startswith("tritonserver ended")


def test_ports_that_stay_taken_end_it(kept, clock):
    kept.server.running = False
    Server.refuse = [SettingError("cannot listen") for _ in range(3)]
    assert look_after(kept) == []
    clock.now += KeeperTiming().port
    assert look_after(kept) == []
    clock.now += 1
    with pytest.raises(SettingError, match="cannot listen"):
        look_after(kept)


def test_a_full_disk_keeps_it_trying(kept):
    kept.server.running = False
    Server.refuse = [OSError(28, "No space left on device")]
    assert look_after(kept) == []
    assert len(look_after(kept)) == 1


def test_a_second_keeper_of_one_data_directory_is_refused(kept, tmp_path):
    with pytest.raises(SettingError, match=r"runs already .*TRIREME_DATA_DIR.*TRIREME_HTTP_PORT"):
        KeptServer(settings_of(tmp_path)).claim()
    kept.stop()
    again = KeptServer(settings_of(tmp_path))
    again.claim()
    again.stop()


def test_a_port_that_another_keeper_has_is_named_though_nothing_listens_yet(kept, tmp_path):
    other = KeptServer(settings_of(tmp_path / "other", http_port=4, metrics_port=5))
    with pytest.raises(SettingError, match="port 2; set TRIREME_GRPC_PORT"):
        other.claim()
    other.stop()
    kept.stop()
    other.claim()
    other.stop()


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="TRIREME_DATA_DIR"):
        KeptServer(Settings(data_dir=tmp_path / "file" / "data")).claim()


def test_the_process_id_is_written_down_while_a_server_runs(kept, tmp_path):
    note: Path = tmp_path / "tritonserver.pid"
    assert note.read_text() == str(os.getpid())
    kept.stop()
    assert not note.exists()


def test_what_is_withheld_does_not_reach_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_server, "TritonServer", Server)
    monkeypatch.setattr(kept_server, "StubTable", Stubs)
    monkeypatch.setattr(kept_server, "_CanaryThread", Canary)
    monkeypatch.setenv("PROVIDER_KEY", "canary")
    monkeypatch.setenv("ANOTHER", "kept")
    keeper = KeptServer(settings_of(tmp_path), withheld={"PROVIDER_KEY"})
    keeper.claim()
    try:
        keeper.start("postgresql://x")
        assert "PROVIDER_KEY" not in Server.made[-1].environ
        assert Server.made[-1].environ["ANOTHER"] == "kept"
    finally:
        keeper.stop()


def test_a_server_that_is_started_anew_is_ended_first_and_seen_ready(kept):
    (first,) = Server.made
    Server.starts_ready = False
    assert kept.is_ready()
    kept.start_anew()
    second = Server.made[-1]
    assert first.was_ended
    assert second.environ["TRIREME_SERVER_RESTARTS"] == "1"
    assert not kept.is_ready()
    assert not kept.has_come_back()
    second.ready = True
    assert kept.has_come_back()
    assert kept.is_ready()
    assert look_after(kept) == []
    assert len(Server.made) == 2


def test_a_server_that_does_not_come_back_says_why_and_is_tried_again(kept):
    Server.starts_ready = False
    kept.start_anew()
    Server.made[-1].running = False
    with pytest.raises(UnavailableError, match="no weights"):
        kept.has_come_back()
    assert look_after(kept)[0].startswith("tritonserver ended; starting tritonserver again.")
    assert len(Server.made) == 3


def test_ports_that_the_old_server_has_for_a_moment_longer_are_waited_for(kept, clock):
    Server.refuse = [SettingError("port in use")] * 20
    kept.start_anew()
    assert len(Server.made) == 2
    assert 0 < clock.now < KeeperTiming().port


def test_a_server_that_cannot_be_started_anew_now_is_tried_again(kept):
    # For longer than its ports are waited for.
    Server.refuse = [SettingError("port in use")] * 302
    with pytest.raises(SettingError, match="port in use"):
        kept.start_anew()
    Server.made[-1].running = False
    Server.refuse = []
    look_after(kept)
    assert len(Server.made) == 2


def test_a_server_keeps_to_its_share_of_the_cores(tmp_path, monkeypatch, sixteen_cores):
    monkeypatch.setattr(kept_server, "TritonServer", Server)
    monkeypatch.setattr(kept_server, "StubTable", Stubs)
    monkeypatch.setattr(kept_server, "_CanaryThread", Canary)
    keeper = KeptServer(settings_of(tmp_path), cores=CoreShare((4, 5), 2))
    keeper.start("postgresql://x")
    try:
        assert Server.made[-1].config.cores == (4, 5)
        # Two cores pay for one instance.
        assert Server.made[-1].config.config_name == ""
    finally:
        keeper.stop()


class Silent:
    """A canary whose server stands still, or refuses."""

    def __init__(self, address):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def silent(self, models, seconds):
        Silent.clock.now += Silent.takes
        Silent.asked += 1
        return list(models)


@pytest.mark.parametrize(("takes", "hung"), [(30.0, ["embedding", "llm"]), (0.0, [])])
def test_a_server_that_stands_still_hangs_and_one_that_is_gone_does_not(
    monkeypatch, tmp_path, clock, takes, hung
):
    Silent.clock, Silent.takes, Silent.asked = clock, takes, 0
    monkeypatch.setattr(kept_server, "Canary", Silent)
    monkeypatch.setattr(kept_server, "monotonic", clock)
    # Nothing listens at these ports, so there are no metrics either.
    thread = kept_server._CanaryThread(
        settings_of(tmp_path), ["embedding", "llm"], KeeperTiming(canary=0.001)
    )
    deadline = time.monotonic() + 60
    while Silent.asked < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.close()
    assert Silent.asked >= 2
    assert thread.hung == hung
