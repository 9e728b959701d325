import pytest

from trireme.errors import SettingError
from trireme.postgres.caps import PostgresCaps
from trireme.postgres.keys import PostgresKeys
from trireme.postgres.ledger import PostgresLedger
from trireme.postgres.store import PostgresStore
from trireme.storage import open_caps, open_keys, open_ledger, open_store


def test_the_scheme_chooses_the_store():
    assert isinstance(open_store("postgresql://localhost/x"), PostgresStore)
    assert isinstance(open_store("postgres://localhost/x"), PostgresStore)
    assert isinstance(open_keys("postgresql://localhost/x"), PostgresKeys)
    assert isinstance(open_caps("postgresql://localhost/x"), PostgresCaps)
    assert isinstance(open_ledger("postgresql://localhost/x"), PostgresLedger)


@pytest.mark.parametrize(
    "url", ["", "memory://", "mysql://user:secret@host/x", "postgresql", "host=localhost password=secret"]
)
def test_a_url_of_no_known_store_is_refused_without_repeating_it(url):
    for opener in (open_store, open_keys, open_caps, open_ledger):
        with pytest.raises(SettingError, match="postgresql://") as caught:
            opener(url)
        assert "secret" not in str(caught.value)
