"""The console by the keyboard alone."""

from browser.console import focused


def test_the_first_tab_skips_to_the_page_and_the_next_ones_go_through_the_pages_in_order(new_console):
    page = new_console(None, "models").page
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.reload()
    page.get_by_role("navigation", name="Pages").wait_for()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the page"
    seen = []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(focused(page))
    assert seen == ["Trireme", "Live", "Playground", "Documents"]
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Documents", level=1).wait_for()


def test_a_key_is_typed_and_entered(new_console, site):
    page = new_console("").page
    page.goto(f"{site.url}/console/")
    page.get_by_label("Key").wait_for()
    # The field has the focus already.
    page.keyboard.insert_text(site.admin)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Live").wait_for()


def test_a_question_takes_the_focus_keeps_it_and_gives_it_back_on_escape(new_console, site):
    site.new_key("--tenant", "keyboard")
    page = new_console(None, "keys?tenant=keyboard").page
    revoke = page.get_by_role("button", name="Revoke")
    revoke.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    # What does no harm comes first.
    assert focused(page) == "Cancel"
    for _ in range(5):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert focused(page) == "Revoke"


def test_a_key_is_made_and_revoked(new_console, site):
    page = new_console(None, "keys").page
    page.get_by_text("New key").focus()
    page.keyboard.press("Enter")
    page.get_by_role("form", name="New key").get_by_label("Tenant").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text("typed")
    page.keyboard.press("Enter")
    box = page.get_by_role("region", name="The new key")
    box.wait_for()
    assert focused(page).endswith("of tenant typed")
    page.get_by_role("search").get_by_label("Tenant").focus()
    page.keyboard.insert_text("typed")
    page.keyboard.press("Enter")
    page.get_by_role("row").filter(has_text="typed").get_by_role("button", name="Revoke").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Tab")
    assert focused(page) == "Revoke"
    page.keyboard.press("Enter")
    page.get_by_text("is revoked").wait_for()
