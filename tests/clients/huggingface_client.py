"""huggingface_hub's InferenceClient, as clients of text-embeddings-inference use it."""

from importlib.metadata import version

import numpy as np
from cases import KEY, URL, case, raises, run, same
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

EMBED, CHAT = "/embed", "/v1/chat/completions"


def client(path, token=KEY):
    return InferenceClient(model=f"{URL}{path}", token=token)


@case(EMBED, "whole", "feature_extraction")
def embed():
    one = client("/embed").feature_extraction("oars of fir")
    two = client("/embed").feature_extraction(["oars of fir", "sails of flax"], normalize=True, truncate=True)
    same((one.shape[0], two.shape[0]), (1, 2))
    assert np.allclose(one[0], two[0], atol=0.02)
    assert np.allclose(np.linalg.norm(two, axis=1), 1, atol=1e-3)


@case(EMBED, "error", "401 no such key")
def embed_without_key():
    raises(HfHubHTTPError, lambda: client("/embed", "tr-none").feature_extraction("a"), "401")


@case(EMBED, "error", "422 names the field")
def embed_badly():
    error = raises(
        HfHubHTTPError, lambda: client("/embed").feature_extraction("a", prompt_name="none"), "422"
    )
    assert "prompt_name" in error.response.text


@case(CHAT, "whole", "chat_completion")
def chat():
    one = InferenceClient(base_url=f"{URL}/v1", api_key=KEY)
    answer = one.chat_completion([{"role": "user", "content": "oars of fir"}], model="assistant")
    same(answer.choices[0].message.content, "oars of fir")


@case(CHAT, "streamed", "chat_completion")
def chat_streamed():
    one = InferenceClient(base_url=f"{URL}/v1", api_key=KEY)
    turns = [{"role": "user", "content": "one two three four"}]
    chunks = one.chat_completion(turns, model="assistant", stream=True)
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "one two three four")


run(huggingface_hub=version("huggingface_hub"))
