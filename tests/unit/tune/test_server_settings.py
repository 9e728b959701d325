import pytest

from fakes.repositories import make_repository, read_files
from trireme.artifacts.config_writer import config_files
from trireme.artifacts.recipe import Recipe, read_recipe
from trireme.artifacts.repository import list_recipes
from trireme.errors import UnavailableError
from trireme.settings import Settings
from trireme.tune import server_settings as served
from trireme.tune.perf_analyzer import PerfFigures
from trireme.tune.server_settings import ServedMeasurer, ServedModels, find_needed
from trireme.tune.setting import make_space
from trireme.tune.workload import Workload


class FakeServer:
    """Remembers which configurations were there when it was started."""

    started, running = [], 0

    def __init__(self, config, environ):
        self.config, self.environ = config, environ
        path = config.model_repository / "embedding" / "config.pbtxt"
        FakeServer.started.append((config, environ, path.read_text()))

    def __enter__(self):
        FakeServer.running += 1
        return self

    def __exit__(self, *_):
        FakeServer.running -= 1

    def wait_until_ready(self):
        if "count: 4" in FakeServer.started[-1][2]:
            raise UnavailableError("out of memory")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A measurer over made-up models whose server and perf_analyzer are fakes, and the runs asked for."""
    repository = make_repository(tmp_path / "models")
    recipe = read_recipe(repository / "embedding" / "recipe.toml")
    workload = Workload("w", tmp_path / "w.json", "d", 5, shapes=("text:1",))
    runs = []

    def measure(tool, run, timeout_s):
        runs.append((run, timeout_s))
        return PerfFigures("embedding", run.concurrency, run.requests, 3, 100.0, 9.0, 19.0, 29.0, 0.1)

    monkeypatch.setattr(served, "measure", measure)
    monkeypatch.setattr(served, "TritonServer", FakeServer)
    FakeServer.started, FakeServer.running = [], 0
    folder = tmp_path / "scratch"
    measurer = ServedMeasurer(
        ServedModels(recipe, (recipe,), repository, workload),
        Settings(database_url="x", data_dir=tmp_path / "data"),
        None,
        folder,
    )
    return measurer, make_space([recipe], 8, 50.0).start, runs, repository


def test_a_setting_is_served_from_a_copy_without_a_cache(parts):
    measurer, start, _, repository = parts
    log_folder = repository.parent / "data" / "logs"
    before = read_files(repository)
    with measurer:
        point = measurer.measure(start.change({"embedding.threads": 2}), 4, 1.0, 0)
        config, _, text = FakeServer.started[0]
        copied = config.model_repository / "embedding"
        assert (copied / "1").resolve() == repository / "embedding" / "1"
        recipe = read_recipe(copied / "recipe.toml")
        assert recipe.threads == 2 and not recipe.response_cache
        assert text.encode() == config_files(recipe)["config.pbtxt"]
    assert (point.concurrency, point.requests_per_s, point.p95_ms) == (4, 100.0, 19.0)
    assert read_files(repository) == before
    assert FakeServer.running == 0
    assert len({config.http_port, config.grpc_port, config.metrics_port, 8000, 8001, 8002}) == 6
    assert config.response_cache_bytes == 0
    assert config.log_file.parent == log_folder.resolve()


def test_a_run_lasts_three_windows_at_the_rate_of_a_first_short_one(parts):
    measurer, start, runs, _ = parts
    with measurer:
        measurer.measure(start, 4, 2.0, 0)
        measurer.measure(start, 8, 2.0, 0)
    probe, first, second = [run for run, _ in runs]
    assert probe.requests < 20
    assert first.requests == 3 * 2 * 100 + 4
    assert second.requests == 3 * 2 * 100 + 8
    assert (first.model, first.concurrency, first.shapes) == ("embedding", 4, ("text:1",))
    assert all(timeout_s >= 60 for _, timeout_s in runs)


def test_only_another_setting_starts_another_server(parts):
    measurer, start, _, _ = parts
    other = start.change({"embedding.instances": 2})
    with measurer:
        for setting in (start, start, other, start):
            measurer.measure(setting, 1, 0.1, 0)
            assert FakeServer.running == 1
    assert len(FakeServer.started) == 3


def test_a_setting_that_does_not_start_leaves_no_server_and_the_next_one_is_served(parts):
    measurer, start, _, _ = parts
    with measurer:
        with pytest.raises(UnavailableError, match="out of memory"):
            measurer.measure(start.change({"embedding.instances": 4}), 1, 0.1, 0)
        measurer.measure(start, 1, 0.1, 0)
        assert FakeServer.running == 1
    assert FakeServer.running == 0


def test_a_chain_has_one_database_whose_passages_are_indexed_once(tmp_path, monkeypatch):
    class FakeStack:
        database_url, calls = "postgresql://own", []

        def __init__(self, settings):
            assert settings.database_url == ""
            assert (settings.tenant, settings.collection) == ("default", "default")

        def start_database(self):
            self.calls.append("start")

        def stop(self):
            self.calls.append("stop")

    recipes = tuple(list_recipes(make_repository(tmp_path / "models")))
    target = next(recipe for recipe in recipes if recipe.model == "search")
    tuned = [recipe for recipe in recipes if recipe.model in ("embedding", "reranker")]
    workload = Workload("w", tmp_path / "w.json", "d", 5, corpus=tmp_path / "corpus.jsonl")
    indexed = []
    monkeypatch.setattr(served, "Stack", FakeStack)
    monkeypatch.setattr(served, "ingest_path", lambda *arguments: indexed.append(arguments))
    monkeypatch.setattr(served, "TritonServer", FakeServer)
    figures = PerfFigures("search", 1, 8, 3, 10.0, 9.0, 19.0, 29.0, 0.1)
    monkeypatch.setattr(served, "measure", lambda *_, **__: figures)
    FakeServer.started, FakeServer.running = [], 0
    models = ServedModels(target, recipes, tmp_path / "models", workload)
    user = Settings(database_url="postgresql://theirs", tenant="them", collection="theirs")
    start = make_space(tuned, 8, 50.0).start
    with ServedMeasurer(models, user, None, tmp_path / "scratch") as measurer:
        measurer.measure(start, 1, 0.1, 0)
        measurer.measure(start.change({"reranker.instances": 2}), 1, 0.1, 0)
    assert FakeStack.calls == ["start", "stop"]
    assert [(path, url, model) for _, path, url, _, model in indexed] == [
        (workload.corpus, "postgresql://own", "embedding")
    ]
    assert [environ["TRIREME_DATABASE_URL"] for _, environ, _ in FakeServer.started] == [
        "postgresql://own"
    ] * 2


def test_a_model_is_served_with_all_that_it_names(tmp_path):
    recipes = list_recipes(make_repository(tmp_path))
    known = {recipe.model: recipe for recipe in recipes}

    def needed(model):
        return {recipe.model for recipe in find_needed(known[model], recipes)}

    assert needed("embedding") == {"embedding"}
    assert needed("reranker") == {"reranker", "embedding"}
    assert needed("search") == set(known)


def test_a_named_model_that_is_not_there_is_named():
    recipe = Recipe("r", "cross_encoder", source="a/b", embedder="gone")
    with pytest.raises(UnavailableError, match="r needs the model 'gone'"):
        find_needed(recipe, [recipe])
