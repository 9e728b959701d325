"""A newcomer's first five minutes: the printed link, a PDF dropped, a question about it, its citation and its cost.

`make console-pictures` runs it with a folder for the pictures, which README and docs/console.md show.
"""

import os
import re

from browser.console import DESKTOP
from browser.newcomer import ANSWER, FILE, Pictures, ask, cost_of, drop_pdf, open_citation, open_link


def test_a_newcomer_opens_the_link_drops_a_pdf_asks_and_sees_citation_and_cost(new_console, site):
    pictures = Pictures(os.environ.get("CONSOLE_PICTURES"))
    console = new_console("", viewport=DESKTOP)
    page = console.page
    open_link(page, site.link)
    pictures.take(page, "live")

    drop_pdf(page)
    assert console.violations() == []
    pictures.take(page, "documents")

    assert ANSWER in ask(page)
    assert re.fullmatch(r"\$0\.\d+", cost_of(page).text_content())
    assert console.violations() == []
    pictures.take(page, "answer")

    assert ANSWER in open_citation(page)
    assert FILE in page.get_by_role("dialog").text_content()
    assert console.violations() == []
    pictures.take(page, "citation")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
