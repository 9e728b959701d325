"""Scripts, benchmarks and tests import what is there: nobody runs all of them, and a renamed class is missed."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("build", "benchmarks", "defaults", "tests", "python_backends")
FILES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "python/" not in str(path)
)
OURS = ("trireme", "benchmarks", "fakes", "chaos", "fuzz")


def ours_of(path: Path) -> list[ast.ImportFrom]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        node
        for node in tree
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS and not node.level
    ]


def names_of(module: str) -> set[str]:
    """What a module of ours defines or imports, read and not imported."""
    top = module.split(".", maxsplit=1)[0]
    base = {"trireme": ROOT / "src", "benchmarks": ROOT}.get(top, ROOT / "tests")
    at = base / module.replace(".", "/")
    file = at.with_suffix(".py") if at.with_suffix(".py").is_file() else at / "__init__.py"
    assert file.is_file(), f"there is no module {module}"
    names = {path.stem for path in at.glob("*.py")} | {path.name for path in at.glob("*") if path.is_dir()}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_of_ours_is_there(path):
    for node in ours_of(path):
        missing = {alias.name for alias in node.names} - names_of(node.module)
        assert not missing, f"{node.module} has no {', '.join(sorted(missing))}"
