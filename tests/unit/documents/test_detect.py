import pytest

from trireme.documents.detect import detect_language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The harbour closes at night and opens again at six in the morning.", "en"),
        ("Der Hafen schließt nachts und öffnet wieder um sechs Uhr morgens.", "de"),
        ("Le port ferme la nuit et rouvre à six heures du matin.", "fr"),
        ("يغلق الميناء ليلاً ويفتح مرة أخرى في السادسة صباحاً.", "ar"),
        ("बंदरगाह रात में बंद होता है।", "hi"),
        ("港口夜间关闭，早上六点重新开放。", "zh"),
        (
            "# Ruder\n\n```\nfor name in names: print(name)\n```\n\nDie Ruder liegen im Schuppen hinter dem Steg.",
            "de",
        ),
        (
            "Die Ruder aus /usr/share/all/the/oars/and/names.of.them liegen (https://a.org/of/this/boat) bei"
            " the.harbour.of.the.town@is.example.org im Schuppen hinter dem Steg.",
            "de",
        ),
    ],
)
def test_a_sentence_tells_its_language(text, code):
    assert detect_language(text, "fallback") == code
    assert detect_language(text * 500) == code


@pytest.mark.parametrize(
    "text",
    ["", "oars", "Trireme 2.51", "https://example.org/der/hafen/schliesst/nachts/um/sechs", "1" * 50, "\n\0"],
)
def test_what_tells_nothing_is_the_fallback(text):
    assert detect_language(text, "fr") == "fr"
    assert detect_language(text) == ""
