import asyncio

import pytest

from benchmarks.encoders.http_load import HttpLoad, drive, make_bodies, send_all
from trireme.errors import UnavailableError
from trireme.tune.perf_analyzer import read_export

QUERIES = [{"query": f"q{i}", "passages": ["a", "b"]} for i in range(2)]


def make_load(items, **changes):
    values = {"concurrency": 2, "requests": 4, "batch": 1, "seconds": 5.0, **changes}
    return HttpLoad("http://127.0.0.1:9", "m", items, **values)


def test_texts_come_in_order_and_again_from_the_first():
    bodies = list(make_bodies(make_load(["a", "b", "c"], batch=2)))
    assert [body["input"] for _, body in bodies] == [["a", "b"], ["c", "a"], ["b", "c"], ["a", "b"]]
    assert {path for path, _ in bodies} == {"/embeddings"}


def test_queries_are_asked_to_rerank_their_passages():
    path, body = next(make_bodies(make_load(QUERIES)))
    assert path == "/rerank"
    assert body == {"model": "m", "query": "q0", "documents": ["a", "b"]}


def test_so_many_requests_are_in_flight_and_no_more():
    flying, most = 0, 0

    async def post(_path, _body):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.01)
        flying -= 1

    records = asyncio.run(send_all(make_load(["a"], requests=9, concurrency=3), post))
    assert (len(records), most) == (9, 3)
    span = [0, max(record["response_timestamps"][-1] for record in records)]
    experiment = {"experiment": {"mode": "concurrency", "value": 3}, "requests": records}
    figures = read_export({"experiments": [{**experiment, "window_boundaries": span}]}, "m")
    assert figures.requests == 6
    assert figures.p50_ms >= 10


def test_a_run_ends_when_its_time_is_over():
    async def post(_path, _body):
        await asyncio.sleep(0.02)

    records = asyncio.run(send_all(make_load(["a"], requests=10_000, seconds=1.0), post))
    assert 2 <= len(records) < 1_000


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(UnavailableError, match=r"^Client.*127\.0\.0\.1:9"):
        drive(make_load(["a"], requests=1, concurrency=1), 20.0)


@pytest.mark.parametrize("batch", [1, 32])
def test_a_request_holds_a_batch(batch):
    _, body = next(make_bodies(make_load([str(i) for i in range(40)], batch=batch)))
    assert len(body["input"]) == batch
