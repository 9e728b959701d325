import pytest
from fakes import word_tokenizer

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


def test_a_query_that_fits_beside_a_short_passage_is_not_cut():
    (row,) = word_tokenizer(max_length=9).encode_pairs("a b c d e", ["f"])
    assert row.truncated_tokens == 0


def test_a_broken_file_is_an_artifact_error_naming_it(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        Tokenizer.load(path, 8)
