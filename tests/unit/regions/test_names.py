import pytest

from trireme.regions.names import Addresses, look_up
from trireme.scale.region_values import Region


class Names:
    """Says what it is told to say."""

    def __init__(self, *said):
        self.said, self.asked = list(said), []

    def __call__(self, host, port):
        self.asked.append((host, port))
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def addresses(*said, remembered=()):
    names = Names(*said)
    return Addresses(Region("b", "b.example.org", 8010), remembered, names), names


def test_an_address_needs_no_look_up():
    names = Names()
    one = Addresses(Region("b", "10.0.0.1", 8010), ["10.9.9.9"], names)
    one.refresh()
    assert one.known == ("10.0.0.1",)
    assert names.asked == []


def test_a_name_is_looked_up_again_and_its_addresses_have_one_order():
    one, names = addresses(
        ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.10"]
    )
    assert one.known == ()
    one.refresh()
    assert one.known == ("10.0.0.1", "10.0.0.2", "fd00::1")
    one.refresh()
    assert one.known == ("10.0.0.1", "10.0.0.2")
    one.refresh()
    assert one.known == ("10.0.0.10",)
    assert names.asked == [("b.example.org", 8010)] * 3


@pytest.mark.parametrize("failure", [OSError("no DNS"), UnicodeError("a name"), [], ["fe80::1%eth0"]])
def test_the_last_addresses_hold_where_a_look_up_fails(failure):
    one, _ = addresses(failure, ["10.0.0.2"], failure, remembered=["10.0.0.1"])
    one.refresh()
    assert one.known == ("10.0.0.1",)
    one.refresh()
    one.refresh()
    assert one.known == ("10.0.0.2",)


def test_the_machine_itself_knows_localhost():
    assert set(look_up("localhost", 80)) & {"127.0.0.1", "::1"}
