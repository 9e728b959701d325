import queue
import threading

import pytest

from trireme.ingest.peek_queue import PeekQueue


def filled(*items, size=0):
    made = PeekQueue(size)
    for item in items:
        made.put(item)
    return made


def test_the_next_item_is_taken_where_it_is_wanted():
    items = filled(1, 2)
    assert items.take_if(lambda item: item == 1) == 1
    assert items.get_nowait() == 2


def test_what_is_not_wanted_stays_where_it_is():
    items = filled(1, 2)
    assert items.take_if(lambda item: item == 2) is None
    assert [items.get_nowait(), items.get_nowait()] == [1, 2]


def test_of_nothing_nothing_is_taken():
    assert filled().take_if(lambda _: True) is None


def test_a_place_that_is_taken_lets_a_waiting_put_go_on():
    items = filled(1, size=1)
    with pytest.raises(queue.Full):
        items.put_nowait(2)
    putting = threading.Thread(target=items.put, args=(2,))
    putting.start()
    assert items.take_if(lambda _: True) == 1
    putting.join(60)
    assert not putting.is_alive() and items.get_nowait() == 2
