import pytest

from trireme.errors import NotFoundError
from trireme.gateway.wire.openai_models import write_model, write_models

MODELS = [("llm", "trireme"), ("assistant", "openai")]
LLM = {"id": "llm", "object": "model", "created": 7, "owned_by": "trireme"}


def test_a_list_holds_what_it_is_given():
    answer = write_models(MODELS, 7)
    assert answer["object"] == "list"
    assert answer["data"][0] == LLM
    assert [row["id"] for row in answer["data"]] == ["llm", "assistant"]


def test_one_model_is_its_row_and_any_other_is_not_there():
    assert write_model(MODELS, "llm", 7) == LLM
    with pytest.raises(NotFoundError, match="no model 'gpt' that this key may call"):
        write_model(MODELS, "gpt", 7)
