"""The tests' own watch: each thing that a page may not do is found."""

import http.server
import threading

import pytest

from browser.watching import Watch

POLICY = "default-src 'none'; script-src 'self'; connect-src *; img-src data:"
PAGES = {
    "/quiet": ("text/html", "<!doctype html><title>quiet</title><link rel=icon href=data:,>"),
    "/script.js": ("text/javascript", "SCRIPT"),
    "/page": (
        "text/html",
        "<!doctype html><title>t</title><link rel=icon href=data:,><script src=script.js></script>",
    ),
}
FAULTS = {
    "an error": ("throw new Error('broken')", "error: broken"),
    "a rejected promise": ("Promise.reject(new Error('unheard'))", "error: unheard"),
    "a message of an error": ("console.error('oops')", "console: oops"),
    "a failed request": ("fetch('/missing')", "404"),
    "a style within the page": (
        "document.body.setAttribute('style', 'color: red')",
        "policy: style-src-attr",
    ),
    "another host": ("fetch('http://localhost:9/').catch(() => 0)", "another host: http://localhost:9/"),
}


@pytest.fixture
def serve():
    """serve(script) -> the URL of a page with it."""
    servers = []

    def start(script):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                kind, text = PAGES.get(self.path, ("text/plain", ""))
                self.send_response(200 if text else 404)
                self.send_header("content-type", kind)
                self.send_header("content-security-policy", POLICY)
                self.end_headers()
                self.wfile.write(text.replace("SCRIPT", script).encode())

            def log_message(self, *_):
                """Says nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/page"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def watched(chromium):
    """watched(url) -> the page's watch and the page, loaded."""
    context = chromium.new_context()

    def load(url, *allowed):
        page = context.new_page()
        watch = Watch(page, url)
        watch.allow(*allowed)
        page.goto(url, wait_until="networkidle")
        return watch

    yield load
    context.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_page_may_not_do_is_noted(serve, watched, fault):
    script, told = FAULTS[fault]
    script = f"addEventListener('load', () => {{ {script} }});"
    assert any(told in one for one in watched(serve(script)).faults)


def test_a_page_that_does_nothing_wrong_has_no_faults(serve, watched):
    assert watched(serve("fetch('/quiet')")).faults == []


def test_what_a_test_provokes_itself_is_no_fault(serve, watched):
    assert watched(serve("fetch('/missing')"), "status of 404").faults == []
