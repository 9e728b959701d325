import random

import pytest

from fakes.surface import Notes, Surface
from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError
from trireme.tune.measure import Point
from trireme.tune.paired_rounds import Final, choose_finalists, compare_rounds, judge, run_finals
from trireme.tune.search import WITHIN, Found, Search, SearchPlan, StepPace, Trial
from trireme.tune.setting import make_space

RECIPE = Recipe("m", "text_encoder", source="a/b", max_batch_size=64, dynamic_batching=True, instances=1)
SPACE = make_space([RECIPE], cores=8, slo_p95_ms=50)
START, OTHER = SPACE.start, SPACE.start.change({"m.instances": 2})
PLAN = SearchPlan(50.0, (1, 2, 4, 8, 16, 32))
TOP = {"m.instances": 4, "m.max_batch_tokens": 8192}


class Slowed(Surface):
    """A machine that has slowed down when the finals begin."""

    def measure(self, setting, concurrency, window_s, round_number):
        self.capacity = 60.0 if round_number > 0 else 400.0
        return super().measure(setting, concurrency, window_s, round_number)


def final(setting, *rounds, p95=40.0):
    middle = sorted(rounds)[len(rounds) // 2]
    return Final(setting, Point(8, middle, p95 / 2, p95, p95), rounds, p95 <= 50.0)


def tune(surface, plan=PLAN):
    watch = Notes()
    found = Search(SPACE, plan, surface, watch, surface.clock).run()
    before = len(surface.calls)
    return found, run_finals(found, plan, surface, watch, surface.clock), surface.calls[before:]


def test_a_gain_beyond_the_noise_wins():
    outcome = judge(final(START, 100, 101, 99), [final(OTHER, 110, 112, 109)])
    assert outcome.winner.setting == OTHER
    assert outcome.gain == pytest.approx(0.1, abs=0.01)
    assert outcome.noise < 0.03


def test_a_gain_within_the_noise_keeps_the_present_setting():
    outcome = judge(final(START, 100, 120, 99), [final(OTHER, 110, 112, 109)])
    assert outcome.winner is outcome.present
    assert outcome.gain == pytest.approx(0.1, abs=0.01)
    assert outcome.noise > outcome.gain


def test_even_rounds_still_need_a_gain_of_two_percent():
    assert judge(final(START, 100, 100, 100), [final(OTHER, 101.5, 101.5, 101.5)]).winner.setting == START


def test_more_rounds_tell_a_small_gain_from_noise():
    few = compare_rounds(final(OTHER, 104, 110, 107), final(START, 100, 100, 100))
    many = compare_rounds(final(OTHER, *(104, 110, 107) * 4), final(START, *(100,) * 12))
    assert few[0] == many[0] == pytest.approx(0.07)
    assert few[1] == pytest.approx(2.92 * 0.03 / 3**0.5)
    assert many[1] < few[1] / 2


def test_a_machine_that_slows_down_between_rounds_is_no_noise():
    gain, noise = compare_rounds(final(OTHER, 110, 55, 88), final(START, 100, 50, 80))
    assert (gain, noise) == (pytest.approx(0.1), 0.02)


def test_the_second_best_may_win_where_the_best_is_too_uneven():
    third = SPACE.start.change({"m.instances": 4})
    outcome = judge(final(START, 100, 100, 100), [final(third, 112, 150, 80), final(OTHER, 108, 108, 108)])
    assert outcome.winner.setting == OTHER


def test_a_present_setting_above_the_limit_gives_way_to_any_within():
    outcome = judge(final(START, 200, 200, 200, p95=60.0), [final(OTHER, 100, 101, 99)])
    assert outcome.winner.setting == OTHER


def test_where_all_are_above_the_limit_nobody_wins_and_the_nearest_is_named():
    outcome = judge(final(START, 200, 200, 200, p95=60.0), [final(OTHER, 100, 101, 99, p95=55.0)])
    assert outcome.winner is None
    assert outcome.nearest.setting == OTHER


def test_without_a_rival_the_present_setting_stays():
    outcome = judge(final(START, 100, 100, 100), [])
    assert (outcome.winner.setting, outcome.gain) == (START, 0.0)


def test_the_top_wins_through_noise():
    _, outcome, _ = tune(Surface(TOP, noise=0.02))
    assert {name: outcome.winner.setting[name] for name in TOP} == TOP
    assert outcome.gain > outcome.noise


def test_a_flat_surface_with_noise_seldom_changes_the_present_setting():
    changed = 0
    for seed in range(40):
        surface = Surface({}, noise=0.05)
        surface.random = random.Random(seed)
        changed += tune(surface)[1].winner.setting != START
    assert changed <= 6


def test_finalists_take_turns():
    found, outcome, calls = tune(Surface(TOP))
    finalists = [trial.setting for trial in choose_finalists(found, PLAN)]
    assert finalists[0] == START and found.best.setting in finalists
    assert len(finalists) == 4
    order = [(number, setting) for setting, _, number in calls]
    assert list(dict.fromkeys(order)) == [
        (number, setting) for number in (1, 2, 3, 4) for setting in finalists
    ]
    assert {len(each.rounds) for each in outcome.finals} == {4}


def test_a_finalist_that_fails_in_a_round_is_out():
    surface = Surface(TOP)
    found = Search(SPACE, PLAN, surface, Notes(), surface.clock).run()
    surface.broken = lambda setting: setting == found.best.setting and surface.calls[-1][2] == 2
    outcome = run_finals(found, PLAN, surface, Notes())
    assert found.best.setting not in [each.setting for each in outcome.finals]


def test_a_present_setting_that_fails_in_a_round_is_an_error():
    surface = Surface(TOP)
    found = Search(SPACE, PLAN, surface, Notes(), surface.clock).run()
    surface.broken = lambda setting: setting == START
    with pytest.raises(UnavailableError):
        run_finals(found, PLAN, surface, Notes())


def test_with_little_time_left_fewer_meet_the_present_setting():
    surface = Surface(TOP)
    plan = SearchPlan(50.0, PLAN.concurrencies, seconds=40.0)
    found = Search(SPACE, plan, surface, Notes(), surface.clock).run()
    assert len(found.trials) > 2
    assert [trial.setting for trial in choose_finalists(found, plan)] == [START, found.best.setting]


@pytest.mark.parametrize("start_s", [0.0, 4.0, 20.0])
@pytest.mark.parametrize("seconds", [60.0, 300.0, 900.0])
def test_search_and_finals_end_in_their_time_or_after_two_rounds(seconds, start_s):
    surface = Surface(TOP, noise=0.02, start_s=start_s)
    _, outcome, calls = tune(surface, SearchPlan(50.0, PLAN.concurrencies, seconds=seconds))
    rounds = {len(final.rounds) for final in outcome.finals}
    assert len(rounds) == 1
    assert rounds <= {2, 3, 4}
    assert surface.now <= seconds or rounds == {2}
    assert max(number for _, _, number in calls) == max(rounds)


def test_the_progress_counts_each_round_once():
    watch, surface = Notes(), Slowed(TOP)
    found = Search(SPACE, PLAN, surface, watch, surface.clock).run()
    watch.stages.clear()
    run_finals(found, PLAN, surface, watch)
    assert watch.stages == sorted(watch.stages)
    assert list(dict.fromkeys(watch.stages)) == [f"round {number} of 4" for number in (1, 2, 3, 4)]


def test_the_present_setting_meets_each_rival_at_the_rivals_load():
    # More requests in flight alone give more; a short run told the search that the present setting cannot.
    present = Trial(START, (Point(4, 100.0, 10.0, 12.0, 12.0),), WITHIN)
    rival = Trial(OTHER, (Point(32, 140.0, 10.0, 12.0, 12.0),), WITHIN)

    class Loads(Surface):
        def measure(self, setting, concurrency, window_s, round_number):
            self.calls.append((setting, concurrency, round_number))
            return Point(concurrency, 100.0 + concurrency, 10.0, 12.0, 12.0)

    outcome = run_finals(
        Found((present, rival), rival, True, 60.0, StepPace(1.0, 0.0)), PLAN, Loads({}), Notes()
    )
    assert outcome.winner is outcome.present
    assert outcome.present.point.concurrency == 32
    assert outcome.gain == 0.0


def test_a_finalist_that_was_within_the_limit_by_luck_is_measured_one_below_too():
    class Lucky(Surface):
        def measure(self, setting, concurrency, window_s, round_number):
            self.capacity = 300.0 if round_number > 0 else 400.0
            return super().measure(setting, concurrency, window_s, round_number)

    _, outcome, calls = tune(Lucky(TOP, least_ms=40.0))
    assert outcome.winner is not None
    assert outcome.winner.point.p95_ms <= 50.0
    assert {concurrency for setting, concurrency, _ in calls if setting == outcome.winner.setting} >= {8}


def test_finalists_that_are_too_slow_in_the_rounds_go_down_until_they_meet_the_limit():
    _, outcome, _ = tune(Slowed(TOP))
    assert outcome.winner is not None
    assert outcome.winner.point.concurrency <= 2
    assert {len(each.rounds) for each in outcome.finals} == {4}
