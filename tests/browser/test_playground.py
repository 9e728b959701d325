"""The playground: ask, search with and without reranking, compare two texts, and recipes of what was done."""

import re

import pytest

from browser.console import DESKTOP, PHONE

QUESTION = "what does the dynamic batcher wait for?"
# The sentence of docs/batching.md that answers it.
SENTENCE = "waits for more requests to join"


def open_part(console, name):
    """One of the three parts of the playground."""
    console.open("playground")
    console.page.get_by_role("tab", name=name).click()


def ask(page, question):
    """Returns the region of the answer, once it is there."""
    page.get_by_label("Question").fill(question)
    page.get_by_label("Question").press("Enter")
    answer = page.get_by_role("region", name="Answer")
    answer.get_by_text(re.compile("Answered")).wait_for()
    return answer


def fact(answer, term):
    """What stands under a term, once it is more than a promise."""
    found = answer.locator("dl.facts div").filter(has=answer.page.get_by_text(term, exact=True)).locator("dd")
    found.filter(has_not_text="asking").wait_for()
    return found.text_content()


def search(page, query, **fields):
    """Fills in the form and returns the two lists of passages."""
    form = page.get_by_role("search")
    form.get_by_label("Query").fill(query)
    for label, value in fields.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Search", exact=True).click()
    lists = [page.get_by_role("region", name=name) for name in ("Reranked", "As retrieved")]
    for one in lists:
        one.wait_for()
    return lists


def places_of(found):
    """The passages of a list by their ids, in order."""
    names = found.get_by_role("button", name=re.compile("^Open passage "))
    return [one.get_attribute("aria-label").removeprefix("Open passage ") for one in names.all()]


def test_an_answer_has_its_sources_its_stages_and_its_cost(new_console):
    console = new_console()
    console.open("playground")
    answer = ask(console.page, QUESTION)
    assert SENTENCE in answer.locator(".answer").text_content()
    assert "batching.md" in answer.locator(".sources").text_content()
    assert fact(answer, "Served by") == "local:rag"
    assert re.fullmatch(r"\$0\.\d+", fact(answer, "Cost"))
    stages = answer.get_by_role("table").locator("th").all_text_contents()
    assert stages[:3] == ["Embed the question", "Find passages", "Rerank them"]


def test_an_equal_question_is_answered_by_the_cache_and_the_page_says_so(new_console):
    console = new_console()
    console.open("playground")
    question = "how are passages of a long document cut?"
    assert "equal question" not in fact(ask(console.page, question), "Cache")
    console.page.get_by_role("button", name="Ask", exact=True).click()
    answer = console.page.get_by_role("region", name="Answer")
    answer.get_by_text("an equal question was asked before").wait_for()


def test_a_citation_opens_the_passage_with_its_sentence_marked_and_gives_the_focus_back(new_console):
    console = new_console()
    console.open("playground")
    answer = ask(console.page, QUESTION)
    quoted = answer.locator(".sources blockquote").first.text_content()
    cited = answer.get_by_role("button", name=re.compile("^Source 1")).first
    cited.focus()
    cited.press("Enter")
    dialog = console.page.get_by_role("dialog")
    mark = dialog.locator("mark")
    mark.wait_for()
    assert mark.text_content() == quoted
    assert dialog.locator(".text").text_content() != quoted
    console.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert cited.evaluate("node => node === document.activeElement")


def test_a_citation_leads_into_its_document(new_console):
    console = new_console()
    console.open("playground")
    ask(console.page, QUESTION).get_by_role("button", name=re.compile("^Source 1")).first.click()
    console.page.get_by_role("link", name="Open the document").click()
    here = console.page.locator(".passages .here")
    here.wait_for()
    assert SENTENCE in here.text_content()


def test_an_answer_grows_while_it_is_written_and_can_be_stopped(new_console):
    console = new_console()
    console.open("playground")
    page = console.page
    # The field is one to type in until the models are listed.
    page.locator("select").and_(page.get_by_label("Model", exact=True)).select_option("llm")
    page.get_by_text("Options").click()
    page.get_by_label("Most tokens").fill("400")
    page.get_by_label("Question").fill("Count from one to two hundred in words.")
    page.get_by_role("button", name="Ask", exact=True).click()
    # Its beginning is there while the rest is being written.
    page.locator(".answer[aria-busy=true]:not(:empty)").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped").wait_for()
    assert page.locator(".answer").text_content()
    assert page.get_by_role("button", name="Stop").is_disabled()


def test_a_question_about_a_collection_that_is_not_there_says_where_to_send_documents(new_console):
    console = new_console()
    console.watch.allow("status of 404")
    console.open("playground")
    console.page.get_by_label("Collection").fill("nowhere")
    console.page.get_by_label("Question").fill(QUESTION)
    console.page.get_by_label("Question").press("Enter")
    error = console.page.get_by_role("region", name="Answer").get_by_role("alert")
    error.wait_for()
    assert "nowhere" in error.text_content()
    error.get_by_role("link", name="Send documents").click()
    console.page.get_by_role("heading", name="Documents", level=1).wait_for()


def test_a_question_outlives_its_page(new_console):
    console = new_console()
    console.open("playground")
    console.page.get_by_label("Question").fill("a long question")
    console.open("documents")
    console.open("playground")
    assert console.page.get_by_label("Question").input_value() == "a long question"


def test_a_search_is_shown_with_reranking_and_without_side_by_side(new_console):
    console = new_console()
    open_part(console, "Search")
    reranked, plain = search(console.page, QUESTION, Passages="4")
    orders = [places_of(reranked), places_of(plain)]
    assert [len(order) for order in orders] == [4, 4]
    assert SENTENCE in reranked.locator("li").first.text_content()
    # Every passage says how it stands in the other list.
    assert reranked.locator(".badge").count() == 4
    boxes = [one.bounding_box() for one in (reranked, plain)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]


def test_a_filter_that_is_no_json_is_named_before_anything_is_asked(new_console):
    console = new_console()
    asked = []
    console.page.on("request", lambda request: asked.append(request.url))
    open_part(console, "Search")
    console.page.get_by_label("Query").fill(QUESTION)
    field = console.page.get_by_label("Filter")
    field.fill('{"source": ')
    console.page.get_by_role("button", name="Search", exact=True).click()
    console.page.get_by_text("This is no JSON").wait_for()
    assert field.evaluate("node => node === document.activeElement")
    assert not any(url.endswith("/v1/search") for url in asked)
    reranked, _ = search(console.page, QUESTION, Filter='{"source": "uploads.md"}')
    sources = reranked.locator("li .strong").all_text_contents()
    assert set(sources) == {"uploads.md"}


def test_two_texts_are_compared_by_the_cosine_of_their_vectors(new_console):
    console = new_console()
    open_part(console, "Compare")
    page = console.page

    def compare(first, second):
        page.get_by_label("First text").fill(first)
        page.get_by_label("Second text").fill(second)
        with page.expect_response("**/v1/embeddings"):
            page.get_by_role("button", name="Compare", exact=True).click()
        return float(page.locator(".figure").text_content())

    assert compare("A trireme has oars.", "A trireme has oars.") == 1.0
    near, far = (compare("A trireme has oars.", text) for text in ("Ships were rowed.", "Tax is due in May."))
    assert far < near < 1
    assert page.get_by_role("tabpanel").get_by_text("384", exact=True).is_visible()


@pytest.mark.parametrize("look", [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_what_answers_and_searches_show_has_no_violation_and_fits_the_window(new_console, look):
    viewport, scheme = look
    console = new_console(viewport=viewport, color_scheme=scheme)
    console.open("playground")
    page = console.page
    ask(page, QUESTION)
    for recipe in page.locator(".recipes summary").all():
        recipe.click()
    told = console.violations()
    page.get_by_role("button", name=re.compile("^Source 1")).first.click()
    page.get_by_role("dialog").locator("mark").wait_for()
    told += console.violations()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Search").click()
    search(page, QUESTION)
    told += console.violations()
    assert told == []
    assert not console.is_wider_than_its_window()


def test_parts_are_reached_by_arrows_and_keep_what_was_typed(new_console):
    console = new_console()
    console.open("playground")
    page = console.page
    page.get_by_label("Question").fill("kept")
    page.get_by_role("tab", name="Ask").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_label("Query").wait_for()
    page.keyboard.press("End")
    page.get_by_label("First text").wait_for()
    page.keyboard.press("Home")
    assert page.get_by_label("Question").input_value() == "kept"
    assert page.get_by_role("tab", selected=True).text_content() == "Ask"


def test_a_key_sees_the_parts_that_it_may_use(new_console, site):
    console = new_console(site.new_key("--endpoint", "search", "--endpoint", "models"), "playground")
    assert console.page.get_by_role("tab").all_text_contents() == ["Search"]
    search(console.page, QUESTION)
    assert console.violations() == []


def test_recipes_of_the_page_hold_the_question_and_not_the_key(new_console, site):
    console = new_console()
    console.open("playground")
    answer = ask(console.page, QUESTION)
    for summary in answer.locator(".recipes summary").all():
        summary.click()
    recipes = answer.locator(".recipes code").all_text_contents()
    assert len(recipes) == 2
    for recipe in recipes:
        assert QUESTION in recipe
        assert "KEY" in recipe
        assert site.admin not in recipe
