import asyncio

import pytest

from trireme.errors import DeadlineError, InvalidInputError, TooLargeError
from trireme.gateway.bodies import ClientGoneError, decode_object, read_body
from trireme.gateway.file import Limits

SMALL = Limits(body_bytes=100, depth=4, items=10, body_seconds=0.05)


def receive_of(*messages):
    """ASGI's receive: the messages, then silence."""
    left = list(messages)

    async def receive():
        if left:
            return left.pop(0)
        await asyncio.Event().wait()

    return receive


def part(body, *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def read(*messages, limits=SMALL):
    return asyncio.run(read_body(receive_of(*messages), limits))


def test_a_body_is_the_parts_in_their_order():
    assert read(part(b'{"a"', more=True), part(b": 1}")) == b'{"a": 1}'


def test_a_body_over_its_bytes_is_refused_before_its_end_is_there():
    with pytest.raises(TooLargeError, match="100 bytes"):
        read(part(b"x" * 60, more=True), part(b"x" * 60, more=True))


def test_a_body_of_exactly_its_bytes_is_taken():
    assert read(part(b"x" * 100)) == b"x" * 100


def test_a_body_that_stops_coming_is_refused_after_its_seconds():
    with pytest.raises(DeadlineError, match=r"0\.05 s"):
        read(part(b"x", more=True))


def test_a_client_that_goes_in_the_middle_of_its_body_is_told_apart():
    with pytest.raises(ClientGoneError):
        read(part(b"x", more=True), {"type": "http.disconnect"})


def test_a_cancel_of_somebody_else_stays_a_cancel():
    async def cancelled():
        task = asyncio.ensure_future(read_body(receive_of(), Limits()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": 1} x',
        b"{'a': 1}",
        b'{"a": 1,}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_refused_without_being_quoted(body):
    with pytest.raises(InvalidInputError, match="not valid JSON") as caught:
        decode_object(body, SMALL)
    assert "'a'" not in str(caught.value)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_what_is_no_object_is_refused(body):
    with pytest.raises(InvalidInputError, match="JSON object"):
        decode_object(body, SMALL)


def test_a_body_deeper_than_its_levels_is_refused():
    assert decode_object(b'{"a": [[[1]]]}', SMALL) == {"a": [[[1]]]}
    with pytest.raises(TooLargeError, match="deeper than 4"):
        decode_object(b'{"a": [[[[1]]]]}', SMALL)


def test_a_body_as_deep_as_its_bytes_does_not_take_the_stack():
    body = b'{"a": ' + b"[" * 3_000_000
    with pytest.raises(TooLargeError):
        decode_object(body, Limits())


def test_a_body_of_more_items_than_allowed_is_refused():
    assert len(decode_object(b'{"a": [1,2,3,4,5,6,7,8,9]}', SMALL)["a"]) == 9
    with pytest.raises(TooLargeError, match="10 items"):
        decode_object(b'{"a": [1,2,3,4,5,6,7,8,9,10,11,12]}', SMALL)


def test_signs_within_strings_count_for_nothing():
    text = ',[{"\\' * 50
    encoded = '{"a": "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"}'
    assert decode_object(encoded.encode(), SMALL) == {"a": text}


@pytest.mark.parametrize("tail", [b"", b"\\", b'"', b'"]'])
def test_a_long_string_of_quotes_is_read_once(tail):
    # From each quote the rest would be read again: minutes instead of milliseconds.
    body = b"[" * 65 + b'"' + b'\\"' * 1_000_000 + tail
    with pytest.raises(TooLargeError, match="deeper than 64"):
        decode_object(body, Limits())


def test_what_closes_more_than_it_opens_is_no_json():
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        decode_object(b"]" * 100 + b"[" * 100, Limits())


@pytest.mark.parametrize("piece", [b'"",', b'" ","x",'])
def test_a_body_of_millions_of_strings_is_refused_without_being_read(piece):
    body = b'{"a": [' + piece * (8_000_000 // len(piece)) + b'""]}'
    with pytest.raises(TooLargeError, match="items"):
        decode_object(body, Limits())
