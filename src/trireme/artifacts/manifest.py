"""The manifest of a built model (manifest.json): what its files are, and how near to the original."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from trireme.artifacts.encoder_engines import COMPARED_FILES, ENGINES, GRAPH_FILE, GRAPH_WEIGHTS_FILE
from trireme.artifacts.kinds import KINDS
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.artifacts.tuning import Tuning, parse_tuning
from trireme.errors import ArtifactError, SettingError
from trireme.types import Embedder, TokenRules

MANIFEST_FILE = "manifest.json"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
# Share of false hits -> threshold, of a model whose score decides: {"0.01": 0.8}.
THRESHOLDS_FILE = "thresholds.json"
# What each engine of encoders loads.
ENCODER_FILES = {engine.name: engine.files for engine in ENGINES.values()}
FORMAT_VERSION = 1

# Below a version's folder, those of each adapter in a folder of its name.
ADAPTERS_FOLDER = "adapters"
_ADAPTER_FILE = re.compile(rf"{ADAPTERS_FOLDER}/[A-Za-z0-9][A-Za-z0-9_.-]*/[a-z_]+\.(json|safetensors)")
# So are layers behind an encoder's pooling.
_LAYER_FILE = re.compile(r"[0-9]+_Dense/(config\.json|model\.safetensors)")
_READ_BYTES = 1 << 20
# Fields of a manifest that decide what its model answers.
_OF_VERSION = (
    "kind",
    "files",
    "dimensions",
    "max_length",
    "pooling",
    "normalize",
    "query_prompt",
    "passage_prompt",
    "labels",
    "activation",
    "engine",
    "needs_prior",
    "template",
    "outputs",
    "token_rules",
    "adapters",
)
# Of these those that are empty are left out, as versions were told apart before there were any.
_LEFT_OUT_EMPTY = ("template", "outputs", "token_rules", "adapters")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One built version of one model. `files` maps a name to its sha256 in hex, `sizes` to its bytes.

    `dimensions` is the length of the output row: the vector's, or the number of logits. `max_length` is
    in tokens; for a generator it holds prompt and answer.
    `figures` holds parity figures, `quality` per data set the nDCG@10 `before` and `after`.
    """

    model: str
    kind: str
    source: str
    revision: str
    precision: str
    dimensions: int
    max_length: int
    files: dict[str, str]
    sizes: dict[str, int]
    pooling: str = ""
    normalize: bool = False
    query_prompt: str = ""
    passage_prompt: str = ""
    labels: tuple[str, ...] = ()
    activation: str = ""
    # Of an encoder: which files it has, and what runs them.
    engine: str = "onnx"
    needs_prior: bool = False
    # The text that a reranker reads a pair in, with {query} and {passage}; "" for the tokenizer's own pair.
    template: str = ""
    # What an encoder makes of a text, of contracts.ENCODER_OUTPUTS; () means dense, as in recipes. Without dense
    # `dimensions` is 0.
    outputs: tuple[str, ...] = ()
    # How its vectors are meant to be compared: dot, euclidean or manhattan; "" for cosine.
    similarity: str = ""
    # Where there are other outputs than dense.
    token_rules: TokenRules | None = None
    figures: dict[str, float] = field(default_factory=dict)
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    # sha256 over recipe, source files and tools: equal means a build would make the same files.
    inputs_digest: str = ""
    # Of a generator: the LoRAs that a request may choose among, by name with their rank, in their order.
    adapters: dict[str, int] = field(default_factory=dict)
    # How the serving settings were found; a build has none.
    tuning: Tuning | None = None

    @property
    def embedder(self) -> Embedder:
        """The identity of the vectors this model makes: changes when, and only when, they may."""
        identity: dict[str, Any] = {
            "files": self._answering_files,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "query_prompt": self.query_prompt,
            "passage_prompt": self.passage_prompt,
            "max_length": self.max_length,
            "dimensions": self.dimensions,
        }
        if self.outputs:
            identity |= {
                "outputs": self.outputs,
                "token_rules": self.token_rules and asdict(self.token_rules),
            }
        return Embedder(hash_json(identity), self.dimensions)

    @property
    def version(self) -> str:
        """What answers, in hex: of the files, and of what is done with them.

        Not of when, from where and by which tools they were made, nor of how they were measured or are served: the
        same bytes, built again, are the same version.
        """
        said = {name: getattr(self, name) for name in _OF_VERSION} | {"files": self._answering_files}
        if self.token_rules is not None:
            said["token_rules"] = asdict(self.token_rules)
        return hash_json(
            {name: value for name, value in said.items() if value or name not in _LEFT_OUT_EMPTY}
        )

    @property
    def _answering_files(self) -> dict[str, str]:
        """Without those that a model is only compared by."""
        return {name: digest for name, digest in self.files.items() if name not in COMPARED_FILES}

    @property
    def total_bytes(self) -> int:
        """Size of all files of the version, in bytes."""
        return sum(self.sizes.values())


def check_searchable(manifest: Manifest) -> None:
    """Raises SettingError for an embedding model whose vectors search, by cosine, would not rank as they are meant.

    Vectors of unit length have one order by cosine, by dot product and by euclidean distance.
    """
    named = {"dot": "the dot product", "euclidean": "euclidean distance", "manhattan": "manhattan distance"}
    # Sparse weights are compared by the dot product, as they are meant.
    means = named.get(manifest.similarity) if manifest.dimensions else None
    if means is None or (manifest.normalize and manifest.similarity != "manhattan"):
        return
    ways = (
        ""
        if manifest.similarity == "manhattan"
        else "build it with --normalize, which makes both one order, or "
    )
    raise SettingError(
        f"model {manifest.model!r} is meant to be compared by {means}, and search compares by cosine, which ranks"
        f" its vectors otherwise: {ways}take another model for collections"
    )


def write_manifest(version_dir: Path, manifest: Manifest) -> None:
    """Writes manifest.json into `version_dir`, which must exist."""
    (version_dir / MANIFEST_FILE).write_text(format_manifest(manifest), encoding="utf-8")


def format_manifest(manifest: Manifest) -> str:
    """The text of manifest.json; the key `tuning` is there only where the model was tuned."""
    document = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    if manifest.tuning is None:
        del document["tuning"]
    for name in ("outputs", "similarity", "token_rules", "adapters"):
        if not document[name]:
            del document[name]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_manifest(version_dir: Path) -> Manifest:
    """The manifest of `version_dir`. Raises ArtifactError naming the file and the command to rebuild it."""
    path = version_dir / MANIFEST_FILE
    rebuild = rebuild_command(version_dir.parent)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ArtifactError(f"{path} is missing; build the model with: {rebuild}") from None
    except ValueError:
        raise ArtifactError(f"{path} is not valid JSON; rebuild the model with: {rebuild} --force") from None
    try:
        return _parse(document)
    except ValueError as error:
        raise ArtifactError(f"{path} {error}; rebuild the model with: {rebuild} --force") from None


def verify_files(version_dir: Path, manifest: Manifest) -> None:
    """Reads every file and compares its sha256. Raises ArtifactError naming the first that differs."""
    rebuild = rebuild_command(version_dir.parent)
    for name, expected in manifest.files.items():
        path = version_dir / name
        try:
            found = hash_file(path)
        except OSError:
            raise ArtifactError(f"{path} is missing; rebuild the model with: {rebuild} --force") from None
        if found != expected:
            raise ArtifactError(
                f"{path} is not the file in the manifest (sha256 {found[:12]}..., not {expected[:12]}...);"
                f" rebuild the model with: {rebuild} --force"
            )


def rebuild_command(model_dir: Path) -> str:
    """The command line that builds the model in `model_dir`."""
    path = model_dir / RECIPE_FILE
    try:
        builder = read_recipe(path).traits.builder
    except SettingError:
        builder = ""
    return f"python build/{builder or 'export_encoder'}.py --recipe {path}"


def hash_file(path: Path) -> str:
    """sha256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def hash_json(document: Any) -> str:
    """sha256, in hex, of the canonical JSON of `document` (sorted keys, no spaces)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(document: Any) -> Manifest:
    if not isinstance(document, dict) or document.pop("format_version", None) != FORMAT_VERSION:
        raise ValueError(f"is not of format version {FORMAT_VERSION}")
    known = {spec.name for spec in fields(Manifest)}
    if unknown := set(document) - known:
        raise ValueError(f"has an unknown key {min(unknown)!r}")
    for name in ("labels", "outputs"):
        document[name] = tuple(document.get(name, ()))
    if "tuning" in document:
        document["tuning"] = parse_tuning(document["tuning"])
    try:
        if "token_rules" in document:
            document["token_rules"] = _parse_rules(document["token_rules"])
        manifest = Manifest(**document)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"lacks a key ({error})") from None
    _check_types(manifest)
    return manifest


def _parse_rules(document: dict[str, Any]) -> TokenRules:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    return TokenRules(**values)


def _check_types(manifest: Manifest) -> None:
    expected = {"str": str, "int": int, "bool": bool, "tuple": tuple, "dict": dict}
    for spec in fields(Manifest):
        if spec.name in ("tuning", "token_rules"):
            continue
        wanted = expected[str(spec.type).split("[", maxsplit=1)[0]]
        if type(getattr(manifest, spec.name)) is not wanted:
            raise ValueError(f"has a {spec.name!r} that is not a {wanted.__name__}")
    if any(Path(name).name != name and not _is_below(name) for name in manifest.files):
        raise ValueError("names a file outside its own folder")
    for name, rank in manifest.adapters.items():
        # The engine opens a folder of that name.
        if (
            not _ADAPTER_FILE.fullmatch(f"{ADAPTERS_FOLDER}/{name}/x.json")
            or type(rank) is not int
            or rank < 1
        ):
            raise ValueError(f"has the adapter {name[:40]!r}: {str(rank)[:40]}, which no build makes")
    if missing := _required_files(manifest) - set(manifest.files):
        raise ValueError(f"does not list {min(missing)}")


def _is_below(name: str) -> bool:
    """Whether a file's name is one of those that lie in a folder of the version's."""
    return bool(_ADAPTER_FILE.fullmatch(name) or _LAYER_FILE.fullmatch(name))


def _required_files(manifest: Manifest) -> set[str]:
    """Without these nothing can be loaded. A generator is an OpenVINO graph, or a checkpoint for the GPU."""
    if manifest.kind not in KINDS or not KINDS[manifest.kind].is_generator:
        return {*ENCODER_FILES.get(manifest.engine, ()), TOKENIZER_FILE}
    if any(name.endswith(".safetensors") for name in manifest.files if "/" not in name):
        return {CONFIG_FILE, TOKENIZER_FILE}
    return {GRAPH_FILE, GRAPH_WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE}
