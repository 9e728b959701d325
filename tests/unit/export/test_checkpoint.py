import json
from dataclasses import replace

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.families import FAMILIES
from trireme.errors import UnsupportedError
from trireme.export import checkpoint
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


def test_a_reranker_has_one_label_or_two_of_which_the_second_is_the_relevant_one(folder):
    for labels in (["score"], ["no", "yes"]):
        write(folder, "config.json", {**BERT, "id2label": dict(enumerate(labels))})
        assert read_checkpoint(folder, "cross_encoder").labels == ()
    write(folder, "config.json", {**BERT, "id2label": {"0": "yes", "1": "no"}})
    with pytest.raises(UnsupportedError, match="the second must be the relevant one"):
        read_checkpoint(folder, "cross_encoder")
    write(folder, "config.json", {**BERT, "id2label": {"0": "a", "1": "b", "2": "c"}})
    with pytest.raises(UnsupportedError, match="3 labels; a cross_encoder has one or two"):
        read_checkpoint(folder, "cross_encoder")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("position_embedding_type", "relative_key_query"),
        ("position_embedding_type", "alibi"),
        ("is_decoder", True),
        ("is_encoder_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
    ],
)
def test_a_key_that_makes_another_model_is_refused_by_name(key, value, folder):
    write(folder, "config.json", {**BERT, key: value})
    with pytest.raises(UnsupportedError, match=rf"config\.json: {key} = "):
        read_checkpoint(folder)


def test_the_usual_values_of_these_keys_are_read(folder):
    usual = {"position_embedding_type": "absolute", "is_decoder": False, "pruned_heads": {}}
    write(folder, "config.json", {**BERT, **usual, "quantization_config": None})
    assert read_checkpoint(folder).kind == "text_encoder"


def test_texts_that_are_cut_on_the_left_are_refused_by_the_key(folder):
    write(folder, "tokenizer_config.json", {"truncation_side": "left"})
    with pytest.raises(UnsupportedError, match=r'tokenizer_config\.json: truncation_side = "left"'):
        read_checkpoint(folder)


@pytest.mark.parametrize("key", ["model_max_length", "max_len"])
def test_a_tokenizers_length_has_two_names(key, folder):
    write(folder, "tokenizer_config.json", {key: 20})
    assert read_checkpoint(folder).max_length == 20


@pytest.mark.parametrize(("padding", "length"), [(None, 64), (0, 65), (1, 64)])
def test_the_position_offset_is_that_of_the_padding_token(padding, length, folder):
    write(folder, "config.json", {**BERT, "model_type": "roberta", "pad_token_id": padding})
    assert read_checkpoint(folder).max_length == length


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, "cross_encoder"),
        ({"problem_type": "regression"}, "classifier"),
        ({"problem_type": "multi_label_classification"}, "classifier"),
        ({"problem_type": "regression", "sentence_transformers": {"version": "4.1"}}, "cross_encoder"),
        ({"problem_type": "regression", "sbert_ce_default_activation_function": "x"}, "cross_encoder"),
    ],
)
def test_one_label_is_a_reranker_unless_it_says_that_it_grades_texts(config, kind, folder):
    head = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    write(folder, "config.json", {**BERT, **head, **config})
    assert read_checkpoint(folder).kind == kind


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": {str(n): str(n) for n in range(11)}}, tuple(map(str, range(11)))),
    ],
)
def test_labels_are_in_the_order_of_the_logits(config, labels, folder):
    write(folder, "config.json", {**BERT, "architectures": ["BertForSequenceClassification"], **config})
    assert read_checkpoint(folder).labels == labels


@pytest.mark.parametrize("names", [{"1": "a", "2": "b"}, {"first": "a"}, ["a", "b"]])
def test_labels_that_are_not_numbered_are_refused(names, folder):
    write(folder, "config.json", {**BERT, "id2label": names})
    with pytest.raises(UnsupportedError, match="id2label"):
        read_checkpoint(folder, "classifier")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}},
            "sentence_transformers.activation_fn",
        ),
        ({"sbert_ce_default_activation_function": "mine.Sigmoid"}, "sbert_ce_default_activation_function"),
        ({"problem_type": "ranking"}, "problem_type"),
    ],
)
def test_another_activation_is_refused_by_its_key(config, key, folder):
    write(folder, "config.json", {**BERT, **config})
    with pytest.raises(UnsupportedError, match=f"{key} = "):
        read_checkpoint(folder, "classifier")


def test_a_cross_encoder_of_sentence_transformers_is_none_of_another_kind(folder):
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    write(folder, "modules.json", [module])
    write(folder, "config_sentence_transformers.json", {"model_type": "CrossEncoder"})
    write(folder, "config.json", {**BERT, "id2label": {"0": "score"}})
    assert read_checkpoint(folder).kind == "cross_encoder"
    with pytest.raises(
        UnsupportedError, match='model_type = "CrossEncoder": it cannot be exported as a text_'
    ):
        read_checkpoint(folder, "text_encoder")
    write(folder, "config.json", {**BERT, "id2label": {"0": "no", "1": "yes", "2": "maybe"}})
    with pytest.raises(UnsupportedError, match="3 labels; a cross_encoder has one"):
        read_checkpoint(folder)


@pytest.mark.parametrize("kind", ["cross_encoder", "classifier"])
def test_an_embedding_model_is_none_of_another_kind(kind, folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode": "mean"})
    with pytest.raises(UnsupportedError, match=f"cannot be exported as a {kind}"):
        read_checkpoint(folder, kind)


def test_a_prompt_that_is_not_pooled_is_refused_where_there_is_one(folder, add_sentence_files):
    add_sentence_files(folder, {"pooling_mode": "mean", "include_prompt": False})
    found = read_checkpoint(folder)
    with pytest.raises(UnsupportedError, match="include_prompt"):
        apply_recipe(found, Recipe("m", "text_encoder", source="x", query_prompt="query: "))
    add_sentence_files(folder, {"pooling_mode": "mean", "include_prompt": False}, document="passage: ")
    with pytest.raises(UnsupportedError, match="include_prompt"):
        read_checkpoint(folder)


def test_the_file_of_weights_is_one_of_its_own_name(folder):
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    assert read_checkpoint(folder).variant == "fp16"
    (folder / "model.bf16.safetensors").touch()
    with pytest.raises(UnsupportedError, match="bf16 and fp16"):
        read_checkpoint(folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "weights.safetensors").touch()
    with pytest.raises(UnsupportedError, match=r"holds weights\.safetensors and no model\.safetensors"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", ["[1]", "{", "nothing"])
def test_a_file_that_is_no_json_object_is_named(content, folder):
    (folder / "config.json").write_text(content)
    with pytest.raises(UnsupportedError, match=r"config\.json"):
        read_checkpoint(folder)


@pytest.mark.parametrize("length", [0, "64", -1])
def test_a_tokenizers_length_that_is_none_is_refused(length, folder):
    write(folder, "tokenizer_config.json", {"model_max_length": length})
    with pytest.raises(UnsupportedError, match="model_max_length"):
        read_checkpoint(folder)


def test_sizes_that_config_json_leaves_out_are_those_of_transformers(folder):
    write(folder, "config.json", {"model_type": "bert"})
    found = read_checkpoint(folder)
    assert (found.hidden_size, found.max_length, found.has_segments) == (768, 512, True)
    write(folder, "config.json", {"model_type": "distilbert"})
    found = read_checkpoint(folder)
    assert (found.hidden_size, found.max_length, found.has_segments) == (768, 512, False)


def test_an_encoder_that_wants_messages_is_refused(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UnsupportedError, match="chat_template"):
        read_checkpoint(folder)


def test_one_label_to_choose_from_is_refused(folder):
    write(folder, "config.json", {**BERT, "num_labels": 1, "problem_type": "single_label_classification"})
    with pytest.raises(UnsupportedError, match="problem_type"):
        read_checkpoint(folder, "classifier")


def test_a_family_says_how_it_is_pooled_and_whether_it_is_a_decoder(folder, monkeypatch, add_sentence_files):
    causal = replace(FAMILIES["bert"], model_type="causal", pooling="lasttoken", is_causal=True)
    monkeypatch.setattr(checkpoint, "FAMILIES", {**FAMILIES, "causal": causal})
    write(folder, "config.json", {**BERT, "model_type": "causal", "is_decoder": True})
    assert read_checkpoint(folder).pooling == "lasttoken"
    write(folder, "config.json", {**BERT, "model_type": "causal", "is_encoder_decoder": True})
    with pytest.raises(UnsupportedError, match="is_encoder_decoder = true"):
        read_checkpoint(folder)
    write(folder, "config.json", {**BERT, "model_type": "causal"})
    add_sentence_files(folder, {"pooling_mode": "mean"})
    assert read_checkpoint(folder).pooling == "mean", "what the checkpoint says goes before"
