import json

import pytest

from fakes.surface import Notes, Surface
from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError
from trireme.tune.journal import Journal, JournaledMeasurer, lock_folder
from trireme.tune.measure import Point
from trireme.tune.search import Search, SearchPlan
from trireme.tune.setting import make_space

RECIPE = Recipe("m", "text_encoder", source="a/b", max_batch_size=64, dynamic_batching=True, instances=1)
SPACE = make_space([RECIPE], cores=8, slo_p95_ms=50)
START = SPACE.start
POINT = Point(8, 120.0, 20.0, 30.0, 40.0)
CONTEXT = {"machine": "a", "workload": "b"}
PLAN = SearchPlan(50.0, (1, 2, 4, 8, 16, 32))
TOP = {"m.instances": 4, "m.max_batch_tokens": 8192}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def run(path, surface, context=CONTEXT):
    journal = Journal(path, context)
    found = Search(SPACE, PLAN, JournaledMeasurer(surface, journal), Notes(), surface.clock).run()
    return journal, found


def test_a_measurement_is_found_by_a_later_run(path):
    Journal(path, CONTEXT).add(START, POINT, 1.0, 2)
    journal = Journal(path, CONTEXT)
    assert journal.find(START, 8, 1.0, 2) == POINT
    assert (journal.reused, journal.added) == (1, 0)


@pytest.mark.parametrize(
    ("setting", "concurrency", "window_s", "number"),
    [
        (START.change({"m.threads": 1}), 8, 1.0, 2),
        (START, 16, 1.0, 2),
        (START, 8, 2.0, 2),
        (START, 8, 1.0, 1),
    ],
)
def test_another_setting_load_window_or_round_is_another_measurement(
    setting, concurrency, window_s, number, path
):
    journal = Journal(path, CONTEXT)
    journal.add(START, POINT, 1.0, 2)
    assert journal.find(setting, concurrency, window_s, number) is None


def test_another_machine_or_workload_is_another_context(path):
    Journal(path, CONTEXT).add(START, POINT, 1.0, 2)
    assert Journal(path, {**CONTEXT, "machine": "c"}).find(START, 8, 1.0, 2) is None


def test_a_line_that_was_cut_off_is_passed_over_and_the_next_is_whole(path):
    Journal(path, CONTEXT).add(START, POINT, 1.0, 1)
    Journal(path, CONTEXT).add(START, POINT, 1.0, 2)
    path.write_bytes(path.read_bytes()[:-30])
    journal = Journal(path, CONTEXT)
    assert journal.find(START, 8, 1.0, 1) == POINT
    assert journal.find(START, 8, 1.0, 2) is None
    journal.add(START, POINT, 1.0, 3)
    assert Journal(path, CONTEXT).find(START, 8, 1.0, 3) == POINT


def test_a_line_says_what_was_measured(path):
    Journal(path, CONTEXT).add(START, POINT, 1.0, 0)
    entry = json.loads(path.read_text())
    assert entry["setting"]["m.max_batch_tokens"] == 2048
    assert entry["point"]["p95_ms"] == 30.0


def test_a_journal_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UnavailableError, match=r"absent/journal\.jsonl"):
        Journal(tmp_path / "absent" / "journal.jsonl", CONTEXT).add(START, POINT, 1.0, 0)


def test_a_second_run_measures_nothing_again(path):
    first = Surface(TOP, noise=0.02)
    journal, found = run(path, first)
    assert journal.added == len(first.calls) > 10
    second = Surface(TOP, noise=0.02)
    journal, again = run(path, second)
    assert second.calls == []
    assert again.trials == found.trials


def test_an_interrupted_run_goes_on_where_it_was(path):
    class Interrupted(Surface):
        def measure(self, *arguments):
            if len(self.calls) == 9:
                raise KeyboardInterrupt
            return super().measure(*arguments)

    with pytest.raises(KeyboardInterrupt):
        run(path, Interrupted(TOP))
    surface = Surface(TOP)
    journal, found = run(path, surface)
    assert journal.reused == 9
    whole = Surface(TOP)
    _, straight = run(path.with_name("other.jsonl"), whole)
    assert found.trials == straight.trials
    assert len(surface.calls) == len(whole.calls) - 9


def test_a_failure_is_tried_again(path):
    def broken(setting):
        return setting["m.instances"] > 1

    run(path, Surface(TOP, broken=broken))
    surface = Surface(TOP)
    _, found = run(path, surface)
    assert surface.calls
    assert found.best.setting["m.instances"] == 4


def test_two_tuners_do_not_measure_each_other(tmp_path):
    with lock_folder(tmp_path / "tune"):
        with pytest.raises(UnavailableError, match="another tuner"):
            with lock_folder(tmp_path / "tune"):
                pass
    with lock_folder(tmp_path / "tune"):
        pass
