"""What a page may not do in any test: report an error, break its own policy, or ask another host."""

import re
from urllib.parse import urlsplit

# Runs before any script of the page. Chromium reports a violation in its console as well, but not of every kind.
REPORT_VIOLATIONS = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI}`));
"""


class Watch:
    """Listens to one page from before it loads. `faults` is what it did wrong so far, in words."""

    def __init__(self, page, url):
        self._origin = urlsplit(url)[:2]
        self._allowed = []
        self.faults = []
        page.add_init_script(REPORT_VIOLATIONS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("request", self._request)

    def allow(self, *patterns):
        """What a test provokes, such as an answer with "status of 401", is no fault from now on."""
        self._allowed += patterns

    def _console(self, message):
        if message.type in ("error", "warning"):
            self._note(f"console: {message.text} ({message.location.get('url', '')})")

    def _request(self, request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts[:2] != self._origin:
            self._note(f"another host: {request.url}")

    def _note(self, fault):
        if not any(re.search(pattern, fault) for pattern in self._allowed):
            self.faults.append(fault)
