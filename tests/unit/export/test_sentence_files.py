"""Every key that sentence-transformers writes is read or refused by name; test_oracle.py compares the numbers."""

import json

import pytest

from trireme.errors import UnsupportedError
from trireme.export.sentence_files import read_sentence_files

PLACE = "sentence_transformers.models."
NEW_PLACE = {
    "Transformer": "sentence_transformers.base.modules.transformer.",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.",
    "Normalize": "sentence_transformers.base.modules.normalize.",
}


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def make(tmp_path):
    """make(modules, config, settings, pooling): a folder of sentence-transformers' files alone."""

    def run(modules=("Transformer", "Pooling"), config=None, settings=None, pooling=None, **others):
        listed = [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name.rpartition('.')[2]}",
                "type": name if "." in name else NEW_PLACE.get(name, PLACE) + name,
            }
            for i, name in enumerate(modules)
        ]
        write(tmp_path / "modules.json", listed)
        write(tmp_path / "config_sentence_transformers.json", config or {})
        write(tmp_path / "sentence_bert_config.json", settings or {})
        write(tmp_path / "1_Pooling" / "config.json", pooling or {"embedding_dimension": 8})
        for place, document in others.items():
            write(tmp_path / place / "config.json", document)
            (tmp_path / place / "model.safetensors").touch()
        return tmp_path

    return run


def test_a_folder_of_transformers_alone_says_nothing(tmp_path):
    found = read_sentence_files(tmp_path)
    assert (found.kind, found.pooling, found.max_length) == ("", "", None)


@pytest.mark.parametrize(("model_type", "kind"), [(None, "text_encoder"), ("CrossEncoder", "cross_encoder")])
def test_the_model_type_says_the_kind(model_type, kind, make):
    config = {"model_type": model_type} if model_type else {}
    modules = ("Transformer",) if model_type else ("Transformer", "Pooling")
    assert read_sentence_files(make(modules, config)).kind == kind


@pytest.mark.parametrize("model_type", ["Another", None, 3])
def test_another_model_type_is_refused_by_name(model_type, make):
    with pytest.raises(UnsupportedError, match=r"config_sentence_transformers\.json: model_type = "):
        read_sentence_files(make(config={"model_type": model_type}))


@pytest.mark.parametrize("name", ["MaxSim", "maxsim", "meanmaxsim"])
def test_a_model_that_is_compared_token_by_token_is_refused(name, make):
    with pytest.raises(UnsupportedError, match="similarity_fn_name"):
        read_sentence_files(make(config={"similarity_fn_name": name}))


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan", None])
def test_a_similarity_of_whole_vectors_is_read_and_changes_nothing_else(name, make):
    found = read_sentence_files(make(config={"similarity_fn_name": name}))
    assert (found.pooling, found.similarity) == ("mean", name or "")


@pytest.mark.parametrize("name", ["hamming", 3])
def test_a_similarity_that_nobody_knows_is_refused_by_name(name, make):
    with pytest.raises(UnsupportedError, match=r"similarity_fn_name = .*: this is one of cosine, dot"):
        read_sentence_files(make(config={"similarity_fn_name": name}))


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        (("Transformer", "modeling_mine.Pooling"), "outside of sentence_transformers"),
        (("Transformer",), "has no Pooling"),
        (("Transformer", "Normalize"), "has no Pooling"),
        (("Router",), "'Router'"),
        (("Asym", "Pooling"), "'Asym'"),
        (("BoW",), "'BoW'"),
        (("WordEmbeddings", "Pooling"), "'WordEmbeddings'"),
        (("CLIPModel",), "'CLIPModel'"),
        (("Transformer", "CNN", "Pooling"), "'CNN'"),
        (("Transformer", "Pooling", "LayerNorm"), "'LayerNorm'"),
        (("Transformer", "WeightedLayerPooling", "Pooling"), "'WeightedLayerPooling'"),
        (("Transformer", "Pooling", "SparseAutoEncoder"), "'SparseAutoEncoder'"),
        (("Pooling", "Transformer"), "'Pooling'"),
        (("Transformer", "Dense", "Pooling"), "Pooling must come once"),
        (("Transformer", "Pooling", "Pooling"), "Pooling must come once"),
        (("Transformer", "Pooling", "Transformer"), "Pooling must come once"),
        (("Transformer", "Pooling", "Normalize", "Normalize"), "Normalize must be the last"),
    ],
)
def test_modules_that_are_not_served_are_named(modules, reason, make):
    with pytest.raises(UnsupportedError, match=reason):
        read_sentence_files(make(modules, **{"1_Dense": {"in_features": 8, "out_features": 8}}))


@pytest.mark.parametrize("modules", [{}, [], ["Transformer"], [{"type": 3, "path": ""}], [{"path": ""}]])
def test_a_list_of_modules_that_is_none_is_refused(modules, make):
    folder = make()
    write(folder / "modules.json", modules)
    with pytest.raises(UnsupportedError, match=r"modules\.json"):
        read_sentence_files(folder)


def test_a_model_without_its_list_of_modules_is_incomplete(make):
    folder = make(config={"prompts": {"query": "q "}})
    (folder / "modules.json").unlink()
    with pytest.raises(UnsupportedError, match=r"without modules\.json"):
        read_sentence_files(folder)


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["max"]}, "max"),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, "cls"),
        ({"pooling_mode_mean_tokens": False}, "mean"),
        ({}, "mean"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "lasttoken"),
    ],
)
def test_a_pooling_is_read(pooling, mode, make):
    assert read_sentence_files(make(pooling={"embedding_dimension": 8, **pooling})).pooling == mode


@pytest.mark.parametrize("pooling", [{"pooling_mode": ["cls", "max"]}, {"pooling_mode": "attention"}])
def test_another_pooling_is_refused(pooling, make):
    with pytest.raises(UnsupportedError, match=r"1_Pooling.config\.json: pooling"):
        read_sentence_files(make(pooling=pooling))


@pytest.mark.parametrize(
    ("dense", "reason"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softmax"}, "activation_function"),
        ({"activation_function": "mine.Tanh"}, "activation_function"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"module_output_name": "scores"}, "module_output_name"),
        ({"in_features": 0}, "in_features"),
        ({"out_features": None}, "lacks"),
    ],
)
def test_another_dense_layer_is_refused_by_its_key(dense, reason, make):
    config = {"in_features": 8, "out_features": 8, **dense}
    with pytest.raises(UnsupportedError, match=reason):
        read_sentence_files(make(("Transformer", "Pooling", "Dense"), **{"2_Dense": config}))


def test_a_normalization_of_tokens_is_refused(make):
    modules = ("Transformer", "Pooling", "Normalize")
    with pytest.raises(UnsupportedError, match="module_input_name"):
        read_sentence_files(make(modules, **{"2_Normalize": {"module_input_name": "token_embeddings"}}))


TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


def test_settings_as_they_are_written_are_read(make):
    settings = {
        "max_seq_length": 20,
        "do_lower_case": True,
        "transformer_task": "feature-extraction",
        "modality_config": TEXT,
        "module_output_name": "token_embeddings",
        "unpad_inputs": False,
        "query_length": 20,
        "query_expansion": None,
        "model_args": {"torch_dtype": "float16"},
        "processor_kwargs": {"model_max_length": 20},
    }
    found = read_sentence_files(make(settings=settings))
    assert (found.max_length, found.lowercase) == (20, True)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"max_seq_length": "20"}, "max_seq_length"),
        ({"max_seq_length": 0}, "max_seq_length"),
        ({"max_seq_length": 20, "query_length": 10}, "query_length"),
        ({"document_length": 10}, "document_length"),
        ({"query_expansion": {"strategy": "fixed", "length": 32}}, "query_expansion"),
        ({"processing_kwargs": {"text": {"max_length": 8}}}, "processing_kwargs"),
        ({"transformer_task": "fill-mask"}, "transformer_task"),
        ({"module_output_name": "sentence_embedding"}, "module_output_name"),
        ({"modality_config": {**TEXT, "message": TEXT["text"]}}, "modality_config"),
        ({"modality_config": {"text": {"method": "pool", "method_output_name": "x"}}}, "modality_config"),
        ({"model_args": {"num_hidden_layers": 1}}, r"model_args\.num_hidden_layers"),
        ({"config_kwargs": {"hidden_act": "relu"}}, r"config_kwargs\.hidden_act"),
        ({"tokenizer_args": {"truncation_side": "left"}}, r"tokenizer_args\.truncation_side"),
        ({"tokenizer_name_or_path": "another"}, "tokenizer_name_or_path"),
        ({"something_new": 1}, "something_new"),
    ],
)
def test_settings_that_change_the_numbers_are_refused_by_name(settings, key, make):
    with pytest.raises(UnsupportedError, match=rf"sentence_bert_config\.json: {key} = "):
        read_sentence_files(make(settings=settings))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"prompts": None}, "prompts"),
        ({"prompts": {"query": 3}}, r"prompts\.query"),
        ({"prompts": {"a": "b"}, "default_prompt_name": "c"}, "default_prompt_name"),
        ({"truncate_dim": -1}, "truncate_dim"),
    ],
)
def test_a_wrong_key_of_the_whole_model_is_named(config, key, make):
    with pytest.raises(UnsupportedError, match=rf"config_sentence_transformers\.json: {key} = "):
        read_sentence_files(make(config=config))


def test_a_cross_encoder_with_a_prompt_or_another_head_is_refused(make):
    config = {"model_type": "CrossEncoder", "prompts": {"q": "ask "}, "default_prompt_name": "q"}
    assert read_sentence_files(make(("Transformer",), config)).query_prompt == "ask "
    with pytest.raises(UnsupportedError, match="prompts"):
        read_sentence_files(make(("Transformer",), {**config, "prompts": ["ask "]}))
    nothing = {**config, "default_prompt_name": None}
    assert read_sentence_files(make(("Transformer",), nothing)).query_prompt == ""
    with pytest.raises(UnsupportedError, match="'Pooling' behind Transformer"):
        read_sentence_files(make(("Transformer", "Pooling"), {"model_type": "CrossEncoder"}))


@pytest.mark.parametrize(
    ("score", "answers"),
    [
        ({"true_token_id": 9, "false_token_id": 4}, (4, 9)),
        ({"true_token_id": 9, "false_token_id": None}, (9,)),
    ],
)
def test_a_logit_score_names_the_tokens_of_its_answers(score, answers, make):
    settings = {
        "transformer_task": "text-generation",
        "module_output_name": "causal_logits",
        "modality_config": {
            "text": {"method": "forward", "method_output_name": "logits"},
            "message": {"method": "forward", "method_output_name": "logits", "format": "flat"},
        },
    }
    folder = make(
        ("Transformer", "LogitScore"), {"model_type": "CrossEncoder"}, settings, **{"1_LogitScore": score}
    )
    assert read_sentence_files(folder).answers == answers


@pytest.mark.parametrize(
    "score",
    [{}, {"true_token_id": 4, "false_token_id": 4}, {"true_token_id": 4, "module_input_name": "scores"}],
)
def test_a_logit_score_without_two_answers_is_refused(score, make):
    folder = make(("Transformer", "LogitScore"), {"model_type": "CrossEncoder"}, **{"1_LogitScore": score})
    with pytest.raises(UnsupportedError, match=r"true_token_id|module_input_name"):
        read_sentence_files(folder)


def test_a_static_embedding_is_the_mean_of_all_tokens(make):
    found = read_sentence_files(make(("StaticEmbedding", "Normalize")))
    assert (found.is_static, found.pooling, found.normalize) == (True, "mean", True)
    with pytest.raises(UnsupportedError, match="'Pooling'; supported behind StaticEmbedding"):
        read_sentence_files(make(("StaticEmbedding", "Pooling")))
