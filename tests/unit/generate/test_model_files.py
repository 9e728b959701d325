import json

import pytest

from trireme.errors import ArtifactError
from trireme.generate.model_files import read_eos_token_ids

TOKENIZER = {
    "added_tokens": [{"id": 7, "content": "<|im_end|>"}, {"id": 5, "content": "<|end|>"}],
    "model": {"vocab": {"a": 1, "</s>": 2}},
}


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": [7, 2]}, "config": {"eos_token_id": 1}}, (1, 2, 7)),
        ({"generation_config": {}, "config": {"eos_token_id": 1}}, (1,)),
        ({"generation_config": {"eos_token_id": None}, "config": {"eos_token_id": [0]}}, (0,)),
        ({"config": {"text_config": {"eos_token_id": 3}}}, (3,)),
        ({"config": {"eos_token_id": 2}, "tokenizer_config": {"eos_token": "<|im_end|>"}}, (2, 7)),
        ({"tokenizer_config": {"eos_token": {"content": "<|end|>", "special": True}}}, (5,)),
        ({"tokenizer_config": {"eos_token": "</s>"}}, (2,)),
        ({"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "</s>"}}, (2,)),
        ({"config": {"eos_token_id": 2}, "tokenizer_config": {"eos_token": "<|unknown|>"}}, (2,)),
        ({"config": {"eos_token_id": [2, 9], "vocab_size": 9}}, (2,)),
        ({"config": {"text_config": {"eos_token_id": [2, 9], "vocab_size": 9}}}, (2,)),
    ],
)
def test_every_token_that_some_file_names_ends_an_answer(tmp_path, files, expected):
    assert read_eos_token_ids(write(tmp_path, tokenizer=TOKENIZER, **files)) == expected


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"eos_token_id": null}', '{"eos_token_id": "2"}'])
def test_without_them_the_load_stops(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArtifactError):
        read_eos_token_ids(tmp_path)


@pytest.mark.parametrize("given", ["2", -1, True, [2, "x"], 2.5, {"id": 2}])
def test_an_eos_token_id_that_is_no_id_is_named_with_its_file(tmp_path, given):
    with pytest.raises(ArtifactError, match=r"generation_config\.json: eos_token_id must be a token id"):
        read_eos_token_ids(write(tmp_path, generation_config={"eos_token_id": given}))
