"""What SPLADE, ColBERT and bge-m3 say of tokens; tests/models compares the numbers with their libraries."""

import json
import string

import numpy as np
import pytest
from safetensors.numpy import save_file

from trireme.errors import UnsupportedError
from trireme.export.sentence_files import read_sentence_files
from trireme.export.token_files import check_layers, find_missing, read_token_files

ST = "sentence_transformers.models."
ON_TOKENS = {"module_input_name": "token_embeddings"}
DENSE = {"in_features": 8, "out_features": 4, "bias": False, "activation_function": "torch.nn.Identity"}
NATIVE = ("Transformer", "Dense", "MultiVectorMask", "Normalize")


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def read(tmp_path):
    """read(modules, config, settings, **files of modules): what a folder of such files says."""

    def run(modules=(), config=None, settings=None, architectures=(), **others):
        listed = [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name.rpartition('.')[2]}",
                "type": name if "." in name else ST + name,
            }
            for i, name in enumerate(modules)
        ]
        if modules:
            write(tmp_path / "modules.json", listed)
        if config is not None:
            write(tmp_path / "config_sentence_transformers.json", config)
        write(tmp_path / "sentence_bert_config.json", settings or {})
        for place, document in others.items():
            write(tmp_path / place.strip("_") / "config.json", document)
            (tmp_path / place.strip("_") / "model.safetensors").touch()
        files = read_sentence_files(tmp_path)
        return read_token_files(tmp_path, files, {"architectures": list(architectures)})

    return run


def multi(read, modules=NATIVE, *, settings=None, mask=None, normalize=ON_TOKENS):
    return read(
        modules,
        {"model_type": "MultiVectorEncoder"},
        settings,
        _1_Dense=DENSE,
        _2_MultiVectorMask=mask or {},
        _3_Normalize=normalize,
    )


def test_lengths_expansion_and_silent_words_of_a_multi_vector_encoder_are_read(read):
    expansion = {"strategy": "min", "length": 16, "attend": True, "token": "[X]"}
    settings = {"document_length": 300, "query_length": 48, "query_expansion": expansion}
    mask = {"skiplist_words": ["!"], "skiplist_tasks": ["query", "document"]}
    found = multi(read, settings=settings, mask=mask)
    assert (found.query_length, found.passage_length, found.expansion_length) == (48, 300, 16)
    assert (found.expansion_token, found.expansion_attends) == ("[X]", True)
    assert found.query_skips == found.passage_skips == ("!",)
    assert (found.outputs, found.layers[0].out_features) == (("multi",), 4)


def test_a_fixed_expansion_is_the_length_of_queries(read):
    settings = {"query_expansion": {"strategy": "fixed", "length": 16}}
    assert multi(read, settings=settings).query_length == 16


def test_pylates_keys_say_what_its_modules_leave_out(read):
    config = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 24, "document_length": 200}
    found = read(("Transformer", "pylate.models.Dense.Dense"), config, _1_Dense=DENSE)
    assert (found.query_prompt, found.passage_prompt, found.markers) == ("[Q] ", "[D] ", ("[Q] ", "[D] "))
    assert (found.query_length, found.expansion_length, found.passage_length) == (24, 24, 200)
    assert found.passage_skips == tuple(string.punctuation)
    assert not found.expansion_attends


def test_pylate_without_expansion_cuts_queries_alone(read):
    config = {"model_type": "ColBERT", "do_query_expansion": False, "query_length": 24, "skiplist_words": []}
    found = read(("Transformer", "pylate.models.Dense.Dense"), config, _1_Dense=DENSE)
    assert (found.query_length, found.expansion_length, found.passage_skips) == (24, 0, ())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"modules": ("Transformer", "MultiVectorMask", "Dense", "Normalize")}, "in this order"),
        ({"modules": ("Transformer", "Dense", "MultiVectorMask")}, "in this order"),
        ({"mask": {"keep_only_token_ids": [3]}}, "keep_only_token_ids"),
        ({"normalize": {}}, "module_input_name"),
        ({"settings": {"document_length": 0}}, "document_length"),
        ({"settings": {"query_expansion": "fixed"}}, "query_expansion"),
        ({"settings": {"query_expansion": {"strategy": "fixed", "length": "9"}}}, "query_expansion.length"),
    ],
)
def test_a_multi_vector_encoder_of_another_make_is_refused_by_its_key(more, reason, read):
    with pytest.raises(UnsupportedError, match=reason):
        multi(read, **more)


def test_a_splade_says_how_it_pools(read):
    pooling = {"pooling_strategy": "sum", "activation_function": "log1p_relu"}
    found = read(
        ("MLMTransformer", "SpladePooling"), {"model_type": "SparseEncoder"}, _1_SpladePooling=pooling
    )
    assert (found.outputs, found.pooling, found.saturates_twice) == (("sparse",), "sum", True)


@pytest.mark.parametrize(
    ("modules", "pooling", "reason"),
    [
        (("Transformer", "SpladePooling"), {"pooling_strategy": "mean"}, "pooling_strategy"),
        (("Transformer", "SpladePooling"), {"activation_function": "gelu"}, "activation_function"),
        (("Transformer", "SpladePooling", "Normalize"), {}, "Transformer with SpladePooling"),
    ],
)
def test_another_splade_is_refused_by_its_key(modules, pooling, reason, read):
    with pytest.raises(UnsupportedError, match=reason):
        read(modules, {"model_type": "SparseEncoder"}, _1_SpladePooling=pooling)


def test_a_masked_language_model_can_be_a_splade_and_anything_else_a_vector_alone(read):
    assert read(architectures=["BertForMaskedLM"]).outputs == ("dense", "sparse")
    assert read(architectures=["BertModel"]).outputs == ("dense",)


def test_layers_beside_a_bge_m3_are_its_other_outputs(read, tmp_path):
    save_file({"weight": np.zeros((1, 8), np.float32)}, tmp_path / "sparse_linear.safetensors")
    assert read(architectures=["XLMRobertaModel"]).outputs == ("dense", "sparse")
    weights = {"weight": np.zeros((6, 8), np.float32), "bias": np.zeros(6, np.float32)}
    save_file(weights, tmp_path / "colbert_linear.safetensors")
    found = read(architectures=["XLMRobertaModel"])
    assert (found.outputs, found.skips_first) == (("dense", "sparse", "multi"), True)
    assert (found.layers[0].out_features, found.layers[0].has_bias) == (6, True)


def test_a_layer_that_is_not_linear_or_does_not_fit_the_model_is_named(read, tmp_path):
    path = tmp_path / "sparse_linear.safetensors"
    save_file({"weight": np.zeros(8, np.float32)}, path)
    with pytest.raises(UnsupportedError, match=r"sparse_linear\.safetensors: weight is of shape \[8\]"):
        read(architectures=["XLMRobertaModel"])
    save_file({"weight": np.zeros((2, 8), np.float32)}, path)
    with pytest.raises(UnsupportedError, match=r"makes 2 numbers of a token; a weight is one"):
        check_layers(read(architectures=["XLMRobertaModel"]), 8)
    save_file({"weight": np.zeros((1, 8), np.float32)}, path)
    save_file({"weight": np.zeros((4, 8), np.float32)}, tmp_path / "colbert_linear.safetensors")
    found = read(architectures=["XLMRobertaModel"])
    check_layers(found, 8)
    with pytest.raises(UnsupportedError, match=r"takes 8 numbers of a token, and the model makes 16"):
        check_layers(found, 16)


def test_a_layer_as_a_pickle_is_refused_with_the_line_that_converts_it(read, tmp_path):
    (tmp_path / "sparse_linear.pt").touch()
    found = read(architectures=["XLMRobertaModel"])
    why = find_missing(tmp_path, found, ("dense", "sparse"))
    assert "sparse_linear.pt, a pickle" in why and "weights_only=True" in why
    assert "no colbert_linear.safetensors" in find_missing(tmp_path, found, ("multi",))
    assert find_missing(tmp_path, found, ("dense",)) == ""


def test_a_model_without_a_vector_says_which_outputs_to_name(read, tmp_path):
    assert "set outputs to multi" in find_missing(tmp_path, multi(read), ("dense",))


def test_stanfords_form_has_its_settings_in_a_file_of_its_own(read, tmp_path):
    save_file({"linear.weight": np.zeros((4, 8), np.float32)}, tmp_path / "model.safetensors")
    write(tmp_path / "artifact.metadata", {"query_maxlen": 20, "doc_maxlen": 180, "mask_punctuation": False})
    found = read(architectures=["HF_ColBERT"])
    assert (found.query_length, found.passage_length, found.passage_skips) == (20, 180, ())
    assert (found.query_prompt, found.passage_prompt) == ("[unused0] ", "[unused1] ")


def test_stanfords_form_without_its_layer_is_refused(read):
    with pytest.raises(UnsupportedError, match=r"linear\.weight"):
        read(architectures=["HF_ColBERT"])
