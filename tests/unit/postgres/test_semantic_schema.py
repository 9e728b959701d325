"""Names of the semantic cache's tables and indexes."""

import pytest

from trireme.errors import InvalidInputError
from trireme.postgres.semantic_schema import index_of, table_of


def test_another_embedder_or_size_has_another_table():
    names = {table_of(*one) for one in (("a", 384), ("b", 384), ("a", 385), ("a|3", 84))}
    assert len(names) == 4


def test_names_fit_and_hold_nothing_of_what_they_are_made_of():
    name = index_of(table_of("x'; DROP TABLE keys; --" * 9, 384), "p'\"; \x00" * 50)
    assert len(name) <= 63
    assert name.replace("_", "").isalnum()


@pytest.mark.parametrize("dimensions", [0, -1, 4001])
def test_dimensions_that_no_index_holds_are_refused(dimensions):
    with pytest.raises(InvalidInputError, match="dimensions"):
        table_of("a", dimensions)
