import pytest

from trireme.errors import NotFoundError
from trireme.triton.backends.tensors import is_bulk
from trireme.triton.wire import strip_code, write_code


def test_a_code_that_was_written_is_read_again():
    assert strip_code(write_code(NotFoundError("no collection 'x'"))) == ("NOT_FOUND", "no collection 'x'")


@pytest.mark.parametrize(
    "message, code, text",
    [
        (
            "in ensemble 'search', [INVALID_ARG] text is empty",
            "INVALID_ARG",
            "in ensemble 'search', text is empty",
        ),
        ("unexpected shape for input 'text'", "", "unexpected shape for input 'text'"),
        ("[REQUEST] of somebody", "", "[REQUEST] of somebody"),
        ("text is [INVALID_ARG] in the middle", "", "text is [INVALID_ARG] in the middle"),
    ],
)
def test_only_a_code_in_front_or_behind_the_ensemble_is_one(message, code, text):
    assert strip_code(message) == (code, text)


class Odd:
    def request_id(self):
        return b"a\xd7".decode()


def test_a_request_whose_id_is_no_text_is_no_bulk():
    assert not is_bulk(Odd())
