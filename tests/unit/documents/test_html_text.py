"""What a browser shows of a page."""

import io
import threading

import pytest

from trireme.documents.blocks import blocks
from trireme.documents.formats.html import read_html
from trireme.documents.source import Limits


def shown(page: str) -> list[tuple[tuple[str, ...], str]]:
    parts = read_html(io.BytesIO(page.encode()), Limits()).parts
    return [(block.heading, block.text) for block in blocks(parts)]


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ("<p>har&shy;bour and long<wbr>word", ["harbour and longword"]),
        ("<p>a&nbsp;b &lt;c&gt; &#8364; &#150; &notin; &amp;amp;", ["a b <c> € – ∉ &amp;"]),
        ("<p>seen</p><p hidden>gone</p><div style='color:red; DISPLAY : none'><div>x</div>gone</div>end",
         ["seen", "end"]),
        ("<p>one<wbr hidden>word<input hidden> more", ["oneword more"]),
        ("<div hidden=until-found>found</div>", ["found"]),
        ("<dialog>gone</dialog><dialog open>seen</dialog>", ["seen"]),
        ("<template><p>gone</template><noscript>gone</noscript><iframe>gone</iframe><p>seen", ["seen"]),
        ("<nav><div><nav>x</nav></div>gone</nav>seen", ["seen"]),
        ("<svg><title>gone</title><text>gone</text></svg>seen", ["seen"]),
        ("<pre>\ndef f():\n    # comment\n\n    return 1\n</pre>end",
         ["def f():\n    # comment", "return 1", "end"]),
        ("<p># 1 in sales<p>```<p>[1]: http://x", ["# 1 in sales", "```", "[1]: http://x"]),
        ("<pre>```\n# x\n</pre><h2>H</h2>end", ["```\n# x", "end"]),
        ("<ruby>東<rp>(</rp><rt>とう</rt><rp>)</rp>京<rt>きょう</rt></ruby>へ", ["東京(とうきょう)へ"]),
        ("<select><option>one<option>two</select>", ["one", "two"]),
        ("<table><tr><td>a<td>b<tr><th>c</th><td>d</table>", ["a b", "c d"]),
        ("<ul><li>one<ol><li>two</ol></ul>", ["one", "two"]),
        ("<p>one<br>two", ["one", "two"]),
        ("<img alt='a pier' src=x>text", ["text"]),
        ("<details><summary>More</summary>text</details>", ["More", "text"]),
    ],
)  # fmt: skip
def test_a_page_reads_as_a_browser_shows_it(page, texts):
    assert [text for _, text in shown(page)] == texts


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("<h2>Tides<br>of the bay</h2>", "Tides of the bay"),
        ("<h2>__init__ and *args*</h2>", "__init__ and *args*"),
        ("<h2>C #</h2>", "C #"),
        ("<h2>Install<a class=headerlink href='#x'>¶</a></h2>", "Install"),
        ("<h2><span hidden>gone</span>Oars &lt;b&gt;</h2>", "Oars <b>"),
    ],
)
def test_a_heading_reads_as_a_browser_shows_it(heading, title):
    assert shown(f"{heading}<p>text") == [((title,), "text")]


def test_the_title_is_that_of_the_page_not_of_a_drawing():
    page = "<svg><title>gone</title></svg><head><title>Tides &amp; har&shy;bours</title></head><p>text"
    assert read_html(io.BytesIO(page.encode()), Limits()).title == "Tides & harbours"


def test_a_paragraph_cut_in_pieces_is_one_and_stays_text():
    page = "<p># " + "word " * 60_000 + "<p># end"
    found = shown(page)
    assert {heading for heading, _ in found} == {()}
    assert " ".join(text for _, text in found).split() == ["#", *["word"] * 60_000, "#", "end"]


def test_a_page_that_is_left_in_the_middle_leaves_no_thread():
    before = threading.active_count()
    parts = read_html(io.BytesIO(b"<p>some text</p>" * 500_000), Limits()).parts
    assert next(parts)
    assert threading.active_count() == before + 1
    parts.close()
    del parts
    assert threading.active_count() == before


def test_what_the_disk_says_while_a_page_is_read_reaches_the_caller():
    class Torn(io.BytesIO):
        """Breaks in the last of the three times that a page is read."""

        reads = 0

        def seek(self, *place: int) -> int:
            self.reads += 1
            return super().seek(*place)

        def read(self, size: int = -1) -> bytes:
            if self.reads >= 3 and self.tell() > 1_000_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output"):
        list(read_html(Torn(b"<p>some text</p>" * 500_000), Limits()).parts)
