import mmap

from trireme.triton.shared_memory import make_private, remove_leftovers

NAME = "triton_rag_backend_shm_region_35af6f5b-5dd0-4543-b874-c8d5be5b5cb5"


def test_files_that_no_process_has_are_removed_and_others_stay(tmp_path):
    (tmp_path / NAME).write_bytes(b"text of a request")
    (tmp_path / "PostgreSQL.1").write_bytes(b"")
    (tmp_path / "triton_python_backend_shm_region_2").write_bytes(b"")
    assert sorted(remove_leftovers(tmp_path)) == sorted([NAME, "triton_python_backend_shm_region_2"])
    assert [path.name for path in tmp_path.iterdir()] == ["PostgreSQL.1"]


def test_a_file_that_a_process_has_mapped_stays(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(b"0" * mmap.PAGESIZE)
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert remove_leftovers(tmp_path) == []
    mapped.close()
    assert remove_leftovers(tmp_path) == [NAME]


def test_a_file_that_a_process_has_open_stays(tmp_path):
    path = tmp_path / NAME
    with path.open("w+b"):
        assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path) == [NAME]


def test_a_missing_folder_is_no_error(tmp_path):
    assert remove_leftovers(tmp_path / "none") == []


def test_what_this_process_has_mapped_becomes_private(tmp_path):
    mine, other = tmp_path / NAME, tmp_path / (NAME + "2")
    for path in (mine, other):
        path.write_bytes(b"0" * mmap.PAGESIZE)
        path.chmod(0o644)
    with mine.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    make_private(tmp_path)
    mapped.close()
    assert [path.stat().st_mode & 0o777 for path in (mine, other)] == [0o600, 0o644]
