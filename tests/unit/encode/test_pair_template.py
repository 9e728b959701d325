import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from trireme.encode.pair_template import PairTemplate
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "filled"),
    [("ask {query} of {passage} now", "ask Q of P now"), ("{passage} for {query}", "P for Q")],
)
def test_a_template_is_filled_in_its_own_order(text, filled):
    assert PairTemplate.parse(text).fill("Q", "P") == filled


@pytest.mark.parametrize("text", ["", "{query}", "{passage} {passage}", "{query} {query} {passage}"])
def test_a_template_holds_both_once(text):
    with pytest.raises(InvalidInputError, match="once each"):
        PairTemplate.parse(text)


def test_what_stands_in_a_query_is_never_taken_for_a_place_of_the_template():
    assert PairTemplate.parse("{query} {passage} e").fill("{passage}", "{query}") == "{passage} {query} e"


WORDS = ["[UNK]", "[CLS]", *"abcdefghij0123456789"]


def word_tokenizer(max_length):
    """Every word is one token, and [CLS] stands before a text that is framed."""
    rust = RustTokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rust.pre_tokenizer = WhitespaceSplit()
    rust.post_processor = TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B:1", special_tokens=[("[CLS]", 1)]
    )
    return Tokenizer(rust, max_length)


def words(row):
    return [WORDS[number] for number in row.ids]


def test_a_filled_template_has_no_special_tokens_and_one_segment():
    (row,) = word_tokenizer(8).encode_filled(PairTemplate.parse("a {query} b {passage} c"), "d", ["e"])
    assert (words(row), row.type_ids, row.truncated_tokens) == (["a", "d", "b", "e", "c"], [0] * 5, 0)


def test_what_is_too_long_is_cut_before_the_templates_end():
    template = PairTemplate.parse("a {query} b {passage} i j")
    short, long = word_tokenizer(max_length=8).encode_filled(template, "d", ["e", "e f g h e f g h"])
    assert words(short) == ["a", "d", "b", "e", "i", "j"]
    assert words(long) == ["a", "d", "b", "e", "f", "g", "i", "j"]
    assert long.truncated_tokens == 5
