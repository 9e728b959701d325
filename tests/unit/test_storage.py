import pytest

from trireme.errors import SettingError
from trireme.postgres.store import PostgresStore
from trireme.storage import open_store


def test_the_scheme_chooses_the_store():
    assert isinstance(open_store("postgresql://localhost/x"), PostgresStore)
    assert isinstance(open_store("postgres://localhost/x"), PostgresStore)


@pytest.mark.parametrize(
    "url", ["", "memory://", "mysql://user:secret@host/x", "postgresql", "host=localhost password=secret"]
)
def test_a_url_of_no_known_store_is_refused_without_repeating_it(url):
    with pytest.raises(SettingError, match="postgresql://") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
