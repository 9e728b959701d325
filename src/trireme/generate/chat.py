"""Chat templates: messages to the text of a prompt, in the sandbox that transformers uses.

The names a template may use (raise_exception, strftime_now, tojson, bos_token, eos_token, messages,
add_generation_prompt) are those of transformers' chat templating.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trireme.errors import ArtifactError, InvalidInputError
from trireme.generate.model_files import read_json
from trireme.generate.tokenizer import LlmTokenizer

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: role is system, user or assistant."""

    role: str
    content: str


class ChatTemplate:
    """One model's template. Text in messages never becomes a control token."""

    def __init__(
        self, source: str, tokenizer: LlmTokenizer, bos_token: str = "", eos_token: str = ""
    ) -> None:
        """Raises ArtifactError for a template that is not valid."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ArtifactError(f"the chat template is not valid: {error}") from None
        self._tokenizer = tokenizer
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    @staticmethod
    def load(model_dir: Path, tokenizer: LlmTokenizer) -> ChatTemplate | None:
        """The template of a checkpoint's folder, or None where it has none. Raises ArtifactError."""
        config = read_json(model_dir / CONFIG_FILE)
        path = model_dir / TEMPLATE_FILE
        source = path.read_text(encoding="utf-8") if path.is_file() else config.get("chat_template")
        if isinstance(source, list):
            named = {item.get("name"): item.get("template") for item in source}
            source = named.get("default")
        if not source:
            return None
        bos_token, eos_token = (_token_text(config.get(key)) for key in ("bos_token", "eos_token"))
        return ChatTemplate(source, tokenizer, bos_token, eos_token)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt up to where the assistant's answer begins. Raises InvalidInputError when refused."""
        given = [{"role": m.role, "content": neutralize(m.content, self._tokenizer)} for m in messages]
        try:
            return self._template.render(messages=given, add_generation_prompt=True, **self._tokens)
        except jinja2.TemplateError as error:
            raise InvalidInputError(f"the model's chat template refuses these messages: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise InvalidInputError(f"the model's chat template fails on these messages: {error}") from None


def parse_messages(text: str) -> tuple[Message, ...]:
    """Messages from a JSON list of {"role", "content"}. Raises InvalidInputError naming the bad one."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"messages is not valid JSON: {error}") from None
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_MESSAGES:
        raise InvalidInputError(f"messages must be a JSON list of 1 to {MAX_MESSAGES} messages")
    return tuple(_read_message(position, item) for position, item in enumerate(given))


def neutralize(text: str, tokenizer: LlmTokenizer) -> str:
    """`text` with a space inside each control token's name, "<|end|>" becoming "< |end|>".

    Raises InvalidInputError where it still reads as a control token.
    """
    while found := [token for token in tokenizer.control_tokens if token in text]:
        for token in found:
            text = text.replace(token, f"{token[0]} {token[1:]}" if len(token) > 1 else " ")
            if token in text:
                raise InvalidInputError(f"messages hold {token!r}, which is a control token of this model")
    if tokenizer.control_ids.intersection(tokenizer.encode(text, add_special_tokens=False)):
        raise InvalidInputError("messages hold text that this model's tokenizer reads as a control token")
    return text


def _read_message(position: int, item: Any) -> Message:
    where = f"message {position}"
    if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
        raise InvalidInputError(f'{where} must be an object with "role" and "content"')
    if unknown := sorted(item.keys() - {"role", "content"}):
        raise InvalidInputError(f"{where} has an unknown key {unknown[0][:40]!r}; known: role, content")
    role, content = item["role"], item["content"]
    if role not in ROLES:
        raise InvalidInputError(f"{where}: role must be one of {', '.join(ROLES)}, got {repr(role)[:40]}")
    if not isinstance(content, str):
        raise InvalidInputError(f"{where}: content must be a string, got {type(content).__name__}")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{where}: content holds half a surrogate pair at {error.start}") from None
    return Message(role, content)


def _token_text(value: Any) -> str:
    """A token of tokenizer_config.json: a string, or an object with its content."""
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


class _GenerationBlock(Extension):
    """{% generation %} marks the assistant's words for training; here it only shows its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's name and type

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
