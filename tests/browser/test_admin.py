"""Keys, tenants and budgets: what an admin does there is so for everybody."""

import re
from contextlib import closing

import pytest
from stacks import wait_until

from trireme.budget.caps import Cap
from trireme.storage import open_caps

TENANTS = 1_000


@pytest.fixture(scope="package")
def many_tenants(site):
    """TENANTS of them, known from their budgets."""
    with closing(open_caps(site.postgres.url)) as caps:
        for number in range(TENANTS):
            caps.put(Cap(f"many-{number:04}", "", "day", 1_000_000))


def test_a_new_key_is_shown_once_works_and_is_refused_once_it_is_revoked(new_console, site):
    console = new_console(None, "keys", permissions=["clipboard-read", "clipboard-write"])
    page = console.page
    page.get_by_text("New key").click()
    form = page.get_by_role("form", name="New key")
    form.get_by_label("Tenant").fill("acme")
    form.get_by_label("User").fill("ann")
    form.get_by_label("models", exact=True).check()
    form.get_by_label("search", exact=True).check()
    assert console.violations() == []
    form.get_by_role("button", name="Make the key").click()
    box = page.get_by_role("region", name="The new key")
    secret = box.get_by_text(re.compile("^tr-")).text_content()
    assert console.violations() == []
    box.get_by_role("button", name="Copy").click()
    box.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    wait_until(lambda: site.knows(secret))

    box.get_by_role("button", name="I have it").click()
    assert secret not in page.content()
    page.reload()
    page.get_by_role("table").wait_for()
    assert secret not in page.content()

    page.get_by_label("Tenant").last.fill("acme")
    page.get_by_role("button", name="Find").click()
    row = page.get_by_role("row").filter(has_text="acme / ann")
    assert "models, search" in row.text_content()
    row.get_by_role("button", name="Revoke").click()
    assert console.violations() == []
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.get_by_text("is revoked").wait_for()
    wait_until(lambda: not site.knows(secret))
    page.get_by_label("State").select_option("revoked")
    page.get_by_role("row").filter(has_text="acme / ann").get_by_text("revoked").wait_for()


def test_what_a_key_cannot_be_is_told_with_the_field_that_is_wrong(new_console):
    console = new_console(None, "keys")
    console.watch.allow("status of 400")
    page = console.page
    page.get_by_text("New key").click()
    form = page.get_by_role("form", name="New key")
    form.get_by_label("Tenant").fill("*")
    form.get_by_role("button", name="Make the key").click()
    page.get_by_text("the tenant of a key cannot be *").wait_for()


def test_a_thousand_tenants_are_paged_through_and_searched(new_console, many_tenants):
    console = new_console(None, "tenants")
    page = console.page
    page.get_by_label("Search").fill("many-")
    page.get_by_role("row", name="default").wait_for(state="detached")
    page.get_by_role("row", name="many-0000").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("row", name="many-0050").wait_for()
    assert page.get_by_role("row", name="many-0000").count() == 0
    page.get_by_role("button", name="Previous").click()
    page.get_by_role("row", name="many-0000").wait_for()
    page.get_by_label("Search").fill("many-0999")
    page.get_by_role("row", name="many-0999").wait_for()
    page.get_by_role("row", name="many-0000").wait_for(state="detached")
    assert page.get_by_role("row").count() == 2
    assert console.violations() == []
    page.get_by_label("Search").fill("nobody-is-so")
    page.get_by_text("No tenant has this in its name.").wait_for()


def test_from_a_tenant_a_link_leads_to_its_budgets(new_console, many_tenants):
    page = new_console(None, "tenants").page
    page.get_by_label("Search").fill("many-0042")
    page.get_by_role("link", name="1 budgets of many-0042").click()
    page.get_by_role("row", name="many-0042").get_by_text("1,000,000 tokens").wait_for()


def test_a_budget_is_set_changed_and_removed(new_console):
    console = new_console(None, "budgets?tenant=thrifty")
    page = console.page
    page.get_by_label("Tokens").fill("5000")
    page.get_by_role("button", name="Set the budget").click()
    row = page.get_by_role("row", name="thrifty")
    row.get_by_text("5,000 tokens").wait_for()
    assert "0 % spent" in row.text_content()
    assert console.violations() == []

    row.get_by_role("button", name="Change").click()
    page.get_by_label("Dollars").fill("2.50")
    page.get_by_role("button", name="Set the budget").click()
    row.get_by_text("5,000 tokens, $2.50").wait_for()

    row.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("is removed").wait_for()
    row.wait_for(state="detached")


def test_a_key_without_admin_sees_its_own_budgets_and_can_change_none(new_console, site):
    with closing(open_caps(site.postgres.url)) as caps:
        caps.put(Cap("frugal", "", "month", 9_000))
        caps.put(Cap("other", "", "month", 8_000))
    console = new_console(site.new_key("--tenant", "frugal"), "budgets")
    page = console.page
    page.get_by_text("9,000 tokens").wait_for()
    assert "8,000" not in page.content()
    assert page.get_by_role("button", name="Set the budget").count() == 0
    assert page.get_by_role("button", name="Remove").count() == 0
    assert console.violations() == []
