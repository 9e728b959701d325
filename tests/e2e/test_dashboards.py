"""The dashboards' queries in a real Prometheus that reads a running stack under load, and the pages themselves."""

import json
import re
import time
import urllib.request

import pytest
from observed import RELEASE, Load, observed
from prometheus_client.parser import text_string_to_metric_families
from stacks import ROOT, wait_until

from fakes.upstreams import serving
from trireme.observe import metrics as names
from trireme.observe.build_info import read_build
from trireme.observe.dashboards.grafana import DEPLOYS

FILES = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
SECONDS = 240
# The stack's budget lasts.
SILENT = ("Budgets that do not last: used up in",)
# Programs of others export more than we rely on.
OURS = ("server", "gateway", "worker", "agent")


@pytest.fixture(scope="module")
def running(stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    with serving() as upstream, observed(stack, upstream, folder) as everything:
        load = Load(everything, folder)
        try:
            yield everything
        finally:
            load.close()
        assert load.faults == []


def plain(expression):
    """As Grafana would send it, where nothing is chosen and the window is short."""
    return re.sub(r"\$(model|tenant)\b", ".*", expression.replace("$__rate_interval", "1m"))


def queries_of(dashboard):
    return {
        (panel["title"], target["refId"]): plain(target["expr"])
        for panel in dashboard["panels"]
        if panel["title"] not in SILENT
        for target in panel.get("targets", ())
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_says_something_of_a_stack_under_load(running, path):
    waiting = queries_of(json.loads(path.read_text(encoding="utf-8")))
    deadline = time.monotonic() + SECONDS
    while waiting:
        waiting = {key: query for key, query in waiting.items() if not running.prometheus.says(query)}
        assert not waiting or time.monotonic() < deadline, waiting
        time.sleep(0.5)


def families_of(page):
    """Name -> type, labels of each sample, of all that a page exports; a counter's name ends with _total."""
    found = {}
    with urllib.request.urlopen(page, timeout=60) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = (
                re.sub(r"_(bucket|sum|count)$", "", sample.name)
                if family.type == "histogram"
                else sample.name
            )
            # The parser gives every counter this end.
            if f"\n{name}" not in text:
                name = name.removesuffix("_total")
            if not name.endswith("_created"):
                found.setdefault(name, (family.type, []))[1].append(set(sample.labels) - {"le"})
    return found


@pytest.mark.parametrize("process", OURS)
def test_a_process_exports_what_the_table_says_of_it_and_nothing_else(running, process):
    rows = {row.name: row for row in names.EXPORTERS[process]}
    always = {name for name, row in rows.items() if not row.when}
    wait_until(lambda: always <= families_of(running.pages[process]).keys(), SECONDS)
    found = families_of(running.pages[process])
    if process == "server":
        found = {name: said for name, said in found.items() if not name.startswith("nv_")}
    assert set(found) - set(rows) == set()
    for name, (kind, labels) in found.items():
        assert kind == rows[name].kind, name
        assert all(one == set(rows[name].labels) for one in labels), name


@pytest.mark.parametrize(("exporter", "page"), [("triton", "server"), ("envoy", "envoy")])
def test_what_others_export_has_the_names_types_and_labels_of_the_table(running, exporter, page):
    rows = [row for row in names.EXPORTERS[exporter] if not row.when]
    wait_until(lambda: {row.name for row in rows} <= families_of(running.pages[page]).keys(), SECONDS)
    found = families_of(running.pages[page])
    for row in rows:
        kind, labels = found[row.name]
        assert kind == row.kind, row.name
        assert all(set(row.labels) <= one for one in labels), row.name


def test_all_that_may_be_there_was_seen_under_load_but_for_what_needs_more(running):
    """What a row's `when` excuses is no excuse where the load brings it about."""
    needs = (
        "a step was taken",
        "spans of models",
        "while",
        "GPU",
        "budget has refused",
        "home",
        "follows",
    )
    excused = {
        name
        for name, row in names.every_metric().items()
        if row.when and any(word in row.when for word in needs)
    }
    ours = {row.name for who in OURS for row in names.EXPORTERS[who]} - excused

    def missing():
        seen = set()
        for process in OURS:
            seen |= families_of(running.pages[process]).keys()
        return ours - seen

    wait_until(lambda: not missing(), SECONDS)


def test_every_process_says_which_build_it_is(running):
    build = read_build()
    assert len(build.revision) in (40, 0)
    wanted = {"server": build.release, "gateway": build.release, "worker": RELEASE, "agent": RELEASE}

    def told():
        found = running.prometheus.get("query", query=names.BUILD_INFO.name)["result"]
        return {
            (one["metric"]["process"], one["metric"]["release"], one["metric"].get("revision", ""))
            for one in found
        }

    wait_until(lambda: told() == {(who, release, build.revision) for who, release in wanted.items()})
    # When a build was first seen is a deploy; later it is none.
    now = time.time()
    moments = {"start": now - 1800, "end": now, "step": 5}
    deploys = running.prometheus.get("query_range", query=DEPLOYS, **moments)["result"]
    assert {one["metric"]["process"] for one in deploys} == set(OURS)


def test_every_model_says_its_digest_and_its_memory(running):
    infos = running.prometheus.get("query", query=names.MODEL_INFO.name)["result"]
    built = {one["metric"]["model"]: one["metric"] for one in infos}
    assert {"embedding", "reranker", "llm", "rag"} <= built.keys()
    assert all(re.fullmatch(r"[0-9a-f]{12}", built[model]["digest"]) for model in ("embedding", "llm", "rag"))
    assert built["embedding"]["precision"]
    memory = running.prometheus.values(f'{names.MODEL_MEMORY.name}{{model="llm"}}')
    assert min(memory) > 50 << 20


def test_cost_by_successes_is_the_price_of_what_the_provider_counted(running):
    """Counters of one moment: the fake provider's tokens at the file's prices are the dollars."""
    total = "sum({}) by (model)"

    def read(metric, matchers):
        return running.prometheus.values(total.format(f"{metric.name}{{{matchers}}}"))

    assistant = 'model="assistant",kind="{}"'
    wait_until(lambda: bool(read(names.COST, 'model="assistant"')))

    def is_equal():
        (dollars,) = read(names.COST, 'model="assistant"')
        (inputs,) = read(names.TOKENS, assistant.format("input"))
        (outputs,) = read(names.TOKENS, assistant.format("output"))
        return dollars == pytest.approx((1000 * inputs + 2000 * outputs) / 1e6)

    # Between two scrapes an attempt may be charged whose request has not ended.
    wait_until(is_equal)
