import pytest

from trireme.providers.port import ProviderError
from trireme.providers.sse import Frame, SseReader

STREAM = (
    "\ufeff: a comment\n"
    "data: one\n\n"
    "event: ping\r\ndata: {}\r\n\r\n"
    "data: zwei Zeilen\rdata:und ü\r\r"
    "id: 7\nretry: 10\ndata\ndata: \n\n"
    "event: nothing\n\n"
    ":\n\n"
    "data:  two spaces\nunknown: x\n\n"
    "data: \u20ac \U0001f6a3\n\n"
    "data: never ended"
).encode()
FRAMES = [
    Frame("", "one"),
    Frame("ping", "{}"),
    Frame("", "zwei Zeilen\nund ü"),
    Frame("", "\n"),
    Frame("", " two spaces"),
    Frame("", "\u20ac \U0001f6a3"),
]


def read(*pieces):
    reader = SseReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def test_a_stream_is_its_frames_by_the_rules():
    assert read(STREAM) == FRAMES


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_cut_at_any_byte_changes_nothing(cut):
    assert read(STREAM[:cut], STREAM[cut:]) == FRAMES


def test_bytes_one_by_one_change_nothing():
    assert read(*(STREAM[place : place + 1] for place in range(len(STREAM)))) == FRAMES


def test_a_frame_comes_with_the_line_that_ends_it_and_not_later():
    reader = SseReader()
    assert reader.feed(b"data: x\n") == []
    assert reader.feed(b"\n") == [Frame("", "x")]


def test_a_carriage_return_at_the_end_waits_for_its_second_half():
    reader = SseReader()
    assert reader.feed(b"data: x\r\n\r") == []
    assert reader.feed(b"\n") == [Frame("", "x")]


def test_a_byte_that_is_no_utf8_is_replaced():
    assert read(b"data: \xff\n\n") == [Frame("", "\ufffd")]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 200, b"data: 0123456789\n" * 20])
def test_a_frame_that_never_ends_is_refused(piece):
    reader = SseReader(frame_bytes=100)
    with pytest.raises(ProviderError, match="over 100 bytes") as caught:
        reader.feed(piece)
    assert caught.value.kind == "malformed"


def test_many_short_frames_are_no_long_one():
    assert len(read(b"data: x\n\n" * 5000)) == 5000


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("cut", range(40))
def test_every_end_of_line_gives_the_same_frames_cut_anywhere(end, cut):
    raw = "data: one\n\n:x\nevent: ping\ndata: {}\ndata: ü\n\ndata: no end".replace("\n", end).encode()
    assert read(raw[:cut], raw[cut:]) == [Frame("", "one"), Frame("ping", "{}\nü")]
