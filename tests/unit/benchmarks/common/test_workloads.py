import json

import pytest

from benchmarks.common import workloads
from benchmarks.common.workloads import (
    Drawer,
    Sizes,
    draw_rerank,
    draw_workloads,
    list_rerank_inputs,
    list_text_inputs,
    read_texts,
    write_document,
)
from trireme.errors import InvalidInputError, NotFoundError

SIZES = Sizes(longest=512, queries=40, passages=30, mixed=80)


class WordCounter:
    """One token a word and the two special ones."""

    def count(self, texts):
        return [len(text.split()) + 2 for text in texts]


def make_texts(count=60, words=120):
    passages = [" ".join(f"w{i}x{j}" for j in range(words)) for i in range(count)]
    return passages, [f"what is w{i} and who" for i in range(20)]


def draw(seed=1, sizes=SIZES):
    passages, queries = make_texts()
    return draw_workloads(passages, queries, WordCounter(), sizes, seed)


def test_every_workload_keeps_its_lengths():
    a, b, c = draw()
    assert {4 <= n <= 16 for n in a.tokens} == {True}
    assert {30 <= n <= 256 for n in b.tokens} == {True}
    assert max(c.tokens) == 512
    assert [len(one.texts) for one in (a, b, c)] == [40, 30, 80]


def test_one_text_in_twenty_of_the_mix_fills_the_model_and_the_rest_is_half_and_half():
    c = draw()[2]
    assert sum(n == 512 for n in c.tokens) == 4
    assert sum(n <= 16 for n in c.tokens) == 38
    assert sum(30 <= n <= 256 for n in c.tokens) == 38


def test_every_stretch_of_the_mix_has_the_same_shares():
    c = draw(sizes=Sizes(longest=512, queries=10, passages=10, mixed=400))[2]
    for start in range(0, 400, 100):
        part = c.tokens[start : start + 100]
        assert 4 <= sum(n == 512 for n in part) <= 6
        assert 45 <= sum(n <= 16 for n in part) <= 50


def test_no_text_comes_twice():
    texts = [text for one in draw() for text in one.texts]
    assert len(texts) == len(set(texts))


def test_the_same_seed_draws_the_same_and_another_one_others():
    first, again, other = draw(1), draw(1), draw(2)
    assert first == again
    assert [one.texts for one in first] != [one.texts for one in other]


def test_texts_that_are_too_few_are_named():
    drawer = Drawer(["five words are not many"], WordCounter(), 1)
    with pytest.raises(InvalidInputError, match="larger BEIR folder"):
        drawer.draw(5, (30, 256))


def test_a_rerank_query_has_distinct_passages_and_falling_scores():
    a, b, _ = draw()
    drawn = draw_rerank(a, b, passages=20, count=5, seed=1)
    assert len({one.query for one in drawn}) == 5
    for one in drawn:
        assert len(set(one.passages)) == 20
        assert list(one.prior) == sorted(one.prior, reverse=True)
    assert drawn == draw_rerank(a, b, passages=20, count=5, seed=1)


def test_the_files_hold_the_same_texts_for_everyone(tmp_path):
    a, b, _ = draw()
    ours = list_text_inputs(a)
    theirs = json.loads(write_document(tmp_path / "texts.json", texts=a.texts).read_text(encoding="utf-8"))
    assert [entry["text"][0] for entry in ours] == theirs["texts"] == list(a.texts)
    drawn = draw_rerank(a, b, passages=20, count=5, seed=1)
    [plain, *_], [prior, *_] = (list_rerank_inputs(drawn, with_prior=has) for has in (False, True))
    assert plain == {
        "query": [drawn[0].query], "passages": {"content": drawn[0].passages, "shape": [20]},
    }  # fmt: skip
    assert prior["prior"] == {"content": drawn[0].prior, "shape": [20]}


def test_without_a_data_set_the_docs_serve(tmp_path, monkeypatch):
    monkeypatch.setattr(workloads, "DOCS", tmp_path)
    (tmp_path / "quality.md").write_text("generated " * 50, encoding="utf-8")
    with pytest.raises(NotFoundError, match="--data"):
        read_texts(None)
    text = "A paragraph says how the batcher waits for more requests to come."
    (tmp_path / "page.md").write_text(f"# Title\n\n{text}", encoding="utf-8")
    assert read_texts(None) == ([text], [])
