import json
import sys

import pytest

from benchmarks.common.report import DOCS, END, RESULTS, read_json
from benchmarks.gpu import pooling_page
from benchmarks.gpu.pooling_models import RERANKER
from benchmarks.gpu.pooling_page import format_section

DIRECT = {
    "ready_s": 80.4,
    "tokens_per_s": 300_000.0,
    "embed_tokens_per_s": 250_000.0,
    "cosine_min": 0.9991,
    "cosine_median": 0.99995,
    "centred_min": 0.95,
    "between_texts_median": 0.87,
    "within_bounds": True,
}
OURS = {**DIRECT, "tokens_per_s": 330_000.0, "cosine_min": 0.98, "within_bounds": False}
del OURS["embed_tokens_per_s"]
DOCUMENT = {
    "bounds": {"cosine_median": 0.999, "cosine_min": 0.99},
    "rows": {"count": 1024, "tokens": 270_000, "shortest": 16, "longest": 512},
    "machine": {
        "gpu": "A card",
        "when": "2026-01-02",
        "versions": {"vllm": "0.24.0", "torch": "2.11.0", "transformers": "5.17.0", "triton": "3.6.0"},
    },
    "models": {
        "large": {"vllm": DIRECT, "ours-vllm": OURS},
        "small": {"vllm": {"error": "no answer within 230 s"}},
    },
}


def test_each_engine_has_a_line_with_its_rate_over_vllm_alone():
    lines = [line for line in format_section(DOCUMENT).splitlines() if line.startswith("| ")]
    assert "| large | vLLM alone | 80 | 300,000 | 1.00 | 0.999100 | 0.999950 | 0.9500 |" in lines
    assert "| large | ours, engine vllm | 80 | 330,000 | 1.10 | 0.980000 | 0.999950 | 0.9500 |" in lines
    assert "| small | vLLM alone | - | - | - | - | - | - |" in lines


def test_a_rerankers_scores_have_a_table_of_their_own():
    scored = {
        "ready_s": 70.0,
        "tokens_per_s": 540_000.0,
        "rank_correlation": 0.99912,
        "score_difference": 0.021,
    }
    ours = {**scored, "tokens_per_s": 270_000.0, "within_bounds": False}
    models = {**DOCUMENT["models"], RERANKER: {"vllm": scored, "ours-vllm": ours}}
    bounds = {"rank_correlation": 0.97, "score_difference": 0.05}
    text = format_section({**DOCUMENT, "models": models, "score_bounds": bounds})
    assert f"| {RERANKER} | vLLM alone | 70 | 540,000 | 2,048 | 1.00 | 0.9991 | 0.0210 |" in text
    assert f"| {RERANKER} | ours, engine vllm | 70 | 270,000 | 1,024 | 0.50 | 0.9991 | 0.0210 |" in text
    assert f"- {RERANKER}, ours, engine vllm: below what was said beforehand." in text
    assert "0.97 and a difference of at most 0.05" in text


def test_what_failed_and_what_was_below_the_bounds_is_said():
    text = format_section(DOCUMENT)
    assert "- small, vLLM alone: no answer within 230 s\n" in text
    assert "- large, ours, engine vllm: below what was said beforehand.\n" in text
    assert "killed" not in text


def test_a_death_is_told_where_one_was_tried():
    death = {"waiting_run": "UnavailableError: gone", "waiting_run_s": 0.4, "answers_again_s": 61.0}
    models = {"large": {"ours-vllm": {**OURS, "death": death}}}
    text = format_section({**DOCUMENT, "models": models})
    assert "UnavailableError: gone after 0.4 s; the next answer came 61.0 s after the end." in text


def test_the_page_holds_the_last_results_and_nothing_else():
    text = (DOCS / "gpu-encoders.md").read_text(encoding="utf-8")
    section = text.partition("<!-- begin: pooling -->")[2].partition(END)[0].strip()
    results = sorted(RESULTS.glob("*-gpu-pooling.json"))
    assert section == (format_section(read_json(results[-1])).strip() if results else "")


def test_results_go_to_a_file_of_their_day_and_into_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(pooling_page, "RESULTS", tmp_path)
    monkeypatch.setattr(pooling_page, "DOCS", tmp_path)
    page = tmp_path / "gpu-encoders.md"
    page.write_text(f"before\n<!-- begin: pooling -->\n{END}\nafter\n")
    (tmp_path / "pool.json").write_text(json.dumps(DOCUMENT))
    monkeypatch.setattr(sys, "argv", ["pooling_page", str(tmp_path / "pool.json")])
    pooling_page.main()
    assert read_json(tmp_path / "2026-01-02-gpu-pooling.json") == DOCUMENT
    assert "| large | vLLM alone |" in page.read_text() and page.read_text().endswith(f"{END}\nafter\n")


@pytest.mark.parametrize("name", ["bounds", "rows", "machine", "models"])
def test_a_file_without_a_part_is_no_result(name):
    with pytest.raises(KeyError, match=name):
        format_section({key: value for key, value in DOCUMENT.items() if key != name})
