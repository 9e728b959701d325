"""docs/gateway.md says what the code does: its tables are compared with it, row by row."""

import re
from pathlib import Path

import msgspec

from fakes.cascade_gateways import place
from trireme.access.endpoints import ENDPOINTS
from trireme.gateway.app import ROUTES
from trireme.gateway.cascades import climb, heard, versions
from trireme.gateway.cascades.plan import read_cascades
from trireme.gateway.cascades.rows import StepRow
from trireme.gateway.file import (
    AttemptRow,
    BudgetRow,
    CacheRow,
    ConsoleRow,
    Defaults,
    GatewayFile,
    Limits,
    ModelRow,
    PriceRow,
    ProviderRow,
    PublicRow,
    SemanticRow,
    TenantRow,
    parse_gateway_file,
)
from trireme.gateway.own_regions import LocalRow
from trireme.gateway.statuses import STATUSES
from trireme.observe.metrics import GATEWAY

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "gateway.md").read_text()
TABLES = {
    "providers.NAME": ProviderRow,
    "models.NAME": ModelRow,
    "models.NAME.steps": StepRow,
    "models.NAME.semantic": SemanticRow,
    "tenants.NAME": TenantRow,
    "tenants.NAME.semantic": SemanticRow,
    "local": LocalRow,
    "limits": Limits,
    "attempts": AttemptRow,
    "prices.NAME": PriceRow,
    "budgets": BudgetRow,
    "cache": CacheRow,
    "public": PublicRow,
    "console": ConsoleRow,
    "defaults": Defaults,
}


def block(name):
    found = re.search(rf"<!-- begin: {name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert found, name
    return found[1]


def rows(text):
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if "`" in line
    ]


def test_every_endpoint_that_a_key_can_be_limited_to_is_listed():
    assert [(name.strip("`"), paths.replace("`", "")) for name, paths in rows(block("endpoints"))] == list(
        ENDPOINTS.items()
    )


def test_every_code_is_listed_with_its_status():
    assert {code.strip("`"): int(status) for code, status, *_ in rows(block("statuses"))} == STATUSES


def test_every_key_of_the_file_is_listed_with_its_default():
    said = {(table.strip("`"), key.strip("`")): default for table, key, default, _ in rows(block("file"))}
    known = {
        (table, field.name): "required"
        if field.required
        else field.default
        if field.default_factory is msgspec.NODEFAULT
        else field.default_factory()
        for table, kind in TABLES.items()
        for field in msgspec.structs.fields(kind)
    }
    assert set(said) == set(known)
    for key, default in known.items():
        value = said[key].strip("`")
        assert value == str(default) or value == msgspec.json.encode(default).decode(), key


def test_every_table_of_the_file_is_one_of_these_or_on_a_page_of_its_own():
    named = {name.partition(".")[0] for name in TABLES}
    assert named | {"degrade", "machines"} == set(GatewayFile.__struct_fields__)


def test_the_example_file_is_valid():
    example = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    file = parse_gateway_file(example[1].encode(), "example")
    assert file.models["assistant"].chain == ["llm", "openai:gpt-5-mini"]
    assert file.tenants["bank"].forbid_regions == ["us"]


def test_the_example_of_a_cascade_is_read_with_its_calibrations(tmp_path):
    providers, cascade = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[:2]
    (tmp_path / "cascade").mkdir()
    place(tmp_path / "cascade", "extractive.json", features=("sentence_score",))
    place(tmp_path / "cascade", "generative.json", features=("logprob_p10", "citation_support"))
    file = parse_gateway_file((providers + cascade).encode(), "example")
    plan = read_cascades(file, tmp_path / "gateway.toml")["careful"]
    assert [step.name for step in plan.steps] == ["extractive", "generative", "big"]
    assert plan.decide_after == "answer"


def test_every_reason_of_a_cascade_is_listed():
    known = {heard.UNSURE, heard.NO_EVIDENCE, heard.NO_TEXT, heard.FILTERED}
    known |= {versions.VERSION, versions.UNKNOWN, climb.UNABLE, climb.FORBIDDEN, climb.BUDGET}
    known.add(climb.LOAD)
    assert {reason.strip("`") for reason, _ in rows(block("reasons"))} == known


def test_every_metric_of_cascades_is_listed():
    there = {metric.name for metric in GATEWAY if metric.name.startswith("trireme_cascade")}
    assert set(re.findall(r"trireme_cascade_\w+", TEXT)) == there


def test_every_path_that_is_served_is_in_the_document_and_no_other():
    served = {re.sub(r":\w+}", "}", route.path) for route in ROUTES}
    table = TEXT.partition("## Endpoints")[2].partition("\n## ")[0]
    said = set(re.findall(r"`(?:(?:GET|PUT|POST|DELETE) )?(/[\w/{}.]+)`", table))
    refused = {"/v1/files/{id}/content", "/v1/vector_stores/{id}/files"}
    assert said == served - refused
