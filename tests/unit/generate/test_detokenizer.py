import random

import pytest

from trireme.generate.detokenizer import Detokenizer

TEXTS = [
    "plain words, one after another.",
    "naïve café — Ærøskøbing, Łódź",
    "日本語のテキストと漢字",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200d",
    "עברית العربية हिन्दी ไทย",
    "  two  spaces\n\n\ttabs\r\n",
    "\u0000\u0001\ufffd\uffff",
    "",
]


def pieces(tokenizer, ids, cuts):
    """The answer's pieces when its tokens come in runs that end at `cuts`."""
    detokenizer = Detokenizer(tokenizer)
    made, start = [], 0
    for end in [*sorted(cuts), len(ids)]:
        made.append(detokenizer.push(ids[start:end]))
        start = end
    return [*made, detokenizer.finish()]


@pytest.fixture(params=["byte_level", "sentencepiece"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def whole(tokenizer, ids):
    """What decoding prompt and answer at once adds to the decoded prompt."""
    prompt = tokenizer.encode("the", add_special_tokens=False)
    return tokenizer.decode((*prompt, *ids))[len(tokenizer.decode(prompt)) :]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_any_cut_of_the_tokens_gives_the_text_of_decoding_all_at_once(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    expected = whole(tokenizer, ids)
    generator = random.Random(text)
    for _ in range(20):
        cuts = generator.sample(range(len(ids) + 1), generator.randint(0, len(ids)))
        assert "".join(pieces(tokenizer, ids, cuts)) == expected


def test_random_text_of_all_planes_comes_back(tokenizer):
    generator = random.Random(1)
    for _ in range(300):
        codes = [generator.choice((0x7F, 0x7FF, 0xD7FF, 0x10FFFF)) for _ in range(generator.randint(1, 30))]
        text = "".join(
            chr(code if (code := generator.randint(1, top)) < 0xD800 or code > 0xDFFF else 65)
            for top in codes
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
        one_by_one = pieces(tokenizer, ids, range(len(ids)))
        assert "".join(one_by_one) == whole(tokenizer, ids)


@pytest.mark.parametrize("text", TEXTS[:5], ids=ascii)
def test_a_piece_never_holds_part_of_a_character(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    made = pieces(tokenizer, ids, range(len(ids)))
    assert not any("\ufffd" in piece for piece in made)


def test_random_tokens_of_a_byte_level_tokenizer_decode_as_all_at_once(byte_level):
    generator = random.Random(2)
    for _ in range(300):
        ids = tuple(generator.randrange(3, 8192) for _ in range(generator.randint(1, 40)))
        assert "".join(pieces(byte_level, ids, range(len(ids)))) == byte_level.decode(ids)


def test_bad_bytes_of_byte_fallback_become_replacements_and_spare_the_characters_beside_them(sentencepiece):
    written = (*"é".encode(), 0xFF, *"漢".encode())
    ids = tuple(sentencepiece.token_id(f"<0x{byte:02X}>") for byte in written)
    assert "".join(pieces(sentencepiece, ids, range(len(ids)))) == "é\ufffd漢"


def test_a_character_cut_off_at_the_end_becomes_one_replacement(tokenizer):
    ids = tokenizer.encode("漢", add_special_tokens=False)
    made = pieces(tokenizer, ids[:-1], range(len(ids) - 1))
    assert made[-1] == "\ufffd"
    assert "".join(made[:-1]).strip() == ""


def test_special_tokens_and_ids_outside_the_vocabulary_add_nothing(byte_level):
    text = byte_level.encode("oars", add_special_tokens=False)
    assert "".join(pieces(byte_level, (1, *text, 2, 10**6), [2, 3])) == "oars"
