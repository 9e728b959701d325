import random
from time import perf_counter

import pytest
from markdown_it import MarkdownIt

from trireme.documents.blocks import Block, blocks
from trireme.documents.markdown import WINDOW_CHARACTERS, heading_line, literal, read_windows

FENCE = "`" * 3


def outline(text: str) -> list[tuple[tuple[str, ...], str]]:
    return [(block.heading, block.text) for block in blocks((text,))]


def headings(text: str, window_characters: int = WINDOW_CHARACTERS) -> list[tuple[int, str]]:
    windows = read_windows((text,), window_characters)
    found = [one for window in windows for _, one in sorted(window.headings.items())]
    return [(one.level, one.title) for one in found]


def test_a_fence_ends_only_with_as_many_of_its_own_signs():
    text = f"# A\n\n`{FENCE}md\n{FENCE}\n# inside\n{FENCE}\n`{FENCE}\n\n# B\n\nafter"
    assert headings(text) == [(1, "A"), (1, "B")]
    text = f"# A\n\n{FENCE}sh\n~~~\n# comment\n~~~\n{FENCE}\n\n# B"
    assert headings(text) == [(1, "A"), (1, "B")]
    text = f"# A\n\n~~~ sh {FENCE}\n{FENCE}\n# comment\n~~~~\n\n# B"
    assert headings(text) == [(1, "A"), (1, "B")]


def test_code_within_a_line_at_its_start_opens_no_fence():
    assert headings(f"# A\n\n{FENCE}ls -l{FENCE} lists files.\n\n# B\n\nafter") == [(1, "A"), (1, "B")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Tides\n=====\n\nBay\n---\n\ntext", [(1, "Tides"), (2, "Bay")]),
        ("two\nlines\n===", [(1, "two lines")]),
        ("# closed #\n## closed ## \n### C#\n#\tTab", [(1, "closed"), (2, "closed"), (3, "C#"), (1, "Tab")]),
        ("   # three spaces\n\n    # four are code", [(1, "three spaces")]),
        ("#no space\n\n####### seven\n\n\\# escaped", []),
        ("#\n\n## \n", [(1, ""), (2, "")]),
        ("<!--\n# hidden\n-->\n# seen", [(1, "seen")]),
        ("<div>\n# inside\n</div>\n\n# outside", [(1, "outside")]),
        ("<pre>\n\n# inside\n\n</pre>\n# outside", [(1, "outside")]),
        ("> # in a quote\n\n- # in a list\n\n  ## too\n\n# outside", [(1, "outside")]),
        (f"- step\n\n  {FENCE}sh\n  # comment\n  {FENCE}\n\n# outside", [(1, "outside")]),
        (f"> {FENCE}\n> # comment\n\n# outside", [(1, "outside")]),
        (f"1. step\n   {FENCE}\n# ends the list", [(1, "ends the list")]),
        ("| a |\n| - |\n| # |\n# outside", [(1, "outside")]),
        ("# " + "long " * 100, []),
        ("# *Tides* of `the` [bay](x.md) &amp; <a id=x></a>\\*more\\* ![a pier](x.png)",
         [(1, "Tides of the bay & *more* a pier")]),
        ("## Oars {#oars}\n## Rams {: #rams .big}\n## Sets {1, 2}", [(2, "Oars"), (2, "Rams"), (2, "Sets {1, 2}")]),
        ("# CRLF\r\n\r\ntext\r\n## Two\r\n", [(1, "CRLF"), (2, "Two")]),
        ("- - -\n***\n# A", [(1, "A")]),
    ],
)  # fmt: skip
def test_headings_are_those_of_commonmark(text, found):
    assert headings(text) == found


def test_a_backslash_that_makes_a_line_text_is_dropped_but_not_in_code():
    assert outline(f"\\# no heading\n\n{FENCE}\n\\# code\n{FENCE}\n\n\\[x = 1\\]") == [
        ((), "# no heading"),
        ((), f"{FENCE}\n\\# code\n{FENCE}"),
        ((), "\\[x = 1\\]"),
    ]


PIECES = [
    "word", "more words here", "", "", "# heading", "## second `code`", "### third ###", "=====", "---", "***",
    "- item", "  more", "    code", "1. one", "   # in it", "> quote", "> # in quote", ">", FENCE, FENCE + "sh",
    "`" * 4, "~~~", "~~~~ x", FENCE + "a" + FENCE, "<div>", "</div>", "<!-- c", "-->", "<pre>", "</pre>",
    "<b>x</b>",    "| a | b |", "|---|---|", "[x]: /url", "[x]:", "'title'", "\t# tab", "   # three", "#", "\\# no",
]  # fmt: skip


def oracle(text: str) -> list[tuple[int, int]]:
    """Level and line of each heading of the outline, of the whole text at once."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [(int(one.tag[1]), one.map[0]) for one in tokens if one.type == "heading_open" and one.level == 0]


def test_any_text_has_the_headings_that_markdown_it_finds():
    generator = random.Random(11)
    for _ in range(400):
        text = "\n".join(generator.choices(PIECES, k=30))
        (window,) = read_windows((text,))
        assert [(one.level, line) for line, one in sorted(window.headings.items())] == oracle(text), text


@pytest.mark.parametrize("seed", range(4))
def test_windows_change_nothing_where_blocks_fit_into_them(seed):
    generator = random.Random(seed)
    sections = ["\n".join([*generator.choices(PIECES, k=6), "\nend\n", "# next\n\n"]) for _ in range(200)]
    # Without those that leave a fence or HTML open.
    text = "".join(one for one in sections if oracle(one)[-1:] == [(1, one.count("\n") - 2)])
    whole = list(blocks((text,)))
    assert len(list(read_windows((text,), 1000))) > 3
    assert list(blocks((text,), 1000)) == whole


@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [
        (f"{FENCE}sh", "# comment", FENCE),
        ("~~~~", f"# comment\n\n{FENCE}", "~~~~"),
        ("<!--", "# hidden", "-->"),
        ("<pre>", "# shown\n", "</pre>"),
        (f"- step\n\n  {FENCE}", "  # comment", f"  {FENCE}"),
        (f"> {FENCE}", "> # comment", f"> {FENCE}"),
        ("> quote", "> # in it", ">"),
        ("text", "more text", "end"),
        ("| a |\n|---|", "| # |", ""),
    ],
)
def test_a_block_longer_than_a_window_stays_one_block(opening, inside, closing):
    for count in (40, 200, 201, 202, 203, 204, 205, 206):
        body = "\n".join([opening, *[inside] * count, closing])
        text = f"# A\n\n{body}\n\n# B\n\nafter\n\n# C\n\nend"
        assert headings(text, 500) == [(1, "A"), (1, "B"), (1, "C")]


def test_a_line_longer_than_a_window_is_text_and_the_fence_around_it_stays():
    long = "# x" * 100_000
    assert headings(f"{FENCE}\n{long}\n# comment\n{FENCE}\n\n{long}\n\n# B", 40_000) == [(1, "B")]


@pytest.mark.parametrize("title", [
    "Oars", "snake_case_name", "__init__", "C #", "#", "a * b * c", "[draft]", "R&D", "AT&amp;T", "<b>", "x {#id}",
    "`code`", "**bold**", "back\\slash", "\\#", "1. one", "- dash", "![image](x)", "= =", "~~~", "# # #",
])  # fmt: skip
def test_a_heading_made_of_any_title_reads_as_that_title(title):
    assert headings(heading_line(3, title) + "\n\ntext") == [(3, title)]


LINES = [
    *PIECES,
    "\\",
    "\\\\# two",
    "  ---",
    "[1]: http://x",
    "[^1]: note",
    "===== ",
    "~~~~~",
    "<x@y.z>",
    "\\[x\\]",
]


def test_literal_text_of_any_lines_comes_back_as_it_was():
    generator = random.Random(3)
    for _ in range(400):
        text = "\n".join(line.strip() for line in generator.choices(LINES, k=12)).strip()
        paragraphs = [one for one in text.split("\n\n") if one.strip()]
        assert headings(literal(text)) == []
        found = [block.text for block in blocks((literal(text),))]
        assert "\n".join(found).split() == "\n".join(paragraphs).split()


def test_plain_text_is_not_changed_by_being_made_literal():
    for text in ("Three banks.", "- item", "1. one", "a | b", "[link](x)", "> said", "snake_case", "# "[1:]):
        assert literal(text) == text


@pytest.mark.parametrize(
    "line",
    [
        "> " * 50 + "x",
        "- " * 50 + "x",
        "[",
        "[a]: ",
        "<!--",
        "|",
        "a|b",
        "  " * 30 + "- x",
        "- x",
        "<div>",
        "a\n---",
    ],
)
def test_no_line_repeated_without_end_takes_more_than_its_share_of_time(line):
    text = (line + "\n") * (200_000 // (len(line) + 1))
    began = perf_counter()
    count = sum(1 for _ in blocks((text,)))
    assert count
    assert perf_counter() - began < 30


def test_headings_and_text_of_a_page_are_found_together():
    text = "intro\n\nTides\n=====\n\n> # quoted\n\n## Bay\n\n- one\n- two\n"
    assert outline(text) == [
        ((), "intro"),
        (("Tides",), "> # quoted"),
        (("Tides", "Bay"), "- one\n- two"),
    ]
    assert list(blocks(("",))) == []
    assert list(blocks(("text",))) == [Block(0, (), "text", True)]
