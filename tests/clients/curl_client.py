"""curl: the formats that have no client of their own here, and what any client of HTTP sees."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from cases import KEY, LIMITED_KEY, NARROW_KEY, QUESTION, SOURCE, URL, case, run, same

TEXTS = ["Lentils simmer with garlic.", "Rowers row the trireme.", "Oars are of fir."]


def curl(path, body=None, *arguments, key=KEY):
    """Status, headers and text of one call; a `body` is sent as `curl -d` sends it."""
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / "head"
        words = ["curl", "-sN", "-D", str(head), "-H", f"authorization: Bearer {key}", *arguments]
        if body is not None:
            words += ["-d", json.dumps(body)]
        done = subprocess.run([*words, URL + path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        first, *lines = head.read_text().strip().splitlines()
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), headers, done.stdout


def good(path, body=None, *arguments):
    status, _, text = curl(path, body, *arguments)
    assert 200 <= status < 300, text
    return json.loads(text)


def bad(path, body, status, *arguments, key=KEY):
    got, headers, text = curl(path, body, *arguments, key=key)
    same(got, status)
    assert headers["x-request-id"]
    return json.loads(text)


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "one two three four"}], **more}


@case("/v1/chat/completions", "whole", "answer, served by, attempts")
def chat_whole():
    status, headers, text = curl("/v1/chat/completions", chat("unavailable", max_tokens=9))
    same((status, headers["x-trireme-served-by"]), (200, "fakeanthropic:echo"))
    assert int(headers["x-trireme-attempts"]) >= 2
    same(json.loads(text)["choices"][0]["message"]["content"], "one two three four")


@case("/v1/chat/completions", "whole", "fields left out across formats are named")
def chat_dropped():
    _, headers, _ = curl("/v1/chat/completions", chat("claude", max_tokens=9, verbosity="low"))
    same(headers["x-trireme-dropped"], "verbosity")


@case("/v1/chat/completions", "streamed", "frames, then [DONE]")
def chat_streamed():
    _, headers, text = curl("/v1/chat/completions", chat("assistant", stream=True))
    assert headers["content-type"].startswith("text/event-stream")
    frames = text.split("\n\n")
    same(frames[-2:], ["data: [DONE]", ""])
    assert all(json.loads(frame.removeprefix("data: "))["id"] for frame in frames[:-2])


@case("/v1/chat/completions", "error", "400 no JSON")
def chat_of_no_json():
    _, _, text = curl("/v1/chat/completions", None, "-d", "{")
    same(json.loads(text)["error"]["type"], "invalid_request_error")


@case("/v1/chat/completions", "error", "fault in mid stream: a frame, no [DONE]")
def chat_cut():
    status, _, text = curl("/v1/chat/completions", chat("fakeopenai:fault-malformed-middle", stream=True))
    same(status, 200)
    assert "[DONE]" not in text
    assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["message"]


@case("/v1/messages", "streamed", "named events")
def messages_streamed():
    _, _, text = curl("/v1/messages", chat("claude", max_tokens=9, stream=True))
    events = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    same((events[0], events[-1]), ("message_start", "message_stop"))


@case("/v1/messages", "error", "401 no key")
def messages_without_key():
    same(bad("/v1/messages", chat("llm"), 401, key="tr-none")["error"]["type"], "authentication_error")


@case("/v1/rerank", "whole", "Jina's answer with documents")
def jina():
    asked = {"model": "reranker", "query": "who rows?", "documents": TEXTS, "top_n": 1}
    answer = good("/v1/rerank", asked)
    (row,) = answer["results"]
    same((row["index"], row["document"]["text"]), (1, TEXTS[1]))


@case("/v1/rerank", "error", "404 no such model")
def jina_of_nothing():
    asked = {"model": "none", "query": "who rows?", "documents": TEXTS}
    assert "none" in bad("/v1/rerank", asked, 404)["detail"]


@case("/embed", "whole", "text-embeddings-inference's vectors")
def tei_embed():
    vectors = good("/embed", {"inputs": ["oars", "sails"], "truncate": True})
    same(len(vectors), 2)
    assert abs(sum(x * x for x in vectors[0]) - 1) < 1e-3


@case("/embed", "error", "400 empty")
def tei_empty():
    same(bad("/embed", {"inputs": []}, 400)["error_type"], "Empty")


@case("/rerank", "whole", "text-embeddings-inference's ranks")
def tei_rerank():
    rows = good("/rerank", {"query": "who rows?", "texts": TEXTS, "return_text": True})
    same((rows[0]["index"], rows[0]["text"], len(rows)), (1, TEXTS[1], 3))


@case("/rerank", "error", "422 names the field")
def tei_rerank_badly():
    answer = bad("/rerank", {"query": "who rows?", "texts": "oars"}, 422)
    same(answer["error_type"], "Validation")
    assert "texts" in answer["error"]


@case("/predict", "error", "422 no classifier is named")
def tei_predict():
    assert "defaults.classify" in bad("/predict", {"inputs": "calm sea"}, 422)["error"]


@case("/info", "whole", "the default embedder")
def tei_info():
    same(good("/info")["model_id"], "embedding")


@case("/v1/search", "whole", "passages with scores and metadata")
def search():
    passages = good("/v1/search", {"query": QUESTION, "top_k": 2})["passages"]
    same((len(passages), passages[0]["metadata"]["source"]), (2, SOURCE))
    assert passages[0]["score"] >= passages[1]["score"]


@case("/v1/search", "whole", "filter and mode")
def search_filtered():
    asked = {"query": QUESTION, "filter": {"source": "storage.txt"}, "mode": "dense"}
    same({one["metadata"]["source"] for one in good("/v1/search", asked)["passages"]}, {"storage.txt"})


@case("/v1/search", "error", "404 no such collection")
def search_nothing():
    assert "none" in bad("/v1/search", {"query": "a", "collection": "none"}, 404)["error"]["message"]


@case("/v1/documents", "whole", "text, its job, delete")
def documents():
    row = good("/v1/documents", {"document_id": "ram", "text": "The ram is of bronze.", "collection": "curl"})
    job = row["data"][0]["job_id"]
    for _ in range(300):
        state = good(f"/v1/jobs/{job}")["state"]
        if state == "done":
            break
        time.sleep(0.2)
    same(state, "done")
    same(good("/v1/documents/ram?collection=curl", None, "-X", "DELETE")["deleted"], True)


@case("/v1/documents", "error", "400 a kind of file that is not read")
def documents_of_other_kind():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exe"
        path.write_bytes(b"MZ")
        status, _, text = curl("/v1/documents", None, "-F", f"file=@{path}")
    same(status, 400)
    assert ".exe" in json.loads(text)["error"]["message"]


@case("/v1/models", "error", "429 with retry-after")
def models_over_limit():
    for _ in range(3):
        status, headers, _ = curl("/v1/models", key=LIMITED_KEY)
        if status == 429:
            break
    same(status, 429)
    assert 0 < int(headers["retry-after"]) <= 60


@case("/v1/models", "whole", "with a key of this endpoint alone")
def models_with_narrow_key():
    status, _, text = curl("/v1/models", key=NARROW_KEY)
    same(status, 200)
    assert json.loads(text)["data"]


@case("/healthz", "whole", "without a key")
def healthz():
    same(curl("/healthz", key="")[0], 200)


@case("/readyz", "whole", "without a key")
def readyz():
    same(curl("/readyz", key="")[0], 200)


@case("/metrics", "whole", "from this machine without a key")
def metrics():
    status, _, text = curl("/metrics", key="")
    same(status, 200)
    assert "trireme_gateway_" in text


@case("any other", "error", "404 and 405")
def nowhere():
    assert "no such path" in bad("/v1/none", {}, 404)["error"]["message"]
    bad("/v1/embeddings", None, 405)


run(curl=subprocess.run(["curl", "-V"], capture_output=True, text=True).stdout.split()[1])
