"""Every language model of llm_cases.py computes on the CPU, as it is served, what transformers does in float32.

What optimum-intel writes needs its environment (make optimum-env); without it those rows of docs/models.md stay as
they are. WRITE_DOCS=1 in the environment writes the table anew.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from models.llm_cases import CASES, OPTIMUM, OURS, SIZES
from models.pages import PAGE, put_table
from trireme.checkpoints.config import read_config
from trireme.checkpoints.families import LLM_FAMILIES
from trireme.export_llm.architecture import NoOwnGraphError, read_architecture
from trireme.export_llm.checkpoint_files import check_for_gpu
from trireme.export_llm.constants import ConstantStore
from trireme.export_llm.graph import build_graph
from trireme.export_llm.optimum_process import ENVIRONMENT, WORKER
from trireme.export_llm.parity import compare_logits
from trireme.export_llm.rounding import ROUNDINGS
from trireme.export_llm.serving_files import ServedGraph
from trireme.export_llm.weights import Weights
from trireme.generate.openvino_properties import compile_properties

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ENVIRONMENT / "bin" / "python"
# Bits and the least agreement: random weights of 64 numbers lose much by four.
BITS = {16: 0.99, 8: 0.9, 4: 0.5}
PRECISIONS = {16: "", 8: "int8", 4: "int4"}
PROMPTS = [np.random.default_rng(seed).integers(4, SIZES["vocab_size"], 160).tolist() for seed in (1, 2)]
# The worker's steps for each case; what is traced once is written in every width.
EXPORT_ALL = """
import importlib.util, json, sys, traceback
from pathlib import Path
spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
out, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    source, target, widths = json.loads(line)
    try:
        import transformers
        config = transformers.AutoConfig.from_pretrained(source)
        worker.check_type(config.model_type)
        worker.trace(worker.load(Path(source), config), Path(target) / "traced")
        for bits in widths:
            worker.compress(Path(target) / "traced", Path(target) / f"{bits}.xml", bits)
        said = ""
    except Exception:
        said = traceback.format_exc()
    print(json.dumps(said), file=out, flush=True)
"""
NEEDS_OPTIMUM = pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-optimum: make optimum-env")


@pytest.fixture(scope="module")
def measured():
    """What the tests of this module found: {case: {bits: agreement}}."""
    return {}


@pytest.fixture(scope="module")
def write_llm(tmp_path_factory):
    """write_llm(case) -> (folder, transformers' logits of each prompt in float32)."""

    def write(case):
        import torch
        import transformers

        torch.manual_seed(5)
        config = transformers.AutoConfig.for_model(case.family, **{**SIZES, **case.config})
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                # Larger than the library's start, and norms and biases that are not all alike.
                weight.mul_(4.0) if weight.dim() > 1 else weight.add_(torch.randn_like(weight) * 0.1)
        folder = tmp_path_factory.mktemp("llm")
        model.to(torch.bfloat16).save_pretrained(folder)
        # Loaded again: a model cast to a small type and back keeps rounded rotary angles.
        again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            return folder, [again(torch.tensor([prompt])).logits[0].numpy() for prompt in PROMPTS]

    return write


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """export(folder) -> the folder with its graphs in every width. One process writes them all."""
    command = [PYTHON, "-I", "-c", EXPORT_ALL, WORKER]
    with (tmp_path_factory.mktemp("exporter") / "log").open("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )

        def ask(folder):
            place = tmp_path_factory.mktemp("graphs")
            process.stdin.write(json.dumps([str(folder), str(place), list(BITS)]) + "\n")
            process.stdin.flush()
            error = json.loads(process.stdout.readline())
            assert not error, error
            return place

        yield ask
        process.stdin.close()
        process.wait()
        process.stdout.close()


def agreement(path, expected):
    """1 less the larger logit_error of the prompts, as the gate computes it."""
    served = ServedGraph(path, compile_properties(1), max(map(len, PROMPTS)))
    return 1 - compare_logits(expected, [served.logits(prompt) for prompt in PROMPTS])["logit_error"]


def check(case, paths, expected, measured):
    found = {bits: agreement(path, expected) for bits, path in paths.items()}
    assert all(found[bits] >= least for bits, least in BITS.items()), found
    measured[case.name] = found


@pytest.mark.parametrize("case", [case for case in CASES if case.form == OURS], ids=lambda case: case.name)
def test_our_own_graph_computes_what_transformers_does(case, write_llm, measured, tmp_path):
    import openvino

    folder, expected = write_llm(case)
    weights = Weights(folder, read_architecture(read_config(folder)), None)
    paths = {}
    for bits, precision in PRECISIONS.items():
        paths[bits] = tmp_path / f"{bits}.xml"
        store = ConstantStore(tmp_path / "constants")
        openvino.save_model(build_graph(weights, store, roundings=ROUNDINGS.get(precision)), paths[bits])
        store.close()
    check(case, paths, expected, measured)
    check_for_gpu(folder, read_config(folder))


@NEEDS_OPTIMUM
@pytest.mark.parametrize("case", [case for case in CASES if case.form == OPTIMUM], ids=lambda case: case.name)
def test_an_exported_graph_computes_what_transformers_does(case, write_llm, export, measured):
    folder, expected = write_llm(case)
    place = export(folder)
    with pytest.raises(NoOwnGraphError):
        read_architecture(read_config(folder))
    check(case, {bits: place / f"{bits}.xml" for bits in BITS}, expected, measured)
    check_for_gpu(folder, read_config(folder))


@NEEDS_OPTIMUM
def test_a_family_that_optimum_has_not_is_refused_with_its_name(write_llm, tmp_path):
    request = {"source": str(tmp_path), "target": str(tmp_path), "bits": 16, "prompts": PROMPTS}
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    done = subprocess.run(
        [PYTHON, "-I", WORKER], input=json.dumps(request) + "\n", capture_output=True, text=True, check=False
    )
    refused = json.loads(done.stdout)["refused"]
    assert re.fullmatch(r"optimum-intel [\d.]+ exports no text generation of model_type 'bert'", refused)


def test_every_family_with_a_graph_of_ours_is_compared():
    assert {case.family for case in CASES if case.form == OURS} == set(LLM_FAMILIES)
    assert len({case.name for case in CASES}) == len(CASES)


def row_of(case, found):
    hubs = ", ".join(f"`{hub}`" for hub in case.hubs)
    family = f"{case.family}, {case.what}" if case.what else case.family
    said = ", ".join(
        f"{PRECISIONS[bits] or 'fp16'} {f'≥ {least:.2f}' if bits not in found else f'{found[bits]:.4f}'}"
        for bits, least in BITS.items()
    )
    return f"| {hubs} | {family} | {case.form} | {said} | {case.gpu} | AutoModelForCausalLM, float32 |"


def test_the_page_has_a_row_of_every_language_model_as_measured(measured):
    """Rows of models that this run left out stay as they are."""
    text = PAGE.read_text(encoding="utf-8")
    written = {line.partition(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    lines = [
        "| checkpoint | family | graph for the CPU | smallest agreement | GPU | compared with |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        line = row_of(case, measured.get(case.name, {}))
        lines.append(line if case.name in measured else written.get(line.partition(" | ")[0], line))
    wanted = put_table(text, "llms", lines)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
        return
    # Figures differ a little from processor to processor.
    figure = re.compile(r"(≥ )?[01]\.\d+")
    assert figure.sub("", text) == figure.sub("", wanted), "run it with WRITE_DOCS=1"
