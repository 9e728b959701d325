"""The files of deploy/grafana: made from the table, valid for Grafana 13, over what is exported alone."""

import copy
import importlib.util
import json
import re
from pathlib import Path

import jsonschema
import pytest
from promql_parser import VectorSelector, parse, walk

from trireme.observe import metrics as names
from trireme.observe.dashboards import DASHBOARDS
from trireme.observe.dashboards.grafana import DEPLOYS, UNITS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "grafana"
FILES = sorted(FOLDER.glob("*.json"))
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "grafana.json").read_text())
SPEC = importlib.util.spec_from_file_location("render_dashboards", ROOT / "build" / "render_dashboards.py")
render_dashboards = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(render_dashboards)
# Of annotations that a Prometheus gives. Grafana's types of a dashboard know only those of its own store.
OF_PROMETHEUS = {key: {"type": "string"} for key in ("expr", "step", "titleFormat", "textFormat")}
# That a target or Prometheus's scrape gives.
GIVEN_LABELS = {"instance", "le"}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def dashboard(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def schema():
    whole = copy.deepcopy(SCHEMA)
    whole["definitions"]["AnnotationQuery"]["properties"] |= OF_PROMETHEUS
    return whole


def panels_of(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets_of(dashboard):
    return [target for panel in panels_of(dashboard) for target in panel["targets"]]


def plain(expression, window="5m"):
    """As Grafana would send it, where nothing is chosen."""
    return re.sub(r"\$(model|tenant)\b", ".*", expression.replace("$__rate_interval", window))


def selectors(expression):
    found = []

    def visit(part):
        if isinstance(part, VectorSelector):
            found.append((part.name, {matcher.name for matcher in part.matchers.matchers}))
        return True

    walk(parse(plain(expression)), visit)
    return found


def test_the_files_are_those_that_the_table_makes():
    made = render_dashboards.rendered()
    assert {path.name: path.read_text(encoding="utf-8") for path in FILES} == made, "make dashboards"


def test_grafana_takes_the_file(dashboard):
    jsonschema.Draft7Validator(schema()).validate(dashboard)


@pytest.mark.parametrize(
    "change",
    [
        {"editable": "yes"},
        {"schemaVersion": "41"},
        {"pannels": []},
        {"panels": [{"title": "no type"}]},
        {"templating": {"list": [{"name": "x", "type": "no such type"}]}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_grafana_would_not_take(change):
    dashboard = json.loads(FILES[0].read_text(encoding="utf-8")) | change
    assert not jsonschema.Draft7Validator(schema()).is_valid(dashboard)


def test_every_dashboard_has_an_id_and_a_title_of_its_own():
    assert {one.uid for one in DASHBOARDS} == {f"trireme-{path.stem}" for path in FILES}
    assert len({one.title for one in DASHBOARDS}) == len(FILES) == 7


def test_every_panel_has_an_id_a_place_and_a_title_of_its_own(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_asks_the_prometheus_that_is_chosen(dashboard):
    (source,) = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    asked = [*panels_of(dashboard), *targets_of(dashboard), *dashboard["annotations"]["list"]]
    asked += [one for one in dashboard["templating"]["list"] if one is not source]
    for one in asked:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_panel_has_a_unit_and_says_what_it_shows(dashboard):
    for panel in panels_of(dashboard):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS.values()
        assert all(
            name in names.every_metric() for name in re.findall(r"^(\S+): ", panel["description"], re.M)
        )
        assert panel["description"]


def test_queries_of_one_panel_have_one_unit():
    for one in DASHBOARDS:
        for row in one.rows:
            for panel in row.panels:
                assert len({query.unit for query in panel.queries}) == 1, panel.title


def test_every_query_is_promql_over_the_table_and_its_labels(dashboard):
    known = {}
    for row in names.every_metric().values():
        for end in ("_bucket", "_count", "_sum") if row.kind == "histogram" else ("",):
            known[row.name + end] = set(row.labels)
    for target in targets_of(dashboard):
        found = selectors(target["expr"])
        assert found, target["expr"]
        for name, labels in found:
            assert labels <= known[name] | GIVEN_LABELS, (name, labels)


def test_a_parser_that_took_everything_would_be_no_check():
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        parse(plain("sum by (model (rate(trireme_tokens_total[$__rate_interval]))"))


def test_variables_choose_among_labels_that_the_metric_has(dashboard):
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\S+), (\w+)\)", one["query"]).groups()
            assert label in names.every_metric()[metric].labels
            assert any(f"${one['name']}" in target["expr"] for target in targets_of(dashboard))


def test_every_variable_that_a_query_names_is_there(dashboard):
    there = {one["name"] for one in dashboard["templating"]["list"]} | {"__rate_interval"}
    for target in targets_of(dashboard):
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= there


def test_deploys_are_marked_on_every_dashboard(dashboard):
    (deploys,) = dashboard["annotations"]["list"]
    assert deploys["expr"] == DEPLOYS
    assert {name for name, _ in selectors(DEPLOYS)} == {names.BUILD_INFO.name}


def test_the_five_figures_are_on_the_first_dashboard():
    from trireme.observe.headlines import HEADLINES

    text = (FOLDER / "overview.json").read_text(encoding="utf-8")
    for headline in HEADLINES:
        for query in headline.queries:
            assert json.dumps(query.expr) in text, query.title
