"""docs/agent.md names what is there, with its defaults, and leaves nothing out."""

import re
from dataclasses import fields
from pathlib import Path

from trireme.agent.options import AgentOptions, flag_of
from trireme.agent.replica import FAULT_KINDS, PATIENT
from trireme.cli import _parser
from trireme.observe import metrics

TEXT = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")


def section(heading):
    return TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(heading):
    """The first cell of each row of the section's table, without its backquotes, and the rest."""
    found = re.findall(r"^\| `([^`]+)` \| (.+) \|$", section(heading), re.MULTILINE)
    return dict(found)


def test_the_kinds_of_faults_are_those_of_the_agent():
    told = rows("When is a replica ready?")
    assert tuple(told) == FAULT_KINDS
    assert {kind for kind, text in told.items() if "--misses" in text} == PATIENT


def test_the_metrics_are_those_of_the_table():
    told = {name.partition("{")[0] for name in rows("What does the agent measure?")}
    assert told == {row.name for row in metrics.AGENT}


def test_every_flag_that_is_named_is_one_of_the_agents_or_of_the_drains():
    known = {flag_of(option.name) for option in fields(AgentOptions)}
    others = {"--agent", "--seconds", "--replicas", "--exit-timeout-secs"}
    assert set(re.findall(r"--[a-z][a-z-]*", TEXT)) <= known | others


def test_every_default_that_is_named_is_the_default():
    defaults = {flag_of(option.name): option.default for option in fields(AgentOptions)}
    told = re.findall(r"`(--[a-z-]+)`\s\(?(\d+(?:\.\d+)?)\b", TEXT)
    assert {flag for flag, _ in told} >= {"--port", "--answer-seconds", "--misses", "--target-seconds"}
    for flag, value in told:
        if flag in defaults:
            assert float(value) == defaults[flag], flag


def test_its_commands_are_commands():
    commands = re.findall(r"^trireme (.+)$", TEXT, re.MULTILINE) + re.findall(r"`trireme (drain .+?)`", TEXT)
    assert commands
    for command in commands:
        _parser().parse_args(command.split())
