import pytest

from benchmarks.common.report import RESULTS
from benchmarks.scaling.measure import read_one_card
from benchmarks.scaling.run import CARD, CARD_KIND, CURVES, SERVICE
from benchmarks.scaling.service import Point, Service, pick_service, read_services
from trireme.errors import InvalidInputError


def make(points, places, **more):
    values = {
        "inputs": 10,
        "outputs": 0,
        "read_per_s": 0.0,
        "kv_tokens": 0,
        "warm_up_s": 30.0,
        "source": "here",
    }
    return Service("one", tuple(Point(*one) for one in points), places, **{**values, **more})


def test_an_encoder_reads_by_its_curve():
    service = make([(1, 10.0), (2, 15.0)], 2)
    assert service.input_per_s == pytest.approx(15.0)
    assert service.work_of(30, 99) == pytest.approx(2.0)
    # Alone two thirds of the full rate; two share all of it.
    assert service.speeds(1.0) == pytest.approx([0.0, 2 / 3, 1 / 2])


def test_between_points_the_time_of_a_request_is_a_straight_line():
    # 0.1 s alone and 0.3 s among five: 0.2 s among three.
    service = make([(1, 10.0), (5, 5 / 0.3)], 5)
    assert 3 * service.speeds(1.0)[3] * service.input_per_s == pytest.approx(3 / 0.2)


def test_an_llm_reads_at_one_speed_and_writes_by_its_curve():
    # A round of 4 takes 0.1 s, of which reading 4 tokens at 100 a second takes 0.04 s.
    service = make([(1, 20.0), (4, 40.0)], 4, outputs=10, read_per_s=100.0)
    assert service.input_per_s == 100.0
    assert service.output_per_s == pytest.approx(4 / 0.06)
    assert service.work_of(100, 0) == pytest.approx(1.0)
    # Alone it writes 1 / 0.04 = 25 a second, 0.375 of the full rate; it reads at full speed.
    assert service.speeds(0.0)[1] == pytest.approx(0.375)
    assert service.speeds(1.0)[1] == pytest.approx(1.0)
    assert service.speeds(0.5)[1] == pytest.approx(1 / (0.5 + 0.5 / 0.375))
    # What was measured comes out again: 10 tokens read and 10 written, 4 at once, at 40 a second.
    share = (10 / 100) / service.work_of(10, 10)
    assert 4 * service.speeds(share)[4] / service.work_of(10, 10) * 10 == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("points", "places", "more"),
    [
        ([], 1, {}),
        ([(2, 5.0)], 1, {}),
        ([(1, 5.0), (1, 6.0)], 1, {}),
        ([(1, 5.0)], 2, {}),
        ([(1, 0.0)], 1, {}),
        ([(1, 5.0)], 1, {"outputs": 10}),
        ([(1, 50.0)], 1, {"outputs": 10, "read_per_s": 40.0}),
    ],
)
def test_figures_that_are_no_curve_are_refused(points, places, more):
    with pytest.raises(InvalidInputError, match="one"):
        make(points, places, **more)


def test_the_curve_of_the_page_is_what_the_card_was_measured_at():
    services = read_services(RESULTS / CURVES).services
    assert pick_service(services, SERVICE) == read_one_card(RESULTS / CARD, CARD_KIND)


def test_a_curve_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InvalidInputError, match=r"'other'.*one"):
        pick_service([make([(1, 5.0)], 1)], "other")


def test_where_nothing_was_measured_there_are_no_curves(tmp_path):
    assert read_services(tmp_path / "none.json").services == ()
