"""The documents page: files sent and followed, what was given up, lists, passages, deletion after a question."""

import json
import urllib.request

import pytest
from stacks import wait_until

from browser.console import DESKTOP, PHONE
from browser.files import HANDBOOK, pdf

# A title in Hebrew, a word without a place to break it, an emoji, and names with what an address must escape.
NAMES = ["שלום-עולם.md", f"{'x' * 150}.md", "a b/c?d#e%20&f.md", "🚣 rowing.md"]


def ask(site, secret, method, path, body=None):
    """The JSON answer of the gateway to a call of our own."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {secret}"}
    request = urllib.request.Request(site.url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def publish(site, secret, collection, texts):
    """Stores texts by id; returns once a worker has them all."""
    documents = [{"document_id": name, "text": text} for name, text in texts.items()]
    answer = ask(site, secret, "POST", "/v1/documents", {"documents": documents, "collection": collection})
    jobs = [row["job_id"] for row in answer["data"]]
    wait_until(lambda: all(ask(site, secret, "GET", f"/v1/jobs/{job}")["state"] == "done" for job in jobs))


@pytest.fixture(scope="module")
def secret(site):
    """A key of a tenant that these tests alone use."""
    return site.new_key("--tenant", "papers", "--user", "ann")


@pytest.fixture(scope="module")
def many(site, secret):
    """A collection of thirty documents, two of which have another beginning."""
    texts = {f"log/{number:02}.md": f"Outing number {number} of the year." for number in range(28)}
    publish(site, secret, "many", texts | {"rules.md": "Boats are washed.", "rota.md": "Ann rows on Monday."})
    return "many"


def send(console, *files):
    """Chooses files, as (name, content)."""
    chosen = [{"name": name, "mimeType": "", "buffer": content} for name, content in files]
    console.page.get_by_label("Choose files").set_input_files(chosen)


def row(console, text):
    return console.page.locator(".uploads li").filter(has_text=text)


def answer_question(page, action):
    page.get_by_role("dialog").get_by_role("button", name=action).click()
    page.get_by_role("dialog").wait_for(state="detached")


def test_a_file_is_sent_indexed_listed_and_read(new_console, secret):
    console = new_console(secret, "documents?collection=club")
    page = console.page
    page.get_by_text("holds no documents yet").wait_for()
    send(console, ("handbook.pdf", pdf(*HANDBOOK)))
    row(console, "handbook.pdf").get_by_text("stored").wait_for()
    page.get_by_role("link", name="handbook.pdf").click()
    page.get_by_text("first Sunday of March").wait_for()
    page.get_by_role("link", name="All documents").click()
    page.get_by_text("1 document,").wait_for()


def test_what_cannot_be_read_is_refused_with_the_reason_and_the_rest_is_stored(new_console, secret):
    console = new_console(secret, "documents?collection=mixed")
    console.watch.allow("status of 400")
    send(
        console,
        ("tool.exe", b"MZ"),
        ("empty.md", b""),
        ("torn.pdf", b"%PDF-1.4 torn"),
        ("good.md", b"# Oars\n\nFir."),
    )
    row(console, "good.md").get_by_text("stored").wait_for()
    row(console, "torn.pdf").get_by_text("refused").wait_for()
    assert ".pdf" in row(console, "tool.exe").locator(".reason").text_content()
    assert "empty" in row(console, "empty.md").locator(".reason").text_content()
    assert "torn.pdf" in row(console, "torn.pdf").locator(".reason").text_content()
    console.page.get_by_text("1 of 4 stored, 3 not taken").wait_for()
    assert console.violations() == []
    console.page.get_by_role("button", name="Clear the list").click()
    row(console, "good.md").wait_for(state="detached")


def test_documents_are_found_by_how_their_id_begins_and_come_page_by_page(new_console, secret, many):
    console = new_console(secret, f"documents?collection={many}")
    page = console.page
    page.get_by_text("30 documents").wait_for()
    listed = page.get_by_role("region", name=f"Documents of collection {many}")
    assert listed.locator("tbody tr").count() == 25
    page.get_by_label("Pages of documents").get_by_role("button", name="Next").click()
    page.get_by_text("Page 2").wait_for()
    listed.get_by_text("rules.md").wait_for()
    assert listed.locator("tbody tr").count() == 5
    page.get_by_label("Id begins with").fill("ru")
    listed.get_by_text("log/").first.wait_for(state="detached")
    assert listed.locator("tbody th").all_text_contents() == ["rules.md"]
    page.get_by_label("Id begins with").fill("%")
    page.get_by_text('has an id that begins with "%"').wait_for()


def test_a_document_is_deleted_after_a_question_and_not_without_it(new_console, site, secret):
    publish(site, secret, "bin", {"old.md": "Old.", "new.md": "New."})
    console = new_console(secret, "documents?collection=bin")
    page = console.page
    page.get_by_role("button", name="Delete old.md").click()
    answer_question(page, "Cancel")
    assert page.get_by_role("link", name="old.md").is_visible()
    assert page.get_by_role("button", name="Delete old.md").evaluate(
        "node => node === document.activeElement"
    )
    page.get_by_role("button", name="Delete old.md").click()
    answer_question(page, "Delete")
    page.get_by_role("link", name="old.md").wait_for(state="detached")
    left = ask(site, secret, "GET", "/v1/documents?collection=bin")["data"]
    assert [one["id"] for one in left] == ["new.md"]


def test_a_collection_is_deleted_after_a_question(new_console, site, secret):
    publish(site, secret, "gone", {"a.md": "A.", "b.md": "B."})
    console = new_console(secret, "documents?collection=gone")
    page = console.page
    page.get_by_role("button", name="Delete collection gone").click()
    assert "2 passages" in page.get_by_role("dialog").text_content()
    assert console.violations() == []
    answer_question(page, "Delete the collection")
    page.get_by_role("button", name="Delete collection gone").wait_for(state="detached")
    page.get_by_text("Collection gone holds no documents yet").wait_for()
    names = [one["id"] for one in ask(site, secret, "GET", "/v1/vector_stores?limit=100")["data"]]
    assert "gone" not in names


def test_another_collection_is_shown_without_loading_the_page_anew(new_console, secret, many):
    console = new_console(secret, "documents?collection=empty")
    page = console.page
    page.get_by_role("button", name=f"Show the documents of {many}").click()
    page.get_by_text("30 documents").wait_for()
    assert page.get_by_label("Collection", exact=True).input_value() == many
    page.reload()
    page.get_by_text("30 documents").wait_for()


def test_names_of_any_script_and_length_are_opened_and_deleted_as_they_are(new_console, site, secret):
    publish(site, secret, "names", {name: f"Text of number {at}." for at, name in enumerate(NAMES)})
    console = new_console(secret, "documents?collection=names", viewport=PHONE)
    page = console.page
    page.get_by_text("4 documents").wait_for()
    assert not console.is_wider_than_its_window()
    for at, name in enumerate(NAMES):
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_text(f"Text of number {at}.").wait_for()
        assert not console.is_wider_than_its_window()
        page.get_by_role("link", name="All documents").click()
    page.get_by_role("button", name=f"Delete {NAMES[2]}").click()
    answer_question(page, "Delete")
    page.get_by_text("3 documents").wait_for()


def test_what_was_given_up_says_why_and_can_be_tried_again_or_forgotten(new_console, secret):
    dead = [
        {
            "id": str(number),
            "object": "job",
            "state": "dead",
            "document_id": f"broken-{number}.pdf",
            "collection": "club",
            "attempts": 5,
            "error": "its model is gone",
            "created_at": "2026-11-29T17:20:01Z",
        }
        for number in (2, 1)
    ]
    told = []

    def answer(route):
        # A job that fails five times takes minutes to die: the page is told so at once.
        request = route.request
        if request.method != "GET":
            told.append((request.method, request.url.split("/v1/")[1]))
            number = request.url.split("/jobs/")[1].split("/")[0]
            dead[:] = [job for job in dead if job["id"] != number]
            return route.fulfill(json={})
        counts = {"waiting": 0, "running": 0, "done": 0, "dead": len(dead), "cancelled": 0}
        page = {"object": "list", "data": dead, "has_more": False, "last_id": None}
        return route.fulfill(json=page | {"counts": counts, "workers": 1})

    console = new_console(secret, "live")
    page = console.page
    page.route("**/v1/jobs**", answer)
    console.open("documents")
    page.get_by_role("heading", name="2 documents were given up").wait_for()
    assert page.get_by_text("its model is gone").count() == 2
    assert console.violations() == []
    page.get_by_role("button", name="Retry broken-2.pdf").click()
    page.get_by_role("heading", name="1 document was given up").wait_for()
    page.get_by_role("button", name="Forget broken-1.pdf").click()
    answer_question(page, "Forget")
    page.get_by_text("given up", exact=False).and_(page.locator("h2")).wait_for(state="hidden")
    assert told == [("POST", "jobs/2/retry"), ("DELETE", "jobs/1")]


@pytest.mark.parametrize("look", [(DESKTOP, "dark"), (PHONE, "light")])
def test_documents_and_their_passages_have_no_violation_and_fit_the_window(new_console, secret, many, look):
    viewport, scheme = look
    console = new_console(secret, f"documents?collection={many}", viewport=viewport, color_scheme=scheme)
    page = console.page
    page.get_by_text("30 documents").wait_for()
    told = console.violations()
    page.get_by_role("link", name="log/00.md").click()
    page.locator(".passages .text").first.wait_for()
    told += console.violations()
    assert told == []
    assert not console.is_wider_than_its_window()


def test_a_key_without_the_endpoint_documents_sees_its_collections_and_is_told(new_console, site, many):
    narrow = site.new_key("--tenant", "papers", "--endpoint", "search", "--endpoint", "models")
    console = new_console(narrow, "documents")
    console.page.get_by_text("may not read or send documents").wait_for()
    console.page.get_by_text(many).wait_for()
    assert console.page.get_by_role("button", name="Delete").count() == 0
    assert console.violations() == []
