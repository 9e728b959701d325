"""Retrieval quality of the served models on questions and articles that nothing was trained on."""

import dataclasses
import json
import random

import pytest
from rich.console import Console
from stacks import ROOT

from trireme.indexing import ingest_path
from trireme.quality import evaluate, read_beir

SQUAD = ROOT.parent / "shared" / "data" / "retrieval" / "squad"
QUERIES = 40

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def squad(tmp_path_factory, stack):
    """The held-out articles of SQuAD in a collection of their own, and a seeded sample of their questions."""
    if not SQUAD.is_dir():
        pytest.skip("the folder shared/data beside the checkout is absent")
    data = read_beir(SQUAD, "dev")
    relevant = {passage for judged in data.qrels.values() for passage in judged}
    articles = {passage.split("#")[0] for passage in relevant}
    folder = tmp_path_factory.mktemp("squad")
    with (SQUAD / "corpus.jsonl").open() as source, (folder / "corpus.jsonl").open("w") as target:
        target.writelines(line for line in source if json.loads(line)["_id"].split("#")[0] in articles)
    settings = dataclasses.replace(stack.settings, collection="squad")
    ingest_path(settings, folder, stack.database_url, Console(quiet=True))
    sample = random.Random(11).sample(sorted(data.queries), QUERIES)
    return {key: data.queries[key] for key in sample}, {key: data.qrels[key] for key in sample}


def test_hybrid_beats_the_order_of_the_embeddings_and_search_beats_it_by_three_points(client, squad):
    queries, qrels = squad
    runs = {"dense": {}, "hybrid": {}, "search": {}}
    for key, text in queries.items():
        vector = client.embed([text], "query")
        for mode in ("dense", "hybrid"):
            inputs = {"embedding": vector.tolist(), "query": [[text]], "collection": [["squad"]]}
            found = client.infer("retriever", inputs | {"search_mode": [[mode]]})
            runs[mode][key] = [name.decode() for name in found["id"][0]]
        runs["search"][key] = [hit.id for hit in client.search(text, collection="squad")]
    figures = {name: evaluate(name, run, qrels).ndcg_at_10 for name, run in runs.items()}
    assert figures["dense"] > 0.6
    assert figures["hybrid"] >= figures["dense"]
    assert figures["search"] > figures["dense"] + 0.03
