import sys
from dataclasses import replace
from importlib.metadata import version
from types import ModuleType

from trireme.artifacts.inputs import Inputs, hash_folder, read_tools
from trireme.artifacts.manifest import hash_file, hash_json
from trireme.checkpoints.source import SAFE_SUFFIXES


def test_versions_are_those_that_are_installed():
    found = read_tools(["numpy", "no-such-package"])
    assert found == {"numpy": version("numpy"), "no-such-package": "not installed"}


def test_a_tool_without_package_metadata_tells_its_version_itself(monkeypatch):
    module = ModuleType("loosetool")
    module.__version__ = "1.2"
    monkeypatch.setitem(sys.modules, "loosetool", module)
    assert read_tools(["loosetool"]) == {"loosetool": "1.2"}


def test_recipe_files_and_tools_each_make_another_digest():
    inputs = Inputs({"precision": "int8"}, {"files": {"a": "1"}}, {"torch": "2"})
    assert inputs.digest == Inputs({"precision": "int8"}, {"files": {"a": "1"}}, {"torch": "2"}).digest
    others = (
        replace(inputs, recipe={"precision": "fp32"}),
        replace(inputs, read={"files": {"a": "2"}}),
        replace(inputs, tools={"torch": "3"}),
    )
    assert len({inputs.digest, *(other.digest for other in others)}) == 4


def test_the_digest_is_that_of_versions_that_are_placed_already():
    document = {"recipe": {"kind": "generator"}, "files": {"a": "1"}, "tools": {"torch": "2"}}
    inputs = Inputs(document["recipe"], {"files": document["files"]}, document["tools"])
    assert inputs.digest == hash_json(document)


def test_a_folder_is_hashed_by_the_files_that_matter(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.json", "sub/b.json", "c.md"):
        (tmp_path / name).write_text(name)
    found = hash_folder(tmp_path, (".json",))
    assert found == {name: hash_file(tmp_path / name) for name in ("a.json", "sub/b.json")}
    assert list(hash_folder(tmp_path, (".json",), pattern="*")) == ["a.json"]
    assert list(hash_folder(tmp_path, without="a.json")) == ["c.md", "sub/b.json"]


def test_what_the_hubs_client_notes_beside_a_download_is_no_part_of_a_checkpoint(tmp_path):
    notes = tmp_path / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    for path in (tmp_path / "config.json", tmp_path / "artifact.metadata", notes / "config.json.metadata"):
        path.write_text("{}")
    assert list(hash_folder(tmp_path, SAFE_SUFFIXES)) == ["artifact.metadata", "config.json"]
