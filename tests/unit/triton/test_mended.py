from hashlib import sha256

import pytest

from trireme.triton.mended import MENDS, Mend, read_mended
from trireme.triton.server import find_server

CONTENT = b"0123456789"
MEND = Mend(sha256(CONTENT).hexdigest(), 3, b"345", b"abc")


def test_the_file_that_a_mend_is_for_is_mended(tmp_path):
    (tmp_path / "server").write_bytes(CONTENT)
    assert read_mended(tmp_path / "server", [MEND]) == b"012abc6789"


def test_any_other_file_stays_as_it_is(tmp_path):
    (tmp_path / "server").write_bytes(CONTENT + b"!")
    assert read_mended(tmp_path / "server", [MEND]) == CONTENT + b"!"


def test_bytes_that_are_not_there_are_not_replaced(tmp_path):
    (tmp_path / "server").write_bytes(CONTENT)
    with pytest.raises(ValueError, match="not there"):
        read_mended(tmp_path / "server", [Mend(MEND.digest, 4, b"345", b"abc")])


def test_the_mends_are_for_the_pinned_server_and_change_no_length():
    files = find_server()
    digests = set()
    for source in (files.binary, *files.python_backend):
        before, after = source.read_bytes(), read_mended(source)
        assert len(after) == len(before)
        if after != before:
            digests.add(sha256(before).hexdigest())
    assert digests == {mend.digest for mend in MENDS}
    assert all(len(mend.before) == len(mend.after) for mend in MENDS)
