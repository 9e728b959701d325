import asyncio
import base64

import numpy as np
import pytest

from benchmarks.gateway.embeddings import IN_FLIGHT, check_same, choose_ports, decode_vectors, drive
from trireme.errors import UnavailableError
from trireme.settings import Settings


def test_vectors_of_an_answer_are_rows_in_order():
    made = np.arange(6, dtype="<f4").reshape(2, 3)
    answer = {"data": [{"embedding": base64.b64encode(row.tobytes()).decode()} for row in made]}
    assert np.array_equal(decode_vectors(answer), made)


def test_every_batch_is_sent_once_with_so_many_in_flight():
    running, most, seen = [0], [0], []

    async def embed(texts):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        seen.append(texts[0])
        running[0] -= 1

    batches = [[str(number)] * 4 for number in range(100)]
    assert asyncio.run(drive(embed, batches)) > 0
    assert sorted(seen, key=int) == [batch[0] for batch in batches]
    assert most[0] == IN_FLIGHT


def test_other_vectors_are_an_error():
    async def ones(texts):
        return np.ones((len(texts), 3))

    async def zeros(texts):
        return np.zeros((len(texts), 3))

    asyncio.run(check_same({"a": ones, "b": ones}, ["x"]))
    with pytest.raises(UnavailableError, match="not those of tritonserver"):
        asyncio.run(check_same({"a": ones, "b": zeros}, ["x"]))


def test_the_gateway_gets_the_ports_of_the_server_alone():
    more = choose_ports(Settings(grpc_port=7001, http_port=7000, metrics_port=7002, tenant="x"))
    assert more == {
        "TRIREME_HOST": "127.0.0.1",
        "TRIREME_HTTP_PORT": "7000",
        "TRIREME_GRPC_PORT": "7001",
        "TRIREME_METRICS_PORT": "7002",
    }
