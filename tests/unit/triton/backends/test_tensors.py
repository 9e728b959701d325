from trireme.triton.backends.tensors import is_bulk


class Odd:
    def request_id(self):
        return b"a\xd7".decode()


def test_a_request_whose_id_is_no_text_is_no_bulk():
    assert not is_bulk(Odd())
