"""A newcomer's first five minutes on the console, step by step, with pictures where somebody wants them."""

import base64
import io
import json
import math
import time
import urllib.request
from pathlib import Path

from browser.files import ANSWER, HANDBOOK, QUESTION, pdf

FILE = "handbook.pdf"
# As a person's browser does it: the file is in the event.
DROP = """
([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, {type: 'application/pdf'}));
  const zone = document.querySelector('.drop');
  for (const type of ['dragenter', 'dragover', 'drop']) {
    zone.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: carried}));
  }
}
"""


class Pictures:
    """Saves docs/console-NAME.png small enough for a page to load; does nothing without a folder."""

    def __init__(self, folder=None):
        self._folder = folder and Path(folder)

    @property
    def are_wanted(self):
        """Whether somebody keeps them."""
        return self._folder is not None

    def take(self, page, name):
        """What the window shows now."""
        if not self.are_wanted:
            return
        from PIL import Image

        # A flat page has few colours.
        picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
        small = picture.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.save(self._folder / f"console-{name}.png", optimize=True)


def open_link(page, link):
    """The link that `make serve` printed."""
    page.goto(link)
    page.get_by_role("heading", name="Live", level=1).wait_for()


def drop_pdf(page):
    """On the page of documents; returns once a search would find it."""
    page.get_by_role("link", name="Documents").click()
    page.locator(".drop").wait_for()
    page.evaluate(DROP, [base64.b64encode(pdf(*HANDBOOK)).decode(), FILE])
    page.locator(".uploads li").filter(has_text=FILE).get_by_text("stored").wait_for()


def ask(page, question=QUESTION):
    """In the playground; returns the text of the answer once the ledger has said its cost."""
    page.get_by_role("link", name="Playground").click()
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.get_by_role("region", name="Answer")
    answer.get_by_role("status").filter(has_text="Answered").wait_for()
    cost_of(page).filter(has_not_text="asking").wait_for()
    return answer.locator(".answer").text_content()


def cost_of(page):
    """The figure beside the answer."""
    return page.locator("dl.facts div").filter(has=page.get_by_text("Cost", exact=True)).locator("dd")


def open_citation(page):
    """Opens the first citation of the answer; returns the sentence that is marked in its passage."""
    page.get_by_role("region", name="Answer").locator("button.cite").first.click()
    marked = page.get_by_role("dialog").locator("mark")
    marked.wait_for()
    return marked.text_content()


def use(url, secret, seconds=60):
    """Some requests for the plots of a picture: texts that are embedded, many of them again."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        body = {"model": "embedding", "input": [f"text {number % (7 + number // 9)}", "of a picture"]}
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/embeddings", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        # More and less by turns, so that there is something to see.
        time.sleep(0.02 + 0.2 * abs(math.sin(number / 40)))


__all__ = ["ANSWER", "FILE", "Pictures", "ask", "cost_of", "drop_pdf", "open_citation", "open_link", "use"]
