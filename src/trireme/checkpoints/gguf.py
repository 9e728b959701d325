"""Imports a GGUF file, llama.cpp's format, as an ordinary checkpoint: safetensors in bfloat16, tokenizer, template.

transformers reads tensors and vocabulary. What it passes over in silence is refused here: rotary positions that the
file stretches, a vocabulary whose splitting of text it does not know, tensors without a place in the model.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from trireme.artifacts.manifest import hash_file
from trireme.checkpoints.config import GENERATION_FILE
from trireme.checkpoints.families import LLM_FAMILIES
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import ArtifactError, UnsupportedError

SUFFIX = ".gguf"
# What the import says of the file, beside the checkpoint that it makes.
GGUF_FILE = "gguf.json"
# Of what an import makes of the same file: another number makes a cache import it again.
IMPORT_VERSION = 1

_MAGIC = b"GGUF"
# Of one key: the largest vocabularies and their merges are a quarter of it. The library makes an array of each.
_MOST_ENTRIES = 1 << 22
_PRE = "tokenizer.ggml.pre"
# Byte-level vocabularies (tokenizer.ggml.pre) that split as GPT-2 does, and those that take each digit apart before
# (llama.cpp, llama-vocab.cpp). transformers knows the others, and splits these as GPT-2 does, digits left together.
_LIKE_GPT2 = ("gpt-2", "mpt", "olmo", "jais", "trillion")
_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")


def import_gguf(path: Path, target: Path, sha256: str = "") -> dict[str, Any]:
    """Writes the checkpoint of the GGUF file at `path` into the folder `target`; returns what GGUF_FILE says then.

    Special tokens are the file's; where it names no padding token, eos takes its place. The chat template stays as
    it is, with the system message that it puts before a conversation without one. Blocks for seconds. Raises
    ArtifactError for another hash than `sha256`, and UnsupportedError naming what cannot be read.
    """
    import transformers

    found = _check_file(path, sha256)
    reader = _read(path)
    _check_model(path, reader)
    transformers.utils.logging.set_verbosity_error()
    # Both libraries draw progress bars; nobody waits long enough to need them.
    # Alone: transformers reads tokenizer files that lie beside it in place of what the file holds.
    with redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / f"model{SUFFIX}"
        alone.symlink_to(path.resolve())
        tokenizer = _make_tokenizer(path, alone, reader)
        model = _load_model(path, alone)
    _save(path, reader, model, tokenizer, target)
    said = {
        "sha256": found,
        "architecture": _value(reader, "general.architecture"),
        "name": _value(reader, "general.name"),
        "license": _value(reader, "general.license"),
        "tensor_types": dict(sorted(Counter(tensor.tensor_type.name for tensor in reader.tensors).items())),
    }
    (target / GGUF_FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return said


def _check_file(path: Path, sha256: str) -> str:
    """The file's sha256. Raises unless it begins as a GGUF file does and is the one that is meant."""
    try:
        with path.open("rb") as stream:
            is_gguf = stream.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise UnsupportedError(f"{path} cannot be read: {error.strerror}") from None
    if not is_gguf:
        raise UnsupportedError(f"{path} is not a GGUF file: it does not begin with {_MAGIC.decode()}")
    found = hash_file(path)
    if sha256 and found != sha256:
        raise ArtifactError(f"{path} has sha256 {found}, expected is {sha256}; check the source")
    return found


def _read(path: Path) -> Any:
    """The file's keys and tensors, mapped. Raises UnsupportedError where it is cut off or broken."""
    import numpy as np
    from gguf import GGUFReader, GGUFValueType

    class BoundedReader(GGUFReader):  # type: ignore[misc, unused-ignore]
        """The library takes less where the file ends, and counts on: a false count would never be through."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            found = super()._get(offset, dtype, count, override_order)
            if len(found) < int(count):
                raise ValueError(f"it ends before the {int(count)} values at byte {offset}")
            return found

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            # The type of the entries, in 32 bits, stands before their count.
            if raw_type == GGUFValueType.ARRAY and self._get(orig_offs + 4, np.uint64)[0] > _MOST_ENTRIES:
                raise ValueError(f"an array at byte {orig_offs} has more than {_MOST_ENTRIES} entries")
            return super()._get_field_parts(orig_offs, raw_type)

    try:
        return BoundedReader(path)
    except Exception as error:  # numpy's errors of every kind, where the bytes end
        raise UnsupportedError(f"{path} is not a whole GGUF file: {error}") from None


def _check_model(path: Path, reader: Any) -> None:
    """Raises UnsupportedError for what transformers cannot read, or would leave out."""
    architecture = _value(reader, "general.architecture")
    if not isinstance(architecture, str) or architecture not in LLM_FAMILIES:
        raise UnsupportedError(
            f"{path} is of architecture {architecture!r}; imported are {', '.join(LLM_FAMILIES)}"
        )
    layers = _value(reader, f"{architecture}.block_count")
    if type(layers) is not int or layers > len(reader.tensors):
        raise UnsupportedError(f"{path} says {layers!r} layers and holds {len(reader.tensors)} tensors")
    scaling = _value(reader, f"{architecture}.rope.scaling.type")
    is_stretched = any(tensor.name.startswith("rope_") for tensor in reader.tensors)
    if is_stretched or scaling not in (None, "none"):
        raise UnsupportedError(
            f"{path} stretches its rotary positions ({scaling or 'rope_freqs'}), which transformers does not read"
            " from a GGUF file; take the model's safetensors"
        )


def _make_tokenizer(path: Path, alone: Path, reader: Any) -> Any:
    """transformers' tokenizer of the file, which is `alone` in a folder, too.

    Raises UnsupportedError for a vocabulary that it would split wrongly.
    """
    import transformers
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind, split = _value(reader, "tokenizer.ggml.model"), _value(reader, _PRE)
    if kind == "gpt2" and split not in (*_LIKE_GPT2, *_DIGITS_APART, *GGUF_PRE_TOKENIZER_SPLITS):
        raise UnsupportedError(
            f"{path}: {_PRE} = {json.dumps(split)}: how this vocabulary splits text is not known here; take the"
            " model's safetensors"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(alone.parent), gguf_file=alone.name)
    except Exception as error:  # conversions raise errors of many libraries
        raise UnsupportedError(f"{path} holds no tokenizer that can be made: {error}") from error
    if kind == "gpt2" and split in _DIGITS_APART:
        # As their published tokenizer.json has it.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if tokenizer.eos_token is None:
        raise UnsupportedError(f"{path} names no token that ends an answer (tokenizer.ggml.eos_token_id)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_model(path: Path, alone: Path) -> Any:
    """The model with its weights in bfloat16. Raises UnsupportedError where a weight is not in the file."""
    import torch
    import transformers

    try:
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            str(alone.parent), gguf_file=alone.name, dtype=torch.bfloat16, output_loading_info=True
        )
    except Exception as error:  # readers of many tensor types raise errors of many kinds
        raise UnsupportedError(f"{path}: transformers cannot read its tensors: {error}") from error
    # Weights that are not there would be random.
    if absent := sorted(loading["missing_keys"]):
        raise UnsupportedError(f"{path} lacks the tensor of {absent[0]!r}")
    return model


def _save(path: Path, reader: Any, model: Any, tokenizer: Any, target: Path) -> None:
    """Writes the checkpoint. Raises UnsupportedError where a tensor of the file is in no weight."""
    # transformers counts a model from GGUF as quantized still, and saves none of those.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.name_or_path = ""
    tokenizer.model_max_length = model.config.max_position_embeddings
    with redirect_stderr(io.StringIO()):
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    for file in target.glob("*.safetensors"):
        file.chmod(0o644)
    written, stored = len(TensorFiles(target).entries), len(reader.tensors)
    if written != stored:
        raise UnsupportedError(f"{path} holds {stored} tensors, of which the model takes {written}")
    _write_generation(reader, target / GENERATION_FILE)


def _write_generation(reader: Any, file: Path) -> None:
    """Every token that ends an answer: files with a token for the end of a turn name it apart."""
    generation = json.loads(file.read_text(encoding="utf-8"))
    ends = [_value(reader, f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    if any(type(one) is not int for one in ends if one is not None):
        raise UnsupportedError(f"the token ids that end an answer are no whole numbers: {ends}")
    named = sorted({one for one in ends if one is not None})
    generation["eos_token_id"] = named[0] if len(named) == 1 else named
    file.write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    try:
        return None if field is None else field.contents()
    except UnicodeDecodeError as error:
        raise UnsupportedError(f"the value of {key} in the GGUF file is no text: {error}") from None
