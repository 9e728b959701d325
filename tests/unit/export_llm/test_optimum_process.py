import json
import shutil
import stat
import sys

import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.manifest import read_manifest, verify_files
from trireme.artifacts.recipe import Recipe
from trireme.errors import GateError, InvalidInputError, UnavailableError, UnsupportedError
from trireme.export_llm.optimum_process import TOOLS, WORKER, Optimum
from trireme.export_llm.pipeline import build_llm

VERSIONS = json.dumps({"versions": dict.fromkeys(TOOLS, "1.0")})
# Writes our own graph of a model whose type says that we have none, and its logits, as optimum-intel would.
EXPORTS = """
import json
from pathlib import Path
import numpy, openvino
from trireme.checkpoints.config import read_config
from trireme.export_llm.architecture import read_architecture
from trireme.export_llm.constants import ConstantStore
from trireme.export_llm.graph import build_graph
from trireme.export_llm.reference import compute_logits
from trireme.export_llm.weights import Weights

source, target = Path(request["source"]), Path(request["target"])
weights = Weights(source, read_architecture({**read_config(source), "model_type": "llama"}), None)
print(json.dumps({"step": "trace"}), flush=True)
store = ConstantStore(target / "store")
openvino.save_model(build_graph(weights, store), target / "openvino_model.xml", compress_to_fp16=False)
for number, logits in enumerate(compute_logits(weights, request["prompts"])):
    numpy.save(target / f"before_{number}.npy", logits * float(Path(__file__).with_name("factor").read_text()))
print("what a library prints", file=sys.stderr)
print(json.dumps({"done": True}), flush=True)
"""


def stand_in(project, body, versions=VERSIONS):
    """An environment below `project` whose Python answers versions, and runs `body` for an export's `request`."""
    python = project / ".venv-optimum" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    script = (
        f"#!{sys.executable}\nimport json, os, sys\nassert sys.argv[1:] == ['-I', {str(WORKER)!r}]\n"
        f"request = json.loads(sys.stdin.readline())\nif 'versions' in request:\n    print({versions!r})\n"
        f"    sys.exit()\n{body}"
    )
    python.write_text(script)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (python.parent / "factor").write_text("1")
    return python


@pytest.fixture
def options(tmp_path):
    return BuildOptions(tmp_path / "models", tmp_path / "cache", tmp_path)


@pytest.fixture(scope="module")
def source(make_llm, tmp_path_factory):
    """A Llama under a name that our own graph does not know."""
    folder, _ = make_llm(tmp_path_factory.mktemp("source"), "llama", "bfloat16")
    config = json.loads((folder / "config.json").read_text())
    changed = {"model_type": "arcee", "architectures": ["ArceeForCausalLM"]}
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    return folder


def recipe(source, **keys):
    return Recipe("tiny", "generator", source=str(source), **{"min_top1_agreement": 0.5, **keys})


def test_a_family_without_a_graph_of_ours_is_exported_compared_and_placed(source, options, tmp_path):
    python = stand_in(tmp_path, EXPORTS)
    steps = []
    manifest, was_built = build_llm(recipe(source), options, steps.append)
    version = options.repository / "tiny" / "1"
    assert was_built and read_manifest(version) == manifest
    verify_files(version, manifest)
    assert manifest.figures["logit_error"] < 0.05 and manifest.precision == "fp16"
    assert (manifest.dimensions, manifest.max_length) == (96, 256)
    assert "export, trace" in steps and manifest.tools["optimum environment: nncf"] == "1.0"
    assert set(manifest.files) == {path.name for path in version.iterdir()} - {"manifest.json"}
    assert {"openvino_model.xml", "openvino_model.bin", "tokenizer.json"} < set(manifest.files)
    assert build_llm(recipe(source), options) == (manifest, False)
    stand_in(tmp_path, EXPORTS, VERSIONS.replace("1.0", "1.1"))
    (python.parent / "factor").write_text("1.5")
    with pytest.raises(GateError, match="logit_error"):
        build_llm(recipe(source), options)
    assert read_manifest(version) == manifest and not list(version.parent.glob(".tmp*"))


def test_without_the_environment_the_command_that_makes_it_is_named(source, options):
    with pytest.raises(UnsupportedError, match=r"model_type 'arcee'.*--target gpu.*make optimum-env"):
        build_llm(recipe(source), options)


def test_what_the_library_refuses_is_said_in_its_words(source, options, tmp_path):
    said = json.dumps({"refused": "optimum-intel 2.2.0 exports no text generation of model_type 'arcee'"})
    stand_in(tmp_path, f"print({said!r})\n")
    with pytest.raises(UnsupportedError, match="exports no text generation of model_type 'arcee'"):
        build_llm(recipe(source), options)
    assert not (options.repository / "tiny" / "1").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), 9)\n", "was ended by signal 9, as the system does where memory runs out"),
        ("print('no room', file=sys.stderr)\nsys.exit(3)\n", "failed: no room"),
        ("", "failed: it said nothing"),
        ("print('{\"do', end='', flush=True)\nos.kill(os.getpid(), 9)\n", "was ended by signal 9"),
    ],
    ids=["killed", "broken", "silent", "cut off"],
)
def test_a_process_that_ends_early_is_an_error_with_its_last_words(body, said, tmp_path):
    stand_in(tmp_path, body)
    with pytest.raises(UnavailableError, match=said):
        Optimum(tmp_path).export(tmp_path, tmp_path, 16, [[1, 2]], lambda step: None)


def test_a_model_length_beyond_the_checkpoint_is_refused_before_anything_runs(source, options, tmp_path):
    stand_in(tmp_path, "sys.exit('never')\n")
    with pytest.raises((UnsupportedError, InvalidInputError), match="above the checkpoint's 256 positions"):
        build_llm(recipe(source, max_model_len=512), options)


def test_a_model_around_a_text_model_is_refused_with_what_to_take(source, options, tmp_path, edit_config):
    stand_in(tmp_path, "sys.exit('never')\n")
    edited = shutil.copytree(source, tmp_path / "edited")
    edit_config(edited, model_type="gemma3", text_config={"vocab_size": 96})
    with pytest.raises(UnsupportedError, match=r"model_type 'gemma3'.*take a checkpoint of the text model"):
        build_llm(recipe(edited), options)


def test_code_of_a_family_that_transformers_has_is_passed_over_and_other_code_refused(
    source, options, tmp_path, edit_config
):
    said = json.dumps({"refused": "asked"})
    stand_in(tmp_path, f"print({said!r})\n")
    edited = shutil.copytree(source, tmp_path / "edited")
    code = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    edit_config(edited, auto_map=code)
    with pytest.raises(
        UnsupportedError, match=r"code of its own \(auto_map\), which is never run; take it out"
    ):
        build_llm(recipe(edited), options)
    edit_config(edited, model_type="phi3", architectures=["Phi3ForCausalLM"])
    with pytest.raises(UnsupportedError, match="asked"):
        build_llm(recipe(edited), options)


def test_sizes_that_the_engine_asks_for_must_be_there(source, options, tmp_path, edit_config):
    stand_in(tmp_path, "sys.exit('never')\n")
    edited = shutil.copytree(source, tmp_path / "edited")
    edit_config(edited, num_attention_heads=None)
    with pytest.raises(UnsupportedError, match=r"config\.json must set num_attention_heads"):
        build_llm(recipe(edited), options)
