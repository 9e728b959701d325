import sys

import pytest

from fakes import fake_pb


@pytest.fixture
def pb(monkeypatch):
    """The fake in the place where a backend finds Triton's own module."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake_pb)
    monkeypatch.setattr(fake_pb.MetricFamily, "metrics", {})
    monkeypatch.setattr(fake_pb.Logger, "errors", [])
    monkeypatch.setattr(fake_pb.Logger, "warnings", [])
    monkeypatch.setattr(fake_pb.Logger, "infos", [])
    return fake_pb
