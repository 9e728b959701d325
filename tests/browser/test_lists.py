"""Lists of pages in Chromium: where the focus goes, what a second click does, how an error passes."""

import threading

import pytest

from browser.console import focused
from browser.shell import SECRET, log_in

AWAY = (503, {"error": {"message": "the database does not answer"}})
READY = (200, {"ready": True, "reasons": []})


def key_of(number, **more):
    usual = {
        "tenant": "acme",
        "user": None,
        "models": [],
        "collections": [],
        "endpoints": [],
        "state": "active",
    }
    usual |= {"requests_per_minute": 0, "priority": "normal", "created_at": "2026-11-29T17:00:00Z"}
    return {"id": f"key_{number}", **usual, **more}


def page_of(*rows, has_more=False):
    last = rows[-1]["id"] if rows else None
    return 200, {"object": "list", "data": list(rows), "has_more": has_more, "last_id": last}


def not_ready(*reasons):
    return 503, {"ready": False, "reasons": list(reasons)}


@pytest.fixture
def keys(api):
    api.answers["/v1/keys"] = page_of(key_of(1), key_of(2))
    api.answers["/v1/tenants"] = page_of()
    return api


def open_keys(tab):
    log_in(tab, "keys")
    # From here on a test may set other answers.
    tab.page.get_by_role("rowheader", name="key_1").wait_for()


def revoke(tab, name):
    tab.page.get_by_role("button", name=f"Revoke {name}").press("Enter")
    tab.page.get_by_role("dialog").get_by_role("button", name="Revoke").press("Enter")


def test_the_focus_stays_in_a_list_whose_row_went_away(new_tab, keys):
    tab = new_tab()
    open_keys(tab)
    keys.answers["DELETE /v1/keys/key_1"] = (200, {})
    keys.answers["/v1/keys"] = page_of(key_of(2))
    revoke(tab, "key_1")
    tab.page.get_by_text("key_1 is revoked.").wait_for()
    tab.page.get_by_role("rowheader", name="key_1").wait_for(state="detached")
    assert tab.page.evaluate("document.activeElement.querySelectorAll('tbody tr').length") == 1
    assert tab.page.evaluate("document.activeElement.tagName") == "DIV"
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.ariaLabel") == "Revoke key_2"


def test_the_focus_stays_on_a_row_that_is_still_there(new_tab, keys):
    tab = new_tab()
    open_keys(tab)
    keys.answers["DELETE /v1/keys/key_2"] = (200, {})
    revoke(tab, "key_2")
    tab.page.get_by_text("key_2 is revoked.").wait_for()
    tab.page.wait_for_function("() => document.activeElement.ariaLabel === 'Revoke key_2'")


def test_the_last_page_takes_the_focus_from_the_button_that_led_to_it(new_tab, keys):
    keys.answers["/v1/keys"] = page_of(key_of(1), has_more=True)
    tab = new_tab()
    open_keys(tab)
    following = tab.page.get_by_role("button", name="Next")
    following.focus()
    keys.answers["/v1/keys"] = page_of(key_of(2))
    following.press("Enter")
    tab.page.get_by_role("rowheader", name="key_2").wait_for()
    tab.page.wait_for_function("() => !document.querySelector('.pager button:last-child:enabled')")
    assert "key_2" in focused(tab.page)
    assert tab.page.evaluate("document.activeElement.tagName") == "DIV"


def test_two_clicks_on_next_are_one_step(new_tab, keys):
    keys.answers["/v1/keys"] = page_of(key_of(1), has_more=True)
    tab = new_tab()
    open_keys(tab)
    following = tab.page.get_by_role("button", name="Next")
    go = threading.Event()

    def second(_):
        go.wait(30)
        return page_of(key_of(2), has_more=True)

    keys.answers["/v1/keys"] = second
    following.click()
    following.click()
    go.set()
    tab.page.get_by_role("rowheader", name="key_2").wait_for()
    assert tab.page.get_by_text("Page 2", exact=True).is_visible()
    tab.page.get_by_role("button", name="Previous").click()
    tab.page.get_by_text("Page 1", exact=True).wait_for()


def test_a_page_that_fails_is_asked_again_as_it_was(new_tab, keys):
    keys.answers["/v1/keys"] = page_of(key_of(1), has_more=True)
    tab = new_tab()
    tab.watch.allow("status of 429")
    open_keys(tab)
    keys.answers["/v1/keys"] = (429, {"error": {"message": "too many"}}, {"retry-after": "7"})
    tab.page.get_by_role("button", name="Next").click()
    tab.page.get_by_text("again after 7 s").wait_for()
    keys.answers["/v1/keys"] = page_of(key_of(2))
    tab.page.get_by_role("button", name="Try again").click()
    tab.page.get_by_role("rowheader", name="key_2").wait_for()
    assert tab.page.get_by_text("Page 2", exact=True).is_visible()
    assert "after=key_1" in keys.asked[-1][0]


def test_a_list_comes_back_with_its_database_and_keeps_what_was_typed(new_tab, keys):
    tab = new_tab()
    tab.watch.allow("status of 503")
    open_keys(tab)
    tab.page.get_by_role("rowheader", name="key_1").wait_for()
    tab.page.get_by_text("New key").click()
    tab.page.get_by_label("User").fill("ada")
    keys.answers["/v1/keys"] = AWAY
    keys.answers["/readyz"] = not_ready("the database does not answer", "model llm is not ready")
    tab.page.get_by_role("button", name="Find").click()
    tab.page.locator("#banner").get_by_text("model llm is not ready").wait_for()
    keys.answers["/v1/keys"] = page_of(key_of(1))
    # Triton is still away: what needs the database alone does not wait for it.
    keys.answers["/readyz"] = not_ready("model llm is not ready")
    tab.page.get_by_role("rowheader", name="key_1").wait_for()
    assert tab.page.locator("#banner").inner_text() == "Model llm is not ready. Trying again …"
    assert tab.page.get_by_label("User").input_value() == "ada"
    keys.answers["/readyz"] = READY
    tab.page.locator("#banner").wait_for(state="hidden")


def test_a_form_that_fails_keeps_what_was_typed_and_comes_to_no_harm_when_the_gateway_is_back(new_tab, keys):
    tab = new_tab()
    tab.watch.allow("status of 503")
    open_keys(tab)
    tab.page.get_by_text("New key").click()
    tab.page.get_by_label("admin").check()
    keys.answers["POST /v1/keys"] = AWAY
    keys.answers["/readyz"] = not_ready("the database does not answer")
    tab.page.get_by_role("button", name="Make the key").press("Enter")
    tab.page.get_by_role("alert").get_by_text("the database does not answer").wait_for()
    assert focused(tab.page) == "Make the key"
    tab.page.locator("#banner").wait_for()
    keys.answers["/readyz"] = READY
    tab.page.locator("#banner").wait_for(state="hidden")
    assert tab.page.get_by_label("admin").is_checked()
    assert tab.page.get_by_role("button", name="Try again").count() == 0


def test_a_new_secret_stays_until_it_is_put_away(new_tab, keys):
    tab = new_tab()
    open_keys(tab)
    keys.answers["POST /v1/keys"] = (201, key_of(3, secret="tr-shown-once"))
    keys.answers["DELETE /v1/keys/key_1"] = (200, {})
    tab.page.get_by_text("New key").click()
    tab.page.get_by_role("button", name="Make the key").click()
    secret = tab.page.get_by_text("tr-shown-once")
    secret.wait_for()
    # Who changes keys takes the old one out of force next.
    revoke(tab, "key_1")
    tab.page.get_by_text("key_1 is revoked.").wait_for()
    assert secret.is_visible()
    tab.page.get_by_role("button", name="I have it").click()
    secret.wait_for(state="detached")


def test_a_question_goes_with_its_page(new_tab, keys):
    tab = new_tab()
    tab.watch.allow("status of 401")
    open_keys(tab)
    tab.page.get_by_role("button", name="Revoke key_1").click()
    tab.page.get_by_role("dialog").wait_for()
    tab.page.evaluate("location.hash = '#/tenants'")
    tab.page.get_by_role("heading", name="Tenants", level=1).wait_for()
    tab.page.get_by_role("dialog").wait_for(state="detached")
    keys.answers["/v1/budgets"] = (401, {"error": {"message": "not in force"}})
    tab.page.evaluate("location.hash = '#/keys'")
    tab.page.get_by_role("button", name="Revoke key_1").click()
    tab.page.get_by_role("dialog").wait_for()
    tab.page.evaluate("import('/console/lib/api.js').then(({ api }) => api('/v1/budgets').catch(() => {}))")
    field = tab.page.get_by_label("Key")
    field.wait_for()
    tab.page.wait_for_function("() => document.activeElement.name === 'key'")
    field.press_sequentially(SECRET)
    assert field.input_value() == SECRET
    assert keys.sent == []


def test_a_refusal_of_a_key_of_before_ends_no_session_of_another(new_tab, keys):
    tab = new_tab()
    tab.watch.allow("status of 401")
    open_keys(tab)
    go, came = threading.Event(), threading.Event()

    def late(_):
        came.set()
        go.wait(30)
        return 401, {"error": {"message": "not in force"}}

    keys.answers["/v1/budgets"] = late
    tab.page.evaluate(
        """() => { import('/console/lib/api.js').then(({ api }) => api('/v1/budgets').catch((error) => {
          window.refused = error.status;
        })); }"""
    )
    assert came.wait(30)
    log_in(tab_with_another_key(tab), "tenants", secret="tr-another")
    go.set()
    tab.page.wait_for_function("() => window.refused === 401")
    assert tab.page.get_by_role("heading", name="Tenants", level=1).is_visible()


def tab_with_another_key(tab):
    """A link with another key, opened in the tab: the document stays, the session is a new one."""
    tab.page.evaluate("location.hash = '#key=tr-another'")
    tab.page.wait_for_function("() => sessionStorage.getItem('trireme.key') === 'tr-another'")
    return tab
