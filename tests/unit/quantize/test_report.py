from dataclasses import replace
from pathlib import Path

import pytest
from rich.progress import Progress

from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.estimate import Estimate
from trireme.quantize.manifest import QuantizationManifest
from trireme.quantize.pace import Pace
from trireme.quantize.report import (
    LeftColumn,
    format_estimate,
    format_left,
    format_manifest,
    format_seconds,
    show_run,
)

MODEL = CausalLM(Path("m"), "LlamaForCausalLM", 4, 64, 300, 128, 1_234_567, 2_469_134, "BF16", ())
MANIFEST = QuantizationManifest(
    method="gptq",
    bits=4,
    group_size=128,
    sym=True,
    architecture="LlamaForCausalLM",
    parameters=1_234_567,
    source="m",
    revision="",
    device="cpu",
    seed=1,
    calibration={},
    evaluation={"name": "text.txt"},
    figures={
        "perplexity": 20.5,
        "perplexity_original": 20.0,
        "perplexity_ratio": 1.025,
        "kl": 0.0123,
        "agreement": 0.95,
        "tokens": 1022,
    },
    thresholds={"max_perplexity_ratio": 1.05, "max_kl": 0.05, "min_agreement": 0.9},
    tools={},
    files={},
    sizes={"model.safetensors": 1_000_000},
    seconds=61.0,
    memory_bytes=0,
)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_short(seconds, text):
    assert format_seconds(seconds) == text


def test_the_estimate_says_that_it_is_one():
    line = format_estimate(MODEL, Estimate(600, 2_000_000_000, 700_000))
    assert "1,234,567 parameters, 4 layers; estimate: 10 min, 2.0 GB of memory, 0.7 MB written" in line
    assert "not a promise" in line


def test_every_figure_stands_beside_its_limit():
    text = format_manifest("small", MANIFEST, was_made=True)
    assert text.splitlines()[0] == (
        "small: made: gptq, 4 bits, group size 128, 1,000,000 bytes, quantized in 61 s"
    )
    assert "perplexity_ratio 1.02500 (at most 1.05)" in text
    assert "kl 0.01230 nats per token (at most 0.05)" in text
    assert "agreement 0.95000 (at least 0.9)" in text
    assert "1,022 tokens of text.txt" in text
    plain = format_manifest("small", replace(MANIFEST, method="none", group_size=0), was_made=False)
    assert "already made" in plain and "none, 16 bits, 1,000,000" in plain


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


def advance(watch, clock, *seconds):
    for second in seconds:
        clock.now += second
        watch.advance()


def test_without_a_terminal_a_quick_run_is_a_few_lines(capfd, clock):
    with show_run(clock) as watch:
        watch.begin("read", 0)
        watch.estimated(MODEL, Estimate(600, 2_000_000_000, 700_000))
        watch.begin("quantize", 2)
        advance(watch, clock, 1, 1)
        watch.begin("evaluate", 2)
    shown = capfd.readouterr().err.splitlines()
    assert shown[0].startswith("LlamaForCausalLM") and shown[1:] == ["quantize", "evaluate"]


def test_without_a_terminal_each_slow_layer_says_what_is_left(capfd, clock):
    with show_run(clock) as watch:
        watch.begin("quantize", 4)
        # The first holds 200 s of loading.
        advance(watch, clock, 500, 300, 300, 300)
    assert capfd.readouterr().err.splitlines() == [
        "quantize",
        "quantize: 1 of 4 layers, 25 min left",
        "quantize: 2 of 4 layers, 10 min left",
        "quantize: 3 of 4 layers, 5 min left",
        "quantize: 4 of 4 layers, 0 s left",
    ]


def test_without_a_terminal_lines_of_quick_parts_are_seconds_apart(capfd, clock):
    with show_run(clock) as watch:
        watch.begin("evaluate", 100)
        advance(watch, clock, *[1.0] * 12)
    assert capfd.readouterr().err.splitlines() == [
        "evaluate",
        "evaluate: 5 of 100 windows, 95 s left",
        "evaluate: 10 of 100 windows, 90 s left",
    ]


def test_in_a_terminal_the_bar_says_what_the_pace_says(clock):
    pace = Pace(10, clock)
    assert format_left(pace) == ""
    for _ in range(3):
        clock.now += 60
        pace.advance()
    assert format_left(pace) == "7 min left"
    with Progress() as progress:
        task = progress.add_task("quantize", pace=pace)
        assert str(LeftColumn().render(progress.tasks[task])) == "7 min left"
