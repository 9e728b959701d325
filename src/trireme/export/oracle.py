"""Compares what will be served with sentence-transformers and transformers, from text to number.

The parity gate compares the export with the module that we loaded, on our token ids; a prompt, length, pooling,
head or segment that is read wrongly is the same on both sides there. Here the other side is a library's own
reading of the same folder: encode_query and encode_document, predict, or the text-classification pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.config import read_json, read_optional
from trireme.checkpoints.families import STATIC
from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest
from trireme.encode.pair_template import PairTemplate
from trireme.encode.text_encoder import EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import GateError, UnsupportedError
from trireme.export.adapter import mirror
from trireme.export.checkpoint import Checkpoint, position_limit
from trireme.export.graph import Graph
from trireme.export.head import stated_activation
from trireme.export.pair_prompt import write_chat_template
from trireme.export.precision import quiet_logging
from trireme.export.sentence_files import (
    CONFIG_FILE,
    MODULES_FILE,
    PASSAGE_PROMPTS,
    SETTINGS_FILES,
)
from trireme.export.token_measure import (
    KINDS,
    ModuleSession,
    as_array,
    embed_both,
    make_by_definition,
    open_encoder,
)
from trireme.export.tokenizer_file import readable_pieces
from trireme.types import FloatArray, InputType

# Both sides calculate in float32, so that only rounding is allowed: the length of a vector's difference over the
# vector's, a score's difference over the spread of all, or over the largest where they hardly differ.
VECTOR_ERROR = 1e-3
SCORE_ERROR = 0.01
ROUNDING = 1e-4
# Letters and digits, capitals and accents, spaces, several sentences, other scripts, and one beyond any length.
TEXTS = (
    "the harbour is closed",
    "How deep is the Channel at LOW tide, in metres?",
    "naïve café,  two   spaces\tand a tab. A second sentence!",
    "Корабль вышел из гавани. 船は夜明け前に港を出た。",
    "7",
    "Two of its six bearings were worn beyond the limit of 0.08 mm; the seal had hardened. " * 60,
)
_BATCH_TOKENS = 512


def check_reading(recipe: Recipe, checkpoint: Checkpoint, graph: Graph, tokenizer_file: Path) -> None:
    """Raises GateError when a library reads the checkpoint otherwise; UnsupportedError when it cannot read it.

    What the recipe sets is told to the library. Blocks for seconds.
    """
    check = {
        "text_encoder": _check_outputs,
        "late_interaction": _check_outputs,
        "cross_encoder": _check_scores,
        "classifier": _check_labels,
    }
    tokenizer = Tokenizer.load(tokenizer_file, checkpoint.max_length)
    with _folder_for_library(recipe, checkpoint) as folder, readable_pieces(), quiet_logging():
        check[checkpoint.kind](recipe, checkpoint, ModuleSession(graph), tokenizer, folder)


def _check_outputs(
    recipe: Recipe, checkpoint: Checkpoint, session: ModuleSession, tokenizer: Tokenizer, folder: Path
) -> None:
    if "dense" in checkpoint.outputs:
        _check_vectors(recipe, checkpoint, session, tokenizer, folder)
    if checkpoint.rules is None:
        return
    ours = embed_both(open_encoder(checkpoint, session, tokenizer, _BATCH_TOKENS), TEXTS)
    names = [f"{kind} {text!r}" for kind in KINDS for text in TEXTS]
    for output, theirs in _ask_library(recipe, checkpoint, folder).items():
        values = [as_array(one, output, len(theirs[0])) for one in ours]
        for name, one, other in zip(names, values, theirs, strict=True):
            if one.shape != other.shape:
                raise _error(
                    recipe, "the library", f"it makes {len(other)} vectors, we {len(one)}, for {name[:80]}"
                )
        apart = np.array([np.linalg.norm(a - b) for a, b in zip(values, theirs, strict=True)])
        allowed = VECTOR_ERROR * np.array([max(np.linalg.norm(one), ROUNDING) for one in theirs])
        _judge(recipe, f"the library's {output} output", names, apart, allowed)


def _ask_library(recipe: Recipe, checkpoint: Checkpoint, folder: Path) -> dict[str, list[FloatArray]]:
    """What the library makes of TEXTS as queries and then as passages, by output: weights [V], vectors [n, D]."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder

    if checkpoint.tokens.pooling:
        sparse = _load(SparseEncoder, checkpoint, folder)
        _set_length(recipe, checkpoint, sparse)
        return {"sparse": [np.asarray(row.to_dense()) for row in _encode_both(recipe, sparse)]}
    if "dense" not in checkpoint.tokens.outputs:
        multi = _load(MultiVectorEncoder, checkpoint, folder)
        if recipe.max_length is not None:
            multi.max_seq_length = recipe.max_length
            multi[0].document_length = min(multi[0].document_length or recipe.max_length, recipe.max_length)
        return {"multi": [one.numpy() for one in _encode_both(recipe, multi)]}
    # No library of these makes bge-m3's other outputs: its states are theirs, the layers FlagEmbedding's.
    dense = _load(SentenceTransformer, checkpoint, folder)
    _set_length(recipe, checkpoint, dense)
    made = [make_by_definition(checkpoint, dense, text) for _ in KINDS for text in TEXTS]
    return {output: [one[output] for one in made] for output in checkpoint.outputs if output != "dense"}


def _encode_both(recipe: Recipe, library: Any) -> list[Any]:
    options = {"batch_size": 1, "show_progress_bar": False}
    found = []
    for encode, prompt in (
        (library.encode_query, recipe.query_prompt),
        (library.encode_document, recipe.passage_prompt),
    ):
        told = {} if prompt is None else {"prompt": prompt}
        found += list(encode(list(TEXTS), **options, **told))
    return found


def _check_vectors(
    recipe: Recipe, checkpoint: Checkpoint, session: ModuleSession, tokenizer: Tokenizer, folder: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    library = _load(SentenceTransformer, checkpoint, folder)
    # Of a static embedding no library cuts a text, and ours is longer than any that is compared.
    if checkpoint.family is not STATIC:
        _set_length(recipe, checkpoint, library)
    if checkpoint.family is not STATIC and recipe.pooling is not None:
        library[1].pooling_mode = recipe.pooling
    spec = EncoderSpec(
        dimensions=0,
        normalize=checkpoint.normalize,
        query_prompt=checkpoint.query_prompt,
        passage_prompt=checkpoint.passage_prompt,
        max_batch_tokens=_BATCH_TOKENS,
        max_text_bytes=1_000_000,
    )
    encoder = TextEncoder(tokenizer, session, spec)
    kinds: tuple[tuple[InputType, str | None], ...] = (
        ("query", recipe.query_prompt),
        ("passage", recipe.passage_prompt),
    )
    try:
        for kind, prompt in kinds:
            ours = np.stack([embedding.vector for embedding in encoder.embed(TEXTS, kind)])
            theirs = _encode(library, kind, prompt, folder)
            if checkpoint.normalize or recipe.normalize is not None:
                ours, theirs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs))
            if ours.shape != theirs.shape:
                raise _error(recipe, "SentenceTransformer", f"it makes vectors of {theirs.shape[1]} numbers")
            names = [f"{kind} {text!r}" for text in TEXTS]
            allowed = VECTOR_ERROR * np.linalg.norm(theirs, axis=1)
            _judge(recipe, "SentenceTransformer", names, np.linalg.norm(ours - theirs, axis=1), allowed)
    finally:
        encoder.queue.close()


def _encode(library: Any, kind: str, prompt: str | None, folder: Path) -> FloatArray:
    """The library's vectors, texts alone and not in a batch: left padding would move its positions."""
    options: dict[str, Any] = {"batch_size": 1, "show_progress_bar": False}
    prompts = read_optional(folder / CONFIG_FILE).get("prompts") or {}
    passage = next((name for name in PASSAGE_PROMPTS if name in prompts), None)
    if prompt is not None:
        vectors = library.encode(list(TEXTS), prompt=prompt, **options)
    elif passage is None and "query" not in prompts:
        vectors = library.encode(list(TEXTS), **options)
    elif kind == "query":
        vectors = library.encode_query(list(TEXTS), **options)
    else:
        # Named: the library always knows a prompt "document", an empty one where the checkpoint has none.
        vectors = library.encode_document(list(TEXTS), prompt_name=passage, **options)
    return np.asarray(vectors, np.float32)


def _check_scores(
    recipe: Recipe, checkpoint: Checkpoint, session: ModuleSession, tokenizer: Tokenizer, folder: Path
) -> None:
    from sentence_transformers import CrossEncoder as Library

    library = _load(Library, checkpoint, folder)
    _set_length(recipe, checkpoint, library)
    template = PairTemplate.parse(checkpoint.template) if checkpoint.template else None
    spec = RankerSpec(_BATCH_TOKENS, 1_000_000, len(TEXTS), template=template)
    ranker = CrossEncoder(tokenizer, session, spec)
    try:
        requests = [RankRequest(query, TEXTS) for query in TEXTS[:3]]
        ours = np.concatenate([answer.score for answer in ranker.rank(requests).result()])
    finally:
        ranker.close()
    pairs = [(request.query, text) for request in requests for text in TEXTS]
    # The served score is the logit, whatever activation the checkpoint names: the order is the same.
    found = library.predict(pairs, batch_size=1, show_progress_bar=False, activation_fn=torch.nn.Identity())
    logits = np.asarray(found, np.float32).reshape(len(pairs), -1)
    theirs = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    _judge_scores(recipe, "CrossEncoder", [str(pair) for pair in pairs], ours, theirs)


def _check_labels(
    recipe: Recipe, checkpoint: Checkpoint, session: ModuleSession, tokenizer: Tokenizer, folder: Path
) -> None:
    classifier = CrossEncoder(
        tokenizer,
        session,
        RankerSpec(_BATCH_TOKENS, 1_000_000, 1, labels=checkpoint.labels, activation=checkpoint.activation),
    )
    try:
        answers = classifier.classify(TEXTS).result()
    finally:
        classifier.close()
    rows = _classify(recipe, checkpoint, folder)
    for text, answer, row in zip(TEXTS, answers, rows, strict=True):
        theirs = np.array([row.get(label, np.nan) for label in answer.labels], np.float32)
        _judge_scores(
            recipe, "the text-classification pipeline", [repr(text)] * len(row), answer.score, theirs
        )


def _classify(recipe: Recipe, checkpoint: Checkpoint, folder: Path) -> list[dict[str, float]]:
    """The probability of each label by transformers' pipeline, texts alone."""
    import transformers

    config = read_json(checkpoint.transformer_dir / "config.json")
    stated = stated_activation(config, read_optional(folder / CONFIG_FILE))
    names = {"identity": "none"}
    # The pipeline does not know what CrossEncoder writes.
    function = names.get(checkpoint.activation, checkpoint.activation) if stated else None
    place = str(folder / checkpoint.transformer_dir.relative_to(checkpoint.folder))
    try:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            place, **_model_arguments(checkpoint), local_files_only=True, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )
        pipeline = transformers.pipeline(
            "text-classification", model=model, tokenizer=tokenizer, device="cpu"
        )
        length = _check_length(recipe, checkpoint, "the pipeline", tokenizer.model_max_length)
        found = pipeline(
            list(TEXTS),
            top_k=None,
            function_to_apply=function,
            truncation=True,
            max_length=length,
            batch_size=1,
        )
    except GateError:
        raise
    except Exception as error:  # the library raises errors of many kinds
        raise UnsupportedError(f"transformers cannot read {checkpoint.folder}: {error}") from error
    return [{item["label"]: item["score"] for item in row} for row in found]


def _load(library: Any, checkpoint: Checkpoint, folder: Path) -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    try:
        return library(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs=_model_arguments(checkpoint),
        )
    except Exception as error:  # the library raises errors of many kinds
        raise UnsupportedError(f"sentence-transformers cannot read {checkpoint.folder}: {error}") from error


def _model_arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    variant = {"variant": checkpoint.variant} if checkpoint.variant else {}
    return {"dtype": torch.float32, "use_safetensors": True, **variant}


def _set_length(recipe: Recipe, checkpoint: Checkpoint, library: Any) -> None:
    library.max_seq_length = _check_length(
        recipe, checkpoint, "sentence-transformers", library.max_seq_length
    )


def _check_length(recipe: Recipe, checkpoint: Checkpoint, library: str, length: int) -> int:
    """The recipe's length; else the library's, where the model has positions for it. It must be ours."""
    wanted = recipe.max_length or min(length, position_limit(checkpoint))
    if wanted != checkpoint.max_length:
        raise _error(recipe, library, f"it cuts texts at {wanted} tokens, we at {checkpoint.max_length}")
    return wanted


def _judge_scores(
    recipe: Recipe, library: str, names: Sequence[str], ours: FloatArray, theirs: FloatArray
) -> None:
    spread, largest = float(theirs.max() - theirs.min()), float(np.abs(theirs).max())
    allowed = np.full(len(ours), max(SCORE_ERROR * spread, ROUNDING * largest))
    _judge(recipe, library, names, np.abs(ours - theirs), allowed)


def _judge(
    recipe: Recipe, library: str, names: Sequence[str], differences: FloatArray, allowed: FloatArray
) -> None:
    if not np.all(differences <= allowed):
        worst = int(np.argmax(np.nan_to_num(differences - allowed, nan=np.inf)))
        raise _error(
            recipe,
            library,
            f"{differences[worst]:.2g} apart, {allowed[worst]:.2g} allowed, for {names[worst][:80]}",
        )


def _error(recipe: Recipe, library: str, what: str) -> GateError:
    return GateError(
        f"{recipe.model}: {library} makes other numbers of the same checkpoint ({what}); nothing was placed: one of"
        " its files is not read as it is meant; keys that are known to be read are in docs/adding-a-model.md"
    )


@contextmanager
def _folder_for_library(recipe: Recipe, checkpoint: Checkpoint) -> Iterator[Path]:
    """The checkpoint's folder; where files lack what only the library wants, a mirror that has it."""
    added = {path: json.dumps(document) for path, document in _lacking(checkpoint)}
    if recipe.template:
        added[checkpoint.transformer_dir / "chat_template.jinja"] = write_chat_template(recipe.template)
    if not added:
        yield checkpoint.folder
        return
    with TemporaryDirectory() as temporary:
        target = Path(temporary)
        mirror(checkpoint.folder, target)
        for path, text in added.items():
            link = target / path.relative_to(checkpoint.folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.write_text(text, encoding="utf-8")
        yield target


def _lacking(checkpoint: Checkpoint) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Files to complete: Pooling wants the size of its input, a CrossEncoder's Transformer its task."""
    if not (checkpoint.folder / MODULES_FILE).is_file():
        return
    for module in json.loads((checkpoint.folder / MODULES_FILE).read_text(encoding="utf-8")):
        path = checkpoint.folder / module["path"] / "config.json"
        if module["type"].endswith(".Pooling"):
            config = read_json(path)
            if not config.keys() & {"embedding_dimension", "word_embedding_dimension"}:
                yield path, {**config, "embedding_dimension": checkpoint.hidden_size}
    model_type = read_optional(checkpoint.folder / CONFIG_FILE).get("model_type")
    path = checkpoint.transformer_dir / SETTINGS_FILES[0]
    settings = read_optional(path)
    if model_type == "CrossEncoder" and "transformer_task" not in settings:
        yield path, {**settings, "transformer_task": "sequence-classification"}
