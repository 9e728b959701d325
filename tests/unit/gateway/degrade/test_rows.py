import pytest

from trireme.errors import SettingError
from trireme.gateway.degrade.rows import STEPS
from trireme.gateway.file import parse_gateway_file

WHOLE = """
[degrade.rag]
fewer_candidates = 1.0
no_reranking = 2.0
extractive = 3.0
stale = 4.0
smaller_model = 5.0
smaller = "llm"
refuse = {batch = 6.0, normal = 7.0, high = 8.0}
"""


def parse(text):
    return parse_gateway_file(text.encode(), "gateway.toml")


def test_the_steps_of_a_route_come_in_the_one_order_that_there_is():
    row = parse(WHOLE).degrade["rag"]
    assert tuple(step for step, _ in row.steps) == STEPS
    assert [seconds for _, seconds in row.steps] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (row.refuse.batch, row.refuse.normal, row.refuse.high) == (6.0, 7.0, 8.0)


def test_a_step_that_is_not_named_is_not_taken():
    row = parse("[degrade.search]\nno_reranking = 2\nrefuse = {batch = 2}").degrade["search"]
    assert row.steps == [("no_reranking", 2.0)]
    assert row.refuse.normal is None


def test_without_the_table_no_route_has_a_policy():
    assert parse("").degrade == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[degrade.rag]\nfewer = 1", "fewer"),
        ("[degrade.rag]\nrefuse = {low = 1}", "low"),
        ("[degrade.rag]\nrunning = 0", "degrade.rag.running"),
        ("[degrade.rag]\nwaiting = 0", "degrade.rag.waiting"),
        ("[degrade.rag]\ncandidates = 0", "degrade.rag.candidates"),
        ("[degrade.rag]\nstale_seconds = 0", "degrade.rag.stale_seconds"),
        ("[degrade.rag]\nstale_seconds = nan", "degrade.rag.stale_seconds"),
        ("[degrade.rag]\nstale_seconds = 1e300", "degrade.rag.stale_seconds must be above 0 and at most"),
        ("[degrade.rag]\ncalm_seconds = inf", "degrade.rag.calm_seconds"),
        ("[degrade.rag]\ncalm_share = 1.0", "degrade.rag.calm_share"),
        ("[degrade.rag]\nrunning = 2\nreserved = 2", "degrade.rag.reserved"),
        ("[degrade.rag]\nreserved = -1", "degrade.rag.reserved"),
        ("[degrade.rag]\noffered_seconds = 0", "degrade.rag.offered_seconds"),
        ("[degrade.rag]\noffered_seconds = inf", "degrade.rag.offered_seconds"),
        ("[degrade.rag]\nextractive = 0", "degrade.rag.extractive"),
        ("[degrade.rag]\nextractive = nan", "degrade.rag.extractive"),
        (
            "[degrade.rag]\nfewer_candidates = 3\nextractive = 2",
            "extractive .2 s. comes after fewer_candidates",
        ),
        ("[degrade.rag]\nextractive = 3\nrefuse = {batch = 2}", "refuse.batch .2 s. comes after extractive"),
        ("[degrade.rag]\nrefuse = {batch = 3, high = 2}", "refuse.high"),
        ("[degrade.rag]\nsmaller_model = 1", "degrade.rag: smaller"),
        ('[degrade.rag]\nsmaller = "llm"', "degrade.rag: smaller"),
        ('[degrade.rag]\nsmaller_model = 1\nsmaller = "rag"', "degrade.rag.smaller"),
        ('[tenants.t]\npriority = "urgent"', "priority"),
    ],
)
def test_a_wrong_entry_stops_the_start_and_is_named(text, named):
    with pytest.raises(SettingError, match=named):
        parse(text)


SENTENCE = '{name = "a", target = "rag", answer_mode = "extractive", calibration = "c.json"}'
SMALL = '{name = "a", target = "llm", calibration = "c.json"}'
LAST = '{name = "b", target = "llm"}'


@pytest.mark.parametrize(
    ("first", "row", "named"),
    [
        (SENTENCE, "extractive = 1", ""),
        (SENTENCE, "smaller_model = 1", ""),
        (SMALL, "stale = 1\nsmaller_model = 2", ""),
        (SMALL, 'smaller_model = 1\nsmaller = "llm"', ""),
        (SMALL, "extractive = 1", r"degrade.careful.extractive: no step of models.careful that is judged"),
        (SMALL, 'smaller = "llm"', r"degrade.careful: smaller"),
    ],
)
def test_a_cascade_ends_at_a_step_that_it_has(first, row, named):
    text = f"[models.careful]\nsteps = [{first}, {LAST}]\n[degrade.careful]\n{row}"
    if not named:
        assert parse(text).degrade["careful"].steps
        return
    with pytest.raises(SettingError, match=named):
        parse(text)
