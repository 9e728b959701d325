"""Every page, as each kind of reader sees it: light and dark, on a desk and on a phone, with and without admin."""

import pytest
from stacks import wait_until

from browser.console import DESKTOP, PAGES, PHONE, sizes_below

LOOKS = {
    "desktop, light": (DESKTOP, "light"),
    "desktop, dark": (DESKTOP, "dark"),
    "phone, light": (PHONE, "light"),
    "phone, dark": (PHONE, "dark"),
}
# Of a finger, in pixels of CSS.
TOUCH = 44


@pytest.fixture(scope="package")
def modest(site):
    """A key without admin."""
    return site.new_key("--tenant", "modest", "--user", "ann")


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_has_what_axe_core_calls_a_violation(new_console, look):
    viewport, scheme = LOOKS[look]
    console = new_console(viewport=viewport, color_scheme=scheme)
    found = {}
    for page in PAGES:
        console.open(page)
        found[page] = console.violations()
    assert {page: told for page, told in found.items() if told} == {}


def test_on_a_phone_no_page_is_wider_than_the_window_and_a_finger_hits_every_control(new_console):
    console = new_console(viewport=PHONE, has_touch=True)
    wide, small = [], {}
    for page in PAGES:
        console.open(page)
        small[page] = sizes_below(console.page, TOUCH)
        if console.is_wider_than_its_window():
            wide.append(page)
    assert wide == []
    assert {page: found for page, found in small.items() if found} == {}


def test_a_key_without_admin_sees_the_pages_that_it_may_use_and_no_others(new_console, modest):
    console = new_console(modest)
    shown = {
        link.text_content().lower()
        for link in console.page.get_by_label("Pages", exact=True).locator("a").all()
    }
    assert shown == {page for page, need in PAGES.items() if need != "admin"}
    found = {}
    for page in shown:
        console.open(page)
        found[page] = console.violations()
    assert {page: told for page, told in found.items() if told} == {}


@pytest.mark.parametrize("page", [page for page, need in PAGES.items() if need == "admin"])
def test_a_page_that_a_key_may_not_use_names_the_endpoint_that_is_missing(new_console, modest, page):
    console = new_console(modest)
    console.page.evaluate("page => { location.hash = `#/${page}`; }", page)
    console.page.get_by_text("needs a key with the endpoint admin").wait_for()


def test_the_key_leaves_the_address_before_anything_is_loaded_and_the_tab_keeps_it(new_console, site):
    console = new_console()
    assert site.admin not in console.page.url
    console.page.reload()
    console.page.get_by_role("heading", name="Live").wait_for()
    assert console.page.evaluate("localStorage.length") == 0


def test_a_wrong_key_is_refused_in_words_and_a_right_one_typed_instead_opens_the_console(new_console, site):
    console = new_console("")
    console.watch.allow("status of 401")
    console.page.goto(f"{console.url}#key=tr-wrong")
    console.page.get_by_text("not in force").wait_for()
    assert console.violations() == []
    console.page.get_by_label("Key").fill(site.admin)
    console.page.get_by_role("button", name="Log in").click()
    console.page.get_by_role("heading", name="Live").wait_for()


def test_who_logs_out_leaves_no_key_behind(new_console):
    console = new_console()
    console.page.get_by_role("button", name="Log out").click()
    console.page.get_by_label("Key").wait_for()
    assert console.page.evaluate("sessionStorage.length") == 0
    console.page.reload()
    console.page.get_by_label("Key").wait_for()


def test_a_revoked_key_ends_the_session_of_an_open_page(new_console, site):
    console = new_console(site.new_key("--tenant", "gone"), "live")
    console.watch.allow("status of 401")
    site.revoke_keys_of("gone")
    console.page.get_by_text("no longer in force").wait_for()
    assert console.page.evaluate("sessionStorage.length") == 0
    assert console.violations() == []


def test_without_the_database_the_page_says_so_and_shows_what_it_has_again_when_it_is_back(new_console, site):
    console = new_console(None, "keys")
    console.watch.allow("status of 503", "status of 504")
    site.postgres.stop()
    try:
        console.page.get_by_role("button", name="Find").click()
        console.page.get_by_text("database").first.wait_for()
        assert console.violations() == []
    finally:
        site.postgres.restart()
    console.page.get_by_role("table").wait_for()
    wait_until(site.is_ready)
