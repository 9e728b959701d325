import fcntl
import signal

import pytest

from fakes.repositories import make_repository, read_files
from trireme.artifacts.config_writer import config_files
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import read_recipe
from trireme.artifacts.tuning import Tuning
from trireme.errors import UnavailableError
from trireme.tune import placing
from trireme.tune.placing import place_changes, plan_changes, recover

TUNING = Tuning(
    "search",
    50.0,
    "2026-01-01",
    "docs",
    "0" * 64,
    "a CPU",
    {},
    {},
    {"threads": 2},
    8,
    1.0,
    2.0,
    0.1,
    0.01,
    (),
)
PRIMITIVES = ("_write", "_replace", "_remove")


class KilledError(BaseException):
    """The process ends here: nothing that it would have done afterwards happens."""


class Power:
    """Counts writes, renames and removals, and from number `last` on lets none happen."""

    def __init__(self, monkeypatch, last):
        self.last, self.count = last, 0
        for name in PRIMITIVES:
            monkeypatch.setattr(placing, name, self._guard(getattr(placing, name)))

    def _guard(self, act):
        def guarded(*arguments):
            self.count += 1
            if self.count > self.last:
                raise KilledError
            act(*arguments)

        return guarded


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "models")


def plan(repository):
    return [
        *plan_changes(repository, "embedding", {"threads": 2, "instances": 2}, TUNING),
        *plan_changes(repository, "reranker", {"max_batch_tokens": 4096}, TUNING),
    ]


def expected_after(repository):
    return read_files(repository) | {change.name: change.after for change in plan(repository)}


def test_a_change_is_in_recipe_configuration_and_manifest(repository):
    before = read_files(repository)
    changes = plan(repository)
    assert read_files(repository) == before
    place_changes(repository, changes)
    recipe = read_recipe(repository / "embedding" / "recipe.toml")
    assert (recipe.threads, recipe.instances, recipe.max_batch_size) == (2, 2, 64)
    for model in ("embedding", "reranker"):
        made = config_files(read_recipe(repository / model / "recipe.toml"))
        assert all((repository / model / name).read_bytes() == content for name, content in made.items())
        assert read_manifest(repository / model / "1").tuning == TUNING
    after = read_files(repository)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        f"{model}/{name}"
        for model in ("embedding", "reranker")
        for name in ("recipe.toml", "config.pbtxt", "1/manifest.json")
    }
    assert set(after) == set(before)


def test_the_recipe_keeps_its_comments(repository):
    place_changes(repository, plan(repository))
    text = (repository / "embedding" / "recipe.toml").read_text()
    assert "# The embedder." in text and "# Rows of one batch." in text and "# one per core" in text


def test_settings_that_stay_change_the_manifest_alone(repository):
    changes = plan_changes(repository, "embedding", {"threads": 0, "instances": 1}, TUNING)
    assert [change.name for change in changes] == ["embedding/1/manifest.json"]


def test_a_run_killed_at_any_step_leaves_all_or_is_completed(repository, tmp_path, monkeypatch):
    before, after = read_files(repository), expected_after(repository)
    outcomes = []
    for last in range(100):
        models = make_repository(tmp_path / f"models{last}")
        with monkeypatch.context() as patched:
            power = Power(patched, last)
            try:
                place_changes(models, plan(models))
                outcomes.append("done")
            except KilledError:
                outcomes.append("killed")
        # What is there between is read without an error.
        for model in ("embedding", "reranker"):
            read_recipe(models / model / "recipe.toml")
            read_manifest(models / model / "1")
        notices = recover(models)
        found = read_files(models)
        assert found in (before, after), f"half changed when killed at step {last}"
        assert bool(notices) == (found == after and outcomes[-1] == "killed" and last < power.count)
        if outcomes[-1] == "done":
            break
    assert outcomes.count("killed") > 10
    assert outcomes[-1] == "done"


def test_the_recovery_itself_may_be_killed_at_any_step(repository, tmp_path, monkeypatch):
    after = expected_after(repository)
    for last in range(100):
        models = make_repository(tmp_path / f"models{last}")
        with monkeypatch.context() as patched:
            # Staged, planned, and one file renamed.
            Power(patched, len(plan(models)) + 3)
            with pytest.raises(KilledError):
                place_changes(models, plan(models))
        with monkeypatch.context() as patched:
            power = Power(patched, last)
            try:
                recover(models)
            except KilledError:
                assert power.count > last
            else:
                break
        recover(models)
        assert read_files(models) == after
    assert last > 5


@pytest.mark.parametrize("step", range(20))
def test_an_error_at_any_step_undoes_the_change(step, repository, monkeypatch):
    before, after = read_files(repository), expected_after(repository)
    count = 0

    def failing_once(act):
        def guarded(*arguments):
            nonlocal count
            count += 1
            if count == step + 1:
                raise OSError(28, "No space left on device")
            act(*arguments)

        return guarded

    with monkeypatch.context() as patched:
        for name in PRIMITIVES:
            patched.setattr(placing, name, failing_once(getattr(placing, name)))
        try:
            place_changes(repository, plan(repository))
        except UnavailableError as error:
            assert "nothing was changed" in str(error) and "No space left" in str(error)
            assert read_files(repository) == before
        else:
            # The plan alone could not be removed.
            recover(repository)
            assert read_files(repository) == after


def test_where_undoing_fails_too_the_next_run_completes(repository, monkeypatch):
    after = expected_after(repository)
    renamed = 0

    def failing(source, target):
        nonlocal renamed
        renamed += 1
        if renamed > 3:
            raise OSError(30, "Read-only file system")
        source.replace(target)

    with monkeypatch.context() as patched:
        patched.setattr(placing, "_replace", failing)
        with pytest.raises(UnavailableError, match=r"changed by half.*run the tuner again"):
            place_changes(repository, plan(repository))
    assert recover(repository)
    assert read_files(repository) == after


def test_a_file_edited_since_a_killed_run_stays_as_it_is(repository, monkeypatch):
    with monkeypatch.context() as patched:
        Power(patched, len(plan(repository)) + 2)
        with pytest.raises(KilledError):
            place_changes(repository, plan(repository))
    edited = repository / "reranker" / "recipe.toml"
    edited.write_text(edited.read_text() + "# mine\n")
    before = read_files(repository)
    (notice,) = recover(repository)
    assert "reranker/recipe.toml was changed since" in notice and "write_configs.py" in notice
    assert read_files(repository) == {name: data for name, data in before.items() if ".tuning" not in name}


def test_a_recipe_edited_while_it_was_tuned_is_not_overwritten(repository):
    changes = plan(repository)
    recipe = repository / "reranker" / "recipe.toml"
    recipe.write_text(recipe.read_text() + "# mine\n")
    before = read_files(repository)
    with pytest.raises(UnavailableError, match=r"reranker/recipe\.toml was changed while it was tuned"):
        place_changes(repository, changes)
    assert read_files(repository) == before


def test_a_build_that_runs_keeps_the_tuner_out(repository):
    before = read_files(repository)
    with (repository / "reranker" / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="another build"):
            place_changes(repository, plan(repository))
    assert read_files(repository) == before


def test_a_signal_waits_until_the_change_is_whole(repository, monkeypatch):
    after = expected_after(repository)
    renamed = placing._replace
    # A shell may have started these tests with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(source, target):
        signal.raise_signal(signal.SIGINT)
        renamed(source, target)

    monkeypatch.setattr(placing, "_replace", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            place_changes(repository, plan(repository))
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_files(repository) == after


def test_a_plan_that_is_not_ours_changes_nothing(repository):
    before = read_files(repository)
    for content in ("{", '[["../outside", "", ""]]', "[1]"):
        folder = repository / "embedding" / ".tuning"
        folder.mkdir()
        (folder / "plan.json").write_text(content)
        recover(repository)
        assert read_files(repository) == before


def test_permissions_stay(repository):
    recipe = repository / "embedding" / "recipe.toml"
    recipe.chmod(0o640)
    place_changes(repository, plan(repository))
    assert recipe.stat().st_mode & 0o777 == 0o640


def test_nothing_to_change_is_no_work(repository):
    place_changes(repository, [])
    assert recover(repository) == []
