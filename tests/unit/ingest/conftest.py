import pytest

from fakes.worker import Bench


@pytest.fixture
def bench():
    return Bench()
