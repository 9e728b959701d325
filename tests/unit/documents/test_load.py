import os
import socket
from pathlib import Path

import pytest

from trireme.documents.load import Skipped, Source, load, load_file, open_all
from trireme.errors import DocumentError, InvalidInputError, NotFoundError
from trireme.types import Document


def test_a_folder_is_read_recursively_in_sorted_order_with_relative_ids(tmp_path, documents_of):
    for name in ("b/z.txt", "b/a.md", "a.txt", ".git/config.txt", "b/.hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [document.id for document in documents_of(tmp_path)] == ["a.txt", "b/a.md", "b/z.txt"]


def test_files_that_cannot_be_read_are_named_with_the_reason_and_the_others_are_loaded(
    tmp_path, pdf, encrypted_pdf, documents_of
):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "torn.pdf").write_bytes(pdf("text")[:150])
    (tmp_path / "not.pdf").write_bytes(b"this is no PDF")
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    encrypted_pdf(tmp_path / "locked.pdf", "secret")
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["good.txt"]
    reasons = dict(skipped.files)
    assert set(reasons) == {"latin1.txt", "empty.md", "torn.pdf", "not.pdf", "scan.pdf", "locked.pdf"}
    assert "UTF-8" in reasons["latin1.txt"]
    assert "encrypted" in reasons["locked.pdf"]
    assert "no text" in reasons["empty.md"]
    assert "no text" in reasons["scan.pdf"]
    assert any(line.startswith("latin1.txt: ") for line in skipped.lines())


def test_unknown_suffixes_are_counted(tmp_path, documents_of):
    for name in ("a.png", "b.PNG", "Dockerfile", "c.TXT"):
        (tmp_path / name).write_text("text")
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["c.TXT"]
    assert skipped.unknown_suffixes == {".png": 2, "(none)": 1}
    assert skipped.count == 3


def test_licences_and_makefiles_are_known_by_their_names(tmp_path, documents_of):
    (tmp_path / "LICENSE").write_text("You may copy it.")
    (tmp_path / "Makefile").write_text("help:  ## list the targets\n\t@sed Makefile\n")
    documents = {document.id: document for document in documents_of(tmp_path)}
    assert documents["LICENSE"].title == "LICENSE"
    assert "".join(documents["LICENSE"].parts) == "You may copy it."
    assert "| `make help` | list the targets |" in "".join(documents["Makefile"].parts)
    [alone] = documents_of(tmp_path / "LICENSE")
    assert alone.id == "LICENSE"


def test_links_that_leave_the_folder_are_not_followed(tmp_path, documents_of):
    root = tmp_path / "root"
    outside = tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    (outside / "secret.txt").write_text("secret")
    (root / "real.txt").write_text("text")
    (root / "file-out.txt").symlink_to(outside / "secret.txt")
    (root / "folder-out").symlink_to(outside)
    (root / "inside.txt").symlink_to(root / "real.txt")
    (root / "dangling.txt").symlink_to(root / "missing.txt")
    (root / "round.txt").symlink_to(root / "round.txt")
    (root / "folder-in").symlink_to(root)
    skipped = Skipped()
    assert [document.id for document in documents_of(root, skipped)] == ["inside.txt", "real.txt"]
    reasons = dict(skipped.files)
    assert set(reasons) == {"file-out.txt", "folder-out", "dangling.txt", "round.txt"}
    assert "leads out of the folder" in reasons["file-out.txt"]
    assert "leads out of the folder" in reasons["folder-out"]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="missing"):
        list(load(tmp_path / "missing"))


def test_a_single_file_of_unknown_type_is_refused(tmp_path):
    (tmp_path / "a.odt").write_text("text")
    with pytest.raises(InvalidInputError, match=r"a\.odt.*\.docx.*\.pdf"):
        list(load(tmp_path / "a.odt"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_skipped(tmp_path, reason_of):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    assert "Permission denied" in reason_of(tmp_path)


def test_the_digest_is_known_without_parsing_and_changes_with_the_bytes_and_the_fingerprint(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"never parsed, as it is no PDF")

    def digest(fingerprint: str = "256 tokens") -> str:
        (source,) = load(tmp_path, fingerprint=fingerprint)
        return source.digest

    first = digest()
    assert len(first) == 64
    with pytest.raises(DocumentError):
        next(load(tmp_path)).open()
    assert digest() == first
    assert digest("512 tokens") != first
    os.utime(tmp_path / "a.pdf", (0, 0))
    assert digest() == first
    (tmp_path / "a.pdf").write_bytes(b"never parsed, as it is no PDF.")
    assert digest() != first


def test_bad_sources_have_an_id_no_digest_and_a_reason(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (source,) = load(tmp_path)
    assert (source.id, source.digest, source.size) == ("empty.txt", "", 0)
    for _ in range(2):
        with pytest.raises(DocumentError, match="it is empty"):
            source.open()


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.pdf", "a.docx"])
def test_an_empty_file_is_named(tmp_path, name, reason_of):
    (tmp_path / name).write_bytes(b"")
    assert reason_of(tmp_path) == "it is empty"


@pytest.mark.parametrize("name", ["pipe.txt", "pipe.pdf", "pipe.docx"])
def test_a_pipe_in_the_folder_does_not_block(tmp_path, name, documents_of):
    os.mkfifo(tmp_path / name)
    (tmp_path / "z.txt").write_text("text")
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["z.txt"]
    assert skipped.files == [(name, "it is not a regular file")]


def test_sockets_and_devices_are_named(tmp_path, documents_of):
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "held.txt"))
        (tmp_path / "zero.txt").symlink_to("/dev/zero")
        skipped = Skipped()
        assert documents_of(tmp_path, skipped) == []
    assert dict(skipped.files)["held.txt"] == "it is not a regular file"
    assert "leads out" in dict(skipped.files)["zero.txt"]


def test_a_pipe_that_takes_the_place_of_a_file_between_looking_and_opening_does_not_block(
    tmp_path, monkeypatch
):
    (tmp_path / "a.txt").write_text("text")
    look = Path.lstat

    def swap(path: Path) -> os.stat_result:
        found = look(path)
        if path.name == "a.txt":
            path.unlink()
            os.mkfifo(path)
        return found

    monkeypatch.setattr(Path, "lstat", swap)
    (source,) = load(tmp_path)
    with pytest.raises(DocumentError, match="not a regular file"):
        source.open()


def test_a_file_that_vanishes_before_it_is_opened_is_named(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text")
    sources = list(load(tmp_path))
    (tmp_path / "a.txt").unlink()
    skipped = Skipped()
    assert [document.id for document in open_all(iter(sources), skipped)] == ["b.txt"]
    assert skipped.files == [("a.txt", "it cannot be read: No such file or directory")]


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("text\n" * 1_000_000)
    (source,) = load(tmp_path)
    parts = iter(source.open().parts)
    next(parts)
    with file.open("a") as more:
        more.write("more")
    with pytest.raises(DocumentError, match="changed while it was read"):
        list(parts)
    (source,) = load(tmp_path)
    file.write_text("other")
    with pytest.raises(DocumentError, match="changed while it was read"):
        list(source.open().parts)


def test_an_error_of_the_disk_names_that_file_alone(tmp_path, monkeypatch, documents_of):
    """Root reads every file, so the system's refusal is played."""
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_text("text")
    real = os.open

    def refuse(path, *arguments, **options):
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["b.txt"]
    assert skipped.files == [("a.txt", "it cannot be read: Permission denied")]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch, documents_of):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("text")
    real = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["b.txt"]
    assert skipped.files == [("a", "it cannot be read: Permission denied")]


def test_names_that_are_not_utf8_or_too_long_are_named(tmp_path, documents_of):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("text")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/x.\xe9")).write_text("text")
    deep = tmp_path.joinpath(*(letter * 250 for letter in "abcdefghi"))
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_text("text")
    skipped = Skipped()
    assert documents_of(tmp_path, skipped) == []
    (name, reason), (long_name, long_reason) = skipped.files
    assert name == "caf\\xe9.txt"
    assert "not UTF-8" in reason
    assert "bytes" in long_reason
    assert long_name.endswith("deep.txt")
    assert skipped.unknown_suffixes == {".\\xe9": 1}
    "".join(skipped.lines()).encode()


def test_more_bytes_than_the_limit_are_refused_by_size_alone_naming_the_setting(tmp_path, reason_of):
    with (tmp_path / "huge.txt").open("wb") as sparse:
        sparse.truncate(2 << 30)
    reason = reason_of(tmp_path)
    assert "2,147,483,648 bytes" in reason
    assert "TRIREME_MAX_DOCUMENT_BYTES" in reason


def test_a_source_is_frozen():
    with pytest.raises(AttributeError):
        Source("a", "", 0, lambda: Document("a", "", (), "a")).id = "b"


def test_one_file_is_read_under_a_name_of_its_own(tmp_path):
    (tmp_path / "upload.md").write_text("text without a heading")
    source = load_file(tmp_path / "upload.md", "Notes of Ann")
    document = source.open()
    assert (source.id, document.id, document.title, document.source) == ("Notes of Ann",) * 4
    assert source.digest == next(load(tmp_path / "upload.md")).digest


def test_one_file_that_cannot_be_read_says_why_when_it_is_opened(tmp_path):
    (tmp_path / "upload.md").write_text("")
    with pytest.raises(DocumentError, match="it is empty"):
        load_file(tmp_path / "upload.md", "a").open()
    with pytest.raises(DocumentError, match="it cannot be read"):
        load_file(tmp_path / "none.md", "a").open()
