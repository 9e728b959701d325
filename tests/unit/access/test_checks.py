"""The checks of keys agree with those of the stores whose names they hold."""

from trireme.access.checks import MAX_NAME_BYTES, check_key
from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import Key, digest_of, new_key_id, new_secret
from trireme.retrieve import store


def test_a_tenants_name_may_be_as_long_as_in_the_vector_store():
    assert MAX_NAME_BYTES == store.MAX_NAME_BYTES


def test_a_new_key_of_every_endpoint_may_be_kept():
    check_key(Key(new_key_id(), "t", endpoints=tuple(ENDPOINTS)), digest_of(new_secret()))
