from trireme.agent.reports import LoadReports
from trireme.triton.load import Load


def load(*, answered=0.0, failed=0.0, backlog=(), in_flight=0, is_measured=True):
    return Load(in_flight, 0, 0, answered, failed, dict(backlog), is_measured)


def test_utilization_is_the_waiting_seconds_of_all_models_by_the_target():
    reports = LoadReports(target=2.0)
    reports.see(load(backlog={"a": 1.0, "b": 2.0}, in_flight=7), 0.0)
    report = reports.read()
    assert report.utilization == 1.5
    assert report.named == {
        "backlog_seconds": 3.0,
        "backlog_is_measured": 1.0,
        "requests_in_flight": 7.0,
        "backlog_seconds.a": 1.0,
        "backlog_seconds.b": 2.0,
    }


def test_rates_are_those_between_two_looks():
    reports = LoadReports(target=2.0)
    reports.see(load(answered=10), 1.0)
    assert reports.read().requests_per_second == 0.0
    reports.see(load(answered=30, failed=4), 3.0)
    assert (reports.read().requests_per_second, reports.read().errors_per_second) == (10.0, 2.0)


def test_a_server_that_was_started_again_gives_no_negative_rate():
    reports = LoadReports(target=2.0)
    reports.see(load(answered=10, failed=1), 1.0)
    reports.see(load(answered=2), 2.0)
    assert (reports.read().requests_per_second, reports.read().errors_per_second) == (0.0, 0.0)


def test_a_server_that_is_gone_has_no_utilization():
    reports = LoadReports(target=2.0)
    reports.see(load(backlog={"a": 1.0}), 1.0)
    reports.see(None, 2.0)
    assert reports.read().utilization is None
    assert reports.read().named == {}
