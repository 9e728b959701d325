"""What budget stores do to amounts."""

import pytest

from trireme.budget.amounts import check_claim, clamp, differences
from trireme.budget.caps import MOST, Cap
from trireme.budget.port import Claim, Counter, Snapshot
from trireme.errors import InvalidInputError


def claim(tokens=1, *, caps=(), tenant="acme", user="ann"):
    return Claim("a", tenant, user, caps, tokens, 1, 1, 1, 1.0, b"")


@pytest.mark.parametrize("tokens", [0, 1, MOST])
def test_whole_amounts_up_to_the_largest_are_taken(tokens):
    check_claim(claim(tokens, caps=(Cap("acme", "ann", "day", tokens),)))


@pytest.mark.parametrize("tokens", [-1, MOST + 1, 1.5, True, None])
def test_others_are_refused_by_the_name_of_what_is_wrong(tokens):
    with pytest.raises(InvalidInputError, match="tokens must be whole") as caught:
        check_claim(claim(tokens))
    assert caught.value.param == "tokens"


@pytest.mark.parametrize(
    ("cap", "tenant", "user"),
    [(Cap("acme", "ann", "day", 1), "acme", ""), (Cap("acme", "", "day", 1), "", "")],
)
def test_a_cap_that_would_not_be_kept_is_refused(cap, tenant, user):
    with pytest.raises(InvalidInputError, match=f"of a {cap.level}"):
        check_claim(claim(caps=(cap,), tenant=tenant, user=user))


@pytest.mark.parametrize(("amount", "right"), [(-1, 0), (0, 0), (7, 7), (MOST, MOST), (MOST + 1, MOST)])
def test_what_was_used_is_counted_as_the_nearest_that_can_be(amount, right):
    assert clamp(amount) == right


def test_counters_differ_by_what_is_spent_alone():
    was = Counter("tenant", "day", 0, 5, 6, 7, 8)
    (found,) = differences(Snapshot("e", 1, (was,)), [Counter("tenant", "day", 0, 9, 0, 2, 0)])
    assert found[1:] == (4, -5)


@pytest.mark.parametrize("other", [("user", "day", 0), ("tenant", "month", 0), ("tenant", "day", 86_400_000)])
def test_a_counter_of_another_place_is_refused(other):
    snapshot = Snapshot("e", 1, (Counter("tenant", "day", 0, 5, 6, 7, 8),))
    with pytest.raises(InvalidInputError, match="take another snapshot"):
        list(differences(snapshot, [Counter(*other, 1, 1, 1, 1)]))
