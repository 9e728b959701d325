import re
from pathlib import Path

import pytest

from trireme.artifacts import encoder_engines
from trireme.artifacts.encoder_engines import (
    ENGINES,
    EncoderEngine,
    check_engine,
    default_engine,
    describe_engines,
)
from trireme.artifacts.kinds import KINDS
from trireme.artifacts.manifest import ENCODER_FILES
from trireme.encode.engines.table import OPENERS
from trireme.errors import SettingError
from trireme.export.writers import WRITERS

PRECISIONS = KINDS["text_encoder"].precisions
PAGE = Path(__file__).parents[3] / "docs" / "adding-a-model.md"
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def check(name, target="cpu", precision="fp32", has_adapter=False):
    check_engine(name, target=target, precision=precision, has_adapter=has_adapter)


def test_every_engine_has_a_row_a_writer_and_an_opener():
    assert set(ENGINES) == set(OPENERS) == set(WRITERS)


def test_the_page_of_models_says_what_the_rows_say():
    section = PAGE.read_text(encoding="utf-8").split("## Which engine runs it\n", 1)[1].split("\n## ", 1)[0]
    rows = {name: (precisions, purpose) for name, precisions, purpose in ROW.findall(section)}
    assert set(rows) == set(ENGINES)
    for engine in ENGINES.values():
        precisions, purpose = rows[engine.name]
        assert set(re.sub(r"\([^)]*\)", "", precisions).replace(",", " ").split()) == set(engine.precisions)
        assert ("static" in precisions) == engine.is_calibrated
        assert ("GPU" in purpose) == ("gpu" in engine.targets)
        assert ("no reranker with an adapter" in purpose) == (not engine.runs_adapters)


def test_every_row_can_be_followed():
    for engine in ENGINES.values():
        assert set(engine.targets) <= {"cpu", "gpu"}
        assert set(engine.precisions) <= set(PRECISIONS)
        assert engine.files == ENCODER_FILES[engine.name]
        if engine.fallback:
            for target in engine.targets:
                for precision in engine.precisions:
                    check(engine.fallback, target, precision)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_is_taken_by_default_that_runs_the_model_unless_none_does(precision, target):
    name = default_engine(target, precision)
    if any(precision in one.precisions for one in ENGINES.values() if one.is_default):
        check(name, target, precision)
    else:
        with pytest.raises(SettingError, match=f"needs engine|for {precision} use"):
            check(name, target, precision)


# Rows of no engine: messages name what the table holds.
ROWS = [
    EncoderEngine("narrow", ("cpu",), ("int8",), ()),
    EncoderEngine("wide", ("cpu", "gpu"), ("fp32", "fp16", "bf16"), (), runs_adapters=False),
    EncoderEngine("plain", ("cpu", "gpu"), ("fp32", "int8"), ()),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "abacus"}, "engine must be one of narrow, plain, wide, got 'abacus'"),
        ({"name": "narrow", "target": "gpu"}, "engine narrow runs on CPUs; for target gpu use wide or plain"),
        (
            {"name": "wide", "precision": "int8"},
            "engine wide runs fp32, fp16 and bf16; for int8 use narrow or plain",
        ),
        ({"name": "plain", "precision": "bf16"}, "precision bf16 needs engine wide, not plain"),
        (
            {"name": "wide", "has_adapter": True},
            "engine wide runs no reranker with an adapter; use narrow or plain",
        ),
    ],
)
def test_what_an_engine_does_not_run_is_named_with_those_that_do(arguments, message, monkeypatch):
    monkeypatch.setattr(encoder_engines, "ENGINES", {engine.name: engine for engine in ROWS})
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        check(**arguments)


def test_the_help_names_every_engine_and_the_default():
    assert all(name in describe_engines() for name in ENGINES)
    assert describe_engines().endswith("default: vnni for int8 on cpu, else onnx")
