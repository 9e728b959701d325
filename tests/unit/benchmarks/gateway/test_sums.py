import pytest

from benchmarks.gateway.sums import Sums, read_histogram
from trireme.observe import metrics as names

PAGE = """# HELP trireme_gateway_line_seconds x
trireme_gateway_line_seconds_bucket{le="0.005",model="llm"} 2.0
trireme_gateway_line_seconds_count{model="llm"} 4.0
trireme_gateway_line_seconds_sum{model="llm"} 0.5
trireme_gateway_line_seconds_count{model="rag"} 7.0
trireme_gateway_line_seconds_sum{model="rag"} 9.0
"""


def test_a_histogram_of_one_model_is_read_off_the_page():
    assert read_histogram(PAGE, names.ROUTE_WAIT, "llm") == (0.5, 4.0)
    assert read_histogram("", names.ROUTE_WAIT, "llm") == (0, 0)


def test_what_came_since_then_is_the_difference_of_each():
    found = Sums(2.0, 20, 6.0, 21, 5.5).since(Sums(1.5, 10, 3.0, 10, 5.0))
    assert (found.lined, found.written) == (10, 11)
    assert (found.line, found.engine, found.cpu) == pytest.approx((0.5, 3.0, 0.5))
