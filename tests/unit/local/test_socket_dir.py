import pytest

from trireme.local.socket_dir import make_socket_dir, remove_socket_dir


@pytest.fixture
def note(tmp_path):
    return tmp_path / "socket"


def test_the_folder_is_private_and_the_same_next_time(note):
    first = make_socket_dir(note, None)
    assert first.stat().st_mode & 0o777 == 0o700
    remove_socket_dir(first)
    assert not first.exists()
    second = make_socket_dir(note, None)
    assert second == first
    remove_socket_dir(second)


def test_a_folder_that_others_may_enter_is_not_used_again(note):
    first = make_socket_dir(note, None)
    first.chmod(0o755)
    second = make_socket_dir(note, None)
    assert second != first
    remove_socket_dir(first)
    remove_socket_dir(second)


def test_a_note_that_names_another_place_is_ignored(note, tmp_path):
    (tmp_path / "mine").mkdir()
    note.write_text(str(tmp_path / "mine"))
    made = make_socket_dir(note, None)
    assert made != tmp_path / "mine"
    remove_socket_dir(made)


def test_a_folder_of_somebody_else_is_never_removed(tmp_path):
    remove_socket_dir(tmp_path)
    remove_socket_dir(None)
    assert tmp_path.is_dir()
