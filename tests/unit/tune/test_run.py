import pytest
from rich.console import Console

from fakes.repositories import make_repository, read_files
from fakes.surface import Surface
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import read_recipe
from trireme.errors import ArtifactError, NotFoundError, UnavailableError, UnsupportedError
from trireme.machine import Machine
from trireme.settings import Settings
from trireme.tune import run
from trireme.tune.placing import place_changes
from trireme.tune.run import TuneOptions, list_concurrencies, tune

MACHINE = Machine("a CPU", 8, ("avx2",), 16.0, "Linux")
TOP = {"embedding.instances": 4, "embedding.max_batch_tokens": 8192}
QUIET = Console(quiet=True)


class FakeServed:
    """Stands where the servers are; keeps what it was asked to serve."""

    def __init__(self, surface):
        self.surface, self.models, self.is_open = surface, None, False
        self.measure = surface.measure

    def __call__(self, models, settings, tool, folder):
        self.models = models
        return self

    def __enter__(self):
        self.is_open = True
        return self

    def __exit__(self, *_):
        self.is_open = False


@pytest.fixture
def settings(tmp_path):
    make_repository(tmp_path / "models")
    return Settings(data_dir=tmp_path / "data", model_repository=tmp_path / "models")


@pytest.fixture
def options(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    paragraphs = [
        f"Paragraph {i} says how long a rower may row before a rest, by the hour." for i in range(30)
    ]
    (texts / "page.md").write_text("\n\n".join(paragraphs))
    return TuneOptions("embedding", 50.0, texts, command="python build/tune.py embedding")


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(run, "prepare_tool", lambda _: None)
    monkeypatch.setattr(run, "read_machine", lambda: MACHINE)

    def with_surface(surface):
        served = FakeServed(surface)
        monkeypatch.setattr(run, "ServedMeasurer", served)
        return served

    return with_surface


def changed(options, **changes):
    from dataclasses import replace

    return replace(options, **changes)


def test_the_best_setting_and_its_evidence_are_planned_and_nothing_is_written(settings, options, serve):
    served = serve(Surface(TOP))
    before = read_files(settings.model_repository)
    result = tune(options, settings, QUIET)
    assert read_files(settings.model_repository) == before
    assert not served.is_open
    assert [recipe.model for recipe in served.models.recipes] == ["embedding"]
    place_changes(settings.model_repository, result.changes)
    recipe = read_recipe(settings.model_repository / "embedding" / "recipe.toml")
    assert (recipe.instances, recipe.max_batch_tokens, recipe.max_batch_size) == (4, 8192, 64)
    tuning = read_manifest(settings.model_repository / "embedding" / "1").tuning
    assert tuning.before["instances"] == 1 and tuning.after["instances"] == 4
    assert tuning.gain > tuning.noise
    assert tuning.slo_p95_ms == 50.0 and tuning.p95_ms <= 50.0
    assert "a CPU, 8 cores, avx2" in tuning.machine
    assert len(tuning.tried) > 10 and tuning.tried[0].rounds == 4
    assert tuning.workload == "texts, seed 1"


def test_the_best_setting_once_written_stays(settings, options, serve):
    serve(Surface(TOP))
    place_changes(settings.model_repository, tune(options, settings, QUIET).changes)
    result = tune(options, settings, QUIET)
    assert result.report.outcome.winner is result.report.outcome.present
    assert [change.name for change in result.changes] == ["embedding/1/manifest.json"]


def test_a_second_run_answers_from_the_journal(settings, options, serve):
    serve(Surface(TOP))
    first = tune(options, settings, QUIET)
    served = serve(Surface(TOP))
    again = tune(options, settings, QUIET)
    assert served.surface.calls == []
    assert again.reused > 10
    assert again.report.outcome == first.report.outcome


@pytest.mark.parametrize("change", [{"seed": 2}, {"window_s": 2.0}])
def test_another_workload_or_window_is_measured_again(change, settings, options, serve):
    serve(Surface(TOP))
    tune(options, settings, QUIET)
    served = serve(Surface(TOP))
    assert tune(changed(options, **change), settings, QUIET).reused == 0
    assert served.surface.calls


def test_a_rebuilt_model_is_measured_again(settings, options, serve):
    serve(Surface(TOP))
    tune(options, settings, QUIET)
    manifest = settings.model_repository / "embedding" / "1" / "manifest.json"
    digest = read_manifest(manifest.parent).files["model.onnx"]
    manifest.write_text(manifest.read_text().replace(digest, "0" * 64))
    serve(Surface(TOP))
    assert tune(options, settings, QUIET).reused == 0


def test_where_nothing_meets_the_limit_nothing_is_planned(settings, options, serve):
    serve(Surface(TOP, capacity=10.0))
    result = tune(options, settings, QUIET)
    assert result.report.outcome.winner is None
    assert result.changes == ()


def test_a_chain_tunes_its_encoders_under_its_own_limit(settings, options, serve):
    top = {"reranker.max_batch_tokens": 8192, "embedding.instances": 2}
    served = serve(Surface(top))
    result = tune(changed(options, model="search"), settings, QUIET)
    assert served.models.target.model == "search"
    assert {r.model for r in served.models.recipes} == {
        "search",
        "embedding",
        "search__retrieve",
        "reranker",
        "search__sort",
    }
    assert served.models.workload.corpus is not None
    place_changes(settings.model_repository, result.changes)
    assert read_recipe(settings.model_repository / "reranker" / "recipe.toml").max_batch_tokens == 8192
    assert read_recipe(settings.model_repository / "embedding" / "recipe.toml").instances == 2
    for model in ("embedding", "reranker"):
        tuning = read_manifest(settings.model_repository / model / "1").tuning
        assert tuning.target == "search"
        assert set(tuning.after) == {
            "instances",
            "threads",
            "max_batch_tokens",
            "max_batch_size",
            "max_queue_delay_us",
        }


def test_a_reranker_is_served_with_its_embedder(settings, options, serve):
    served = serve(Surface({}))
    tune(changed(options, model="reranker"), settings, QUIET)
    assert {recipe.model for recipe in served.models.recipes} == {"reranker", "embedding"}


def test_an_interruption_ends_the_servers_and_changes_nothing(settings, options, serve):
    class Interrupted(Surface):
        def measure(self, *arguments):
            if len(self.calls) == 5:
                raise KeyboardInterrupt
            return super().measure(*arguments)

    served = serve(Interrupted(TOP))
    before = read_files(settings.model_repository)
    with pytest.raises(KeyboardInterrupt):
        tune(options, settings, QUIET)
    assert read_files(settings.model_repository) == before
    assert not served.is_open
    serve(Surface(TOP))
    assert tune(options, settings, QUIET).reused == 5


def test_a_recipe_edited_meanwhile_is_not_overwritten(settings, options, serve):
    recipe = settings.model_repository / "embedding" / "recipe.toml"

    class Edited(Surface):
        def measure(self, *arguments):
            if len(self.calls) == 5:
                recipe.write_text(recipe.read_text() + "# mine\n")
            return super().measure(*arguments)

    serve(Edited(TOP))
    with pytest.raises(UnavailableError, match="changed while it was tuned"):
        tune(options, settings, QUIET)


def test_what_a_killed_run_had_decided_is_completed_first(settings, options, serve, capsys):
    serve(Surface(TOP))
    changes = tune(options, settings, QUIET).changes
    from trireme.tune import placing

    staged = settings.model_repository
    placing._stage(staged, changes, staged / "embedding" / ".tuning" / "plan.json")
    before = read_files(staged)
    tune(changed(options, is_dry=True), settings, QUIET)
    assert read_files(staged) == before
    tune(options, settings, Console(stderr=True, width=300))
    assert "completed: embedding/recipe.toml" in capsys.readouterr().err
    assert read_recipe(staged / "embedding" / "recipe.toml").instances == 4


def test_a_machine_at_work_is_told(settings, options, serve, monkeypatch, capsys):
    serve(Surface(TOP))
    for load, is_told in ((1.0, False), (6.0, True)):
        monkeypatch.setattr(run.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        tune(options, settings, Console(stderr=True))
        assert ("load average is 6.0 on 8 cores" in capsys.readouterr().err) is is_told


def test_models_that_cannot_be_tuned_are_named(settings, options, serve):
    serve(Surface(TOP))
    with pytest.raises(NotFoundError, match=r"no model 'embeding'.*embedding"):
        tune(changed(options, model="embeding"), settings, QUIET)
    with pytest.raises(UnsupportedError, match="search__retrieve is of kind 'retriever'"):
        tune(changed(options, model="search__retrieve"), settings, QUIET)
    (settings.model_repository / "reranker" / "1" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"not built.*reranker; build them with: make models"):
        tune(changed(options, model="search"), settings, QUIET)


def test_concurrencies_rise_to_the_most():
    assert list_concurrencies(1) == (1,)
    assert list_concurrencies(8) == (1, 2, 3, 4, 6, 8)
    assert list_concurrencies(20) == (1, 2, 3, 4, 6, 8, 12, 16, 20)
