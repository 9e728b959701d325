import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.exchange import open_exchange
from trireme.gateway.parameters import read_parameters, require_known


def read(query):
    return read_parameters(open_exchange({"headers": [], "query_string": query}, "usage"))


def test_parameters_are_decoded_once_each():
    assert read(b"tenant=a%20b&user=%C3%BC&empty=") == {"tenant": "a b", "user": "ü", "empty": ""}
    assert read(b"") == {}


@pytest.mark.parametrize("query", [b"a=1&a=2", b"a=%FF", b"&".join(b"p%d=1" % n for n in range(9))])
def test_parameters_that_can_be_read_in_two_ways_are_refused(query):
    with pytest.raises(InvalidInputError):
        read(query)


def test_a_parameter_that_nobody_knows_is_named_and_so_is_an_empty_one():
    require_known({"tenant": "a"}, ("tenant", "user"))
    with pytest.raises(InvalidInputError, match="unknown parameter 'tennant'; known: tenant, user") as caught:
        require_known({"tennant": "a"}, ("tenant", "user"))
    assert caught.value.param == "tennant"
    with pytest.raises(InvalidInputError, match="tenant is empty"):
        require_known({"tenant": ""}, ("tenant", "user"))
