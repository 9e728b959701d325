"""A model's vocabulary as OpenVINO GenAI reads it, made from tokenizer.json: what grammars are compiled against.

The library takes it out of a detokenizer's graph. That of a checkpoint names its control tokens by their text,
which a grammar could then spell in a string; here they are empty, and no grammar takes them.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trireme.errors import TriremeError
from trireme.generate.tokenizer import LlmTokenizer

_EXTENSION = Path("lib", "libopenvino_tokenizers.so")
_GRAPH_FILE = "openvino_detokenizer.xml"


def find_vocabulary(model_dir: Path, eos_token_id: int) -> Any:
    """The vocabulary of a model folder; None where its tokenizer is none that can be read."""
    try:
        return open_vocabulary(read_tokens(model_dir), eos_token_id)
    except TriremeError:
        return None


def structured_config(genai: Any, form: Mapping[str, str]) -> Any:
    """openvino_genai's StructuredOutputConfig of a StructuredOutput as JSON."""
    names = {"json": "json_schema", "regex": "regex", "grammar": "grammar"}
    return genai.StructuredOutputConfig(**{names[form["kind"]]: form["text"]})


def open_vocabulary(tokens: list[bytes], eos_token_id: int = 0) -> Any:
    """An openvino_genai.Tokenizer that detokenizes: of each token id its bytes.

    eos_token_id: of requests that say none; the library refuses them where it knows none.
    """
    import openvino
    import openvino_genai as genai

    factory = _open_factory()
    model = _detokenizer(tokens, factory)
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder, _GRAPH_FILE), compress_to_fp16=False)
        Path(folder, "config.json").write_text(json.dumps({"eos_token_id": eos_token_id}))
        vocabulary = genai.Tokenizer(folder)
    # Before its operations' library, which goes with the factory.
    del model
    return vocabulary


def read_tokens(model_dir: Path) -> list[bytes]:
    """Of each token id of a model folder its bytes, none for control tokens. Raises ArtifactError."""
    tokenizer = LlmTokenizer.load(model_dir)
    return [
        b"" if token in tokenizer.control_ids else tokenizer.token_bytes(token)
        for token in range(tokenizer.vocabulary_size)
    ]


def _open_factory() -> Any:
    from openvino.utils.node_factory import NodeFactory

    # Found without importing the package: that would import transformers where it is installed.
    spec = importlib.util.find_spec("openvino_tokenizers")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("openvino_tokenizers is not installed")
    factory = NodeFactory()
    factory.add_extension(str(Path(spec.origin).parent / _EXTENSION))
    return factory


def _detokenizer(tokens: list[bytes], factory: Any) -> Any:
    import openvino

    op = openvino.opset15
    ends = np.cumsum([len(token) for token in tokens], dtype=np.int32)
    begins = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    table = [op.constant(part) for part in (begins, ends, np.frombuffer(b"".join(tokens), np.uint8))]
    ids = op.parameter([-1, -1], np.int64)
    inputs = [op.convert(ids, "i32").output(0), *(part.output(0) for part in table)]
    *ragged, characters = factory.create("VocabDecoder", inputs).outputs()
    rows = factory.create("FuzeRagged", ragged).outputs()
    text = op.string_tensor_pack(*rows, characters)
    text.output(0).tensor.add_names({"string_output"})
    return openvino.Model([text.output(0)], [ids], "vocabulary")
