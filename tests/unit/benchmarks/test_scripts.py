"""Every script starts as a module, and no two modules import one another."""

import ast
import subprocess
import sys

import pytest

from benchmarks.common.report import PROJECT

BENCHMARKS = PROJECT / "benchmarks"
SCRIPTS = (
    "encoders.run",
    "search.quality",
    "search.answers",
    "search.relevance",
    "search.domains",
    "ingestion.run",
    "generation.run",
    "gateway.run",
    "gateway.rivals",
    "gateway.upstream",
    "gateway.budgets",
    "gateway.cost",
    "cascade.collect",
    "cascade.run",
    "caching.lookups",
    "caching.replay",
    "caching.saved",
    "envoy.run",
    "regions.run",
    "regions.demo",
    "generation.random_llm",
    "quantization.run",
    "quantization.source_grid",
    "gpu.quantized",
    "scaling.run",
    "rivals.setup",
    "once.vector_storage",
    "once.export_cost",
)


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False, cwd=PROJECT
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_tells_its_options(script):
    done = run(f"benchmarks.{script}", "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout and "Traceback" not in done.stderr


def test_a_missing_folder_ends_with_one_sentence(tmp_path):
    done = run("benchmarks.search.quality", "--data", str(tmp_path / "absent"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def read_imports():
    """Module -> the modules of benchmarks that it imports, at any time."""
    found = {}
    for path in BENCHMARKS.rglob("*.py"):
        name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        named = [node.module or "" for node in nodes]
        named += [f"{node.module}.{alias.name}" for node in nodes for alias in node.names]
        found[name] = set(named)
    return {name: modules & set(found) - {name} for name, modules in found.items()}


def test_no_module_imports_itself_in_a_circle():
    imports = read_imports()
    assert imports["benchmarks.encoders.run"] > {"benchmarks.encoders.models", "benchmarks.common.report"}
    while leaves := {name for name, modules in imports.items() if not modules & set(imports)}:
        imports = {name: modules for name, modules in imports.items() if name not in leaves}
    assert imports == {}
