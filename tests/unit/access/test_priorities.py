import pytest

from trireme.access.checks import check_key
from trireme.access.keys import Key, digest_of
from trireme.access.priorities import NORMAL, PRIORITIES, lowest
from trireme.errors import InvalidInputError


def test_batch_is_the_lowest_and_high_the_highest_priority():
    assert lowest(PRIORITIES) == PRIORITIES[0] == "batch"
    assert lowest(("high", "normal")) == "normal"
    assert lowest(("high",)) == "high"


def test_a_key_is_of_normal_priority_unless_it_says_another_one_of_them():
    assert Key("k", "acme").priority == NORMAL == "normal"
    for priority in PRIORITIES:
        check_key(Key("k", "acme", priority=priority), digest_of("s"))
    with pytest.raises(InvalidInputError, match="one of batch, normal, high, not 'urgent'") as caught:
        check_key(Key("k", "acme", priority="urgent"), digest_of("s"))
    assert caught.value.param == "priority"
