from argparse import ArgumentParser

import pytest

from trireme.artifacts.recipe import argument_fields, build_keys
from trireme.artifacts.recipe_arguments import add_recipe_arguments, given_values

BUILDERS = ["export_encoder", "export_llm"]


def given(builder, *words):
    parser = ArgumentParser()
    add_recipe_arguments(parser, builder)
    return given_values(parser.parse_args(words), builder)


def test_what_is_not_given_is_not_there():
    assert given("export_encoder") == {}


def test_values_have_the_type_of_their_key():
    words = [
        "some/model",
        "--max-length",
        "64",
        "--no-normalize",
        "--min-cosine",
        "0.9",
        "--kind",
        "classifier",
        "--outputs",
        "sparse",
        "multi",
    ]
    assert given("export_encoder", *words) == {
        "source": "some/model",
        "max_length": 64,
        "normalize": False,
        "min_cosine": 0.9,
        "kind": "classifier",
        "outputs": ("sparse", "multi"),
    }


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        ("export_encoder", ["--kind", "generator"]),
        ("export_encoder", ["--precision", "int4"]),
        ("export_encoder", ["--max-model-len", "64"]),
        ("export_llm", ["--engine", "vllm"]),
        ("export_llm", ["--kind", "generator"]),
    ],
)
def test_a_script_takes_only_keys_and_values_of_what_it_builds(builder, words, capsys):
    with pytest.raises(SystemExit):
        given(builder, *words)
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("builder", BUILDERS)
def test_whatever_changes_the_files_is_an_argument_and_says_what_it_is(builder):
    arguments = argument_fields(builder)
    assert set(build_keys(builder)) <= {spec.name for spec in arguments}
    assert all(spec.metadata["help"] for spec in arguments)
