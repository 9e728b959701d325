import pytest

from trireme.errors import UnavailableError
from trireme.locks import hold_lock, share_lock, try_lock


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_lock_is_held_by_one_at_a_time_and_free_again_after_an_error(is_folder, tmp_path):
    path = tmp_path if is_folder else tmp_path / ".lock"

    def hold():
        return hold_lock(path, "wait for the other", is_folder=is_folder)

    with pytest.raises(RuntimeError), hold():
        with pytest.raises(UnavailableError, match="wait for the other"), hold():
            pytest.fail("the block must not run")
        raise RuntimeError
    with hold():
        assert path.exists()


def test_a_folder_that_is_gone_does_not_become_a_file(tmp_path):
    with pytest.raises(FileNotFoundError), hold_lock(tmp_path / "gone", "busy", is_folder=True):
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


def test_a_shared_lock_keeps_out_who_wants_it_alone(tmp_path):
    with (tmp_path / "use.lock").open("ab") as first, (tmp_path / "use.lock").open("ab") as second:
        share_lock(first)
        share_lock(second)
        assert not try_lock(first)
        second.close()
        assert try_lock(first), "the last one may have it alone"


def test_a_lock_of_a_place_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), hold_lock(tmp_path / "none" / ".lock", "busy"):
        pytest.fail("the block must not run")
