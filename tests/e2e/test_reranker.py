"""The served reranker: order, prior, batches and depth."""

import numpy as np
import pytest

QUERY = "how many rows of oars did the ship have?"
PASSAGES = [
    "Simmer the lentils with garlic for forty minutes.",
    "A trireme had three banks of oars.",
    "Passages live in PostgreSQL with the pgvector extension.",
    "The harbour master keeps the keys of the boathouse. " * 40,
]
# int8 activations share one scale per run: a pair's score moves a little with what runs beside it.
INT8_ALONE_TO_BATCHED = 0.05


def rerank(client, passages, **inputs):
    return client.infer("reranker", {"query": [[QUERY]], "passages": [passages], **inputs})


def test_the_passage_that_answers_gets_the_highest_score(client):
    answer = rerank(client, PASSAGES)
    assert answer["score"][0].argmax() == 1
    assert answer["truncated_tokens"][0].tolist()[:3] == [0, 0, 0]
    assert answer["truncated_tokens"][0][3] > 100


def test_scores_are_in_the_given_order(client):
    forward, backward = rerank(client, PASSAGES)["score"][0], rerank(client, PASSAGES[::-1])["score"][0]
    assert forward.tolist() == pytest.approx(backward[::-1].tolist(), abs=INT8_ALONE_TO_BATCHED)


def test_a_passage_scores_nearly_the_same_alone_and_beside_others(client):
    together = rerank(client, PASSAGES)["score"][0]
    alone = [rerank(client, [passage])["score"][0][0] for passage in PASSAGES]
    assert together.tolist() == pytest.approx(alone, abs=INT8_ALONE_TO_BATCHED)


def test_a_missing_prior_is_the_cosine_of_the_embedding_model(client):
    query = client.embed([QUERY], "query")[0]
    cosine = client.embed(PASSAGES, "passage") @ query
    given = rerank(client, PASSAGES, prior=[cosine.tolist()])["score"][0]
    computed = rerank(client, PASSAGES)["score"][0]
    assert given.tolist() == pytest.approx(computed.tolist(), abs=INT8_ALONE_TO_BATCHED)


def test_requests_with_different_numbers_of_passages_share_batches(client):
    from concurrent.futures import ThreadPoolExecutor

    counts = [1, 4, 2, 3] * 6
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: rerank(client, PASSAGES[:n])["score"], counts))
    assert [answer.shape for answer in answers] == [(1, n) for n in counts]
    for answer in answers:
        assert answer[0][0] == pytest.approx(answers[0][0][0], abs=INT8_ALONE_TO_BATCHED)


def test_beyond_the_rerank_depth_the_order_of_the_prior_stays(client):
    passages = [f"note number {n}" for n in range(30)]
    prior = np.linspace(0.6, 0.1, 30)
    scores = rerank(client, passages, prior=[prior.tolist()])["score"][0]
    assert (scores[20:] < scores[:20].min()).all()
    assert np.argsort(-scores[20:], kind="stable").tolist() == list(range(10))


def test_a_request_may_have_fewer_passages_read_or_none(client):
    passages = [f"note number {n}" for n in range(30)]
    prior = np.linspace(0.1, 0.6, 30)
    fewer = rerank(client, passages, prior=[prior.tolist()], rerank_depth=[[5]])["score"][0]
    assert (fewer[:25] < fewer[25:].min()).all()
    none = rerank(client, passages, prior=[prior.tolist()], rerank_depth=[[0]])["score"][0]
    assert none.tolist() == pytest.approx(prior.tolist())
