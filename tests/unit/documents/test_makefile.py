import io

import pytest

from trireme.documents.formats.makefile import read_makefile
from trireme.documents.source import Limits
from trireme.errors import DocumentError

MAKEFILE = b"""PYTHON ?= python3
# A comment that no user needs.
serve: models $(STAMP)  ## set up | build, and serve on 8080
\t@$(BIN)/trireme serve ## no target

clean::  ## remove what was made
quiet: serve
LATER := x  ## no target either
POSIX ::= x  ## nor this
NOW :::= x  ## nor this
$(STAMP): pyproject.toml  ## nor this
"""


def text_of(content):
    return "".join(read_makefile(io.BytesIO(content), Limits()).parts)


def test_targets_with_a_comment_for_users_become_a_table():
    assert text_of(MAKEFILE) == (
        "| command | what it does |\n| --- | --- |\n"
        "| `make serve` | set up \\| build, and serve on 8080 |\n"
        "| `make clean` | remove what was made |\n"
    )


def test_a_makefile_that_says_nothing_has_no_text():
    assert not text_of(b"all:\n\tcc x.c\n")


def test_a_makefile_that_is_no_text_is_refused():
    with pytest.raises(DocumentError, match="UTF-8"):
        text_of(b"caf\xe9:  ## x\n")
