"""What pages do when answers are late, fail or end early, in Chromium over an API of set answers."""

import threading

import pytest

from browser.console import DESKTOP, PHONE, focused
from browser.shell import log_in
from fakes.console_api import ME

AWAY = (503, {"error": {"message": "Triton does not answer"}})
HELLO = {"gateway": "gw-1", "release": "v1", "tenant": None, "interval": 10, "started": 900}
HISTORY = {
    "interval": 10,
    "at": [1000],
    "series": {"requests": [10], "cache_lookups": [4], "hits_exact": [None]},
}
CARD = {"ability": "chat", "kind": "llm", "is_far": False, "source": "a/b", "calls": []}
CHAT = "POST /v1/chat/completions"
# Waits between tries pass sooner; that for a sign of life of a stream does not.
HURRY = """
const { setTimeout: wait } = window;
window.setTimeout = (act, ms, ...more) => wait(act, ms === 8000 ? ms : ms / 20, ...more);
"""


def chunk(text):
    return "message", {"model": "rag", "choices": [{"delta": {"content": text}, "finish_reason": None}]}


def gauge(tab, name):
    box = tab.page.locator(".gauge", has=tab.page.get_by_role("heading", name=name, exact=True))
    return box.locator(".figure").inner_text()


def ask(tab, text="Why oars?"):
    tab.page.get_by_label("Question").fill(text)
    tab.page.get_by_role("button", name="Ask", exact=True).click()


def fact(tab, term):
    pairs = tab.page.locator("dl.facts div")
    return pairs.filter(has=tab.page.get_by_text(term, exact=True)).locator("dd")


@pytest.fixture
def playground(new_tab, api):
    """A tab at Ask, whose models are known."""
    api.answers["/v1/models"] = (200, {"data": [{"id": "rag"}, {"id": "llm"}]})
    api.answers["/v1/model_cards"] = (200, {"data": []})
    api.answers["/v1/vector_stores"] = (200, {"data": [], "has_more": False})
    tab = new_tab()
    log_in(tab, "playground")
    tab.page.locator("select[name], select:has(option[value=llm])").wait_for()
    return tab


def test_a_stream_that_cannot_be_had_is_said_once_with_the_time_of_its_last_event(new_tab, api):
    api.streams["/v1/live"] = [("hello", HELLO), ("history", HISTORY), ("now", {"at": 1005})]
    tab = new_tab()
    tab.watch.allow("status of 503")
    tab.page.add_init_script(HURRY)
    log_in(tab, "live")
    tab.page.get_by_text("live", exact=True).wait_for()
    tab.page.evaluate(
        """() => {
          window.said = [];
          const node = document.querySelector('main [role=status]');
          const look = new MutationObserver(() => window.said.push(node.textContent));
          look.observe(node, { childList: true, subtree: true });
        }"""
    )
    tries, enough = [], threading.Event()

    def away(key):
        tries.append(key)
        if len(tries) == 4:
            enough.set()
        return AWAY

    del api.streams["/v1/live"]
    api.answers["/v1/live"] = away
    api.end_streams()
    assert enough.wait(30)
    first, second = tab.page.evaluate("window.said")
    assert first.endswith(": the stream ended")
    assert second.endswith(": Triton does not answer")
    assert first.split(": ")[0] == second.split(": ")[0]


def test_a_stream_is_asked_for_ever_less_often_and_not_in_step(new_tab):
    tab = new_tab()
    log_in(tab, "live")
    waits = tab.page.evaluate(
        """async () => {
          const { waitAfter } = await import('/console/pages/live.js');
          return [0, 1, 2, 5, 5000].map((failures) => Array.from({ length: 50 }, () => waitAfter(failures)));
        }"""
    )
    for some, middle in zip(waits, (2000, 4000, 8000, 15_000, 15_000), strict=True):
        assert all(0.75 * middle <= wait <= 1.25 * middle for wait in some)
        assert len(set(some)) > 10


def test_what_nobody_knows_is_no_zero(new_tab, api):
    now = {"at": 1005, "backlog": {"llm": None}, "cache": {"exact": {"hits": None, "lookups": None}}}
    api.streams["/v1/live"] = [("hello", HELLO), ("history", HISTORY), ("now", now)]
    tab = new_tab()
    log_in(tab, "live")
    tab.page.get_by_text("live", exact=True).wait_for()
    assert [gauge(tab, name) for name in ("Backlog", "Exact cache")] == ["unknown"] * 2
    # Of a tier that is not named nothing was asked: that is known.
    assert gauge(tab, "Semantic cache") == "none"
    said = tab.page.locator(".plot .unseen").all_text_contents()
    assert "Exact cache, last hour: no data" in said
    assert "Backlog, last hour: no data" in said
    api.answers["/v1/model_cards"] = (200, {"data": [{**CARD, "name": "llm", "is_ready": None}]})
    tab.open("models")
    tab.page.get_by_text("0 of 1 ready, 1 unknown").wait_for()


def test_models_stay_and_keep_the_focus_while_their_gateway_is_away(new_tab, api):
    api.answers["/v1/model_cards"] = (200, {"data": [{**CARD, "name": "llm", "is_ready": True}]})
    tab = new_tab()
    tab.watch.allow("status of 503")
    tab.page.add_init_script(HURRY)
    log_in(tab, "models")
    tab.page.get_by_role("link", name="llm").focus()
    tries, enough = [], threading.Event()

    def away(key):
        tries.append(key)
        if len(tries) == 3:
            enough.set()
        return AWAY

    tab.page.evaluate(
        """() => {
          window.alerts = 0;
          const count = (rows) => rows.forEach(({ addedNodes }) => addedNodes.forEach((one) => {
            window.alerts += one.matches?.('[role=alert]') ? 1 : 0;
          }));
          new MutationObserver(count).observe(document.querySelector('main'), { childList: true, subtree: true });
        }"""
    )
    api.answers["/v1/model_cards"] = away
    assert enough.wait(30)
    tab.page.get_by_role("alert").get_by_text("Triton does not answer").wait_for()
    assert tab.page.evaluate("window.alerts") == 1
    assert focused(tab.page) == "llm"
    api.answers["/v1/model_cards"] = (200, {"data": [{**CARD, "name": "llm", "is_ready": False}]})
    tab.page.get_by_text("0 of 1 ready").wait_for()
    assert tab.page.get_by_role("alert").count() == 0
    assert focused(tab.page) == "llm"


def test_try_again_asks_the_same_question_with_its_options(playground, api):
    playground.watch.allow("status of 429")
    api.answers[CHAT] = (429, {"error": {"message": "too many requests"}}, {"retry-after": "3"})
    playground.page.get_by_text("Options").click()
    playground.page.get_by_label("Most tokens").fill("7")
    ask(playground)
    playground.page.get_by_text("again after 3 s").wait_for()
    api.streams[CHAT] = [chunk("Wind fails."), ("message", "[DONE]")]
    playground.page.get_by_role("button", name="Try again").click()
    playground.page.locator(".answer").get_by_text("Wind fails.").wait_for()
    (_, _, first), (_, _, second) = api.sent
    assert first == second
    assert second["max_tokens"] == 7


def test_an_answer_that_breaks_off_keeps_what_had_come_and_says_so(playground, api):
    api.streams[CHAT] = [chunk("Wind"), ("message", {"error": {"message": "the machine is gone"}})]
    ask(playground)
    playground.page.locator(".answer").get_by_text("Wind").wait_for()
    api.end_streams()
    playground.page.get_by_text("The answer broke off: this is what had come.").wait_for()
    assert playground.page.get_by_role("alert").inner_text() == "the machine is gone"
    assert playground.page.locator(".answer").inner_text() == "Wind"


def test_the_tokens_that_were_charged_are_those_of_the_ledger(playground, api):
    total = {"input_tokens": 330, "output_tokens": 0, "dollars": "0", "saved_dollars": "0"}
    api.answers["/v1/requests/r1"] = (200, {"is_priced": False, "total": total})
    used = {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    details = {"choices": [], "trireme": {"sources": [], "details": {"answer_mode": "extractive"}}}
    frames = [chunk("Wind fails."), ("message", details), ("message", used), ("message", "[DONE]")]
    api.streams[CHAT] = frames
    api.headers[CHAT] = {"x-request-id": "r1"}
    ask(playground)
    playground.page.locator(".answer").get_by_text("Wind fails.").wait_for()
    api.end_streams()
    fact(playground, "Charged").get_by_text("330 tokens read, 0 written").wait_for()
    assert fact(playground, "Tokens of the LLM").inner_text() == "0 read, 0 written"
    assert fact(playground, "Cost").inner_text() == "no price is set"


def test_a_model_that_is_typed_before_the_list_comes_stays(new_tab, api):
    go, came = threading.Event(), threading.Event()

    def late(_):
        came.set()
        go.wait(30)
        return 200, {"data": [{"id": "rag"}, {"id": "llm"}]}

    api.answers["/v1/models"] = late
    api.answers["/v1/model_cards"] = (200, {"data": []})
    api.answers["/v1/vector_stores"] = (200, {"data": [], "has_more": False})
    tab = new_tab()
    log_in(tab, "playground")
    assert came.wait(30)
    model = tab.page.get_by_label("Model")
    model.fill("llm")
    go.set()
    tab.page.locator("select:has(option[value=rag])").wait_for()
    assert model.input_value() == "llm"
    assert tab.page.evaluate("document.activeElement.tagName") == "SELECT"


def passages(*numbers, **more):
    rows = [{"id": f"a#{number}", "text": f"text {number}", "metadata": {}} for number in numbers]
    usual = {"id": "a", "title": "", "source": "a", "collection": "notes", "updated_at": None}
    return 200, {
        **usual,
        "passage_count": 9,
        "has_earlier": False,
        "passages": rows,
        "last_id": rows[-1]["id"],
        **more,
    }


def test_more_passages_come_once_however_often_they_are_asked_for(new_tab, api):
    api.answers["/v1/documents/a"] = passages(0, 1, has_more=True)
    tab = new_tab()
    log_in(tab, "documents?collection=notes&document=a")
    more = tab.page.get_by_role("button", name="More passages")
    more.focus()
    go = threading.Event()

    def late(_):
        go.wait(30)
        return passages(2, 3, has_more=False)

    api.answers["/v1/documents/a"] = late
    more.press("Enter")
    more.press("Enter")
    go.set()
    tab.page.get_by_text("text 3").wait_for()
    more.wait_for(state="hidden")
    assert tab.page.locator(".passages > li").count() == 4
    assert "text 2" in focused(tab.page)
    assert tab.page.evaluate("document.activeElement.tagName") == "LI"


def test_retry_of_all_goes_on_after_one_that_is_refused_and_is_done_once(new_tab, api):
    jobs = [
        {
            "id": str(number),
            "state": "dead",
            "document_id": f"d{number}",
            "collection": "notes",
            "attempts": 5,
        }
        for number in range(3)
    ]
    counts = {"waiting": 0, "running": 0, "done": 0, "dead": 3, "cancelled": 0}
    api.answers["/v1/jobs"] = (
        200,
        {"data": jobs, "has_more": False, "last_id": "2", "counts": counts, "workers": 1},
    )
    api.answers["/v1/documents"] = api.answers["/v1/vector_stores"] = (200, {"data": [], "has_more": False})
    go = threading.Event()

    def late(_):
        go.wait(30)
        return 200, {}

    api.answers["POST /v1/jobs/0/retry"] = late
    api.answers["POST /v1/jobs/1/retry"] = (409, {"error": {"message": "job 1 is waiting, not dead"}})
    api.answers["POST /v1/jobs/2/retry"] = (200, {})
    tab = new_tab()
    tab.watch.allow("status of 409")
    log_in(tab, "documents")
    every = tab.page.get_by_role("button", name="Retry all on this page")
    every.click()
    every.click()
    go.set()
    tab.page.get_by_role("alert").get_by_text("job 1 is waiting, not dead").wait_for()
    assert [path for _, path, _ in api.sent] == [f"/v1/jobs/{number}/retry" for number in range(3)]


def test_a_page_whose_file_cannot_be_had_is_shown_once_the_gateway_is_back(new_tab, api):
    api.answers["/v1/model_cards"] = (200, {"data": [{**CARD, "name": "llm", "is_ready": True}]})
    tab = new_tab()
    tab.watch.allow("ERR_FAILED", "status of 503")
    log_in(tab, "live")
    tab.page.route("**/pages/models.js", lambda route: route.abort())
    api.answers["/readyz"] = (503, {"ready": False, "reasons": ["the gateway stops"]})
    tab.page.evaluate("location.hash = '#/models'")
    tab.page.get_by_role("alert").get_by_text("the gateway does not answer").wait_for()
    tab.page.locator("#banner").get_by_text("The gateway stops").wait_for()
    tab.page.unroute("**/pages/models.js")
    api.answers["/readyz"] = (200, {"ready": True, "reasons": []})
    tab.page.get_by_text("1 of 1 ready").wait_for()


def test_names_of_any_length_and_direction_leave_the_page_as_wide_as_its_window(new_tab, api):
    name = "ספינה-" + "x" * 120
    key = {
        "id": "key_1",
        "tenant": name,
        "user": name,
        "models": [name],
        "collections": [name],
        "endpoints": [],
    }
    key |= {"state": "active", "requests_per_minute": 0, "priority": "normal", "created_at": None}
    api.answers["/v1/me"] = (200, {**ME, "tenant": name, "user": name, "release": name})
    budget = {"tenant": name, "user": name, "window": "day", "tokens": 5, "dollars": None}
    used = {"keys": 1, "budgets": 1, "requests_today": 0, "tokens_today": 0, "dollars_today": "0"}
    rows = {"keys": key, "budgets": budget, "tenants": {"tenant": name, **used}}
    for page, row in rows.items():
        api.answers[f"/v1/{page}"] = (200, {"data": [row], "has_more": False, "last_id": None})
    api.answers["/v1/model_cards"] = (200, {"data": [{**CARD, "name": name, "is_ready": True}]})
    spend = {"budgets": [{"tenant": name, "user": name, "window": "day", "tokens": 1, "limit_tokens": 5}]}
    now = {"at": 1005, "spend": spend, "errors": {name: 1}, "backlog": {name: 1}}
    served = [{"name": name, "ability": "chat", "is_ready": True}]
    now |= {"models": served, "replicas": served, "regions": served}
    hello = {**HELLO, "tenant": name, "gateway": name, "release": name}
    api.streams["/v1/live"] = [("hello", hello), ("history", HISTORY), ("now", now)]
    wide = []
    for viewport in (DESKTOP, PHONE):
        tab = new_tab(viewport)
        for page in ("live", "models", *rows):
            log_in(tab, page)
            tab.page.get_by_text(name).nth(2).wait_for(state="attached")
            if tab.is_wider_than_its_window():
                wide.append((page, viewport["width"]))
    assert wide == []


def test_figures_are_the_same_in_every_language_of_the_browser(new_tab, api):
    now = {"at": 1005, "requests_per_second": 1234.5, "spend": {"tokens": 12345, "dollars": "1234.50"}}
    api.streams["/v1/live"] = [("hello", HELLO), ("history", HISTORY), ("now", now)]
    tab = new_tab(locale="de-DE", timezone_id="Asia/Kolkata")
    log_in(tab, "live")
    tab.page.get_by_text("live", exact=True).wait_for()
    assert [gauge(tab, name) for name in ("Requests", "Spend today")] == ["1,234.5", "$1,234.50"]
    # Unix second 900, five and a half hours on.
    assert "up since 1970-01-01 05:45:00" in tab.page.locator("main").inner_text()


def test_a_gateway_that_stops_is_named_as_the_reason(new_tab, api):
    parts = [("hello", HELLO), ("history", HISTORY), ("now", {"at": 1005})]
    api.streams["/v1/live"] = [*parts, ("end", {"reason": "the gateway stops"})]
    tab = new_tab()
    log_in(tab, "live")
    tab.page.get_by_text(": the gateway stops").wait_for()


def test_who_stops_an_answer_by_keyboard_is_back_at_the_question(playground, api):
    api.streams[CHAT] = [chunk("Wind")]
    ask(playground)
    playground.page.locator(".answer").get_by_text("Wind").wait_for()
    playground.page.get_by_role("button", name="Stop").press("Enter")
    playground.page.get_by_text("Stopped: this is what had come.").wait_for()
    assert playground.page.evaluate("document.activeElement.name") == "question"


def test_the_cost_of_a_tenant_that_was_typed_comes_back_by_itself(new_tab, api):
    api.answers["/v1/cost"] = AWAY
    api.answers["/readyz"] = (503, {"ready": False, "reasons": ["Triton does not answer"]})
    tab = new_tab()
    tab.watch.allow("status of 503")
    log_in(tab, "cost")
    tenant = tab.page.get_by_label("Tenant (empty: all)")
    tenant.fill("acme")
    tenant.press("Enter")
    tab.page.locator("#banner").get_by_text("Triton does not answer").wait_for()
    api.answers["/v1/cost"] = (200, cost_of("acme"))
    api.answers["/readyz"] = (200, {"ready": True, "reasons": []})
    tab.page.get_by_role("rowheader", name="rag").first.wait_for()
    assert tenant.input_value() == "acme"
    assert "tenant=acme" in tab.page.url


def cost_of(tenant):
    figures = {name: 1 for name in ("requests", "succeeded", "failed", "input_tokens", "output_tokens")}
    figures |= {f"{name}_dollars": "0.50" for name in ("usage", "saved")}
    figures |= {"idle_dollars": None, "allocation_dollars": None, "answer_ms": None}
    figures |= {"dollars_per_success": {"usage": "0.50", "allocation": None}}
    times = {"since": "2026-11-01T00:00:00Z", "until": "2026-11-29T00:00:00Z"}
    sums = {"bill_dollars": "0.50", "unexplained_dollars": "0", "machines": []}
    return {
        **times,
        **sums,
        "by": "model",
        "tenant": tenant,
        "data": [{**figures, "name": "rag"}],
        "total": figures,
    }
