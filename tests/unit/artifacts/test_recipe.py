import pytest

from trireme.artifacts.kinds import KINDS
from trireme.artifacts.recipe import Recipe, build_keys, parameter_keys, read_recipe
from trireme.errors import SettingError


def write(tmp_path, text):
    path = tmp_path / "mine" / "recipe.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_tables_only_group_keys_and_the_name_is_the_folders(tmp_path):
    path = write(tmp_path, 'kind = "text_encoder"\n[a]\nsource = "x/y"\n[b]\nthreads = 2\nmin_cosine = 1\n')
    recipe = read_recipe(path)
    assert (recipe.model, recipe.source, recipe.threads, recipe.min_cosine) == ("mine", "x/y", 2, 1.0)
    assert recipe.pooling is None


def test_an_unknown_key_is_named_with_its_file(tmp_path):
    path = write(tmp_path, 'kind = "text_encoder"\n[serving]\nmax_batchsize = 3\n')
    with pytest.raises(SettingError, match=r"mine/recipe\.toml: unknown key 'max_batchsize'"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('threads = "2"', "threads must be of type int"),
        ("threads = true", "threads must be of type int"),
        ("threads = -1", "threads must be at least 0"),
        ("normalize = 1", "normalize must be of type bool"),
        ("min_cosine = 1.5", "min_cosine must be at most 1"),
        ('precision = "int4"', "precision must be one of fp32, fp16, bf16, int8"),
        ('weights_sha256 = "12"', "weights_sha256 must be 64"),
        ('package = "some-package"', "package must pin a version"),
        ("ef_search = 50", "'text_encoder' has no key 'ef_search'"),
        ('steps = ["a", 1]', "steps must be a list of strings"),
        ('outputs = ["dense", "colour"]', "outputs must be of dense, sparse, multi, got 'colour'"),
    ],
)
def test_a_wrong_value_is_named(line, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        read_recipe(write(tmp_path, f'kind = "text_encoder"\nsource = "x/y"\n{line}\n'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "kind must be one of"),
        ('kind = "text_encoder"', "set source"),
        (
            'kind = "text_encoder"\nsource = "x"\nengine = "torch"\nprecision = "int8"',
            "for int8 use vnni",
        ),
        (
            'kind = "text_encoder"\nsource = "x"\nengine = "openvino"\ntarget = "gpu"',
            "engine openvino runs on CPUs",
        ),
        ('kind = "text_encoder"\nsource = "x"\nprecision = "bf16"', "bf16 needs engine torch, not onnx"),
        (
            'kind = "cross_encoder"\nsource = "x"\nadapter = "a"\nengine = "torch"',
            "runs no reranker with an adapter",
        ),
        ('kind = "retriever"', "set embedder"),
        (
            'kind = "retriever"\nembedder = "e"\ndefault_top_k = 9\nmax_top_k = 8',
            "default_top_k must not be above",
        ),
        ('kind = "search"\nsteps = ["a", "b"]', "steps must name 3 or 4"),
        ('kind = "sort"\nmax_batch_size = 2', "max_batch_size must be 1"),
        ('kind = "generator"\nsource = "x"\nmax_batch_size = 2', "max_batch_size must be 1"),
        ('kind = "generator"\nsource = "x"\nprecision = "fp16"', "precision must be one of int8, int4"),
        ('kind = "generator"\nsource = "x"\nprecision = "int8"\ntarget = "gpu"', "gpu has no precision"),
        ('kind = "generator"\nsource = "x"\nadapter = "a"\ntarget = "gpu"', "gpu has no adapter"),
        (
            'kind = "text_encoder"\nsource = "x"\ntarget = "gpu"\nengine = "vllm"\n'
            'precision = "bf16"\ninstances = 2',
            "2 instances that each take 0.9 of a card's memory do not fit one",
        ),
        (
            'kind = "generator"\nsource = "x"\ntensor_parallel_size = 2',
            "tensor_parallel_size is for target gpu",
        ),
        (
            'kind = "generator"\nsource = "x"\ntarget = "gpu"\ntensor_parallel_size = 2\ninstances = 2',
            "instances must be 1",
        ),
        ('kind = "retriever"\nembedder = "e"\nprecision = "int8"', "has no key 'precision'"),
        ('kind = "rag"\nsteps = ["a", "b", "c"]', "steps must name 4"),
        (
            'kind = "rag"\nsteps = ["a", "b", "c", "d"]\nrelevance_threshold = 1',
            "relevance_threshold must not be above",
        ),
        ('kind = "sort"\n[a]\ninstances = 1\n[b]\ninstances = 2', "'instances' is given twice"),
        ("kind = ", "not valid TOML"),
    ],
)
def test_a_recipe_that_cannot_be_served_is_refused(text, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        read_recipe(write(tmp_path, text))


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"recipe\.toml does not exist"):
        read_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", ""])
def test_a_model_name_is_one_plain_folder(name):
    with pytest.raises(SettingError, match="model name"):
        Recipe(name, "sort")


# Built models carry a digest of these: one key more or less, and all of them are built again.
DIGESTED = {
    "export_encoder": {
        *("kind", "source", "revision", "package", "weights_sha256", "precision", "target", "engine"),
        *("calibration", "max_length", "pooling", "normalize", "query_prompt", "passage_prompt"),
        *("min_cosine", "mean_cosine", "min_rank_correlation", "max_score_difference"),
        # In the digest only where a recipe has them.
        *("template", "outputs"),
    },
    "export_llm": {
        *("kind", "source", "revision", "package", "weights_sha256", "precision", "target"),
        *("max_model_len", "max_logit_error", "min_top1_agreement", "max_kl"),
    },
}


@pytest.mark.parametrize("builder", DIGESTED)
def test_the_keys_that_a_build_is_told_apart_by_stay_the_same(builder):
    assert set(build_keys(builder)) == DIGESTED[builder]


def test_a_parameter_is_for_the_kinds_that_are_told_it():
    told = {name: parameter_keys(kind) for name, kind in KINDS.items()}
    assert "engine" in told["generator"] and "engine" not in told["text_encoder"]
    assert "steps" in told["rag"]
    assert told["search"] == ()
    assert told["sort"] == ("default_top_k", "max_top_k")
