import pytest

from trireme.errors import InvalidInputError
from trireme.languages import LANGUAGES, find_language, read_language


@pytest.mark.parametrize(
    ("text", "code"),
    [("de", "de"), ("German", "de"), ("pt-BR", "pt"), ("zh_Hant", "zh"), ("nb", "no"), ("AUTO", "auto")],
)
def test_a_language_is_named_by_code_tag_or_english_name(text, code):
    assert read_language(text) == code


def test_an_unknown_language_is_refused_with_those_that_are_known():
    with pytest.raises(
        InvalidInputError, match="'klingon' is not known; give auto, an English name, or one of af"
    ):
        read_language("klingon")
    assert find_language("klingon") == find_language("") == find_language("auto") == ""
    assert all(find_language(one.name) == code for code, one in LANGUAGES.items())
