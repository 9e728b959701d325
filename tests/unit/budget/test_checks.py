import pytest

from trireme.budget.caps import EACH, MOST, WINDOWS, Cap
from trireme.budget.checks import check_cap
from trireme.errors import InvalidInputError


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("tenant", "user"), [("", ""), ("acme", ""), ("acme", "ann"), (EACH, EACH)])
@pytest.mark.parametrize("amount", [None, 0, MOST])
def test_every_level_window_and_amount_may_be_kept(window, tenant, user, amount):
    check_cap(Cap(tenant, user, window, amount, amount))


def test_an_amount_over_the_most_is_told_in_the_unit_that_people_write():
    with pytest.raises(InvalidInputError, match=r"dollars must be from 0 to 9007199\.254740991"):
        check_cap(Cap("acme", "", "day", nanos=MOST + 1))
    with pytest.raises(InvalidInputError, match=f"tokens must be from 0 to {MOST}"):
        check_cap(Cap("acme", "", "day", tokens=MOST + 1))
