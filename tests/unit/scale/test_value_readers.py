import pytest

from trireme.scale.value_readers import is_loopback, seconds, shown, whole


@pytest.mark.parametrize(
    ("host", "is_own"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::", False)]
)
def test_an_address_is_of_this_machine_alone_or_not(host, is_own):
    assert is_loopback(host) is is_own
    assert not is_loopback("localhost")


def test_bounds_themselves_are_within():
    read = whole(1, 3)["read"]
    assert [read(1), read(3)] == [1, 3]
    assert seconds(0.5)["read"](0.5) == 0.5
    assert seconds(0.5, is_off_at_zero=True)["read"](0) == 0.0
    for bad in (0, 0.49, 86_401):
        with pytest.raises(ValueError, match=r"0\.5 to 86400 seconds"):
            seconds(0.5)["read"](bad)


def test_a_long_value_is_shown_by_its_ends():
    assert shown("x" * 1000).count("x") < 60
    assert shown("short") == "'short'"
