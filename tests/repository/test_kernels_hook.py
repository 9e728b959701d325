"""The build of the package with and without a compiler; the build backend itself is not needed."""

import runpy
import shutil
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(tmp_path, monkeypatch):
    """build() -> (build_data, warnings) in a tree that holds the sources and libraries of an earlier build."""
    name = "hatchling.builders.hooks.plugin.interface"
    for end in range(1, len(name.split(".")) + 1):
        part = ".".join(name.split(".")[:end])
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules[name].BuildHookInterface = object
    hook_class = runpy.run_path(str(ROOT / "build" / "kernels_hook.py"))["KernelsHook"]
    folder = tmp_path / "src" / "trireme" / "encode" / "kernels"
    folder.mkdir(parents=True)
    for library in ("plain.so", "vnni.so"):
        (folder / library).write_text("of another source")
    observe = tmp_path / "src" / "trireme" / "observe"
    observe.mkdir()
    shutil.copy(ROOT / "src" / "trireme" / "observe" / "revision.py", observe)
    (folder / "encoder.cpp").write_text('extern "C" int trireme_has_vnni() { return 0; }')
    warnings = []

    def run(target="wheel"):
        hook = hook_class()
        hook.root, hook.target_name = str(tmp_path), target
        hook.app = types.SimpleNamespace(display_warning=warnings.append)
        build_data = {"artifacts": []}
        hook.initialize("editable", build_data)
        return build_data, warnings, sorted(path.name for path in folder.glob("*.so"))

    return run


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_that_can_the_package_is_built_without_kernels(compiler, build, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    build_data, warnings, libraries = build()
    assert (build_data, libraries) == ({"artifacts": []}, [])
    assert len(warnings) == 1 and "engine vnni is left out" in warnings[0]


def test_a_source_distribution_compiles_nothing(build, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert build("sdist") == ({"artifacts": []}, [], ["plain.so", "vnni.so"])


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_a_compiler_makes_both_builds_part_of_the_wheel(build):
    build_data, warnings, libraries = build()
    assert (warnings, libraries) == ([], ["plain.so", "vnni.so"])
    assert build_data["pure_python"] is False
    assert [Path(name).name for name in build_data["artifacts"]] == libraries


@pytest.mark.parametrize("said", ["environment", "checkout", "nobody"])
def test_a_wheel_holds_the_revision_of_its_source(said, build, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.delenv("SOURCE_REVISION", raising=False)
    package = tmp_path / "src" / "trireme"
    (package / "REVISION").write_text("of another build")
    if said == "environment":
        monkeypatch.setenv("SOURCE_REVISION", "a" * 40)
    if said == "checkout":
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "HEAD").write_text("a" * 40 + "\n")
    build_data, _, _ = build()
    if said == "nobody":
        assert build_data["artifacts"] == [] and not (package / "REVISION").exists()
    else:
        assert build_data["artifacts"] == ["src/trireme/REVISION"]
        assert (package / "REVISION").read_text() == "a" * 40 + "\n"
