import json
import struct

import numpy as np
import pytest

from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError


def write(path, tensors):
    """A safetensors file by hand: {name: (dtype, shape, bytes)}."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_every_float_type_and_integers_are_read(tmp_path):
    import torch
    from safetensors.torch import save_file

    values = torch.tensor([[1.5, -2.0, 3e-3], [1e4, 0.0, -7.25]])
    tensors = {"f32": values, "f16": values.half(), "bf16": values.bfloat16(), "i32": values.int()}
    tensors["scalar"] = torch.tensor(4.0)
    save_file(tensors, tmp_path / "model.safetensors")
    files = TensorFiles(tmp_path)
    for name, tensor in tensors.items():
        found = files.read(name)
        assert found.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found, tensor.float().numpy())
    assert (files.read("f16").dtype, files.read("bf16").dtype) == (np.float16, np.float32)
    assert files.entry("bf16").is_float and not files.entry("i32").is_float


def test_a_missing_tensor_is_named(tmp_path):
    write(tmp_path / "model.safetensors", {"a": ("F32", [1], b"\0" * 4)})
    with pytest.raises(UnsupportedError, match="no tensor 'b'"):
        TensorFiles(tmp_path).read("b")


def test_shards_are_read_by_their_index(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path / f"part-{number}.safetensors", {f"t{number}": ("U8", [2], bytes([number, 9]))})
    index = {"weight_map": {"t1": "part-1.safetensors", "t2": "part-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    files = TensorFiles(tmp_path)
    assert sorted(files.entries) == ["t1", "t2"]
    assert files.read("t2").tolist() == [2, 9]


@pytest.mark.parametrize("name", ["../part.safetensors", "absent.safetensors", "/etc/passwd"])
def test_an_index_cannot_name_a_file_outside_its_folder(name, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write(tmp_path / "part.safetensors", {"a": ("U8", [1], b"\0")})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UnsupportedError, match="which is not in"):
        TensorFiles(folder)


def test_an_index_without_a_map_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UnsupportedError, match="holds no weight_map"):
        TensorFiles(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"{number}.safetensors", {"same": ("U8", [1], b"\0")})
    index = {"weight_map": {"same": "1.safetensors", "other": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedError, match=r"holds 'same', which 1\.safetensors holds too"):
        TensorFiles(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\0\0\0\0\0\0\0",
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": {}}',
    ],
)
def test_a_file_that_is_not_safetensors_is_named(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UnsupportedError, match=r"model\.safetensors is not a whole safetensors file"):
        TensorFiles(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        ("F32", [2], b"\0" * 4),
        ("F8_E4M3", [4], b"\0" * 5),
        ("F4", [5], b"\0" * 2),
        ("F7", [4], b"\0" * 4),
        ("F32", [0], b""),
        ("F32", [-1], b"\0" * 4),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(entry, tmp_path):
    write(tmp_path / "model.safetensors", {"a": entry})
    with pytest.raises(UnsupportedError, match="not a whole safetensors file"):
        TensorFiles(tmp_path)


@pytest.mark.parametrize(
    ("kind", "shape", "size"), [("F8_E4M3", [2, 3], 6), ("F8_E8M0", [4], 4), ("F4", [5], 3), ("U32", [2], 8)]
)
def test_types_that_only_vllm_reads_are_known_and_not_read(kind, shape, size, tmp_path):
    write(tmp_path / "model.safetensors", {"a": (kind, shape, b"\0" * size)})
    files = TensorFiles(tmp_path)
    assert files.entry("a").shape == tuple(shape)
    with pytest.raises(UnsupportedError, match=f"'a' is of type {kind}; read are F32"):
        files.read("a")


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    write(path, {"a": ("F32", [4], b"\0" * 16)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnsupportedError, match="do not hold F32"):
        TensorFiles(tmp_path)


def test_a_checkpoint_without_safetensors_is_named(tmp_path):
    with pytest.raises(UnsupportedError, match="must be safetensors"):
        TensorFiles(tmp_path)
