"""docs/cost.md: its tables are made from an example, from the metrics and from gateway.toml's rows.

WRITE_DOCS=1 in the environment writes them anew.
"""

import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fakes.memory_costs import MemoryCosts
from fakes.memory_ledger import MemoryLedger
from trireme.budget.dollars import write_dollars
from trireme.budget.forecast import LEAST_SHARE
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.cost.focus import COLUMNS
from trireme.cost.machines import BEAT_SECONDS, GAP_SECONDS, HOUR
from trireme.cost.port import COST_BY, Beat, CostQuery
from trireme.cost.report import per_success, read_report
from trireme.gateway.costs import MOST_NAMES
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.spending.burn import MOST_BUDGETS
from trireme.gateway.spending.machine_prices import hour_prices_of, own_of
from trireme.gateway.spending.machine_rows import MachineRow
from trireme.observe.spend_metrics import SPENDING

PAGE = Path(__file__).parents[3] / "docs" / "cost.md"
DAY = round(datetime(2026, 11, 10, tzinfo=UTC).timestamp() * 1000)
FILE = parse_gateway_file(
    b'providers.openai.kind = "openai"\n[[machines.gpu]]\ndollars_per_hour = 3.5\n', "example"
)


def example():
    """Requests at 9 and at 14 o'clock, of a machine of our own, of a provider behind it, and of a cache."""
    ledger = MemoryLedger()
    book = MemoryCosts(ledger)
    for release, hour, own, failed, hits in (("v1", 9, 400, 20, 0), ("v2", 14, 300, 5, 100)):
        for n in range(own + hits):
            more = {"nanos": 20_000_000, "output_tokens": 800, "total_ms": 900 + n % 100}
            if n >= own:
                more = {"tier": "exact", "saved_nanos": 20_000_000}
            fields = {"at": DAY + hour * HOUR + n, "release": release, "outcome": "ok", **more}
            key = f"{release}-{n}"
            names = ("acme", "ann", "k", "chat")
            if n < failed:
                ledger.record(
                    [
                        Recorded(
                            LedgerRow(
                                key, key, *names, "local", "m", "local:llm", **fields | {"outcome": "cut"}
                            )
                        )
                    ]
                )
                # The chain's next target answers.
                fields |= {"nanos": 50_000_000}
                ledger.record(
                    [Recorded(LedgerRow(key + "b", key, *names, "openai", "m", "openai:gpt", **fields))]
                )
            else:
                ledger.record([Recorded(LedgerRow(key, key, *names, "local", "m", "local:llm", **fields))])
    for minute in range(8 * 60, 18 * 60 + 1):
        book.beat(Beat("m", "gpu", "v1" if minute <= 13 * 60 else "v2", DAY + minute * 60_000))
    return book


def table(by, first):
    report = read_report(example(), CostQuery(DAY, DAY + 24 * HOUR, by, own_of(FILE)), hour_prices_of(FILE))
    assert report.unexplained_nanos == 0
    lines = [
        f"| {first} | requests | succeeded | usage | idle | allocation | each success | saved |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in (*report.lines, report.total):
        idle = line.idle_nanos
        cells = (
            line.group.name or "none",
            f"{line.group.requests:,}",
            f"{line.group.succeeded:,}",
            write_dollars(line.usage_nanos),
            "" if idle is None else write_dollars(idle),
            "" if idle is None else write_dollars(line.allocation_nanos),
            write_dollars(int(round(per_success(line.allocation_nanos, line.group), -3))),
            write_dollars(line.group.saved_nanos),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def metrics():
    lines = ["| metric | labels | says |", "| --- | --- | --- |"]
    for row in SPENDING:
        lines.append(f"| `{row.name}` | {', '.join(f'`{label}`' for label in row.labels)} | {row.help} |")
    return "\n".join(lines)


def test_the_tables_of_the_page_are_those_that_the_code_makes():
    text = PAGE.read_text(encoding="utf-8")
    blocks = {
        "by release": table("release", "release"),
        "by tier": table("tier", "tier"),
        "metrics": metrics(),
    }
    made = text
    for name, block in blocks.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end -->)"
        made, count = re.subn(
            pattern, lambda found, block=block: f"{found[1]}{block}\n{found[2]}", made, flags=re.DOTALL
        )
        assert count == 1, name
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(made, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == made


def test_the_example_is_what_a_person_reckons():
    report = read_report(
        example(), CostQuery(DAY, DAY + 24 * HOUR, "release", own_of(FILE)), hour_prices_of(FILE)
    )
    # Ten hours at 3.50, and 25 answers of the provider at 0.05.
    assert report.bill_nanos == 35_000_000_000 + 25 * 50_000_000
    first, second = report.lines
    assert first.group.succeeded == 400
    assert second.group.succeeded == 400
    assert (first.allocation_nanos, second.allocation_nanos) == (17_500_000_000 + 10**9, 17_750_000_000)


def test_the_keys_of_a_machine_are_listed_with_their_defaults():
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(r"<!-- begin: machines -->\n(.*?)<!-- end -->", text, re.DOTALL)[1]
    said = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", block, re.MULTILINE))
    fields = msgspec.structs.fields(MachineRow)
    assert said == {one.name: "required" if one.required else str(one.default) for one in fields}
    example_file = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    assert set(tomllib.loads(example_file)["machines"]) == set(
        parse_gateway_file(example_file.encode(), "example").machines
    )


def test_the_figures_that_the_page_states_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert f"{BEAT_SECONDS:.0f} s at most" in text
    assert f"more than {GAP_SECONDS:.0f} s" in text
    assert f"first {float(LEAST_SHARE):.0%}".replace("%", " %") in text
    assert f"beyond {MOST_NAMES} names" in text
    assert f"beyond {MOST_BUDGETS} the tenant" in text
    groups = re.search(r"`--by` is (.*?)\. Times", text, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", groups)) == set(COST_BY)
    named = set(re.findall(r"`([A-Z][A-Za-z]+(?:Cost|Unit|Id))`", text.partition("## FOCUS")[2]))
    assert named and named <= set(COLUMNS)
