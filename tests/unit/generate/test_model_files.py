import pytest

from trireme.errors import ArtifactError
from trireme.generate.model_files import read_eos_token_ids


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"generation_config.json": '{"eos_token_id": [2, 7]}', "config.json": '{"eos_token_id": 1}'},
            (2, 7),
        ),
        ({"generation_config.json": "{}", "config.json": '{"eos_token_id": 1}'}, (1,)),
        ({"config.json": '{"eos_token_id": 0}'}, (0,)),
    ],
)
def test_the_tokens_that_end_an_answer_are_read(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_eos_token_ids(tmp_path) == expected


@pytest.mark.parametrize("text", ["{}", "[]", "{"])
def test_without_them_the_load_stops(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArtifactError):
        read_eos_token_ids(tmp_path)
