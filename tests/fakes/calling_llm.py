"""A model that calls tools when it is told to: what a chat says last between two "~" is its answer."""

import json
import shutil
from pathlib import Path

from trireme.artifacts.manifest import Manifest, hash_file, write_manifest

TOKENIZER = Path(__file__).parents[1] / "chat_tokenizer"
EOS = 2
QUOTE = "~"
# Hermes' and Qwen's form, with what they say of reasoning.
TEMPLATE = """{%- if tools %}{{- '<|system|>\\n<tool_call>{"name": ..., "arguments": {...}}</tool_call> of:\\n' }}
{%- for tool in tools %}{{- tool | tojson }}{{- '\\n' }}{%- endfor %}{{- '<|end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- set content = message.content or '' %}
{%- if message.role == 'assistant' %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
{{- '<|' + ('user' if message.role == 'tool' else message.role) + '|>\\n' + content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}
{%- endfor %}
{{- '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"""


def write_calling_llm(version, max_length=2048, adapters=()):
    """A version's folder for the fake engine, with adapters of those names. Returns its knobs."""
    from trireme.generate.tokenizer import LlmTokenizer

    version.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, version / name)
    (version / "chat_template.jinja").write_text(TEMPLATE)
    (version / "config.json").write_text(json.dumps({"eos_token_id": EOS}))
    (version / "model.safetensors").write_bytes(b"")
    knobs = {"quote_token": LlmTokenizer.load(version).token_id(QUOTE)}
    (version / "fake.json").write_text(json.dumps(knobs))
    names = ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja")
    manifest = Manifest(
        model=version.parent.name,
        kind="generator",
        source="random",
        revision="",
        precision="fp32",
        dimensions=8192,
        max_length=max_length,
        files={name: hash_file(version / name) for name in names},
        sizes={name: (version / name).stat().st_size for name in names},
        adapters=dict.fromkeys(adapters, 8),
    )
    write_manifest(version, manifest)
    return knobs
