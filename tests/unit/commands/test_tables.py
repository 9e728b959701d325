import io
import json

import pytest
from rich.console import Console

from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.commands.tables import collections_table, models_table, print_hits
from trireme.triton.served_models import ServedModel
from trireme.types import CollectionInfo, Embedder, Hit


@pytest.fixture
def console():
    return Console(width=60, record=True, file=io.StringIO())


def test_hits_are_numbered_with_score_and_source(console):
    hits = [
        Hit("a#0", "Three banks of oars.", json.dumps({"source": "ships.md"}), 0.8125),
        Hit("b", "No source here.", "{}", -0.25),
    ]
    print_hits(console, hits, 60)
    lines = console.export_text().splitlines()
    assert lines[0] == " 1. 0.812  ships.md"
    assert lines[1] == "    Three banks of oars."
    assert lines[2] == " 2. -0.250  b"


def test_a_source_of_any_kind_is_printed(console):
    metadata = ('{"source": 7}', '{"source": null}', '"not an object"', '{"source": {"file": "a.pdf"}}')
    print_hits(console, [Hit(f"id-{n}", "text", one, 0.5) for n, one in enumerate(metadata)], 60)
    printed = console.file.getvalue()
    assert all(f"0.500  {source}\n" in printed for source in ("7", "id-1", "id-2", "{'file': 'a.pdf'}"))


def test_text_with_markup_is_printed_as_it_is(console):
    print_hits(console, [Hit("a", "[bold]x[/bold] [link", "{}", 0.5)], 60)
    assert "[bold]x[/bold] [link" in console.export_text()


def test_no_hits_say_so(console):
    print_hits(console, [], 60)
    assert "No passages" in console.export_text()


def test_a_model_that_is_not_built_is_shown_as_such(console, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "recipe.toml").write_text('kind = "text_encoder"\nsource = "somewhere"\nprecision = "fp16"\n')
    console.print(models_table(tmp_path))
    row = next(line for line in console.export_text().splitlines() if line.startswith("mine"))
    assert "not built" in row
    assert "fp16" in row


@pytest.mark.parametrize("is_served", [True, False])
def test_adapters_stand_below_their_model_under_the_name_that_a_client_sends(console, tmp_path, is_served):
    version = tmp_path / "llm" / "1"
    version.mkdir(parents=True)
    (tmp_path / "llm" / "recipe.toml").write_text('kind = "generator"\nsource = "x"\nadapters = ["law=a"]\n')
    files = dict.fromkeys(("model.safetensors", "config.json", "tokenizer.json"), "")
    sizes = dict.fromkeys(files, 1)
    write_manifest(
        version, Manifest("llm", "generator", "x", "", "bf16", 9, 9, files, sizes, adapters={"law": 8})
    )
    served = [ServedModel("llm", "generator", True, adapters=("law",))] if is_served else None
    console.print(models_table(tmp_path, served))
    rows = [line.split() for line in console.export_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["llm", "llm:law"]
    assert rows[1][1:] == ["adapter", "rank", "8", *(["yes"] if is_served else [])]


def test_what_is_served_is_shown_wherever_the_command_runs(console, tmp_path):
    served = [ServedModel("embedding", "text_encoder", True), ServedModel("mine", "text_encoder", False)]
    console.print(models_table(tmp_path / "nowhere", served))
    rows = [line.split() for line in console.export_text().splitlines()[1:]]
    assert rows == [["embedding", "text_encoder", "yes"], ["mine", "text_encoder", "no"]]


def test_a_served_model_is_never_called_not_built(console, tmp_path):
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        recipe = 'kind = "text_encoder"\nsource = "somewhere"\nprecision = "fp16"\n'
        (tmp_path / name / "recipe.toml").write_text(recipe)
    console.print(models_table(tmp_path, [ServedModel("mine", "text_encoder", True)]))
    assert [line.split() for line in console.export_text().splitlines()[1:]] == [
        ["mine", "text_encoder", "yes"]
    ]


def test_collections_show_counts_and_embedder(console):
    console.print(collections_table([CollectionInfo("t", "c", Embedder("ab" * 32, 384), 12)]))
    row = console.export_text().splitlines()[1]
    assert row.split() == ["t", "c", "12", "abababababab"]


def test_a_generator_shows_all_its_figures_and_no_precision_before_it_is_built(tmp_path):
    wide = Console(width=200, record=True, file=io.StringIO())
    folder = tmp_path / "mine"
    (folder / "1").mkdir(parents=True)
    (folder / "recipe.toml").write_text('kind = "generator"\nsource = "somewhere"\n')
    wide.print(models_table(tmp_path))
    row = next(line for line in wide.export_text().splitlines() if line.startswith("mine"))
    assert row.split() == ["mine", "generator", "not", "built"]
    names = ("openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json")
    figures = {"logit_error": 0.0125, "top1_agreement": 0.99, "quantized_kl": 0.002}
    manifest = Manifest(
        *("mine", "generator", "somewhere", "", "awq-int4 g128", 96, 64),
        files=dict.fromkeys(names, "0" * 64),
        sizes=dict.fromkeys(names, 1_000_000),
        figures=figures,
    )
    write_manifest(folder / "1", manifest)
    wide.print(models_table(tmp_path))
    row = next(line for line in wide.export_text().splitlines() if line.startswith("mine"))
    assert "awq-int4 g128" in row and "4.0 MB" in row
    assert "logit error 0.0125, top1 agreement 0.9900, quantized kl 0.0020" in row
