"""How a language model that reranks is asked; tests/models compares the scores with the library's."""

from types import SimpleNamespace

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.encode.pair_template import PairTemplate
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import apply_recipe, read_checkpoint
from trireme.export.pair_prompt import with_pair_prompt, write_chat_template
from trireme.export.tokenizer_file import load_pretrained

ROLES = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}so:"
TEMPLATE = "is {passage} what answers {query}, yes or no?"


@pytest.fixture
def folder(make_checkpoint, tmp_path):
    return make_checkpoint(tmp_path / "source", "qwen3", head="ForCausalLM")


def ask(folder, **keys):
    found = apply_recipe(
        read_checkpoint(folder, "cross_encoder"), Recipe("m", "cross_encoder", source="x", **keys)
    )
    return with_pair_prompt(found, load_pretrained(found))


def test_a_chat_template_with_the_roles_of_a_pair_is_the_template(folder):
    (folder / "chat_template.jinja").write_text(ROLES)
    found = ask(folder)
    assert (
        found.template == "<|im_start|>query: {query}<|im_end|><|im_start|>document: {passage}<|im_end|>so:"
    )
    vocabulary = load_pretrained(found).get_vocab()
    assert found.answers == (vocabulary["no"], vocabulary["yes"])


def test_the_recipes_template_goes_before_the_checkpoints(folder):
    (folder / "chat_template.jinja").write_text(ROLES)
    assert ask(folder, template=TEMPLATE).template == TEMPLATE


def test_a_template_is_rendered_by_jinja_as_it_is_filled(folder):
    (folder / "chat_template.jinja").write_text(write_chat_template('"{passage}" \\ {{ no }}\n{query}\t\n'))
    filled = PairTemplate.parse(ask(folder).template).fill("Q", "P")
    assert filled == '"P" \\ {{ no }}\nQ\t\n'


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        (None, "has no chat template: give --template"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            "roles query and document",
        ),
        ("{{ raise_exception('no') }}", "roles query and document"),
    ],
)
def test_one_that_does_not_say_how_it_is_asked_is_refused(chat, says, folder):
    if chat is not None:
        (folder / "chat_template.jinja").write_text(chat)
    with pytest.raises(UnsupportedError, match=says):
        ask(folder)


def test_a_tokenizer_without_the_answers_is_refused(folder):
    found = apply_recipe(
        read_checkpoint(folder, "cross_encoder"), Recipe("m", "cross_encoder", source="x", template=TEMPLATE)
    )
    tokenizer = SimpleNamespace(get_vocab=lambda: {"yes": 7})
    with pytest.raises(UnsupportedError, match="no token 'no', whose logit is the score; name the tokens"):
        with_pair_prompt(found, tokenizer)


@pytest.mark.parametrize("template", ["", "{query}", "{query} {passage} {query}"])
def test_a_template_without_both_is_refused(template, folder):
    with pytest.raises(UnsupportedError, match=r"give --template|once each"):
        ask(folder, template=template)


def test_an_encoder_takes_no_template(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert", labels=["score"])
    with pytest.raises(UnsupportedError, match="template is for rerankers that are language models"):
        ask(folder, template=TEMPLATE)
