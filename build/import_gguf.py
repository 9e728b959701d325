"""Imports a GGUF file as a checkpoint folder: safetensors in bfloat16, tokenizer, chat template."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from trireme.artifacts.placing import check_place, stage_folder
from trireme.checkpoints.config import CONFIG_FILE, GENERATION_FILE, TOKENIZER_CONFIG_FILE
from trireme.checkpoints.gguf import GGUF_FILE, import_gguf
from trireme.errors import TriremeError
from trireme.generate.chat import ChatTemplate
from trireme.generate.messages import Message
from trireme.generate.tokenizer import LlmTokenizer

# bfloat16 of a file with 4 bits a weight.
SPACE_FACTOR = 4


def main() -> None:
    """Imports one file and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a .gguf file")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--sha256", default="", help="what the file must be, 64 hexadecimal digits")
    given = parser.parse_args()
    check_place(given.out, GGUF_FILE)
    size = given.file.stat().st_size if given.file.is_file() else 0
    with stage_folder(given.out, SPACE_FACTOR * size) as stage:
        said = import_gguf(given.file, stage, given.sha256.lower())
    print(f"{given.out}: {said['name'] or given.file.name}, {said['architecture']}, sha256 {said['sha256']}")
    types = ", ".join(f"{count} {name}" for name, count in said["tensor_types"].items())
    print(f"  tensors {types}; licence {said['license'] or 'not stated'}")
    for line in describe_tokens(given.out):
        print(f"  {line}")


def describe_tokens(folder: Path) -> list[str]:
    """Special tokens, context, and what the chat template puts before a message of a user who says no more."""
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    tokens = json.loads((folder / TOKENIZER_CONFIG_FILE).read_text(encoding="utf-8"))
    ends = json.loads((folder / GENERATION_FILE).read_text(encoding="utf-8"))["eos_token_id"]
    named = ", ".join(f"{name} {tokens.get(f'{name}_token')!r}" for name in ("bos", "eos", "pad", "unk"))
    template = ChatTemplate.load(folder, LlmTokenizer.load(folder))
    prompt = "none" if template is None else repr(template.render([Message("user", "...")]))
    return [
        f"context {config['max_position_embeddings']} tokens, vocabulary {config['vocab_size']}",
        f"tokens: {named}; an answer ends at {ends}",
        f"chat template: {prompt}",
    ]


if __name__ == "__main__":
    try:
        main()
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
