"""Every checkpoint of refused.py ends a build with its sentence, before torch is loaded.

WRITE_DOCS=1 in the environment writes the table of docs/models.md anew.
"""

import json
import os

import pytest

from models.pages import PAGE, put_table
from models.refused import REFUSED
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import read_checkpoint


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("case", REFUSED, ids=[case.hub.rpartition("/")[2] for case in REFUSED])
def test_a_checkpoint_is_refused_by_a_sentence_that_says_what_to_do(case, tmp_path):
    write(tmp_path / "config.json", case.config)
    (tmp_path / case.weights).touch()
    if case.modules:
        places = [
            "" if number == 0 else f"{number}_{kind.rpartition('.')[2]}"
            for number, kind in enumerate(case.modules)
        ]
        listed = [
            {"idx": number, "name": str(number), "path": place, "type": kind}
            for number, (kind, place) in enumerate(zip(case.modules, places, strict=True))
        ]
        write(tmp_path / "modules.json", listed)
        write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    for name, document in case.files.items():
        write(tmp_path / name, document)
    with pytest.raises(UnsupportedError) as caught:
        read_checkpoint(tmp_path, case.kind)
    assert case.says in str(caught.value)


@pytest.mark.parametrize("stated", [True, False])
def test_own_code_is_left_out_only_where_the_native_class_reads_every_size(stated, tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = {"model_type": "eurobert", "auto_map": {"AutoModel": "modeling_eurobert.EuroBertModel"}, **sizes}
    if stated:
        config["max_position_embeddings"] = 66
    write(tmp_path / "config.json", config)
    (tmp_path / "model.safetensors").touch()
    if stated:
        assert read_checkpoint(tmp_path).max_length == 66
    else:
        with pytest.raises(UnsupportedError, match="transformers has this model as EuroBertModel"):
            read_checkpoint(tmp_path)


def test_the_page_says_what_is_refused_and_why():
    lines = ["| checkpoint | ends a build with |", "| --- | --- |"]
    for case in REFUSED:
        name = f"`{case.hub}`" if "/" in case.hub and " " not in case.hub else case.hub
        says = case.says.replace("|", "\\|")
        lines.append(f"| {name} | {says}{'...' if says.endswith(' ') else ''} |")
    text = PAGE.read_text(encoding="utf-8")
    wanted = put_table(text, "refused", lines)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
        return
    assert text == wanted, "run it with WRITE_DOCS=1"
