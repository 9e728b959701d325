import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import normalizers, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from fakes.encoders import WORDS, word_tokenizer
from trireme.encode import tokenizer as tokenizer_module
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import ArtifactError


def test_a_short_text_keeps_every_token():
    (row,) = word_tokenizer().encode_texts(["a b"])
    assert row.ids == [1, 4, 5, 2]
    assert row.truncated_tokens == 0


def test_a_long_text_is_cut_to_the_maximum_and_says_how_much_was_cut():
    (row,) = word_tokenizer(max_length=8).encode_texts(["a b c d e f g h i j"])
    assert row.ids == [1, 4, 5, 6, 7, 8, 9, 2]
    assert row.truncated_tokens == 4


def test_a_pair_marks_its_segments():
    (row,) = word_tokenizer().encode_pairs("a", ["b c"])
    assert row.ids == [1, 4, 2, 5, 6, 2]
    assert row.type_ids == [0, 0, 0, 1, 1, 1]


def test_the_passage_is_cut_before_the_query():
    (row,) = word_tokenizer(max_length=8).encode_pairs("a b", ["c d e f g"])
    assert row.ids == [1, 4, 5, 2, 6, 7, 8, 2]
    assert row.truncated_tokens == 2


def test_a_long_query_leaves_half_of_the_room_to_the_passage_and_is_whole_for_the_next():
    rows = word_tokenizer(max_length=9).encode_pairs("a b c d e f", ["g h i j", ""])
    assert rows[0].ids == [1, 4, 5, 6, 2, 10, 11, 12, 2]
    assert rows[0].truncated_tokens == 4
    assert rows[1].ids == [1, 4, 5, 6, 7, 8, 9, 2, 2]
    assert rows[1].truncated_tokens == 0


@pytest.mark.parametrize("max_length", [8, 9, 20])
def test_a_pair_is_cut_as_longest_first_cuts_it(max_length):
    ours = word_tokenizer(max_length)
    rust = RustTokenizer.from_str(ours._tokenizer.to_str())
    rust.enable_truncation(max_length, strategy="longest_first")
    texts = [" ".join((WORDS[4:] * 2)[:length]) for length in range(1, 15)]
    for query in texts:
        rows = ours.encode_pairs(query, texts)
        assert [row.ids for row in rows] == [rust.encode(query, text).ids for text in texts]


def test_a_query_that_fits_beside_a_short_passage_is_not_cut():
    (row,) = word_tokenizer(max_length=9).encode_pairs("a b c d e", ["f"])
    assert row.truncated_tokens == 0


def test_a_broken_file_is_an_artifact_error_naming_it(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        Tokenizer.load(path, 8)


@pytest.mark.parametrize(
    "processor",
    [
        processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1)),
        processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1)),
        processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[]),
    ],
    ids=["bert", "roberta", "none"],
)
def test_rows_are_those_of_the_tokenizers_own_post_processing(processor):
    rust = RustTokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rust.pre_tokenizer = WhitespaceSplit()
    rust.post_processor = processor
    for query, passage in [("a b", "c d e"), ("a", ""), ("", "b c")]:
        (single,), (pair,) = (
            Tokenizer(rust, 64).encode_texts([query]),
            Tokenizer(rust, 64).encode_pairs(query, [passage]),
        )
        expected_single, expected_pair = rust.encode(query), rust.encode(query, passage)
        assert (single.ids, single.type_ids) == (expected_single.ids, expected_single.type_ids)
        assert (pair.ids, pair.type_ids) == (expected_pair.ids, expected_pair.type_ids)


def test_a_tokenizer_without_a_token_for_a_letter_is_refused():
    rust = RustTokenizer(WordLevel({"b": 0}, unk_token="b"))
    rust.normalizer = normalizers.Replace("a", "")
    rust.pre_tokenizer = WhitespaceSplit()
    with pytest.raises(ArtifactError, match="letter a"):
        Tokenizer(rust, 8)


def test_texts_that_are_tokenized_in_parts_have_the_rows_of_one_part(monkeypatch):
    texts = ["a b c", "", "d", "e f g h i j a b c", "a"]
    tokenizer = word_tokenizer()
    whole = tokenizer.encode_texts(texts), tokenizer.encode_pairs("b a", texts)
    monkeypatch.setattr("trireme.encode.tokenizer.CHARACTERS_AT_ONCE", 5)
    assert (tokenizer.encode_texts(texts), tokenizer.encode_pairs("b a", texts)) == whole
    assert list(map(len, tokenizer_module._divide(texts))) == [2, 1, 1, 1]


def test_counting_agrees_with_encoding_however_often_a_word_comes():
    tokenizer = word_tokenizer()
    texts = ["a b", "", " \n", "a a a", "b  c\td", "z" * 500 + " a"]
    expected = [len(ids) for ids in tokenizer._encode(texts)]
    assert tokenizer.count_all(texts) == expected
    assert tokenizer.count_all(texts) == expected


def test_counting_forgets_words_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr("trireme.encode.tokenizer.MOST_WORDS", 10)
    tokenizer = word_tokenizer()
    for number in range(50):
        assert tokenizer.count_all([f"w{number} v{number} a"]) == [len(next(tokenizer._encode(["w v a"])))]
    assert len(tokenizer._word_sizes) <= 13
