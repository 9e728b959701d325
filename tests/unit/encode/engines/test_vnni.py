"""The int8 kernels against transformers' own output in fp32, for each family, pooling, activation and head."""

import json
import os
import re
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fakes.packed_rows import POOLING_KEYS, draw_rows, run_original, take_row
from trireme.checkpoints.families import FAMILIES
from trireme.encode.engines import vnni as vnni_session
from trireme.encode.engines.vnni import VnniSession, pool_rows
from trireme.encode.packed import cpu_kernels as vnni_kernels
from trireme.encode.packed.config import POOLINGS, read_config
from trireme.encode.packed.cpu_kernels import PLAIN, PackedRows, VnniEncoder, find_misfit, open_kernels
from trireme.encode.session import SessionOptions
from trireme.errors import ArtifactError, InvalidInputError, UnavailableError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import load_graph
from trireme.export.packed import find_obstacle, write_packed

pytestmark = [
    pytest.mark.skipif(
        not (vnni_kernels.FOLDER / PLAIN).is_file(),
        reason="the kernels are not compiled: there is no C++ compiler",
    ),
    pytest.mark.filterwarnings("ignore:this processor has no AVX-512 VNNI"),
]

ROOT = Path(__file__).parents[4]
PACKED = [name for name, family in FAMILIES.items() if family.layers]
HEADED = [name for name in PACKED if FAMILIES[name].head]
# One row alone in a tile, several tiles of 12, several panels of 32 keys; together more than a block.
LENGTHS = np.array([7, 1, 30, 12, 2, 65, 33, 13], np.int64)


@pytest.fixture
def export(make_checkpoint, tmp_path):
    """export(family, ...) -> (session, graph, checkpoint); files in tmp_path / "packed"."""

    def make(family="bert", labels=None, prepare=lambda folder: None, **config):
        keys = FAMILIES[family].sizes
        sizes = {keys.hidden[0]: 64, keys.inner[0]: 96}
        folder = make_checkpoint(tmp_path / "source", family, labels, **{**sizes, **config})
        prepare(folder)
        checkpoint = read_checkpoint(folder)
        graph = load_graph(checkpoint)
        target = tmp_path / "packed"
        target.mkdir(exist_ok=True)
        write_packed(graph, checkpoint, "int8", target)
        return VnniSession(target, SessionOptions()), graph, checkpoint

    return make


def make_batch(checkpoint, lengths=LENGTHS, seed=3):
    return draw_rows(lengths, checkpoint.has_segments, seed)


def assert_near(found, expected, least=0.995):
    assert found.shape == expected.shape and found.dtype == np.float32
    rows = found.reshape(len(found), -1), expected.reshape(len(found), -1)
    cosines = (rows[0] * rows[1]).sum(1) / np.prod([np.linalg.norm(part, axis=1) for part in rows], axis=0)
    assert cosines.min() > least, cosines


@pytest.mark.parametrize("family", PACKED)
def test_vectors_of_every_family_are_near_those_of_transformers(family, export):
    session, graph, checkpoint = export(family)
    batch = make_batch(checkpoint, np.minimum(LENGTHS, 64))
    assert_near(session.run(batch), run_original(graph, batch))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_heads_of_32_64_and_128_numbers_are_near_the_original(heads, export):
    session, graph, checkpoint = export(hidden_size=128, num_attention_heads=heads, num_hidden_layers=3)
    batch = make_batch(checkpoint)
    assert_near(session.run(batch), run_original(graph, batch))


@pytest.mark.parametrize("mode", POOLINGS)
def test_every_pooling_is_near_that_of_the_padded_graph(mode, export, add_sentence_files):
    session, graph, checkpoint = export(
        prepare=lambda folder: add_sentence_files(folder, {POOLING_KEYS[mode]: True})
    )
    assert checkpoint.pooling == mode
    batch = make_batch(checkpoint)
    assert_near(session.run(batch), run_original(graph, batch))


def test_pooling_takes_the_rows_it_names():
    hidden = np.arange(10, dtype=np.float32).reshape(5, 2)
    offsets = np.array([0, 2, 5], np.int32)
    expected = {
        "mean": [[1, 2], [6, 7]],
        "cls": [[0, 1], [4, 5]],
        "lasttoken": [[2, 3], [8, 9]],
        "max": [[2, 3], [8, 9]],
        "weightedmean": [[4 / 3, 7 / 3], [20 / 3, 23 / 3]],
        "mean_sqrt_len_tokens": [[2 / 2**0.5, 4 / 2**0.5], [18 / 3**0.5, 21 / 3**0.5]],
    }
    for mode, rows in expected.items():
        np.testing.assert_allclose(pool_rows(hidden, offsets, mode), rows, rtol=1e-6)


@pytest.mark.parametrize("labels", [["one"], ["one", "two", "three"]], ids=["reranker", "classifier"])
@pytest.mark.parametrize("family", HEADED)
def test_heads_of_every_family_are_near_those_of_transformers(family, labels, export):
    session, graph, checkpoint = export(family, labels)
    batch = make_batch(checkpoint, np.minimum(LENGTHS, 64))
    output, expected = session.run(batch), run_original(graph, batch)
    assert output.shape == ((len(LENGTHS),) if len(labels) == 1 else (len(LENGTHS), len(labels)))
    assert np.abs(output - expected).max() < 0.05 * np.abs(expected).max()


def test_dense_layers_run_behind_the_pooling(export, add_sentence_files):
    def add_dense(folder):
        add_sentence_files(folder, {"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"))
        (folder / "2_Dense").mkdir()
        sizes = {"in_features": 64, "out_features": 8, "bias": True}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(sizes))
        torch.manual_seed(0)
        weights = {"linear.weight": torch.randn(8, 64), "linear.bias": torch.randn(8)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")

    session, graph, checkpoint = export(prepare=add_dense)
    batch = make_batch(checkpoint)
    assert session.run(batch).shape == (len(LENGTHS), 8)
    assert_near(session.run(batch), run_original(graph, batch))


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations_are_near_those_of_transformers(activation, export):
    session, graph, checkpoint = export(hidden_act=activation)
    batch = make_batch(checkpoint)
    assert_near(session.run(batch), run_original(graph, batch))


def test_a_batch_equals_its_rows_alone_to_the_last_bit(export):
    session, _, checkpoint = export(num_hidden_layers=3)
    batch = make_batch(checkpoint)
    alone = np.concatenate([session.run(take_row(batch, row)) for row in range(len(LENGTHS))])
    np.testing.assert_array_equal(session.run(batch), alone)


def test_rows_of_more_tokens_than_a_block_are_near_the_original(export):
    session, graph, checkpoint = export(max_position_embeddings=600, intermediate_size=2048)
    batch = make_batch(checkpoint, np.array([513, 200], np.int64))
    assert_near(session.run(batch), run_original(graph, batch))


def test_small_shares_of_a_long_row_are_not_lost(export):
    # Every token attends to all alike: with shares in 8 bits the mean over 512 of them was off by a tenth.
    session, graph, checkpoint = export(max_position_embeddings=520)
    batch = make_batch(checkpoint, np.array([512], np.int64))
    batch = replace(batch, ids=np.where(np.arange(512) % 100 == 0, 5, 9), type_ids=np.zeros(512, np.int64))
    assert_near(session.run(batch), run_original(graph, batch), least=0.998)


def test_the_build_for_any_processor_gives_the_same(export, tmp_path, monkeypatch):
    session, _, checkpoint = export()
    plain = vnni_kernels._load(vnni_kernels.FOLDER / PLAIN)
    monkeypatch.setattr(vnni_session, "open_kernels", lambda: plain)
    batch = make_batch(checkpoint)
    other = VnniSession(tmp_path / "packed", SessionOptions()).run(batch)
    np.testing.assert_allclose(session.run(batch), other, atol=0.05)
    assert_near(other, session.run(batch), least=0.9999)


def test_layers_may_be_run_in_parts(export, tmp_path):
    session, _, checkpoint = export(num_hidden_layers=3)
    encoder = session._encoder
    rows = session._pack(make_batch(checkpoint))
    whole, parts = encoder.embed(rows), encoder.embed(rows)
    encoder.run(whole, rows, 0, 3)
    encoder.run(parts, rows, 0, 1)
    encoder.run(parts, rows, 1, 3)
    np.testing.assert_array_equal(whole, parts)


def test_threads_do_not_disturb_each_other(export):
    session, _, checkpoint = export()
    batches = [make_batch(checkpoint, np.array([n + 1, 60 - n], np.int64), seed=n) for n in range(6)]
    expected = [session.run(batch) for batch in batches]
    found = [[] for _ in batches]

    def run(n):
        found[n] += [session.run(batches[n]) for _ in range(20)]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs, output in zip(found, expected, strict=True):
        assert len(outputs) == 20 and all(np.array_equal(one, output) for one in outputs)


def test_memory_is_taken_up_again(export):
    session, _, checkpoint = export()
    for seed in range(5):
        session.run(make_batch(checkpoint, seed=seed))
    assert len(session._encoder._free) == 1


def test_a_run_goes_on_beside_others_on_every_core_or_as_many_as_are_asked_for(export, tmp_path):
    session, _, _ = export()
    assert session.streams == len(os.sched_getaffinity(0))
    assert VnniSession(tmp_path / "packed", SessionOptions(threads=3)).streams == 3
    assert not session.cost.pads


def test_segment_ids_are_ignored_where_the_model_has_none(export):
    session, _, checkpoint = export("roberta")
    assert session.input_names == ["input_ids"]
    batch = make_batch(checkpoint, np.minimum(LENGTHS, 64))
    other = replace(batch, type_ids=np.ones_like(batch.type_ids))
    np.testing.assert_array_equal(session.run(batch), session.run(other))


@pytest.mark.parametrize(("lengths", "message"), [([67], "67 tokens"), ([3, 0], "tokens"), ([], "rows")])
def test_rows_that_cannot_run_are_refused(lengths, message, export):
    session, _, checkpoint = export()
    with pytest.raises(InvalidInputError, match=message):
        session.run(make_batch(checkpoint, np.array(lengths, np.int64)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.array([1, 10_000, 2])}, "id is not within"),
        ({"ids": np.array([1, -1, 2])}, "id is not within"),
        ({"type_ids": np.array([0, 2, 0])}, "segment is not within 0 to 1"),
    ],
)
def test_ids_beyond_their_table_never_reach_the_kernels(changes, message, export):
    session, _, checkpoint = export()
    with pytest.raises(InvalidInputError, match=message):
        session.run(replace(make_batch(checkpoint, np.array([3], np.int64)), **changes))


@pytest.mark.parametrize("name", ["layers.1.up.bias", "layers.0.qkv.weight", "layers.0.down.scale"])
def test_a_missing_weight_is_named(name, export, tmp_path):
    export()
    path = tmp_path / "packed" / "model.safetensors"
    weights = load_file(path)
    del weights[name]
    save_file(weights, path)
    with pytest.raises(ArtifactError, match=name):
        VnniSession(tmp_path / "packed", SessionOptions())


def test_files_of_another_precision_are_refused(export, tmp_path):
    _, graph, checkpoint = export()
    write_packed(graph, checkpoint, "fp32", tmp_path / "packed")
    with pytest.raises(ArtifactError, match="runs int8, the model is fp32"):
        VnniSession(tmp_path / "packed", SessionOptions())


def test_damaged_weights_are_named(export, tmp_path):
    export()
    (tmp_path / "packed" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        VnniSession(tmp_path / "packed", SessionOptions())


def test_a_model_whose_sizes_do_not_fit_is_told_so(make_checkpoint, tmp_path):
    assert find_misfit(384, 1536, 12) == ""
    assert find_misfit(1088, 1024, 33) == "its hidden size 1088 is no multiple of its 33 heads"
    assert find_misfit(384, 1000, 12) == "its inner size 1000 is no multiple of 32"
    for name, (config, obstacle) in {
        "heads": ({"num_attention_heads": 4}, "its size of a head 16 is no multiple of 32"),
        "activation": ({"hidden_act": "silu"}, "it has an activation 'silu'"),
        "fitting": ({}, ""),
    }.items():
        folder = make_checkpoint(tmp_path / name, "bert", hidden_size=64, intermediate_size=96, **config)
        assert find_obstacle(read_checkpoint(folder)) == obstacle


def test_weights_that_do_not_fit_are_refused_before_a_kernel_reads_them(export, tmp_path):
    export()
    path = tmp_path / "packed"
    weights = {name: value.numpy() for name, value in load_file(path / "model.safetensors").items()}
    weights["layers.0.up.weight"] = weights["layers.0.up.weight"][:50]
    with pytest.raises(ArtifactError, match="inner size 50"):
        VnniEncoder(open_kernels(), read_config(path / "packed.json"), weights)


def test_kernels_that_are_not_compiled_are_told_in_one_sentence(tmp_path):
    with pytest.raises(UnavailableError, match=r"install a C\+\+ compiler"):
        open_kernels(tmp_path)
    assert not vnni_kernels.is_fast(tmp_path)


def test_a_processor_without_vnni_runs_the_plain_build_and_is_warned(monkeypatch):
    monkeypatch.setattr(vnni_kernels, "is_fast", lambda folder: False)
    with pytest.warns(UserWarning, match="no AVX-512 VNNI"):
        library = open_kernels()
    assert library._name.endswith(PLAIN)


def test_embeddings_alone_are_those_of_the_tables(export, tmp_path):
    session, graph, _ = export()
    ids = np.array([5, 6, 7, 8, 9], np.int32)
    rows = PackedRows(ids, np.zeros(5, np.int32), np.array([0, 3, 5], np.int32), 3)
    found = session._encoder.embed(rows)
    places = torch.tensor([0, 1, 2, 0, 1])
    with torch.inference_mode():
        expected = graph.module.encoder.embeddings(
            torch.from_numpy(ids.astype(np.int64))[None], position_ids=places[None]
        )[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_two_builds_share_no_symbol_but_those_they_are_called_by():
    # What both define, the linker gives to whichever is loaded second: it once ran the other's kernels.
    for name in (PLAIN, vnni_kernels.FAST):
        command = ["nm", "--dynamic", "--defined-only", str(vnni_kernels.FOLDER / name)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        names = [line.split()[-1] for line in listed.splitlines()]
        assert sorted(names) == ["trireme_embed", "trireme_has_vnni", "trireme_memory", "trireme_run"]


@pytest.mark.parametrize("name", [PLAIN, vnni_kernels.FAST])
def test_the_kernels_stay_within_what_they_are_given(name, tmp_path):
    # As the package's build names them; it runs where that build's own library is.
    hook = (ROOT / "build" / "kernels_hook.py").read_text()
    flags = [] if name == PLAIN else re.findall(r'"(-m\w+)"', hook)
    if name != PLAIN and not vnni_kernels.is_fast():
        pytest.skip("this processor has no AVX-512 VNNI")
    # Rows of bytes are read as numbers wherever they begin.
    checks = ["-fsanitize=address,undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=all"]
    command = ["c++", "-std=c++17", "-O1", "-w", *checks, *flags, f"-I{vnni_kernels.FOLDER}"]
    source = Path(__file__).parent / "drive_kernels.cpp"
    subprocess.run([*command, source, "-o", tmp_path / "drive"], check=True, timeout=240)
    done = subprocess.run([tmp_path / "drive"], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-2000:]
