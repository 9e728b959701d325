import pytest

from trireme.errors import NotFoundError
from trireme.gateway.wire.anthropic_models import is_asked, write_model, write_models

MODELS = [("llm", "trireme"), ("claude", "anthropic")]
LLM = {
    "type": "model",
    "id": "llm",
    "display_name": "llm",
    "created_at": "2023-11-14T22:13:20Z",
    "lifecycle": "active",
}


def test_a_list_is_one_page_with_its_ends():
    page = write_models(MODELS, 1_700_000_000)
    assert page["data"][0] == LLM
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "llm", "claude")


def test_a_list_of_nothing_has_no_ends():
    assert write_models([], 7) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_one_model_is_its_row_and_any_other_is_not_there():
    assert write_model(MODELS, "llm", 1_700_000_000) == LLM
    with pytest.raises(NotFoundError, match="no model 'gpt' that this key may call"):
        write_model(MODELS, "gpt", 7)


def test_a_client_says_by_its_version_which_list_it_wants():
    assert is_asked({"anthropic-version": "2023-06-01"})
    assert not is_asked({"authorization": "Bearer tr-secret"})
