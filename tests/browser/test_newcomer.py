"""A newcomer's first five minutes: the printed link, a PDF dropped, a question about it, its citation and its cost.

`make console-pictures` runs it with a folder for the pictures, which README and docs/console.md show.
"""

import os
import re

from browser.console import DESKTOP
from browser.newcomer import ANSWER, FILE, Pictures, ask, cost_of, drop_pdf, open_citation, open_link, use


def test_a_newcomer_opens_the_link_drops_a_pdf_asks_and_sees_citation_and_cost(new_console, site):
    pictures = Pictures(os.environ.get("CONSOLE_PICTURES"))
    console = new_console("", viewport=DESKTOP)
    page = console.page
    open_link(page, site.link)

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

    if pictures.are_wanted:
        use(site.url, site.admin)
        page.get_by_role("link", name="Live").click()
        page.get_by_text("all tenants").wait_for()
        # What is read while somebody looks is there some seconds later.
        page.get_by_text("of 1 ready").wait_for()
        page.get_by_text("unknown tokens").wait_for(state="hidden")
        pictures.take(page, "live")
