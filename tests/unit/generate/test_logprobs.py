"""Entries of tokens beside the text that they make; the whole way is in test_service.py."""

import pytest

from trireme.generate.detokenizer import Detokenizer
from trireme.generate.logprobs import LEAST, TokenLog
from trireme.generate.stop_strings import StopStrings

TEXTS = ["one two three", "🙂漢字é and 👩‍👩‍👧‍👦", "naïve café", "  two  spaces\n\n"]


def play(tokenizer, text, stops=(), size=1):
    """What goes out for the tokens of `text`, `size` at a time: texts with their entries."""
    log, detokenizer, found = TokenLog(tokenizer), Detokenizer(tokenizer), StopStrings(tuple(stops))
    tokens = tokenizer.encode(text, add_special_tokens=False)
    pieces = []
    for start in range(0, len(tokens), size):
        said = ""
        for token in tokens[start : start + size]:
            made = detokenizer.push((token,))
            log.add(
                token, -float(token), [(token, -float(token)), (7, -9.0)], made, is_whole=detokenizer.is_whole
            )
            said += made
        pieces.append(log.release(found.push(said)))
        if found.found:
            break
    if not found.found:
        pieces.append(log.release(found.push(detokenizer.finish()) + found.finish()))
    pieces.append(log.finish(is_cut=found.found))
    return pieces, tokens


def raw_of(entries):
    return b"".join(entry.raw for entry in entries)


@pytest.mark.parametrize("tokenizer", ["byte_level", "sentencepiece"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [1, 3])
def test_the_bytes_of_each_pieces_entries_are_its_text(request, tokenizer, text, size):
    pieces, tokens = play(request.getfixturevalue(tokenizer), text, size=size)
    assert all(raw_of(entries).decode() == said for said, entries in pieces)
    assert text in "".join(said for said, _ in pieces)
    assert [entry.logprob for _, entries in pieces for entry in entries] == [
        max(-float(token), LEAST) for token in tokens
    ]


@pytest.mark.parametrize("cut", range(len("one two three four")))
@pytest.mark.parametrize("size", [1, 2, 9])
def test_a_stop_string_takes_the_entries_of_its_tokens_along(byte_level, cut, size):
    text = "one two three four"
    pieces, _ = play(byte_level, text, [text[cut : cut + 3]], size)
    shown = text[: text.find(text[cut : cut + 3])]
    assert "".join(said for said, _ in pieces) == shown
    assert all(raw_of(entries).decode() == said for said, entries in pieces)


def test_of_a_token_that_is_cut_in_two_the_entry_has_the_part_that_is_shown(byte_level):
    whole, _ = play(byte_level, " three")
    assert [entry.token for _, entries in whole for entry in entries] == [" three"]
    cut, _ = play(byte_level, " three", ["ree"])
    [entry] = [entry for _, entries in cut for entry in entries]
    assert (entry.token, entry.raw) == (" th", b" th")
    assert entry.logprob == whole[0][1][0].logprob


def test_a_character_that_is_never_complete_keeps_its_bytes(byte_level):
    first = byte_level.encode("🙂", add_special_tokens=False)[0]
    log, detokenizer = TokenLog(byte_level), Detokenizer(byte_level)
    made = detokenizer.push((first,))
    log.add(first, -1.0, (), made, is_whole=detokenizer.is_whole)
    assert log.release(made) == ("", [])
    said = log.release(detokenizer.finish())
    rest, entries = log.finish(is_cut=False)
    assert (said, rest) == (("", []), "\ufffd")
    assert raw_of(entries) == byte_level.token_bytes(first)
    assert raw_of(entries).decode("utf-8", "replace") == rest


def test_a_stop_string_behind_a_broken_character_takes_its_tokens_along(byte_level):
    broken = byte_level.encode("🙂", add_special_tokens=False)[0]
    [stop] = byte_level.encode(" three", add_special_tokens=False)
    log, detokenizer, stops = TokenLog(byte_level), Detokenizer(byte_level), StopStrings((" three",))
    for token in (broken, stop):
        made = detokenizer.push((token,))
        log.add(token, -1.0, (), made, is_whole=detokenizer.is_whole)
    said = log.release(stops.push(made))
    rest, entries = log.finish(is_cut=True)
    assert (said, rest) == (("", []), "\ufffd")
    assert raw_of(entries) == byte_level.token_bytes(broken)


def test_a_control_token_has_no_bytes_and_its_name(byte_level):
    control = min(byte_level.special_ids)
    log = TokenLog(byte_level)
    log.add(control, -0.5, [(control, -0.5)], "", is_whole=True)
    _, [entry] = log.release("")
    assert (entry.raw, entry.token) == (b"", byte_level.token_name(control))
    assert entry.token.startswith("<")


def test_an_entry_is_written_as_openai_writes_it(byte_level):
    pieces, [token] = play(byte_level, " three")
    entry = pieces[0][1][0].as_json()
    assert entry == {
        "token": " three",
        "logprob": max(-float(token), LEAST),
        "bytes": list(b" three"),
        "top_logprobs": [
            {"token": " three", "logprob": max(-float(token), LEAST), "bytes": list(b" three")},
            {
                "token": byte_level.token_bytes(7).decode(),
                "logprob": -9.0,
                "bytes": list(byte_level.token_bytes(7)),
            },
        ],
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [(float("-inf"), LEAST), (float("nan"), LEAST), (-1e9, LEAST), (1e-9, 0.0), (-0.5, -0.5)],
)
def test_what_json_cannot_say_is_the_least(byte_level, given, said):
    log = TokenLog(byte_level)
    log.add(300, given, (), "x", is_whole=True)
    assert log.release("x")[1][0].logprob == said
