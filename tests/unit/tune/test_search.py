import pytest

from fakes.surface import Notes, Surface
from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError
from trireme.tune.measure import Point
from trireme.tune.search import ABOVE, DROPPED, FAILED, STALE, Search, SearchPlan, StepPace, find_level
from trireme.tune.setting import make_space

RECIPE = Recipe("m", "text_encoder", source="a/b", max_batch_size=64, dynamic_batching=True, instances=1)
SPACE = make_space([RECIPE], cores=8, slo_p95_ms=50)
TOP = {"m.instances": 4, "m.threads": 2, "m.max_batch_tokens": 8192, "m.max_batch_size": 128}
PLAN = SearchPlan(50.0, (1, 2, 4, 8, 16, 32))


def search(surface, plan=PLAN, space=SPACE, watch=None):
    return Search(space, plan, surface, watch or Notes(), surface.clock).run()


def grid_size(space):
    size = 1
    for values in space.values.values():
        size *= len(values)
    return size


def test_the_top_is_found_without_trying_the_grid():
    surface = Surface(TOP)
    found = search(surface)
    assert {name: found.best.setting[name] for name in TOP} == TOP
    assert found.is_complete
    assert found.trials[0].setting == SPACE.start
    assert len(found.trials) < 40 < grid_size(SPACE) / 50


class Batching(Surface):
    """More in flight fill larger batches: c of them get c / (c + 8) of the full rate."""

    def measure(self, setting, concurrency, window_s, round_number):
        point = super().measure(setting, 10_000, window_s, round_number)
        p50 = (concurrency + 8) / point.requests_per_s * 1000
        return Point(concurrency, concurrency / p50 * 1000, p50, p50 * 1.2, p50 * 1.3)


@pytest.mark.parametrize(("limit", "concurrency"), [(50, 8), (60, 8), (75, 16), (130, 32), (500, 32)])
def test_the_limit_decides_at_which_concurrency(limit, concurrency):
    found = search(Batching(TOP), SearchPlan(limit, PLAN.concurrencies))
    assert {name: found.best.setting[name] for name in TOP} == TOP
    point = found.best.find_best(limit)
    assert point.concurrency == concurrency
    assert point.p95_ms <= limit


def test_a_setting_with_more_throughput_beyond_the_limit_does_not_win():
    # Each instance more lets a request take longer: fast on the whole, too late for each.
    class Slow(Surface):
        def measure(self, setting, concurrency, window_s, round_number):
            self.least_ms = 8.0 if setting["m.instances"] < 4 else 60.0
            return super().measure(setting, concurrency, window_s, round_number)

    found = search(Slow(TOP))
    assert found.best.setting["m.instances"] == 2
    assert found.best.find_best(50.0) is not None


def test_a_clearly_worse_setting_is_dropped_after_one_or_two_runs():
    surface = Surface({"m.max_batch_tokens": 2048}, slope=1.0)
    found = search(surface)
    dropped = [trial for trial in found.trials if trial.end == DROPPED]
    assert dropped
    assert all(len(trial.points) <= 2 for trial in dropped)
    assert found.best is found.trials[0]


def test_a_direction_ends_where_it_gets_clearly_worse():
    found = search(Surface({"m.max_batch_tokens": 2048}, slope=1.0))
    budgets = {trial.setting["m.max_batch_tokens"] for trial in found.trials}
    assert budgets == {1024, 2048, 4096}


def test_a_flat_direction_is_followed_for_a_step_only():
    found = search(Surface({}))
    assert found.best is found.trials[0]
    assert {trial.setting["m.max_batch_tokens"] for trial in found.trials} == {512, 1024, 2048, 4096, 8192}


def test_instances_are_traded_against_threads_in_one_step():
    class Coupled(Surface):
        # Only as many threads as cores in all pay; either step alone loses.
        def rate(self, setting):
            instances, threads = setting["m.instances"], setting["m.threads"] or 8
            return 400.0 * (1 + 0.1 * instances) / (3 if instances * threads != 8 else 1)

    found = search(Coupled({}))
    assert (found.best.setting["m.instances"], found.best.setting["m.threads"]) == (8, 1)


def test_a_setting_that_cannot_be_served_is_passed_over_with_its_reason():
    found = search(Surface(TOP, broken=lambda setting: setting["m.instances"] > 2))
    assert found.best.setting["m.instances"] == 2
    failed = [trial for trial in found.trials if trial.end == FAILED]
    assert failed and all(trial.reason == "out of memory" for trial in failed)


def test_a_present_setting_that_cannot_be_measured_ends_the_search():
    with pytest.raises(UnavailableError, match="present setting cannot be measured: out of memory"):
        search(Surface(TOP, broken=lambda setting: True))


def test_the_search_leaves_time_for_the_finals():
    surface = Surface(TOP)
    plan = SearchPlan(50.0, PLAN.concurrencies, seconds=90.0)
    found = search(surface, plan)
    assert not found.is_complete
    assert found.pace == StepPace(run_s=1.0, start_s=0.0)
    # Four finalists, four rounds, two concurrencies: 32 runs of two seconds.
    assert found.pace.foresee_finals(plan, 3) == 64
    assert 90 * 0.4 < surface.now <= 90 * 0.4 + 2


def test_the_time_for_the_finals_has_the_starts_of_servers_in_it():
    surface = Surface(TOP, start_s=5.0)
    plan = SearchPlan(50.0, PLAN.concurrencies, seconds=240.0)
    found = search(surface, plan)
    assert found.pace == StepPace(run_s=1.0, start_s=5.0)
    assert found.pace.foresee_finals(plan, 3) == 4 * 4 * (5 + 2 * 2)
    assert 80 < surface.now <= 240 - 144 + 8


def test_where_nothing_meets_the_limit_the_search_goes_towards_it():
    surface = Surface(TOP, capacity=10.0)
    plan = SearchPlan(10.0, PLAN.concurrencies)
    found = search(surface, plan)
    assert all(trial.find_best(10.0) is None for trial in found.trials)
    assert found.trials[0].end == ABOVE
    assert {name: found.best.setting[name] for name in TOP} == TOP
    assert found.best.find_nearest().concurrency == 1
    assert find_level(found.best, plan) == 0


def test_a_machine_without_load_is_measured_up_to_the_most_in_flight():
    surface = Surface({}, capacity=1e6, least_ms=1.0)
    found = search(surface)
    assert found.best.find_best(50.0).concurrency == 32


def test_the_watch_hears_of_every_setting_and_of_the_best_so_far():
    watch = Notes()
    found = search(Surface(TOP), watch=watch)
    assert tuple(watch.trials) == found.trials
    rates = [trial.find_best(50.0).requests_per_s for trial in watch.bests]
    assert rates == sorted(rates)
    assert watch.bests[-1].setting == found.best.setting


def test_the_first_load_is_guessed_from_one_request_alone():
    surface = Surface({}, capacity=400.0, least_ms=1.0)
    search(surface, SearchPlan(50.0, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)))
    # Alone 2.5 ms and p95 3 ms: 16 of them one after the other take 48 ms.
    assert [concurrency for _, concurrency, _ in surface.calls[:2]] == [1, 16]


def test_a_present_setting_that_is_too_slow_alone_is_measured_once():
    surface = Surface({}, capacity=10.0)
    found = search(surface)
    assert found.trials[0].end == ABOVE
    runs = [(concurrency, number) for setting, concurrency, number in surface.calls if setting == SPACE.start]
    assert [concurrency for concurrency, number in runs if number == 0] == [1]


@pytest.mark.parametrize("factor", [1.5, 0.7])
def test_a_machine_that_changes_its_speed_does_not_hide_the_top(factor):
    surface = Surface(TOP)
    surface.slowdown = lambda runs: factor if 3 < runs < 60 else 1.0
    found = search(surface)
    assert {name: found.best.setting[name] for name in TOP} == TOP
    assert any(trial.end == STALE for trial in found.trials)
    current = [trial.setting for trial in found.trials if trial.end != STALE]
    assert len(current) == len(set(current))


def test_on_a_steady_machine_nothing_is_measured_twice_but_the_best():
    surface = Surface(TOP)
    found = search(surface)
    runs = [(setting, concurrency) for setting, concurrency, number in surface.calls if number == 0]
    assert len(runs) == len(set(runs))
    checks = [call for call in surface.calls if call[2] < 0]
    assert 0 < len(checks) <= len(found.trials) / 5 + 1
