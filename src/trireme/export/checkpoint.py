"""Reads what a checkpoint folder says of itself: family, pooling, prompts, lengths, labels. No torch.

The files are those of transformers (config.json, tokenizer_config.json) and sentence-transformers
(trireme.export.sentence_files). What would change the numbers and is not read is refused by its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.config import find_variant, read_config, read_optional, refuse
from trireme.checkpoints.families import FAMILIES, STATIC, EncoderFamily
from trireme.errors import UnsupportedError
from trireme.export.head import read_activation, read_labels
from trireme.export.sentence_files import (
    CONFIG_FILE,
    MODULES_FILE,
    DenseLayer,
    SentenceFiles,
    read_sentence_files,
)
from trireme.export.token_files import TokenFiles, check_layers, find_missing, read_token_files
from trireme.types import EncoderOutput, TokenRules

# tokenizer_config.json without a limit holds a number like 10**30.
NO_LIMIT = 1_000_000

# Keys of config.json that transformers wrote once and ignores now, or that make another model of an encoder.
_ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
}

_ANOTHER = "transformers' class of that name is another model: take another checkpoint"
# Families whose name checkpoints with code of their own give to other models, such as Jina's BERT with ALiBi.
_OWN_BERTS = ("bert", "roberta", "xlm-roberta", "qwen2", "llama", "mistral")
_RELEVANT = ("relevant", "yes", "true", "positive", "1")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder, read and found supported. Lengths are in tokens, special tokens included.

    has_segments: the model is fed token_type_ids. pools_prompt: a prompt's tokens are pooled as the others.
    template: what a reranker reads a pair in. answers: tokens of no and yes whose logits make its score, () for
    those of the tokenizer, None for a head. has_chat_template: the library makes messages of its pairs.
    truncate: dimensions kept of a vector, 0 for all. similarity: see SentenceFiles. variant: of the weights' file,
    "" for model.safetensors.
    outputs: what an encoder makes of a text; tokens: how those that are not dense are made, and rules, where the
    tokenizer was loaded.
    """

    folder: Path
    transformer_dir: Path
    kind: str
    family: EncoderFamily
    hidden_size: int
    has_segments: bool
    max_length: int
    pooling: str = ""
    normalize: bool = False
    query_prompt: str = ""
    passage_prompt: str = ""
    lowercase: bool = False
    dense: tuple[DenseLayer, ...] = ()
    labels: tuple[str, ...] = ()
    activation: str = ""
    pools_prompt: bool = True
    truncate: int = 0
    similarity: str = ""
    variant: str = ""
    template: str = ""
    answers: tuple[int, ...] | None = None
    has_chat_template: bool = False
    outputs: tuple[EncoderOutput, ...] = ("dense",)
    tokens: TokenFiles = field(default_factory=TokenFiles)
    rules: TokenRules | None = None


def read_checkpoint(folder: Path, kind: str = "", has_adapter: bool = False) -> Checkpoint:
    """What `folder` says of itself; without `kind`, the kind its architecture has.

    With an adapter, head and labels are the adapter's and not read here.
    Raises UnsupportedError naming the file and the key, family or module that is in the way.
    """
    files = read_sentence_files(folder)
    if files.is_static:
        return _read_static(folder, files, kind)
    config = read_config(files.transformer_dir, _find_instead)
    family = _check_config(files.transformer_dir / "config.json", config)
    _check_tokenizer_config(files.transformer_dir / "tokenizer_config.json")
    variant = find_variant(files.transformer_dir)
    found = Checkpoint(
        folder=folder,
        transformer_dir=files.transformer_dir,
        kind=kind or _detect_kind(config, files),
        family=family,
        hidden_size=family.sizes.read(config).hidden,
        has_segments=family.has_segments(config),
        max_length=_max_length(files, family.longest_row(config)),
        lowercase=files.lowercase,
        variant=variant,
    )
    if has_adapter:
        return found
    _check_kind(found, files)
    if not files.kind and found.kind in ("text_encoder", "late_interaction"):
        _check_chat_template(files.transformer_dir)
    if found.kind == "cross_encoder":
        found = _with_template(found, config, files)
    if found.kind in ("text_encoder", "late_interaction"):
        tokens = read_token_files(folder, files, config)
        return _check_prompts(
            replace(
                _with_tokens(found, tokens, family.longest_row(config)),
                pooling=files.pooling or _default_pooling(family, config),
                normalize=files.normalize,
                dense=files.dense,
                truncate=files.truncate,
                similarity=files.similarity,
                pools_prompt=files.pools_prompt,
                query_prompt=tokens.query_prompt or files.query_prompt,
                passage_prompt=tokens.passage_prompt or files.passage_prompt,
            )
        )
    return _with_labels(found, config, files)


def apply_recipe(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    """`checkpoint` with the recipe's overrides. Raises UnsupportedError for a length it cannot reach."""
    if recipe.max_length is not None:
        limit = position_limit(checkpoint)
        if recipe.max_length > limit:
            raise UnsupportedError(
                f"max_length {recipe.max_length} is above the checkpoint's {limit} positions"
            )
    if checkpoint.family is STATIC and (
        recipe.max_length is not None or recipe.pooling not in (None, "mean")
    ):
        raise UnsupportedError(
            "static embeddings are the mean of all tokens; leave max_length and pooling out"
        )
    if recipe.template is not None and not checkpoint.family.is_causal:
        raise UnsupportedError("template is for rerankers that are language models; leave it out")
    checkpoint = _with_outputs(checkpoint, recipe)
    names = ("max_length", "pooling", "normalize", "query_prompt", "passage_prompt", "template")
    values = {name: getattr(recipe, name) for name in names}
    return _check_prompts(
        replace(checkpoint, **{name: value for name, value in values.items() if value is not None})
    )


def _with_tokens(found: Checkpoint, tokens: TokenFiles, limit: int) -> Checkpoint:
    """With what the checkpoint makes of tokens: all that it can, or of a reranker vectors of tokens alone.

    Lengths of queries and of passages take the place of the model's.
    """
    check_layers(tokens, found.hidden_size)
    outputs = tokens.outputs
    if found.kind == "late_interaction":
        outputs = ("multi",)
    elif tokens.pooling and "dense" in outputs:
        # A masked language model is a SPLADE where somebody says so.
        outputs = ("dense",)
    if not (tokens.query_length or tokens.passage_length):
        return replace(found, tokens=tokens, outputs=outputs)
    query, passage = (
        min(limit, length or found.max_length) for length in (tokens.query_length, tokens.passage_length)
    )
    tokens = replace(tokens, query_length=query, passage_length=passage)
    return replace(found, tokens=tokens, outputs=outputs, max_length=max(query, passage))


def _with_outputs(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    """With the outputs that the recipe names. Raises UnsupportedError for one that the checkpoint cannot make."""
    if not recipe.traits.makes_vectors and checkpoint.kind != "late_interaction":
        return checkpoint
    outputs: Any = recipe.encoder_outputs if recipe.traits.makes_vectors else ("multi",)
    if why := find_missing(checkpoint.folder, checkpoint.tokens, outputs):
        raise UnsupportedError(f"{checkpoint.folder} {why}")
    if checkpoint.tokens.pooling and len(outputs) > 1:
        raise UnsupportedError(
            f"{checkpoint.folder}: a masked language model makes dense or sparse; name one of them in outputs"
        )
    is_normal = checkpoint.normalize and "dense" in outputs
    pooling = checkpoint.pooling if "dense" in outputs else ""
    return replace(checkpoint, outputs=outputs, normalize=is_normal, pooling=pooling)


def position_limit(checkpoint: Checkpoint) -> int:
    """Tokens of the longest row that the checkpoint has positions for."""
    return checkpoint.family.longest_row(read_optional(checkpoint.transformer_dir / "config.json"))


def _read_static(folder: Path, files: SentenceFiles, kind: str) -> Checkpoint:
    """A table of words' vectors, which has no config.json that counts."""
    found = Checkpoint(
        folder=folder,
        transformer_dir=files.transformer_dir,
        kind=kind or "text_encoder",
        family=STATIC,
        hidden_size=0,
        has_segments=False,
        max_length=STATIC.longest_row({}),
        pooling=files.pooling,
        normalize=files.normalize,
        dense=files.dense,
        truncate=files.truncate,
        similarity=files.similarity,
        query_prompt=files.query_prompt,
        passage_prompt=files.passage_prompt,
        variant=find_variant(files.transformer_dir),
    )
    _check_kind(found, files)
    return found


def _check_config(path: Path, config: dict[str, Any]) -> EncoderFamily:
    """The family of a config.json, without a key that makes another model of it."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise UnsupportedError(
            f"model_type {config.get('model_type')!r} is not supported; supported: {', '.join(FAMILIES)}"
        )
    for key, values in _ONLY_VALUES.items():
        allowed = (family.is_causal and key == "is_decoder") or (
            family.model_class and key == "is_encoder_decoder"
        )
        if config.get(key) not in values and not allowed:
            wanted = "leave it out" if values == (None,) else f"supported: {values[1]!r}"
            raise refuse(path, key, config[key], f"such a model is not supported; {wanted}")
    return family


def _find_instead(config: dict[str, Any]) -> str:
    """What to take instead of a checkpoint with code of its own; "" where transformers' own class reads it.

    That is so where config.json names a family and states each of its sizes: other keys would be left unread.
    """
    model_type = str(config.get("model_type"))
    family = FAMILIES.get(model_type)
    if family is not None and all(key in config for key, _ in family.sizes):
        return "" if model_type not in _OWN_BERTS else _ANOTHER
    native = "gte" if model_type == "new" else model_type if family is not None else ""
    if native:
        return f"transformers has this model as {FAMILIES[native].class_name}Model: take a checkpoint in its form"
    return "take a checkpoint of the model in transformers' own form"


def _default_pooling(family: EncoderFamily, config: dict[str, Any]) -> str:
    """As sentence-transformers pools a checkpoint that has none of its files."""
    is_language_model = family.is_causal and _architecture(config).endswith("ForCausalLM")
    return "lasttoken" if is_language_model and config.get("is_causal", True) else family.pooling


def _architecture(config: dict[str, Any]) -> str:
    return str((config.get("architectures") or [""])[0])


def _check_tokenizer_config(path: Path) -> None:
    side = read_optional(path).get("truncation_side", "right")
    if side != "right":
        raise refuse(path, "truncation_side", side, "long texts are cut on the right; set it to right")


def _check_chat_template(folder: Path) -> None:
    """sentence-transformers makes messages of the texts of such a model."""
    if _has_chat_template(folder):
        raise UnsupportedError(
            f"{folder / 'tokenizer_config.json'}: an encoder with a chat_template is not supported; take it out"
        )


def _has_chat_template(folder: Path) -> bool:
    stated = read_optional(folder / "tokenizer_config.json").get("chat_template")
    return bool(stated) or (folder / "chat_template.jinja").is_file()


def _with_template(found: Checkpoint, config: dict[str, Any], files: SentenceFiles) -> Checkpoint:
    """A reranker with what is known of its template and answers before its tokenizer is loaded."""
    has_template = found.family.is_causal and _has_chat_template(files.transformer_dir)
    if not found.family.is_causal and not files.kind:
        _check_chat_template(files.transformer_dir)
    if files.query_prompt and not has_template:
        key = files.config.get("default_prompt_name")
        raise refuse(
            found.folder / CONFIG_FILE,
            "default_prompt_name",
            key,
            "put the prompt before your queries yourself",
        )
    answers = files.answers or (() if _architecture(config).endswith("ForCausalLM") else None)
    return replace(found, has_chat_template=has_template, answers=answers, query_prompt=files.query_prompt)


def _detect_kind(config: dict[str, Any], files: SentenceFiles) -> str:
    if files.kind == "text_encoder":
        return "text_encoder"
    architecture = _architecture(config)
    if not files.kind and architecture.endswith("ForCausalLM"):
        raise UnsupportedError(
            f"{files.transformer_dir} is a language model ({architecture}) without {MODULES_FILE}: use"
            " build/export_llm.py for its answers, --kind text_encoder for its vectors, --kind cross_encoder for"
            " its yes or no"
        )
    if not files.kind and not architecture.endswith("ForSequenceClassification"):
        return "text_encoder"
    if files.kind or len(read_labels(config)) == 1:
        return "cross_encoder" if files.kind or _is_reranker(config) else "classifier"
    return "classifier"


def _is_reranker(config: dict[str, Any]) -> bool:
    """Whether a model of one label scores pairs: those that say they grade texts do not.

    CrossEncoder leaves its marks in config.json; it may train by regression too.
    """
    if config.get("sentence_transformers") or config.get("sbert_ce_default_activation_function"):
        return True
    return config.get("problem_type") not in ("regression", "multi_label_classification")


def _check_kind(found: Checkpoint, files: SentenceFiles) -> None:
    allowed = {
        "text_encoder": ("text_encoder", "late_interaction"),
        "cross_encoder": ("cross_encoder", "classifier"),
    }
    if files.kind and found.kind not in allowed[files.kind]:
        model_type = files.config.get("model_type", "SentenceTransformer")
        raise refuse(
            found.folder / CONFIG_FILE, "model_type", model_type, f"it cannot be exported as a {found.kind}"
        )


def _check_prompts(checkpoint: Checkpoint) -> Checkpoint:
    if not checkpoint.pools_prompt and (checkpoint.query_prompt or checkpoint.passage_prompt):
        raise UnsupportedError(
            f"{checkpoint.folder}: include_prompt = false of Pooling is not supported with a prompt"
        )
    return checkpoint


def _with_labels(found: Checkpoint, config: dict[str, Any], files: SentenceFiles) -> Checkpoint:
    labels = read_labels(config)
    config_path = found.transformer_dir / "config.json"
    if len(labels) == 1 and config.get("problem_type") == "single_label_classification":
        raise refuse(config_path, "problem_type", config["problem_type"], "one label leaves no choice")
    if found.kind == "cross_encoder":
        if found.answers is None:
            _check_ranking_labels(config_path, labels)
        return found
    activation = read_activation(config_path, config, files.config)
    return replace(found, labels=labels, activation=activation)


def _check_ranking_labels(path: Path, labels: tuple[str, ...]) -> None:
    """One label is the score; of two the second is the relevant one, as everybody trains them."""
    if len(labels) > 2:
        raise UnsupportedError(
            f"{path} has {len(labels)} labels; a cross_encoder has one or two: use kind classifier, which labels"
            " single texts"
        )
    if len(labels) == 2 and labels[0].lower() in _RELEVANT:
        raise refuse(
            path,
            "id2label",
            list(labels),
            "of two labels the second must be the relevant one; swap the head's rows",
        )


def _max_length(files: SentenceFiles, limit: int) -> int:
    stated = files.max_length
    if stated is None:
        tokenizer = read_optional(files.transformer_dir / "tokenizer_config.json")
        # max_len is its old name.
        stated = tokenizer.get("model_max_length", tokenizer.get("max_len"))
        if stated is not None and (not isinstance(stated, int | float) or stated < 1):
            path = files.transformer_dir / "tokenizer_config.json"
            raise refuse(path, "model_max_length", stated, "this must be a number above 0")
    return min(limit, int(stated)) if stated is not None and stated < NO_LIMIT else limit
