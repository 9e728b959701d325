import pytest

from trireme.cli import main
from trireme.commands.reindex import TOLERANCE
from trireme.reindex.compare import DEFAULT_TOLERANCE


def test_the_tolerance_that_help_names_is_the_one_that_is_applied():
    assert TOLERANCE == DEFAULT_TOLERANCE


@pytest.mark.parametrize("arguments", [[], ["--status", "--rollback"], ["--embedding", "a", "--drop"]])
def test_exactly_one_thing_is_asked_for(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["reindex", *arguments])
    assert "--embedding" in capsys.readouterr().err
