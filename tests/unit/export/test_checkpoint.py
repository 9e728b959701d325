import json

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import apply_recipe, read_checkpoint

BERT = {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 66, "type_vocab_size": 2}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "config.json", BERT)
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def write(folder, name, document):
    (folder / name).write_text(json.dumps(document))


def test_pooling_is_read_in_the_old_and_the_new_key_style(folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    assert read_checkpoint(folder).pooling == "cls"
    add_sentence_files(folder, {"pooling_mode": "max"})
    assert read_checkpoint(folder).pooling == "max"


def test_two_poolings_at_once_are_refused(folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True})
    with pytest.raises(UnsupportedError, match=r"cls \+ max"):
        read_checkpoint(folder)


def test_prompts_length_and_normalization_come_from_the_checkpoint(folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode": "mean"}, query="query: ", document="passage: ")
    found = read_checkpoint(folder)
    assert (found.query_prompt, found.passage_prompt) == ("query: ", "passage: ")
    assert (found.max_length, found.normalize) == (48, True)


def test_the_recipe_overrides_the_checkpoint(folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode": "mean"}, query="query: ")
    recipe = Recipe(
        "m", "text_encoder", source="x", max_length=20, pooling="cls", normalize=False, query_prompt=""
    )
    found = apply_recipe(read_checkpoint(folder), recipe)
    assert (found.max_length, found.pooling, found.normalize, found.query_prompt) == (20, "cls", False, "")
    with pytest.raises(UnsupportedError, match="above the checkpoint's 66 positions"):
        apply_recipe(found, Recipe("m", "text_encoder", source="x", max_length=67))


def test_a_roberta_length_leaves_room_for_the_position_offset(folder):
    write(folder, "config.json", {**BERT, "model_type": "roberta", "pad_token_id": 1})
    write(folder, "tokenizer_config.json", {"model_max_length": 10**30})
    assert read_checkpoint(folder).max_length == 64


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pkl"])
def test_a_pickle_is_refused_by_name(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedError, match=f"{name} is a pickle"):
        read_checkpoint(folder)


def test_a_checkpoint_that_brings_code_is_refused(folder):
    write(folder, "config.json", {**BERT, "auto_map": {"AutoModel": "code.Model"}})
    with pytest.raises(UnsupportedError, match="auto_map"):
        read_checkpoint(folder)


def test_an_unknown_family_is_named(folder):
    write(folder, "config.json", {**BERT, "model_type": "gpt2"})
    with pytest.raises(UnsupportedError, match="'gpt2'"):
        read_checkpoint(folder)


def test_an_unknown_module_is_named(folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode": "mean"}, ("Transformer", "Pooling", "WeightedLayerPooling"))
    with pytest.raises(UnsupportedError, match="'WeightedLayerPooling'"):
        read_checkpoint(folder)


def test_a_module_path_may_not_leave_the_folder(folder):
    write(folder, "modules.json", [{"idx": 0, "name": "0", "path": "../other", "type": "x.Transformer"}])
    with pytest.raises(UnsupportedError, match="outside its folder"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("extra", "labels", "activation"),
    [
        ({}, 3, "softmax"),
        ({"problem_type": "multi_label_classification"}, 3, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, 3, "sigmoid"),
    ],
)
def test_a_classifiers_activation_is_read(folder, extra, labels, activation):
    names = {str(i): f"label {i}" for i in range(labels)}
    architecture = {"architectures": ["BertForSequenceClassification"], "id2label": names}
    write(folder, "config.json", {**BERT, **architecture, **extra})
    found = read_checkpoint(folder)
    assert (found.kind, found.activation) == ("classifier", activation)
    assert found.labels == tuple(names.values())


def test_a_reranker_has_one_label(folder):
    write(folder, "config.json", {**BERT, "id2label": {"0": "no", "1": "yes"}})
    with pytest.raises(UnsupportedError, match="2 labels"):
        read_checkpoint(folder, "cross_encoder")
