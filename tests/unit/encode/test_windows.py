import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import pre_tokenizers
from tokenizers.models import WordLevel

from trireme.encode.windows import Spans, find_windows


def spans_of(text, pre=None):
    """One token for each word, or for each character where `pre` splits so."""
    tokenizer = RustTokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre or pre_tokenizers.WhitespaceSplit()
    encoding = tokenizer.encode(text)
    return Spans(text, encoding.ids, encoding.offsets)


CHARACTERS = pre_tokenizers.Split("", "isolated")


def windows_of(text, room, pre=None):
    spans = spans_of(text, pre)
    found = find_windows(spans, 0, len(spans.ids), room)
    assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])]
    assert found[-1][1] == len(spans.ids)
    assert all(0 < last - first <= room for first, last in found)
    return [text[spans.places[first][0] : spans.places[last - 1][1]] for first, last in found]


def test_a_window_ends_with_a_sentence_where_one_ends_near_its_end():
    text = "One two three. Four five six seven. Eight nine ten eleven twelve thirteen."
    assert windows_of(text, 8) == [
        "One two three. Four five six seven.",
        "Eight nine ten eleven twelve thirteen.",
    ]


@pytest.mark.parametrize("end", ['."', "!)", "\u2026", "?\u00bb", "\u061f", "\u0964"])
def test_marks_behind_a_sentences_end_belong_to_it(end):
    assert windows_of(f"a b c d e f g{end} h i j", 8)[0] == f"a b c d e f g{end}"


def test_a_window_ends_with_a_line_and_else_with_a_word_never_with_a_number():
    assert windows_of("a b c d e f g\nh i j k", 8)[0] == "a b c d e f g"
    assert windows_of("about it 3.14159 and more", 12, CHARACTERS)[0] == "about it "
    assert windows_of("abc 12.3456789", 10, CHARACTERS)[0] == "abc 12.345"


def test_chinese_sentences_end_without_a_space_behind_them():
    text = "\u6f6e\u6c50\u78e8\u574a\u3002\u4eca\u5929\u5f00\u653e"
    assert windows_of(text, 6, CHARACTERS) == [text[:5], text[5:]]


def test_a_text_without_ends_is_cut_where_a_window_is_full():
    assert windows_of("x" * 25, 10, CHARACTERS) == ["x" * 10, "x" * 10, "x" * 5]


def test_tokens_that_begin_with_their_space_are_cut_before_it():
    spans = spans_of("a b c d e f. g h", pre_tokenizers.ByteLevel(add_prefix_space=False))
    assert spans.places[1] in ((1, 3), (2, 3))
    first, *_ = find_windows(spans, 0, len(spans.ids), 8)
    assert spans.text[: spans.places[first[1] - 1][1]] == "a b c d e f."


def test_tokens_before_a_place_are_those_that_end_there():
    spans = spans_of("query: a b")
    assert [spans.count_before(place) for place in (0, 5, 6, 7, 8, 10)] == [0, 0, 1, 1, 2, 3]
