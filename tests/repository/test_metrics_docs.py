"""docs/metrics.md is made from the table of metrics, and no name of it is written down a second time.

WRITE_DOCS=1 in the environment writes the page's tables anew.
"""

import ast
import os
import re
from pathlib import Path

import pytest
from promql_parser import parse

from trireme.observe import metrics as names
from trireme.observe.dashboards import DASHBOARDS
from trireme.observe.headlines import HEADLINES
from trireme.observe.metric import UNITS, Metric
from trireme.observe.queries import WINDOW

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
KNOWN = names.every_metric()


def table_of(rows):
    lines = [
        "| metric | type | unit | labels | what it says | when |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(
            f"| `{row.name}` | {row.kind} | {row.unit} | {labels} | {row.help} | {row.when or 'always'} |"
        )
    return "\n".join(lines)


def headlines():
    lines = []
    for headline in HEADLINES:
        lines += [f"**{headline.name}**: {headline.says}.", "", "```promql"]
        lines += [query.expr.replace(WINDOW, "5m") for query in headline.queries]
        lines += ["```", ""]
    return "\n".join(lines).strip()


def dashboards():
    lines = ["| file | shows |", "| --- | --- |"]
    for one in DASHBOARDS:
        file = f"deploy/grafana/{one.uid.removeprefix('trireme-')}.json"
        lines.append(f"| [`{file}`](../{file}) | {one.says} |")
    return "\n".join(lines)


def written(text):
    blocks = {"headlines": headlines(), "dashboards": dashboards()} | {
        who: table_of(rows) for who, rows in names.EXPORTERS.items()
    }
    for name, block in blocks.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            pattern, lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text, flags=re.DOTALL
        )
        assert count == 1, name
    return text


def test_the_page_is_the_one_made_from_the_table():
    text = PAGE.read_text(encoding="utf-8")
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(written(text), encoding="utf-8")
        return
    assert text == written(text), "WRITE_DOCS=1 pytest tests/repository/test_metrics_docs.py"


def test_the_page_tells_how_many_tenants_have_series_of_their_own():
    assert f"the first {names.MOST_VALUES} tenants" in PAGE.read_text(encoding="utf-8")
    assert f"the rest is `{names.OTHER}`" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("row", KNOWN.values(), ids=KNOWN)
def test_every_row_has_a_name_a_unit_and_a_help_of_prometheus(row):
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", row.name)
    assert row.unit in UNITS and row.help.strip() and row.kind in ("counter", "gauge", "histogram")
    assert len(row.labels) == len(set(row.labels))
    assert bool(row.buckets) <= (row.kind == "histogram") and list(row.buckets) == sorted(row.buckets)
    if row.name.startswith("trireme_"):
        assert row.name.endswith("_total") == (row.kind == "counter")


def test_one_name_is_one_row_whoever_exports_it():
    for rows in names.EXPORTERS.values():
        assert len({row.name for row in rows}) == len(rows)
        assert all(KNOWN[row.name] is row for row in rows)


def test_every_row_of_the_modules_is_exported_by_somebody():
    made = {one.name for one in vars(names).values() if isinstance(one, Metric)}
    assert made <= set(KNOWN)


def strings(path):
    """Texts of a module that are no docstrings, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.lineno, node.value


def test_no_name_is_spelled_outside_the_table():
    spelled = re.compile(rf"\b(?:{'|'.join(map(re.escape, KNOWN))})\b")
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("src", "build", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.parent != ROOT / "src" / "trireme" / "observe"
        for line, text in strings(path)
        if spelled.search(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "query", [query for one in HEADLINES for query in one.queries], ids=lambda query: query.title
)
def test_the_first_queries_are_promql_over_the_table(query):
    parse(query.expr.replace(WINDOW, "5m"))
    words = set(re.findall(r"\b(?:trireme_|vllm:|DCGM_|nv_)\w+", query.expr))
    assert words and words <= set(KNOWN)


def test_rules_read_metrics_of_the_table_alone():
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {name + end for name in KNOWN for end in suffixes} | {"trireme:wanted_replicas"}
    text = (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:trireme_|vllm:|nv_|envoy_(?!cluster_name))\w+", text))
    assert named and named <= known
