import pytest

from trireme.errors import InvalidInputError, NotFoundError
from trireme.export.calibration import make_odd_texts, make_pairs, make_texts, read_paragraphs

PARAGRAPHS = [f"paragraph number {n} has a few more words than a query has" for n in range(100)]


def test_paragraphs_are_folded_and_scraps_are_left_out(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("scrap\n\n" + "\n\n".join(text.replace(" few ", "\n  few ") for text in PARAGRAPHS))
    assert read_paragraphs(path) == PARAGRAPHS


def test_a_file_that_cannot_calibrate_is_refused_by_name(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.txt does not exist"):
        read_paragraphs(tmp_path / "none.txt")
    (tmp_path / "short.txt").write_text("only one paragraph that is long enough")
    with pytest.raises(InvalidInputError, match=r"short\.txt has 1 paragraphs"):
        read_paragraphs(tmp_path / "short.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        read_paragraphs(tmp_path / "binary.txt")


def test_texts_are_queries_paragraphs_and_longer_ones_from_all_over_the_file():
    texts = make_texts(PARAGRAPHS, rows=30)
    assert len(texts) == 30
    assert texts[0] == "paragraph number 0 has a few more words than"
    assert texts[1] == PARAGRAPHS[3]
    assert texts[2] == " ".join(PARAGRAPHS[6:10])
    assert texts[-1].startswith("paragraph number 87")


def test_every_second_pair_is_a_query_with_its_own_passage():
    pairs = make_pairs(PARAGRAPHS, rows=10)
    assert pairs[0] == ("paragraph number 0 has a few more words than", PARAGRAPHS[0])
    assert pairs[1] == ("paragraph number 10 has a few more words than", PARAGRAPHS[47])


def test_odd_texts_are_the_same_each_time_and_hold_signs_repeats_and_other_scripts():
    texts = make_odd_texts()
    assert texts == make_odd_texts()
    assert "!" in texts
    assert any(len(set(text.split())) == 1 and len(text.split()) > 2 for text in texts)
    assert sum(any(ord(sign) > 0x300 for sign in text) for text in texts) >= 14
