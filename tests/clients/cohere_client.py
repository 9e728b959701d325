"""The official `cohere` package."""

import asyncio
from importlib.metadata import version

import cohere
from cases import KEY, URL, case, raises, run, same

RERANK = "/v2/rerank"
ASKED = {
    "model": "reranker",
    "query": "who rows?",
    "documents": ["Lentils simmer with garlic.", "Rowers row the trireme.", "Oars are of fir."],
}
client = cohere.ClientV2(api_key=KEY, base_url=URL, max_retries=0)


@case(RERANK, "whole", "best first, index and score")
def rerank():
    ranked = client.rerank(**ASKED)
    same(ranked.results[0].index, 1)
    same(sorted(row.index for row in ranked.results), [0, 1, 2])
    scores = [row.relevance_score for row in ranked.results]
    same(scores, sorted(scores, reverse=True))
    assert all(0 <= score <= 1 for score in scores)
    assert ranked.id
    same(ranked.meta.api_version.version, "2")


@case(RERANK, "whole", "top_n")
def rerank_some():
    same([row.index for row in client.rerank(**ASKED, top_n=1).results], [1])
    same(len(client.rerank(**ASKED, top_n=9).results), 3)


@case(RERANK, "whole", "asyncio")
def rerank_async():
    async def go():
        async with cohere.AsyncClientV2(api_key=KEY, base_url=URL, max_retries=0) as one:
            return (await one.rerank(**ASKED)).results[0].index

    same(asyncio.run(go()), 1)


@case("/v1/rerank", "whole", "the older client")
def rerank_of_old_client():
    one = cohere.Client(api_key=KEY, base_url=URL)
    ranked = one.rerank(**ASKED, top_n=2, return_documents=True)
    same((ranked.results[0].index, ranked.results[0].document.text), (1, ASKED["documents"][1]))
    assert ranked.results[0].relevance_score >= ranked.results[1].relevance_score


@case(RERANK, "error", "401 no such key")
def rerank_without_key():
    one = cohere.ClientV2(api_key="tr-none", base_url=URL, max_retries=0)
    raises(cohere.errors.UnauthorizedError, lambda: one.rerank(**ASKED))


@case(RERANK, "error", "404 no such model")
def rerank_by_nothing():
    raises(cohere.errors.NotFoundError, lambda: client.rerank(**{**ASKED, "model": "none"}), "none")


@case(RERANK, "error", "422 names the field")
def rerank_badly():
    raises(cohere.errors.UnprocessableEntityError, lambda: client.rerank(**ASKED, top_n=0), "top_n")


@case(RERANK, "error", "400 what no model here can do")
def rerank_of_lengths():
    raises(
        cohere.errors.BadRequestError,
        lambda: client.rerank(**ASKED, max_tokens_per_doc=100),
        "max_tokens_per_doc",
    )


run(cohere=version("cohere"))
