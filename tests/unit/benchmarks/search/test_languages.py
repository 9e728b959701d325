import numpy as np
import pytest

from benchmarks.common.report import DOCS, RESULTS, Circumstances, read_record
from benchmarks.search import languages
from benchmarks.search.languages import (
    FIGURES,
    KINDS,
    LANGUAGES,
    LanguageReport,
    LanguageRow,
    format_section,
    measure_model,
    read_language,
)
from tests.fakes.memory_store import MemoryStore
from trireme.errors import InvalidInputError
from trireme.types import Embedder

SETS = {code: read_language(code) for code in LANGUAGES}
SEEN = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")
# A letter that only this script has, and that the texts of the language surely hold.
LETTERS = {"zh": "\u7684", "ar": "\u0629", "hi": "\u0939", "de": "\u00fc", "fr": "\u00e9"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_the_same_passages_with_two_questions_of_their_own(code):
    found = SETS[code]
    assert list(found.passages) == list(SETS["en"].passages) and len(found.passages) == 60
    asked = [text for pair in found.questions.values() for text in pair]
    assert len({*asked}) == len(asked) == 120, "a question that two passages answer is no question"
    assert len({*found.passages.values()}) == 60
    written = "".join(found.passages.values())
    assert (LETTERS[code] in written) if code in LETTERS else written.isascii()


def test_numbers_are_the_same_in_every_language_that_writes_them_as_digits():
    def numbers(code):
        return {
            one: sorted("".join(c if c.isascii() and c.isdigit() else " " for c in text).split())
            for one, text in SETS[code].passages.items()
        }

    for code in ("de", "fr", "ar", "hi"):
        assert numbers(code) == numbers("en")


def test_an_entry_without_its_two_questions_is_refused(tmp_path, monkeypatch):
    (tmp_path / "xx.jsonl").write_text('{"id": "01", "text": "a", "questions": ["b"]}\n')
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    with pytest.raises(InvalidInputError, match="01 is there twice or has no two questions"):
        read_language("xx")


def test_a_model_that_knows_the_answers_finds_them_in_every_language_and_from_any_other():
    places = {}
    for found in SETS.values():
        for number, (one, text) in enumerate(found.passages.items()):
            places |= dict.fromkeys((text, *found.questions[one]), number)

    def embed(texts, _):
        return np.eye(60, dtype=np.float32)[[places[text] for text in texts]]

    rows = list(
        measure_model(MemoryStore(), "all-knowing", Embedder("a" * 64, 60), embed, [SETS["en"], SETS["zh"]])
    )
    asked = [(row.language, row.passages, row.way) for row in rows]
    ways = ("dense", "full text", "hybrid")
    assert asked == [(*pair, way) for pair in (("en", "en"), ("zh", "zh"), ("zh", "en")) for way in ways]
    assert all(row.first == 1 and row.mean == 1 for row in rows if row.way == "dense")
    blind = next(row for row in rows if row.passages != row.language and row.way == "full text")
    assert blind.mean < 0.2, "Chinese words stand in no English passage"


def row(code, passages, model, way, figure):
    return LanguageRow(code, passages, model, way, dict(zip(KINDS, (figure, 0.5), strict=True)), 0.25)


def test_the_page_shows_each_language_by_model_and_way():
    rows = [
        row(code, passages, model, way, 0.7)
        for code in LANGUAGES
        for passages in {code, "en"}
        for model in ("English", "multilingual")
        for way in ("dense", "full text", "hybrid")
    ]
    section = format_section(LanguageReport(tuple(rows), SEEN))
    assert section.count("| Hindi | 0.600 | 0.600 | 0.600 | 0.600 | 0.600 |") == 2
    assert section.count("| Hindi | 0.500 |") == 1 and section.count("| Hindi | 25% |") == 1
    assert section.count("| English |") == 3, "of itself asked nothing in another language"


def test_the_page_holds_the_kept_figures():
    report = read_record(RESULTS / FIGURES, LanguageReport)
    assert format_section(report).strip() in (DOCS / "languages.md").read_text(encoding="utf-8")
