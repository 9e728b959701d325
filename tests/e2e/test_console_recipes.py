"""What the console shows "as curl" and "as Python" does what the page did, run as it stands."""

import json
import os
import shutil
import subprocess

import pytest
from stacks import ROOT

from nodes import find_node

RECIPES = ROOT / "src" / "trireme" / "gateway" / "console" / "static" / "lib" / "recipes.js"
PROGRAM = """
import(process.argv[1]).then(({asCurl, asPython}) => {
  const [call, origin] = [JSON.parse(process.argv[2]), process.argv[3]];
  process.stdout.write(JSON.stringify([asCurl(call, origin), asPython(call, origin)]));
});
"""
# Quotes, a dollar and a new line: a recipe that is not quoted right asks something else, or nothing.
QUESTION = 'what does the "dynamic" batcher\'s queue wait for?\n$HOME `id`'
CHAT = {
    "model": "rag",
    "messages": [{"role": "user", "content": QUESTION}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0,
    "trireme": {"collection": "default", "answer_mode": "extractive"},
}
SEARCH = {
    "query": QUESTION,
    "top_k": 3,
    "mode": "hybrid",
    "rerank": False,
    "filter": {"source": "batching.md"},
}
EMBED = {"model": "embedding", "input": [QUESTION, "It waits for more requests."], "dimensions": 64}


@pytest.fixture(scope="module")
def run(gateway):
    """run(path, body) -> what the recipes print: curl's, and Python's."""
    python = ROOT / ".venv-clients" / "bin" / "python"
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if not python.is_file():
        pytest.skip("no .venv-clients (make clients-env)")
    environ = {"PATH": os.environ["PATH"], "KEY": gateway.new_key("--user", "ann"), "HOME": "/nonexistent"}

    def read(path, body):
        call = json.dumps({"path": path, "body": body})
        words = [find_node(), "-e", PROGRAM, str(RECIPES), call, gateway.url]
        made = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        curl, program = json.loads(made.stdout)
        assert environ["KEY"] not in curl + program
        said = [
            subprocess.run(line, env=environ, capture_output=True, text=True, timeout=120)
            for line in (["sh", "-c", curl], [str(python), "-c", program])
        ]
        assert [one.returncode for one in said] == [0, 0], [one.stderr for one in said]
        return [one.stdout for one in said]

    return read


def test_a_question_is_asked_again_as_it_was(run):
    curl, python = run("/v1/chat/completions", CHAT)
    frames = [line.removeprefix("data: ") for line in curl.splitlines() if line]
    assert frames.pop() == "[DONE]"
    chunks = [json.loads(frame) for frame in frames]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    [sources] = [chunk["trireme"]["sources"] for chunk in chunks if "trireme" in chunk]
    assert "half a millisecond" in text
    assert python.splitlines()[0] == text.splitlines()[0]
    assert f"[1] {sources[0]['source']}: {sources[0]['text']}" in python


def test_a_search_is_made_again_as_it_was(run):
    curl, python = run("/v1/search", SEARCH)
    passages = json.loads(curl)["passages"]
    assert passages
    assert {one["metadata"]["source"] for one in passages} == {"batching.md"}
    assert [line.split()[:2] for line in python.splitlines()] == [
        [f"{one['score']:.3f}", one["id"]] for one in passages
    ]


def test_two_texts_are_compared_again_as_they_were(run):
    curl, python = run("/v1/embeddings", EMBED)
    first, second = (row["embedding"] for row in json.loads(curl)["data"])
    assert len(first) == 64
    # Vectors of the model have length 1.
    cosine = sum(a * b for a, b in zip(first, second, strict=True))
    assert float(python.removeprefix("cosine ")) == pytest.approx(cosine, abs=2e-4)
