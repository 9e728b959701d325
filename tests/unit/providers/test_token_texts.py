import shutil
from pathlib import Path

import pytest

from trireme.errors import InvalidInputError, UnsupportedError
from trireme.providers import token_texts
from trireme.providers.token_texts import TokenTexts

TOKENIZER = Path(__file__).parents[2] / "chat_tokenizer" / "tokenizer.json"
TEXTS = ["Oars are of fir, sails of linen.", "trirème — 7 rowers"]


@pytest.fixture
def repository(tmp_path):
    for name in ("one", "two"):
        for version in ("1", "2"):
            (tmp_path / name / version).mkdir(parents=True)
        shutil.copy(TOKENIZER, tmp_path / name / "2" / "tokenizer.json")
    (tmp_path / "bare" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "tokenizer.json").write_text("{}")
    return tmp_path


@pytest.fixture
def ids():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


def test_ids_become_the_text_that_they_were_made_of(repository, ids):
    assert TokenTexts(repository).decode("one", ids) == TEXTS
    # An adapter reads as its model does.
    assert TokenTexts(repository).decode("one:law", ids) == TEXTS


def test_ids_outside_of_the_vocabulary_are_refused_with_their_place(repository, ids):
    with pytest.raises(
        InvalidInputError, match=r"input\[1\] holds 9999999, which is no token of model 'one'"
    ):
        TokenTexts(repository).decode("one", [ids[0], [*ids[1], 9999999]])


def test_special_tokens_alone_are_no_text(repository):
    from tokenizers import Tokenizer

    special = next(
        number
        for number, token in Tokenizer.from_file(str(TOKENIZER)).get_added_tokens_decoder().items()
        if token.special
    )
    with pytest.raises(InvalidInputError, match=r"input\[0\] holds special tokens alone"):
        TokenTexts(repository).decode("one", [[special]])


@pytest.mark.parametrize("model", ["none", "bare", "broken", "../one", "one/2", ".", ""])
def test_a_model_whose_tokenizer_is_not_at_hand_is_refused_without_its_path(repository, model):
    with pytest.raises(UnsupportedError, match="its tokenizer is not at hand; send text") as found:
        TokenTexts(repository).decode(model, [[1]])
    assert str(repository) not in str(found.value)


def test_a_few_tokenizers_are_kept(repository, ids, monkeypatch):
    monkeypatch.setattr(token_texts, "MOST_TOKENIZERS", 1)
    decoder = TokenTexts(repository)
    for model in ("one", "two", "one"):
        assert decoder.decode(model, ids) == TEXTS
    ((kept, _),) = decoder._tokenizers
    assert kept.parent.parent.name == "one"


def test_texts_are_counted_each_by_itself(repository, ids):
    texts = TokenTexts(repository)
    assert not texts.is_loaded("one")
    assert texts.count("one", TEXTS) == sum(map(len, ids))
    assert texts.is_loaded("one")
    assert texts.count("one", []) == 0


def test_nothing_is_read_to_count_what_is_not_loaded(repository, ids):
    texts = TokenTexts(repository)
    assert texts.count_if_loaded("one", TEXTS) is None
    texts.count("one", [])
    assert texts.count_if_loaded("one", TEXTS) == sum(map(len, ids))
    assert texts.count_if_loaded("../one", TEXTS) is None


def test_a_control_token_in_a_text_counts_as_its_letters_at_least(repository):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    special = next(token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special)
    as_letters = tokenizer.encode(f"{special[0]} {special[1:]}", add_special_tokens=False).ids
    assert TokenTexts(repository).count("one", [special]) >= len(as_letters)


def test_half_a_surrogate_pair_is_counted_too(repository):
    assert TokenTexts(repository).count("one", ["\ud800"]) > 0


@pytest.mark.parametrize("model", ["none", "bare", "broken", "../one"])
def test_nothing_is_counted_without_a_tokenizer(repository, model):
    texts = TokenTexts(repository)
    assert not texts.is_loaded(model)
    with pytest.raises(UnsupportedError, match="not at hand"):
        texts.count(model, ["oars"])
