from benchmarks.common.report import DOCS, END, RESULTS, read_json
from benchmarks.gpu import encoders_page


def test_every_figure_of_the_page_is_one_of_the_results():
    text = encoders_page.format_tables(read_json(RESULTS / "2026-11-24-gpu-encoders.json"))
    printed = {line for line in text.splitlines() if line.startswith("| ")}
    before, _, rest = (DOCS / "gpu-encoders.md").read_text().partition("<!-- begin: pooling -->")
    page = before + rest.partition(END)[2]
    rows = [
        line
        for line in page.splitlines()
        if line.startswith("| ") and "---" not in line and "instances" not in line
    ]
    rows = [row for row in rows if not row.startswith("| model")]
    assert len(rows) > 30
    assert not [row for row in rows if row not in printed]


def test_passes_are_read_by_engine_and_their_median_taken():
    lines = [
        {"engine": "vllm-a", "model": "a", "load": "short", "seconds": {"ids": seconds}}
        for seconds in (4.0, 1.0, 2.0)
    ]
    lines.append({"engine": "vllm-a", "model": "a", "load": "short", "single_ms": 3.0})
    later = [{"engine": "vllm-a", "model": "a", "load": "short", "seconds": {"ids": 100.0}}]
    models, _ = encoders_page._read([lines, later], {"short": {"texts": 10, "tokens": 40}})
    found = models["a"]["short"]["vllm"]
    assert found["texts_per_s"] == {"ids": 5.0}
    assert found["tokens_per_s"] == {"ids": 20.0}
    assert (found["passes"], found["single_ms"]) == (3, 3.0)
