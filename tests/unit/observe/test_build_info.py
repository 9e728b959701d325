from importlib.metadata import version

from trireme.observe.build_info import read_build
from trireme.observe.revision import find_revision


def test_a_release_without_a_name_is_version_and_revision(monkeypatch):
    monkeypatch.setattr("trireme.observe.build_info.find_revision", lambda package: "0123456789" * 4)
    build = read_build()
    assert (build.version, build.revision) == (version("trireme"), "0123456789" * 4)
    assert build.release == f"{version('trireme')}-0123456"


def test_a_release_is_called_as_it_was_named():
    assert read_build("blue-2").release == "blue-2"


def test_without_a_revision_the_release_is_the_version(monkeypatch):
    monkeypatch.setattr("trireme.observe.build_info.find_revision", lambda package: "")
    assert read_build().release == version("trireme")


def test_the_revision_is_that_of_this_package():
    from pathlib import Path

    import trireme

    assert read_build().revision == find_revision(Path(trireme.__file__).parent)
