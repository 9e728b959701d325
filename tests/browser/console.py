"""A page of the console as a person uses it."""

from browser.watching import Watch

DESKTOP = {"width": 1280, "height": 844}
PHONE = {"width": 390, "height": 844}
# Every page, and the endpoint that a key needs for it ("" for any key's).
PAGES = {
    "live": "usage",
    "playground": "",
    "documents": "documents",
    "models": "models",
    "cost": "usage",
    "releases": "admin",
    "budgets": "usage",
    "keys": "admin",
    "tenants": "admin",
}
# What is worth telling of a violation.
RUN_AXE = """
async () => {
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id}: ${node.html.slice(0, 200)} (${node.failureSummary.replace(/\\s+/g, ' ').slice(0, 300)})`));
}
"""
# A link within a text is as high as its line, as people expect.
SMALL = """
least => [...document.querySelectorAll('button, select, summary, input:not([type=checkbox], [type=radio]), nav a')]
  .filter((node) => node.checkVisibility())
  .map((node) => [node.getBoundingClientRect(), node.outerHTML.slice(0, 120)])
  .filter(([box]) => box.height < least - 0.5)
  .map(([box, text]) => `${box.width.toFixed(0)} x ${box.height.toFixed(0)}: ${text}`)
"""


def sizes_below(page, least):
    """Controls that are lower than `least` pixels, in words."""
    return page.evaluate(SMALL, least)


class Console:
    """One tab. `page` is Playwright's; `watch` tells what the tab did wrong."""

    def __init__(self, context, url, axe):
        self.page = context.new_page()
        self.url = f"{url}/console/"
        self.watch = Watch(self.page, url)
        self._axe = axe

    def log_in(self, secret, route="live"):
        """As the printed link does; returns once the page stands."""
        self.page.goto(f"{self.url}#key={secret}")
        self.page.get_by_role("navigation").wait_for()
        self.open(route)

    def open(self, route):
        """Another page of the console, without loading the document again; returns once it shows what it has and
        the window is called by its heading."""
        self.page.evaluate("route => { location.hash = `#/${route}`; }", route)
        self.page.wait_for_function(
            """route => {
              const main = document.querySelector('main');
              const here = document.querySelector('nav [aria-current=page]')?.getAttribute('href');
              const said = main.querySelector('h1')?.textContent;
              return here === `#/${route.split(/[/?]/)[0]}` && said && document.title.startsWith(said)
                && !main.querySelector('[aria-busy=true], .loading');
            }""",
            arg=route,
        )

    def violations(self):
        """What axe-core finds in the page as it stands, one line each."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(self._axe)
        return self.page.evaluate(RUN_AXE)

    def is_wider_than_its_window(self):
        """Whether the whole page scrolls sideways."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )


def focused(page):
    """The text of the element that has the focus."""
    return page.evaluate("document.activeElement.textContent")
