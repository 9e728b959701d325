"""docs/signals.md says what the code does: its tables are those of observe.metrics, its numbers the code's."""

import re
from pathlib import Path

from trireme.encode.calibrate import CALIBRATE_SECONDS
from trireme.generate.warm_up import MEASURE_WINDOWS, MOST_PROMPT
from trireme.generate.work import KEPT_ANSWERS, LEAST_ANSWERS
from trireme.observe import metrics as names
from trireme.observe.work import KEPT_WINDOWS, WINDOW_RUNS, WINDOW_SECONDS
from trireme.settings import read_settings
from trireme.triton.backends.rag import MAX_RUNNING
from trireme.triton.backends.signals import PERIOD_SECONDS
from trireme.triton.backends.text_encoder import HELD_BATCHES
from trireme.worker_metrics import MODEL
from trireme.worker_metrics import PERIOD_SECONDS as WORKER_SECONDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "signals.md").read_text(encoding="utf-8")
# Names of our own metrics, and of those that have vLLM's.
NAME = re.compile(
    r"\b(?:trireme|vllm:)[a-z0-9_]*(?:total|seconds|depth|work|second|perc|running|waiting|restarts|ready)\b"
)


def rows(block):
    found = re.search(rf"<!-- begin: {block} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert found, block
    lines = found[1].strip().splitlines()[2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def test_the_table_is_that_of_the_code():
    labels = [", ".join(f"`{label}`" for label in row.labels) for row in names.SIGNALS]
    expected = [
        (f"`{row.name}`", row.kind, said, row.help) for row, said in zip(names.SIGNALS, labels, strict=True)
    ]
    assert rows("signals") == expected


def test_every_metric_that_the_pages_name_exists():
    known = set(names.every_metric())
    for page in ("signals.md", "batching.md", "generation.md", "reliability.md", "metrics.md"):
        named = set(NAME.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))
        assert named <= known, page
    assert NAME.findall("of `trireme_queue_depth` and trireme_nothing_total") == [
        "trireme_queue_depth",
        "trireme_nothing_total",
    ]


def test_the_numbers_of_the_page_are_those_of_the_code():
    text = " ".join(TEXT.split())
    for said in (
        f"at most {PERIOD_SECONDS} s old",
        f"the last {KEPT_WINDOWS} windows, each of at least {WINDOW_SECONDS} busy seconds and {WINDOW_RUNS} runs",
        f"on all streams for {CALIBRATE_SECONDS} s",
        f"a prompt of {MOST_PROMPT} tokens",
        f"until {LEAST_ANSWERS} answers have ended, then at most the mean of the last {KEPT_ANSWERS}",
        f"its {MAX_RUNNING} threads",
        f"It looks every {WORKER_SECONDS:.0f} s",
        f"`model` is `{MODEL}`",
    ):
        assert said in text, said
    assert (MEASURE_WINDOWS, HELD_BATCHES) == (2, 4)
    assert "two windows" in text
    assert "about four micro-batches" in text


def test_the_setting_of_the_page_opens_the_workers_page():
    (name, value) = re.search(r"`(TRIREME_\w+)=(\d+) trireme worker`", TEXT).groups()
    assert read_settings({name: value}).worker_metrics_port == int(value)
