"""What clients of the gateway read of a server that does not answer."""

import asyncio

import pytest

from trireme.errors import InvalidInputError, UnavailableError
from trireme.providers.triton_address import unaddressed, without_address


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no server answers at 10.0.0.7:8001; start one with: make serve", "no server answers; try again"),
        (
            "no tritonserver answers at [::1]:8000: HTTP status 400",
            "no tritonserver answers: HTTP status 400",
        ),
        (
            "the server at triton.internal:8001 did not answer (last error: ipv4:10.0.0.7:8001: reset); try again",
            "the server did not answer (last error:: reset); try again",
        ),
        ("model rag did not end its answer within 60 s", "model rag did not end its answer within 60 s"),
    ],
)
def test_an_address_is_left_out(said, told):
    assert without_address(said) == told


def test_only_a_server_that_is_away_is_meant():
    async def ask(error):
        raise error

    for error in (InvalidInputError("a at b:1"), UnavailableError("a at b:1")):
        with pytest.raises(type(error)) as caught:
            asyncio.run(unaddressed(ask)(error))
        assert str(caught.value) == ("a" if isinstance(error, UnavailableError) else "a at b:1")
