"""The shell and its pages in Chromium, over the console's real files and an API of set answers."""

import time

import pytest

from browser.console import DESKTOP, PHONE
from browser.shell import SECRET, log_in
from fakes.console_api import ME, ConsoleApi

NO_KEY = (401, {"error": {"message": "this key is not in force", "code": "no_key"}})
AWAY = (503, {"error": {"message": "the database does not answer", "code": "unavailable"}})
COST = {
    "requests": 10,
    "succeeded": 8,
    "failed": 1,
    "input_tokens": 100,
    "output_tokens": 50,
    "attempt_seconds": 5.0,
    "machine_seconds": None,
    "usage_dollars": "1.50",
    "idle_dollars": None,
    "allocation_dollars": None,
    "saved_dollars": "0.25",
    "dollars_per_success": {"usage": "0.1875", "allocation": None},
    "dollars_per_million_tokens": "10000.00",
    "answer_ms": {"p50": 1380, "p95": 4100},
    "first_content_ms": {"p50": 118, "p95": 361},
}
HISTORY = {
    "interval": 10,
    "at": [1000, 1010, 1020],
    "series": {"requests": [10, 20, 30], "refused": [1, 0, 2], "first_ms_p95": [100, None, 300]},
}
NOW = {
    "at": 1025,
    "requests_per_second": 3.25,
    "tokens_per_second": None,
    "running": None,
    "backlog": {"llm": 1.5, "rag": 0},
    "first_ms_p95": 300,
    "errors": {"rate_limited": 3},
    "cache": {"exact": {"hits": 1, "lookups": 4}, "semantic": {"hits": 0, "lookups": 0}},
    "spend": {
        "tokens": 1234,
        "dollars": "9.50",
        "budgets": [{"window": "day", "dollars": "9.50", "limit_dollars": "10.00", "at_end": "12.00"}],
    },
    "models": [{"name": "llm", "ability": "chat", "is_ready": False, "is_far": False}],
    "replicas": None,
    "regions": [],
    "database": "ok",
    "store": "ok",
}
HELLO = {"gateway": "gw-1", "release": "v1", "version": "1", "tenant": None, "interval": 10, "started": 900}


def cost_of(*names):
    return {
        "object": "cost",
        "by": "model",
        "tenant": None,
        "since": "2026-11-01T00:00:00Z",
        "until": "2026-11-29T17:30:00Z",
        "bill_dollars": "1.50",
        "unexplained_dollars": "0.00",
        "machines": [],
        "data": [{**COST, "name": name} for name in names],
        "total": {**COST, "name": "total"},
    }


@pytest.fixture
def api():
    with ConsoleApi() as running:
        running.answers["/v1/cost"] = (200, cost_of("rag", "llm"))
        running.answers["/v1/model_cards"] = (200, {"data": []})
        running.streams["/v1/live"] = [("hello", HELLO), ("history", HISTORY), ("now", NOW)]
        yield running


def text_of(tab):
    return tab.page.locator("main").inner_text()


def test_the_key_of_a_link_leaves_the_address_before_anything_is_asked(new_tab, api):
    tab = new_tab()
    tab.page.goto(f"{tab.url}#key={SECRET}")
    tab.page.get_by_role("navigation").wait_for()
    assert SECRET not in tab.page.url
    loaded = "performance.getEntriesByType('resource').map((one) => one.name).join()"
    assert SECRET not in tab.page.evaluate(loaded)
    assert {key for path, key in api.asked if path != "/readyz"} == {SECRET}


def test_a_wrong_key_is_said_and_not_kept(new_tab, api):
    tab = new_tab()
    tab.watch.allow("status of 401")
    api.answers["/v1/me"] = lambda key: (200, ME) if key == SECRET else NO_KEY
    tab.page.goto(tab.url)
    field = tab.page.get_by_label("Key")
    field.fill("tr-wrong")
    field.press("Enter")
    tab.page.get_by_text("This key is not in force").wait_for()
    assert tab.violations() == []
    assert tab.page.evaluate("sessionStorage.length") == 0
    tab.page.get_by_label("Key").fill(SECRET)
    tab.page.get_by_role("button", name="Log in").click()
    tab.page.get_by_role("navigation").wait_for()


def test_a_tab_stays_logged_in_until_it_logs_out(new_tab):
    tab = new_tab()
    log_in(tab)
    tab.page.reload()
    tab.page.get_by_role("heading", name="Cost", exact=True).wait_for()
    tab.page.get_by_role("button", name="Log out").click()
    tab.page.get_by_label("Key").wait_for()
    tab.page.reload()
    tab.page.get_by_label("Key").wait_for()
    assert tab.page.evaluate("sessionStorage.length") == 0
    assert "acme" not in tab.page.locator("body").inner_text()


def test_a_key_that_is_revoked_meanwhile_leads_to_the_log_in(new_tab, api):
    tab = new_tab()
    tab.watch.allow("status of 401")
    log_in(tab)
    tab.page.get_by_role("rowheader", name="rag").first.wait_for()
    api.answers["/v1/cost"] = NO_KEY
    tab.page.get_by_label("By", exact=True).select_option("tenant")
    tab.page.get_by_text("This key is no longer in force.").wait_for()
    assert tab.page.evaluate("sessionStorage.length") == 0


def test_a_stream_that_is_ended_with_its_key_leads_to_the_log_in(new_tab, api):
    tab = new_tab()
    tab.watch.allow("status of 401")
    log_in(tab, "live")
    tab.page.get_by_text("3.3", exact=True).wait_for()
    del api.streams["/v1/live"]
    api.answers["/v1/live"] = NO_KEY
    api.end_streams()
    tab.page.get_by_text("This key is no longer in force.").wait_for()


def test_only_pages_that_the_key_may_use_are_named_and_others_say_what_they_need(new_tab, api):
    tab = new_tab()
    api.answers["/v1/me"] = (200, {**ME, "endpoints": ["models", "usage"], "is_admin": False})
    tab.page.goto(f"{tab.url}#key={SECRET}")
    names = tab.page.get_by_role("navigation").get_by_role("link")
    names.first.wait_for()
    assert names.all_inner_texts() == ["Live", "Models", "Cost", "Budgets"]
    tab.page.goto(f"{tab.url}#/keys")
    tab.page.get_by_text("This page needs a key with the endpoint admin.").wait_for()
    tab.page.goto(f"{tab.url}#/nonsense")
    tab.page.get_by_text("There is no such page.").wait_for()


def test_a_database_that_is_away_is_said_and_the_page_comes_back_by_itself(new_tab, api):
    tab = new_tab()
    tab.watch.allow("status of 503")
    log_in(tab, "models")
    api.answers["/v1/cost"] = AWAY
    api.answers["/readyz"] = (503, {"ready": False, "reasons": ["the database does not answer"]})
    tab.open("cost")
    banner = tab.page.locator("#banner")
    banner.get_by_text("The database does not answer. Trying again").wait_for()
    assert "the database does not answer" in text_of(tab)
    assert tab.violations() == []
    api.answers["/v1/cost"] = (200, cost_of("rag"))
    api.answers["/readyz"] = (200, {"ready": True, "reasons": []})
    tab.page.get_by_role("rowheader", name="rag").first.wait_for()
    assert banner.is_hidden()


def test_an_overload_of_one_call_is_no_matter_of_the_whole_gateway(new_tab, api):
    tab = new_tab()
    tab.watch.allow("status of 503")
    log_in(tab, "models")
    api.answers["/v1/cost"] = (503, {"error": {"message": "too many requests wait"}})
    tab.open("cost")
    tab.page.get_by_text("too many requests wait").wait_for()
    assert tab.page.locator("#banner").is_hidden()
    api.answers["/v1/cost"] = (200, cost_of("rag"))
    tab.page.get_by_role("button", name="Try again").click()
    tab.page.get_by_role("rowheader", name="rag").first.wait_for()


def test_a_link_taken_by_keyboard_leads_into_its_page(new_tab):
    tab = new_tab()
    log_in(tab, "cost")
    tab.page.get_by_role("link", name="Models").press("Enter")
    tab.page.get_by_role("heading", name="Models", level=1).wait_for()
    assert tab.page.evaluate("document.activeElement.id") == "main"
    tab.page.reload()
    tab.page.get_by_role("heading", name="Models", level=1).wait_for()
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the page"


def test_live_figures_are_those_of_the_stream_and_what_is_null_is_unknown(new_tab):
    tab = new_tab()
    log_in(tab, "live")

    def gauge(name):
        box = tab.page.locator(".gauge", has=tab.page.get_by_role("heading", name=name, exact=True))
        box.locator(".figure").wait_for()
        return [line for line in box.inner_text().split("\n") if line]

    tab.page.get_by_text("gateway gw-1").first.wait_for()
    assert gauge("Requests")[1:3] == ["3.3", "per second"]
    assert gauge("Tokens")[1] == "unknown"
    assert gauge("Running")[1] == "unknown"
    assert gauge("Backlog")[1] == "1.5 s"
    assert gauge("Refused")[1] == "3"
    assert gauge("Failed")[1] == "unknown"
    assert "max 300 ms" in gauge("First content")
    assert gauge("Exact cache")[1] == "25 %"
    assert gauge("Semantic cache")[1] == "none"
    said = tab.page.locator(".plot .unseen").all_text_contents()
    assert "Requests, last hour: latest 3/s, least 1/s, greatest 3/s" in said
    page = text_of(tab)
    assert "95 %, $12.00 by its end" in page
    assert "not ready" in page
    assert "No region is known." in page
    assert tab.violations() == []


def test_a_stream_that_ends_is_said_and_opened_again(new_tab, api):
    tab = new_tab()
    log_in(tab, "live")
    tab.page.get_by_text("live", exact=True).wait_for()
    api.streams["/v1/live"] = [("hello", HELLO), ("history", HISTORY), ("now", {**NOW, "database": "away"})]
    api.end_streams()
    tab.page.get_by_text("the stream ended").wait_for()
    assert "3.3" in text_of(tab)
    tab.page.get_by_text("Database: away.").wait_for()
    tab.page.get_by_text("live", exact=True).wait_for()


def test_a_page_that_is_left_holds_no_stream(new_tab, api):
    tab = new_tab()
    log_in(tab, "live")
    tab.page.get_by_text("live", exact=True).wait_for()
    tab.open("cost")
    asked = [path for path, _ in api.asked].count("/v1/live")
    api.end_streams()
    tab.page.wait_for_timeout(3000)
    assert [path for path, _ in api.asked].count("/v1/live") == asked


def test_a_tab_that_nobody_sees_holds_no_stream(new_tab, api):
    def show(is_hidden):
        tab.page.evaluate(
            """(isHidden) => {
              Object.defineProperty(document, 'hidden', { value: isHidden, configurable: true });
              document.dispatchEvent(new Event('visibilitychange'));
            }""",
            is_hidden,
        )

    tab = new_tab()
    log_in(tab, "live")
    tab.page.get_by_text("live", exact=True).wait_for()
    show(is_hidden=True)
    asked = [path for path, _ in api.asked].count("/v1/live")
    api.end_streams()
    tab.page.wait_for_timeout(3000)
    assert [path for path, _ in api.asked].count("/v1/live") == asked
    api.streams["/v1/live"] = [("hello", {**HELLO, "gateway": "gw-2"}), ("history", HISTORY), ("now", NOW)]
    show(is_hidden=False)
    tab.page.get_by_text("gateway gw-2").first.wait_for()


def test_a_question_keeps_the_focus_and_gives_it_back(new_tab):
    tab = new_tab()
    log_in(tab)
    page = tab.page
    page.get_by_role("rowheader", name="rag").first.wait_for()
    page.evaluate(
        """async () => {
          const { button, confirm } = await import('/console/lib/ui.js');
          const question = { title: 'Delete it?', text: 'For good.', action: 'Delete' };
          const ask = async () => { window.said = await confirm(question); };
          document.querySelector('main').prepend(button('Ask', ask));
        }"""
    )
    for keys, answer in ((["Escape"], False), (["Enter"], False), (["Tab", "Enter"], True)):
        page.get_by_role("button", name="Ask").press("Enter")
        dialog = page.get_by_role("dialog", name="Delete it?")
        dialog.wait_for()
        assert tab.violations() == []
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        for key in keys:
            page.keyboard.press(key)
        dialog.wait_for(state="detached")
        page.wait_for_function("answer => window.said === answer", arg=answer)
        assert page.evaluate("document.activeElement.textContent") == "Ask"


def test_a_list_of_any_length_costs_one_page(new_tab):
    tab = new_tab()
    log_in(tab)
    page = tab.page
    page.get_by_role("rowheader", name="rag").first.wait_for()
    page.evaluate(
        """async () => {
          const { pager, table } = await import('/console/lib/ui.js');
          const load = async (after) => {
            const from = after === null ? 0 : Number(after);
            const data = Array.from({ length: 50 }, (_, at) => ({ id: from + at }));
            return { data, has_more: from < 100, last_id: String(from + 50) };
          };
          const columns = [{ name: 'id', label: 'Id' }];
          const render = (rows) => table({ caption: 'Ids', columns, rows });
          const list = pager({ load, render, label: 'Pages of ids' });
          document.querySelector('.page').replaceChildren(list.node);
          await list.reload();
        }"""
    )
    first, many = page.locator("tbody th").first, page.locator("tbody tr")
    for start in ("50", "100"):
        page.get_by_role("button", name="Next").click()
        page.wait_for_function("at => document.querySelector('tbody th').textContent === at", arg=start)
        assert many.count() == 50
    assert page.get_by_role("button", name="Next").is_disabled()
    page.get_by_role("button", name="Previous").click()
    page.wait_for_function("() => document.querySelector('tbody th').textContent === '50'")
    assert first.inner_text() == "50"
    assert tab.violations() == []


def test_cost_of_many_names_shows_the_first_and_then_all(new_tab, api):
    tab = new_tab()
    api.answers["/v1/cost"] = (200, cost_of(*(f"tenant-{number}" for number in range(1000))))
    log_in(tab, "cost?by=tenant")
    rows = tab.page.get_by_role("region", name="Allocation and usage").locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 50
    tab.page.get_by_role("button", name="Show all 1,000").click()
    assert rows.count() == 1001
    assert "by=tenant" in tab.page.url


def test_savings_stand_apart_and_a_bill_that_does_not_add_up_is_said(new_tab, api):
    tab = new_tab()
    log_in(tab, "cost")
    tab.page.get_by_text("$0.25 in all").wait_for()
    assert "It is never subtracted from the cost above." in text_of(tab)
    api.answers["/v1/cost"] = (200, {**cost_of("rag"), "unexplained_dollars": "0.000000001"})
    tab.page.get_by_label("By", exact=True).select_option("tier")
    tab.page.get_by_text("$0.000000001 of the bill is explained by no line").wait_for()


def test_two_releases_stand_side_by_side(new_tab, api):
    def release(name, at, notes=(), **cost):
        return {
            "name": name,
            "version": "1",
            "revision": "abc",
            "deployed": [at],
            "notes": list(notes),
            "models": {"rag": name},
            "quality": {"rag: nDCG@10": 0.5},
            "cost": {**COST, **cost},
        }

    slower = {"answer_ms": {"p50": 2760, "p95": 2050}}
    notes = [{"at": "2026-11-21T00:00:00Z", "text": "a <b>shorter</b> prompt"}]
    releases = [
        release("v2", "2026-11-20T00:00:00Z", notes, **slower),
        release("v1", "2026-11-10T00:00:00Z"),
    ]
    api.answers["/v1/releases"] = (200, {"data": releases})
    tab = new_tab()
    log_in(tab, "releases")

    def row(name):
        return tab.page.get_by_role("row", name=name).first.inner_text().split("\t")

    tab.page.get_by_role("rowheader", name="Requests").wait_for()
    assert row("Whole answer, p50")[1:3] == ["1.38 s", "2.76 s"]
    assert "worse" in row("Whole answer, p50")[3]
    assert "better" in row("Whole answer, p95")[3]
    assert row("Requests")[3] == "same"
    assert "Models with another digest: rag." in text_of(tab)
    assert "a <b>shorter</b> prompt" in text_of(tab)
    tab.page.get_by_label("Release", exact=True).select_option("v2")
    tab.page.get_by_label("beside").select_option("v1")
    tab.page.wait_for_function("() => document.querySelectorAll('thead th')[1].textContent === 'v2'")
    assert "a=v2&b=v1" in tab.page.url
    assert tab.violations() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_can_be_used_by_everybody_in_every_scheme_and_width(new_tab, viewport, scheme):
    tab = new_tab(viewport, color_scheme=scheme)
    tab.page.goto(tab.url)
    tab.page.get_by_label("Key").wait_for()
    assert tab.violations() == []
    for route in ("live", "models", "cost"):
        log_in(tab, route)
        tab.page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
        assert tab.violations() == []
        assert not tab.is_wider_than_its_window()


def test_the_first_paint_waits_for_no_answer_of_the_api(new_tab, api):
    def late(key):
        time.sleep(3)
        return 200, ME

    api.answers["/v1/me"] = late
    tab = new_tab()
    tab.page.goto(f"{tab.url}#key={SECRET}")
    tab.page.get_by_text("Asking the gateway").wait_for()
    assert not any(path == "/v1/me" and not key for path, key in api.asked)
    tab.page.get_by_role("navigation").wait_for()
