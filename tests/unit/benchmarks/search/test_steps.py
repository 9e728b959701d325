import numpy as np

from benchmarks.search.steps import ClientSteps
from trireme.rag.ports import Question


class Client:
    """Finds as many passages as are asked for, of 30."""

    def __init__(self):
        self.asked = []

    def infer(self, model, inputs):
        self.asked.append((model, inputs))
        if model == "reranker":
            return {"score": np.arange(len(inputs["passages"][0]), dtype=np.float32)[None]}
        ids = [f"p{n}" for n in range(min(30, inputs["top_k"][0][0]))]
        texts = np.array([one.encode() for one in ids], object)
        scores = np.linspace(1, 0, len(ids), dtype=np.float32)
        return {"id": texts, "text": texts, "metadata": texts, "score": scores}


QUESTION = Question("what?", "extractive", 5, "ours", "all")


def test_what_is_left_out_is_as_if_it_were_not_there():
    client = Client()
    every = ClientSteps(client).retrieve(QUESTION, np.zeros(2, np.float32))
    others = ClientSteps(client, frozenset({"p0", "p3"})).retrieve(QUESTION, np.zeros(2, np.float32))
    assert [hit.id for hit in every] == [f"p{n}" for n in range(20)]
    assert [hit.id for hit in others] == [f"p{n}" for n in range(22) if n not in {0, 3}]
    assert client.asked[-1][1]["tenant"] == [["ours"]]


def test_the_same_is_ranked_once():
    client = Client()
    steps = ClientSteps(client)
    first, again = (steps.rank("what?", ["a", "b"], np.ones(2, np.float32)) for _ in range(2))
    assert first.tolist() == again.tolist() == [0, 1]
    assert len(client.asked) == 1
    steps.rank("who?", ["a", "b"], np.ones(2, np.float32))
    assert len(client.asked) == 2
