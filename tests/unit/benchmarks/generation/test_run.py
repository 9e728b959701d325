from benchmarks.common.report import DOCS, RESULTS, read_json
from benchmarks.generation.clients import Run
from benchmarks.generation.run import compute_row, format_section


def test_a_row_holds_medians_and_the_ratios_of_the_same_round():
    pairs = [(Run(100, 1.0, 0.5), Run(90, 1.0, 0.6)), (Run(200, 1.0, 0.4), Run(100, 1.0, 0.8))]
    row = compute_row(8, pairs)
    assert (row["streams"], row["ratios"], row["ratio"]) == (8, [0.9, 0.5], 0.7)
    assert (row["direct_tokens_per_s"], row["served_tokens_per_s"]) == (150.0, 95.0)
    assert (row["direct_first_token_s"], row["served_first_token_s"]) == (0.45, 0.7)


def test_the_committed_section_is_made_of_the_committed_figures():
    section = format_section(read_json(RESULTS / "generation.json"))
    assert section.strip() in (DOCS / "generation.md").read_text()
