import json
import random
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, repeat

import pytest

from trireme.documents.chunk import chunk, estimate_tokens
from trireme.errors import DocumentError, InvalidInputError
from trireme.passage_text import LEAD, find_lead
from trireme.types import Document, Passage


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def cut(document: Document, *arguments: object, **options: object) -> list[Passage]:
    return list(chunk(document, *arguments, **options))


def document(text: str, title: str = "Ships", **fields: object) -> Document:
    return Document("docs/ships.md", title, (text,), "docs/ships.md", **fields)


SENTENCES = [f"Sentence number {n} tells of ship {n}." for n in range(60)]


def test_passages_start_with_title_and_headings_and_never_cross_a_heading():
    text = "intro\n\n# Oars\n\nabout oars\n\n## Upper bank\n\nabout upper\n\n# Sails\n\nabout sails"
    found = cut(document(text))
    assert [passage.text for passage in found] == [
        "Ships\nintro",
        "Ships > Oars\nabout oars",
        "Ships > Oars > Upper bank\nabout upper",
        "Ships > Sails\nabout sails",
    ]
    assert [json.loads(passage.metadata) for passage in found][2] == {
        "source": "docs/ships.md",
        "title": "Ships",
        "heading": "Oars > Upper bank",
        "position": 2,
        LEAD: len("Ships > Oars > Upper bank\n"),
    }


def test_ids_are_the_source_and_a_number_and_stay_the_same():
    text = "\n\n".join(SENTENCES)
    found = cut(document(text), max_tokens=50)
    assert [passage.id for passage in found] == [f"docs/ships.md#{n}" for n in range(len(found))]
    assert cut(document(text), max_tokens=50) == found


def test_a_heading_that_is_the_title_is_said_once():
    assert cut(document("# Ships\n\ntext"))[0].text == "Ships\ntext"


def test_a_hash_in_a_code_fence_is_no_heading():
    found = cut(document("before\n\n```sh\n# comment\nls\n```\n\nafter"))
    assert len(found) == 1
    assert "# comment" in found[0].text


@pytest.mark.parametrize("separator", [" ", "\n\n", "\n"])
def test_passages_fit_the_budget_and_together_hold_every_sentence(separator):
    found = cut(document(separator.join(SENTENCES)), max_tokens=64, count_tokens=words)
    assert len(found) > 3
    assert all(size <= 64 for size in words([passage.text for passage in found]))
    for sentence in SENTENCES:
        assert any(sentence in passage.text for passage in found)


def test_a_passage_repeats_the_end_of_the_one_before():
    found = cut(document(" ".join(SENTENCES)), max_tokens=64, count_tokens=words)
    for before, after in pairwise(found):
        first = after.text.split("\n")[1].split(".")[0] + "."
        assert first in before.text


def test_overlap_does_not_cross_a_heading():
    found = cut(document("# A\n\nonly in a.\n\n# B\n\nonly in b."))
    assert "only in a" not in found[1].text


def test_words_are_never_cut():
    text = " ".join(f"word{n}" for n in range(400))
    found = cut(document(text), max_tokens=64, count_tokens=words)
    known = {*text.split(), "Ships"}
    assert all(set(passage.text.split()) <= known for passage in found)
    assert {word for passage in found for word in passage.text.split()} == known


@pytest.mark.parametrize("text", ["漢字" * 2000, "x" * 50_000, "a/" * 5000])
def test_one_endless_word_is_cut_to_fit(text):
    found = cut(document(text))
    assert all(size <= 256 for size in estimate_tokens([passage.text for passage in found]))
    joined = "".join(passage.text.removeprefix("Ships\n") for passage in found)
    assert len(joined) >= len(text)


def test_a_long_title_leaves_room_for_text():
    found = cut(document("short text", title="long title " * 500))
    assert len(found) == 1
    assert found[0].text.endswith("\nshort text")
    assert estimate_tokens([found[0].text])[0] <= 256


def test_a_whole_document_is_one_passage_under_its_own_id():
    (passage,) = cut(Document("d1", "Title", ("text " * 5000,), "d1", whole=True))
    assert passage.id == "d1"
    assert passage.text.startswith("Title\ntext text")
    assert cut(Document("d2", "", ("text",), "d2", whole=True))[0].text == "text"
    assert cut(Document("d3", "Title", (), "d3", whole=True))[0].text == "Title"


def test_a_document_of_headings_alone_is_still_found():
    (passage,) = cut(document("# Oars\n\n## Sails"))
    assert "Oars" in passage.text
    assert "Sails" in passage.text


def test_what_a_document_says_of_itself_wins_over_what_we_say_of_it():
    own = {"language": "en", "source": {"file": "a.pdf"}, "title": None, "position": "bow"}
    for whole in (False, True):
        (passage,) = cut(document("text", extra=own, whole=whole))
        assert json.loads(passage.metadata) == {"heading": "", **own, LEAD: len("Ships\n")}
        assert passage.text == "Ships\ntext"


@pytest.mark.parametrize("title", ["", "Ships", " Ships and\noars ", "long title " * 500])
@pytest.mark.parametrize("whole", [False, True])
def test_the_length_of_the_lead_is_known_whatever_the_document_says_of_itself(title, whole):
    extra = {LEAD: 99, "title": "other", "heading": None}
    found = cut(document("intro\n\n# Oars\n\nThe first. The second.", title, extra=extra, whole=whole))
    bodies = ["intro\n\n# Oars\n\nThe first. The second."] if whole else ["intro", "The first. The second."]
    assert [one.text[find_lead(one.text, one.metadata) :] for one in found] == bodies


def test_a_passage_of_a_lead_alone_has_no_lead():
    (passage,) = cut(document("", "Title", whole=True))
    assert (passage.text, find_lead(passage.text, passage.metadata)) == ("Title", 0)


def test_the_given_counter_decides():
    text = " ".join(SENTENCES)
    few = cut(document(text), count_tokens=words)
    many = cut(document(text), count_tokens=lambda texts: [4 * size for size in words(texts)])
    assert len(many) > len(few)


def test_a_budget_too_small_for_anything_is_refused():
    with pytest.raises(InvalidInputError, match="max_tokens"):
        cut(document("text"), max_tokens=3)


TEXTS = {
    "markdown": "intro\n\n# Oars\n\nabout oars. More of them!\n```\n# no heading\n```\n## Upper\n"
    + " ".join(SENTENCES),
    "one paragraph": "\n".join(f"{sentence} {sentence}" for sentence in SENTENCES * 30),
    "one line": " ".join(SENTENCES * 60),
    "no sentence": "oar " * 40_000,
    "no word": "x" * 70_000 + "漢字。" * 8000,
    "a row of dots": "." * 100_000 + "x. end",
    "spaces": "a" + " " * 50_000 + "b" + "\n \t\n" * 5000 + "c",
    "headings alone": "".join(f"# heading {n}\n" for n in range(6000)),
    "a heading too long": "# " + "word " * 100 + "\n\ntext\n#no heading\n####### nor this\n# yes #\nmore",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_same_text_gives_the_same_passages_wherever_its_parts_end(text):
    whole = cut(document(text))
    assert whole
    generator = random.Random(5)
    for count in (1, 3, 40, 400):
        places = sorted(generator.choices(range(len(text) + 1), k=count))
        parts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        assert cut(Document("docs/ships.md", "Ships", iter(parts), "docs/ships.md")) == whole


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_word_of_any_text_is_in_a_passage_and_none_is_too_long(text):
    found = cut(document(text))
    assert max(estimate_tokens([passage.text for passage in found])) <= 256
    assert max(len(passage.text) for passage in found) <= 256 * 25
    passages = "\n".join(passage.text for passage in found)
    assert {word for word in text.split() if len(word) < 20} - {"#", "##", "```"} <= set(passages.split())


def test_passages_come_while_the_parts_are_still_being_read():
    def endless() -> Iterator[str]:
        return chain.from_iterable(repeat([" ".join(SENTENCES), "\n\n# Next\n\n"]))

    passages = chunk(Document("endless", "", endless(), "endless"))
    assert [next(passages).id for _ in range(500)] == [f"endless#{n}" for n in range(500)]


def test_what_reading_a_part_raises_reaches_the_caller():
    def torn() -> Iterator[str]:
        yield "text " * 20_000
        raise DocumentError("it is a damaged PDF")

    with pytest.raises(DocumentError, match="damaged"):
        cut(Document("torn.pdf", "", torn(), "torn.pdf"))


def test_sections_of_the_same_name_are_kept_apart():
    found = cut(document("# Same\n\nfirst\n\n# Same\n\nsecond"))
    assert [passage.text for passage in found] == ["Ships > Same\nfirst", "Ships > Same\nsecond"]


def test_metadata_may_be_any_json():
    (passage,) = cut(document("text", extra={"year": 2024, "tags": ["a"]}))
    assert json.loads(passage.metadata)["tags"] == ["a"]


def test_spaces_and_words_that_are_one_token_do_not_make_a_passage_endless():
    """A real tokenizer sees one token in a word of any length."""
    found = cut(document("x" * 200_000 + " " * 200_000), count_tokens=words)
    assert max(len(passage.text) for passage in found) <= 256 * 25


def test_a_document_says_its_language_or_it_is_told_by_its_beginning_wherever_its_parts_end():
    text = "Das Treffen ist am 3. Mai. " * 300
    heard = []

    def tell(beginning: str) -> str:
        heard.append(beginning)
        return "de"

    found = cut(document(text), 64, words, tell)
    assert {json.loads(passage.metadata)["language"] for passage in found} == {"de"}
    assert heard == [f"Ships\n{text[:2000]}"]
    parts = Document("docs/ships.md", "Ships", (text[:7], text[7:2500], text[2500:]), "docs/ships.md")
    assert cut(parts, 64, words, tell) == found
    assert heard[1] == heard[0]
    own = cut(document(text, extra={"language": "French"}), 64, words, tell)
    assert json.loads(own[0].metadata)["language"] == "French"
    assert all("language" not in json.loads(passage.metadata) for passage in cut(document(text), 64, words))


def test_passages_end_at_the_sentences_of_their_language():
    text = "Das Treffen ist am 3. Mai um zehn. " * 40
    ends = {passage.text[-4:] for passage in cut(document(text), 64, words, lambda _: "de")}
    assert ends == {"ehn."}
    text = "बंदरगाह रात में बंद होता है।" * 40
    found = cut(document(text), 64, lambda texts: [len(text) // 2 for text in texts], lambda _: "hi")
    assert len(found) > 1
    assert all(passage.text.endswith("है।") for passage in found)


def test_english_documents_are_cut_as_those_without_a_language():
    text = "Dr. Smith, cf. p. 3, left. " * 100 + "He paid No. 5? Yes! 。" * 50
    assert [one.text for one in cut(document(text), 64, words, lambda _: "en")] == [
        one.text for one in cut(document(text), 64, words)
    ]
