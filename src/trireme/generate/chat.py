"""Chat templates: messages to the text of a prompt, in the sandbox that transformers uses.

A template finds what transformers' apply_chat_template gives it: messages, tools, documents,
add_generation_prompt, the special tokens by their names, raise_exception, strftime_now and tojson.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trireme.errors import ArtifactError, InvalidInputError
from trireme.generate.messages import Message, map_strings
from trireme.generate.model_files import read_special_tokens, read_tokenizer_config
from trireme.generate.tokenizer import LlmTokenizer

TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE_FOLDER = "additional_chat_templates"
# The template of a checkpoint with several that is taken where tools are given, else the default.
TOOL_TEMPLATE = "tool_use"
DEFAULT_TEMPLATE = "default"
# Stands for a message's text while a template is asked how it reads it.
_PROBE = "qzprobetextqz"
_FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class ChatTemplate:
    """One model's template, or templates by name. Text in messages never becomes a control token."""

    def __init__(
        self,
        source: str | Mapping[str, str],
        tokenizer: LlmTokenizer,
        special_tokens: Mapping[str, Any] | None = None,
    ) -> None:
        """special_tokens: what the template sees under their names, such as bos_token.

        Raises ArtifactError for a template that is not valid, and for several without a default.
        """
        sources = {DEFAULT_TEMPLATE: source} if isinstance(source, str) else dict(source)
        if DEFAULT_TEMPLATE not in sources:
            raise ArtifactError(
                f"the model has the chat templates {', '.join(sorted(sources))}, but none named {DEFAULT_TEMPLATE}"
            )
        tokens = dict(special_tokens or {})
        self._default = _Template(sources[DEFAULT_TEMPLATE], tokens)
        with_tools = sources.get(TOOL_TEMPLATE)
        self._for_tools = self._default if with_tools is None else _Template(with_tools, tokens)
        self._tokenizer = tokenizer
        # That of answers to tools, where there is one of its own.
        self.source = sources[DEFAULT_TEMPLATE] if with_tools is None else with_tools

    @staticmethod
    def load(model_dir: Path, tokenizer: LlmTokenizer) -> ChatTemplate | None:
        """The template of a checkpoint's folder, or None where it has none. Raises ArtifactError."""
        source = _read_sources(model_dir)
        return ChatTemplate(source, tokenizer, read_special_tokens(model_dir)) if source else None

    def render(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
        """The prompt up to where the assistant's answer begins. Raises InvalidInputError when refused."""
        template = self._for_tools if tools else self._default
        if tools and not template.takes_tools:
            raise InvalidInputError("tools: this model's chat template takes no tools; leave them out")
        if not template.knows_developer:
            messages = _developer_as_system(messages)
        harmless = partial(neutralize, tokenizer=self._tokenizer)
        given = [map_strings(harmless, message.as_json()) for message in messages]
        return template.render(given, map_strings(harmless, list(tools)) if tools else None)


class _Template:
    """One compiled template and what it was found to read."""

    def __init__(self, source: str, tokens: dict[str, Any]) -> None:
        environment = _make_environment()
        try:
            self._template = environment.from_string(source)
            names = jinja2.meta.find_undeclared_variables(environment.parse(source))
        except jinja2.TemplateError as error:
            raise ArtifactError(f"the chat template is not valid: {error}") from None
        self._tokens = tokens
        self.takes_tools = "tools" in names
        self.knows_developer = "developer" in source
        self._wants_parts = not self._shows(_PROBE) and self._shows([{"type": "text", "text": _PROBE}])

    def render(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
        """Raises InvalidInputError with the template's own words, or with what went wrong in it."""
        if self._wants_parts:
            messages = [_in_parts(message) for message in messages]
        try:
            return self._run_as_it_can(messages, tools)
        except jinja2.TemplateError as error:
            raise InvalidInputError(f"the model's chat template refuses these messages: {error}") from None
        except _FAILURES as error:
            raise InvalidInputError(f"the model's chat template fails on these messages: {error}") from None

    def _run_as_it_can(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
        """Without content where a message has none, as transformers does; empty, where the template needs one."""
        try:
            return self._run(messages, tools)
        except (jinja2.TemplateError, *_FAILURES):
            if all("content" in message for message in messages):
                raise
        return self._run([{"content": "", **message} for message in messages], tools)

    def _run(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
        return self._template.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=True, **self._tokens
        )

    def _shows(self, content: Any) -> bool:
        """Whether a user's message with this content is in the prompt."""
        try:
            return _PROBE in self._run([{"role": "user", "content": content}], None)
        except (jinja2.TemplateError, *_FAILURES):
            return False


def named_template(name: str) -> str:
    """The file of an exported template that is not the default."""
    return f"chat_template.{name}.jinja"


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


def _developer_as_system(messages: Sequence[Message]) -> Sequence[Message]:
    """Messages for a template without the role developer: with its and all other system texts first, in one.

    As vLLM does: most templates know only system, many of them only as the first message.
    """
    if not any(message.role == "developer" for message in messages):
        return messages
    leading = [message for message in messages if message.role in ("system", "developer")]
    texts = [message.content for message in leading if message.content]
    first = replace(leading[0], role="system", content="\n\n".join(texts))
    return [first, *(message for message in messages if message.role not in ("system", "developer"))]


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    if "content" not in message:
        return message
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _read_sources(model_dir: Path) -> str | dict[str, str] | None:
    """As transformers finds them: files of their own before an entry of the tokenizer's configuration."""
    files = {path.stem: path for path in sorted((model_dir / TEMPLATE_FOLDER).glob("*.jinja"))}
    # Beside the default where an export has placed them: its folders hold no others.
    files |= {
        path.name.split(".", 1)[1][:-6]: path for path in sorted(model_dir.glob("chat_template.*.jinja"))
    }
    if (model_dir / TEMPLATE_FILE).is_file():
        files[DEFAULT_TEMPLATE] = model_dir / TEMPLATE_FILE
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    given = read_tokenizer_config(model_dir).get("chat_template")
    if not isinstance(given, list):
        if given is not None and not isinstance(given, str):
            raise ArtifactError(f"chat_template of {model_dir} must be a string or a list of named ones")
        return given
    named = {item.get("name"): item.get("template") for item in given if isinstance(item, dict)}
    return {name: text for name, text in named.items() if isinstance(name, str) and isinstance(text, str)}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def _make_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


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
    # Local time without its zone: %Z and %z are empty, as in transformers.
    return datetime.now().astimezone().replace(tzinfo=None).strftime(form)


class _GenerationBlock(Extension):
    """{% generation %} marks the assistant's words for training; here it only shows its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's name and type

    def parse(self, parser: Any) -> Any:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A scope of its own, as transformers' block has: what is set inside ends with it.
        return jinja2.nodes.Scope(body).set_lineno(lineno)
