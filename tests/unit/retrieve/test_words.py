"""How passages and queries are read into words."""

import itertools
import sys
import unicodedata

import pytest

from trireme.retrieve.words import WORDS_BYTES, Words, fold, passage_words, query_words


def every(words: Words) -> set[str]:
    return {*words.plain, *words.exact, *words.compounds}


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_every_unicode_form_of_a_text_gives_the_same_words(form):
    text = "Café Übergröße ΟΔΥΣΣΕΎΣ ёлка 항구는 がぎぐ हिन्दी क़लम ﻻ ﬁx ２０２６ น้ำ Ǆ ẛ̣"
    assert passage_words(unicodedata.normalize(form, text)) == passage_words(text)


@pytest.mark.parametrize(
    "code", [0xAD, 0x200B, 0x200D, 0x200E, 0x2060, 0xFEFF, 0xFE0F, 0x34F, 0x2066, 0xE0001]
)
def test_what_nobody_sees_parts_no_word(code):
    assert passage_words(f"har{chr(code)}bour") == passage_words("harbour")


def test_a_word_that_a_soft_hyphen_breaks_over_two_lines_is_one_word():
    assert passage_words("the har\u00ad \r\n  bour") == passage_words("the harbour")


def test_every_invisible_character_of_unicode_is_removed_or_parts_words():
    # Of category Cf, those that are seen: signs of Arabic and Syriac, of hieroglyphs, of shorthand and of music.
    seen = {
        *range(0x600, 0x606),
        0x6DD,
        0x70F,
        0x890,
        0x891,
        0x8E2,
        0x110BD,
        0x110CD,
        *range(0x13430, 0x13440),
    }
    formats = [
        chr(code)
        for code in range(sys.maxunicode)
        if unicodedata.category(chr(code)) == "Cf" and code not in seen and not 0xFFF9 <= code <= 0xFFFB
    ]
    assert len(formats) > 100
    assert {one: fold(f"é{one}b") for one in formats if fold(f"é{one}b") not in ("éb",)} == {}


def test_a_letter_beside_a_sign_that_is_written_small_or_in_a_circle_stays_the_word_it_is():
    assert {"trireme", "harbour", "m", "m2", "co2", "port", "2", "1"} <= every(
        passage_words("Trireme™ harbour² m² CO₂ ①port 2½")
    )


@pytest.mark.parametrize(
    ("text", "parts", "wholes"),
    [
        ("client/server", "client server", "client/server"),
        ("config/settings.toml", "config settings toml", "config/settings.toml settings.toml"),
        ("(see settings.toml).", "see settings toml", "settings.toml"),
        (r"C:\Users\bob\notes.txt", "c users bob notes txt", r"c:\users\bob\notes.txt notes.txt"),
        ("max_model_len", "max model len", "max_model_len"),
        ("trireme.retrieve.words", "trireme retrieve words", "trireme.retrieve.words"),
        ("v2.51.0-rc1", "v2 51 0 rc1", "v2.51.0-rc1"),
        ("2.51", "2 51", "2.51"),
        ("e-mail", "e mail", "email"),
        ("non\u2011breaking", "non breaking", "nonbreaking"),
        ("COVID-19", "covid 19", "covid19"),
        ("2024-11-28", "2024 11 28", "2024-11-28"),
        ("U.S.A.", "u s a", "usa"),
        ("bob.smith@example.com", "bob smith example com", "bob.smith@example.com bob.smith example.com"),
        ("foo::bar", "foo bar", "foo::bar"),
        ("and/or", "and or", "and/or"),
        ("C++", "c", "c++"),
        ("C#,", "c", "c#"),
        ("C++17", "c 17", "c++ c++17"),
        ("a_b=c", "a b c", "a_b=c a_b"),
        ("--flag", "flag", ""),
        ("harbour's", "harbour s", ""),
        ("------", "", ""),
    ],
)
def test_a_compound_gives_its_parts_and_itself(text, parts, wholes):
    words = passage_words(text)
    assert words.plain == parts.split()
    assert set(words.compounds) == set(wholes.split())
    assert not words.exact


def test_a_word_of_an_address_is_a_word():
    words = every(passage_words("<https://docs.example.org/en/latest/api_guide.html?topic=harbour#tides>"))
    assert {"docs", "example", "org", "latest", "api", "guide", "api_guide.html", "harbour", "tides"} <= words


def test_accents_are_left_out_and_kept_as_a_compound():
    words = passage_words("Café")
    assert (words.plain, list(words.compounds)) == (["cafe"], ["café"])
    assert passage_words("İstanbul ISPARTA ısparta Straße STRASSE").plain == [
        "istanbul",
        "isparta",
        "isparta",
        "strasse",
        "strasse",
    ]


def test_letters_of_other_scripts_stay_apart_from_those_that_look_alike():
    latin, cyrillic = "port", "р\u043ert"
    assert not every(passage_words(latin)) & every(passage_words(cyrillic))
    assert passage_words("й").exact.keys().isdisjoint(passage_words("и").exact)
    assert passage_words("が").exact.keys().isdisjoint(passage_words("か").exact)


@pytest.mark.parametrize(
    ("text", "query", "missing"),
    [
        ("港口在夜间关闭", "夜间", "白天"),
        ("港口在夜间关闭", "港", "岸"),
        ("サーバーは夜に閉まる", "サーバー", "クライアント"),
        ("ｻｰﾊﾞｰ", "サーバー", "クラ"),
        ("ท่าเรือปิดตอนกลางคืน", "กลางคืน", "ตลาด"),
        ("ທ່າເຮືອປິດໃນຕອນກາງຄືນ", "ກາງຄືນ", "ຕະຫຼາດ"),
        ("កំពង់ផែបិទនៅពេលយប់", "ពេលយប់", "ផ្សារ"),
        ("ဆိပ်ကမ်းသည်ညအချိန်တွင်ပိတ်သည်", "ဆိပ်ကမ်း", "စျေး"),
        ("항구는 밤에 닫힌다", "항구", "시장"),
        ("iPhone手机第3章", "手机", "电脑"),
    ],
)
def test_scripts_without_spaces_are_found_by_neighbouring_letters(text, query, missing):
    held = every(passage_words(text))
    assert every(query_words(query)) <= held
    assert not every(query_words(missing)) & held


def test_a_letter_is_never_parted_from_its_marks():
    marks = {chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M"}
    for text in ("ท่าเรือ", "ဆိပ်ကမ်း", "កំពង់ផែ", "हिन्दी"):
        assert not {word[0] for word in every(passage_words(text))} & marks


@pytest.mark.parametrize("other", ["می خواهم", "میخواهم"])
def test_persian_is_found_with_and_without_its_non_joiner(other):
    assert every(query_words(other)) & every(passage_words("می\u200cخواهم"))
    assert every(query_words("می\u200cخواهم")) & every(passage_words(other))


def test_digits_of_every_script_are_the_same_digits():
    assert query_words("٢٠٢٦ ২০২৬ ２０２６ ๒๐๒๖").plain == ["2026"] * 4


@pytest.mark.parametrize("text", ["", " ", "?!", "👩\u200d💻 ❤\ufe0f", "\u200b\u00ad", "\x00\x1f"])
def test_signs_are_no_words(text):
    assert passage_words(text) == Words()


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(chr, range(0x4E00, 0x9FFF))) * 9,
        "".join(chr(0x20000 + 7919 * n % 40_000) for n in range(100_000)),
        "\ufdfa" * 100_000,
        "".join(map("".join, itertools.islice(itertools.product("abcdefghij./-", repeat=5), 20_000))),
        "é" * 100_000,
        "a" + "\u0301" * 50_000 + "\u0316" * 50_000,
    ],
    ids=[
        "chinese",
        "rare characters",
        "characters that unfold",
        "compounds",
        "one long word",
        "a heap of marks",
    ],
)
def test_the_words_of_any_text_have_room_in_a_database(text):
    words = passage_words(text)
    sizes = (len(word.encode()) + 4 + 2 * count for word, count in (words.exact + words.compounds).items())
    assert sum(sizes) + sum(len(word) + 6 for word in set(words.plain)) <= WORDS_BYTES
    assert all(len(word.encode()) <= 2046 for word in every(words))
