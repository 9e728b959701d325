import pytest

from trireme.providers.logprobs import bytes_of, cut_entries, join_tables, write_table


def entry(raw, logprob=-0.5, top=()):
    said = raw if isinstance(raw, bytes) else raw.encode()
    token = said.decode("utf-8", "replace")
    return {"token": token, "logprob": logprob, "bytes": list(said), "top_logprobs": list(top)}


WORDS = [entry("One"), entry("."), entry(" Zwei")]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("On", ["On"]),
        ("One", ["One"]),
        ("One. Z", ["One", ".", " Z"]),
        ("One. Zwei", ["One", ".", " Zwei"]),
    ],
)
def test_entries_are_cut_with_their_text(text, tokens):
    kept = cut_entries(WORDS, text)
    assert [one["token"] for one in kept] == tokens
    assert b"".join(map(bytes_of, kept)).decode() == text
    assert all(one["logprob"] == -0.5 for one in kept)


def test_characters_of_several_bytes_are_counted_in_bytes():
    smile = "🙂".encode()
    halves = [entry("a"), entry(smile[:2]), entry(smile[2:]), entry("b")]
    assert cut_entries(halves, "a🙂") == tuple(halves[:3])


@pytest.mark.parametrize(
    ("text", "raws"),
    [
        ("\ufffd", [b"\xc3"]),
        ("\ufffdSTO", [b"\xc3", b"STO"]),
        ("\ufffdSTOP é", [b"\xc3", b"STOP", " é".encode()]),
    ],
)
def test_bytes_that_are_no_utf8_are_one_character_of_the_text(text, raws):
    kept = cut_entries([entry(b"\xc3"), entry("STOP"), entry(" é漢")], text)
    assert [bytes_of(one) for one in kept] == raws


def test_the_older_table_is_cut_with_its_text():
    table = {**write_table(WORDS, 0), "top_logprobs": None}
    [kept] = cut_entries([table], "One. Z")
    assert kept == {
        "tokens": ["One", ".", " Z"],
        "token_logprobs": [-0.5] * 3,
        "top_logprobs": None,
        "text_offset": [0, 3, 4],
    }
    assert cut_entries([table], "One. Zwei") == (table,)
    assert cut_entries([table], "One")[0]["token_logprobs"] == [-0.5]
    assert cut_entries([table], "") == ()


def test_entries_without_bytes_are_their_token():
    plain = [{"token": "é", "logprob": -1.0}, {"token": "x", "logprob": -2.0, "bytes": None}]
    assert cut_entries(plain, "é") == tuple(plain[:1])


def test_the_older_table_has_the_chosen_token_among_the_alternatives_and_offsets_in_characters():
    first, second = (bytes([byte]) for byte in "ö".encode())
    top = [{"token": "é", "logprob": -0.2, "bytes": [195, 169]}]
    table = write_table([entry("é", -0.7, top), entry(first), entry(second), entry("b")], 10)
    assert table == {
        "tokens": ["é", "\ufffd", "\ufffd", "b"],
        "token_logprobs": [-0.7, -0.5, -0.5, -0.5],
        "top_logprobs": [{"é": -0.7}, {"\ufffd": -0.5}, {"\ufffd": -0.5}, {"b": -0.5}],
        "text_offset": [10, 11, 11, 12],
    }
    other = [{"token": "x", "logprob": -0.2, "bytes": [120]}]
    assert write_table([entry("é", -0.7, other)], 0)["top_logprobs"] == [{"x": -0.2, "é": -0.7}]


def test_tables_of_two_parts_are_joined_and_what_one_lacks_is_null():
    first, second = write_table([entry("a")], 0), write_table([entry("b")], 1)
    assert join_tables(None, first) == first
    joined = join_tables(first, second)
    assert (joined["tokens"], joined["text_offset"]) == (["a", "b"], [0, 1])
    assert join_tables({**first, "top_logprobs": None}, second)["top_logprobs"] is None
    assert join_tables(first, {"tokens": ["b"]})["token_logprobs"] is None
