import pytest

from trireme.errors import InvalidInputError
from trireme.quantize.recipe import QuantizeRecipe
from trireme.quantize.texts import BUILT_IN, cut_windows, read_texts

BOS = 999


def encode(text):
    return list(text.encode())


def read(sample, prefix=(), **keys):
    recipe = QuantizeRecipe("m", **{"sequence_length": 64, "eval_tokens": 512, **keys})
    return read_texts(recipe, encode, prefix, sample, max_positions=128)


def test_windows_have_one_length_and_are_spread_evenly():
    windows = cut_windows(range(100), (BOS,), 11, 4)
    assert [window[:2] for window in windows] == [(BOS, 0), (BOS, 20), (BOS, 50), (BOS, 70)]
    assert {len(window) for window in windows} == {11}
    assert cut_windows(range(5), (), 6, 4) == ()


def test_the_built_in_text_is_split_and_no_token_is_in_both_parts(sample):
    # GPTQ takes as many windows as there are here.
    texts = read(sample, method="gptq")
    text = sample.read_bytes()
    first = b"".join(bytes(window) for window in texts.calibration.windows)
    rest = b"".join(bytes(window) for window in texts.evaluation.windows)
    assert texts.calibration.name == BUILT_IN and texts.evaluation.name == f"held out of {BUILT_IN}"
    border = text.index(rest[:64])
    assert 0.7 * len(text) < border < 0.8 * len(text)
    assert text[: len(first)] == first and len(first) <= border
    assert text[border - 1 : border] == b"\n"


def test_an_eval_file_leaves_the_whole_text_for_calibration(sample, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("Another text. " * 100)
    texts = read(sample, eval=str(other), method="gptq")
    assert texts.evaluation.name == "other.txt"
    assert texts.calibration.tokens == len(sample.read_bytes()) // 64 * 64
    assert texts.evaluation.tokens == 512


def test_a_method_without_calibration_reads_none(sample):
    assert read(sample, method="bnb-nf4").calibration is None


def test_every_window_starts_with_the_prefix(sample):
    texts = read(sample, prefix=(BOS,))
    windows = (*texts.calibration.windows, *texts.evaluation.windows)
    assert {window[0] for window in windows} == {BOS}
    assert {len(window) for window in windows} == {64}


def test_calibration_text_that_is_too_short_is_named_with_both_counts(sample):
    with pytest.raises(
        InvalidInputError, match=r"the built-in sample has [\d,]+ tokens, 4\d windows of 64; 60"
    ):
        read(sample, samples=60)
    short = sample.with_name("short.txt")
    short.write_text("Too short.\n" * 40)
    with pytest.raises(
        InvalidInputError, match=r"short\.txt has 3\d\d tokens, 5 windows of 64; 16 are needed"
    ):
        read(sample, calibration=str(short))


def test_an_eval_text_that_is_too_short_is_named(sample):
    short = sample.with_name("short.txt")
    short.write_text("Too short to judge on. " * 8)
    with pytest.raises(InvalidInputError, match=r"eval text short\.txt has 184 tokens, too few"):
        read(sample, eval=str(short))


def test_the_calibration_text_is_not_judged_on(sample):
    copied = sample.with_name("copied.txt")
    copied.write_text(sample.read_text())
    with pytest.raises(InvalidInputError, match="--eval is the calibration text"):
        read(sample, eval=str(copied))


def test_missing_empty_and_binary_files_are_named(sample):
    with pytest.raises(InvalidInputError, match=r"cannot read calibration text .*none\.txt"):
        read(sample, calibration=str(sample.with_name("none.txt")))
    sample.with_name("empty.txt").write_text(" \n")
    with pytest.raises(InvalidInputError, match=r"empty\.txt is empty"):
        read(sample, eval=str(sample.with_name("empty.txt")))
    sample.with_name("binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match=r"binary\.txt is not UTF-8 text"):
        read(sample, eval=str(sample.with_name("binary.txt")))


def test_windows_longer_than_the_context_are_refused_with_both_numbers(sample):
    with pytest.raises(InvalidInputError, match="sequence_length 256 is above the model's 128 positions"):
        read(sample, sequence_length=256)
