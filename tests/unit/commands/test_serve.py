from pathlib import Path

from trireme.commands.serve import name_repository
from trireme.settings import Settings


def test_other_commands_are_told_the_repository_unless_they_take_it_anyway():
    assert name_repository(Settings()) == []
    other = Settings(model_repository=Path("defaults/multi lingual"))
    assert name_repository(other) == ["export TRIREME_MODEL_REPOSITORY='defaults/multi lingual'"]
