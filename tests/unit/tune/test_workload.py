import json
import random

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.errors import InvalidInputError, NotFoundError
from trireme.tune.workload import draw_texts, make_workload, read_workload

EMBEDDING = Recipe("embedding", "text_encoder", source="a/b")
RERANKER = Recipe("reranker", "cross_encoder", source="a/b")
SEARCH = Recipe("search", "search", steps=("embedding", "search__retrieve", "search__sort"))


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    page = "\n\n".join(
        f"Paragraph {i} says how long a rower may row before a rest, by the hour." for i in range(30)
    )
    (folder / "page.md").write_text(f"# Title\n\n{page}")
    (folder / "performance.md").write_text("generated " * 50)
    return folder


def make(folder, texts, recipe, seed=1):
    folder.mkdir()
    return make_workload(folder, texts, recipe, entries=50, seed=seed)


def entries_of(workload):
    return json.loads(workload.path.read_text())["data"]


def test_drawn_requests_do_not_repeat_and_leave_generated_pages_out(tmp_path, texts):
    drawn = [entry["text"][0] for entry in entries_of(make(tmp_path / "out", texts, EMBEDDING))]
    assert len(drawn) == len(set(drawn)) == 50
    assert "generated" not in " ".join(drawn)


def test_the_seed_decides_the_workload_and_its_digest(tmp_path, texts):
    first, again, other = (make(tmp_path / str(i), texts, RERANKER, seed) for i, seed in enumerate((1, 1, 2)))
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.digest == again.digest != other.digest


def test_a_reranker_gets_pairs_with_their_open_shapes(tmp_path, texts):
    workload = make(tmp_path / "out", texts, RERANKER)
    assert workload.shapes == ("passages:20", "prior:20")
    assert workload.entries == 10
    assert all(len(entry["passages"]["content"]) == 20 for entry in entries_of(workload))


def test_a_chain_gets_queries_and_a_corpus_that_its_digest_covers(tmp_path, texts):
    workload = make(tmp_path / "out", texts, SEARCH)
    assert set(entries_of(workload)[0]) == {"query"}
    assert len(workload.corpus.read_text().splitlines()) == 30
    assert read_workload(workload.path, SEARCH).digest != workload.digest


def test_texts_without_a_paragraph_are_an_error(tmp_path):
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(NotFoundError, match="--texts"):
        make(tmp_path / "out", tmp_path, EMBEDDING)


def test_a_workload_of_the_user_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"data": [{"text": ["a"]}, {"text": ["b"], "input_type": ["query"]}]}')
    workload = read_workload(path, EMBEDDING)
    assert (workload.path, workload.name, workload.entries, workload.shapes) == (path, "mine.json", 2, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", '"data"'),
        ('{"data": []}', '"data"'),
        ('{"data": [7]}', "entry 0 is not an object"),
        (
            '{"data": [{"text": ["a"]}, {"txt": ["a"]}]}',
            "entry 1 has 'txt'.*dimensions, input_type, over_length, text",
        ),
        ('{"data": [{"input_type": ["query"]}]}', "entry 0 lacks 'text'"),
    ],
)
def test_a_workload_that_the_model_does_not_take_is_named(content, message, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        read_workload(path, EMBEDDING)


def test_an_open_input_needs_its_shape(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"data": [{"query": ["q"], "passages": ["a", "b"]}]}')
    with pytest.raises(InvalidInputError, match=r'must give passages with its shape, as .*"shape": \[N\]'):
        read_workload(path, RERANKER)
    path.write_text('{"data": [{"query": ["q"], "passages": {"content": ["a", "b"], "shape": [2]}}]}')
    assert read_workload(path, RERANKER).shapes == ("passages:2",)


def test_a_workload_may_have_every_input_of_the_models_contract(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"data": [{"query": ["q"], "filter": ["{}"], "search_mode": ["text"], "top_k": [3]}]}')
    assert read_workload(path, SEARCH).entries == 1
    scored = {"content": [0.5], "shape": [1]}
    entry = {"query": ["q"], "passages": {"content": ["a"], "shape": [1]}, "rank_score": scored}
    path.write_text(json.dumps({"data": [entry]}))
    assert read_workload(path, RERANKER).shapes == ("passages:1", "rank_score:1")


def test_a_workload_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="absent"):
        read_workload(tmp_path / "absent.json", EMBEDDING)


def test_a_small_source_is_filled_with_runs_of_its_words():
    drawn = draw_texts(["one two", "three four"], 40, (1, 2), random.Random(0))
    assert set(drawn[:2]) == {"one two", "three four"}
    assert len(set(drawn)) == 40
