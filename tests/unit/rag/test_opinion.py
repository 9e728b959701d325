import pytest

from trireme.rag.opinion import read_opinion

SENTENCE = "HTTP is on port 8000, gRPC on port 8001, and metrics are on port 8002."


@pytest.mark.parametrize(
    ("said", "opinion"),
    [
        ("8001 [2]", "agreed"),
        ("gRPC on port 8001. [1, 2]", "agreed"),
        ("HTTP is on port 8000, GRPC on port 8001", "agreed"),
        ("Port 9001 [1]", "differs"),
        # Words that the sentence has, in another order: not its own.
        ("port gRPC on 8001", "differs"),
        ("800", "differs"),
        # Nothing but common words stands everywhere.
        ("is on", "differs"),
        ("The passages do not say.", "refused"),
        ("The passages don\u2019t say [1].", "refused"),
        ("I do not know.", "refused"),
        ("The passages do note that it is 9000.", "differs"),
        ("The passage does nothing of the kind; it is 9000.", "differs"),
        ("", "refused"),
        ("[1]", "refused"),
        ("  ...", "refused"),
    ],
)
def test_an_answer_refuses_agrees_or_differs(said, opinion):
    assert read_opinion(said, SENTENCE, is_whole=True) == opinion


@pytest.mark.parametrize(
    ("said", "opinion"),
    [
        ("", "open"),
        ("gRPC on po", "open"),
        ("8001 [", "open"),
        ("8001 [2", "open"),
        ("8001 [2].", "open"),
        ("The pass", "open"),
        ("I don", "open"),
        # It may become "note".
        ("The passages do not", "open"),
        ("The passages do not ", "refused"),
        ("The passages say that", "differs"),
        ("8001 or 9001", "differs"),
    ],
)
def test_a_part_of_an_answer_is_open_until_it_is_sure(said, opinion):
    assert read_opinion(said, SENTENCE, is_whole=False) == opinion


@pytest.mark.parametrize(
    ("said", "opinion"),
    [
        ("8.5", "agreed"),
        ("12,000", "agreed"),
        ("at 10:30 [1]", "agreed"),
        ("5", "differs"),
        ("8", "differs"),
        ("12", "differs"),
        ("000", "differs"),
        ("30", "differs"),
    ],
)
def test_a_part_of_a_number_is_another_number(said, opinion):
    sentence = "It took 8.5 GB and 12,000 files at 10:30."
    assert read_opinion(said, sentence, is_whole=True) == opinion


@pytest.mark.parametrize(
    "whole",
    [
        "The passages do note 8.5.",
        "I do nothing",
        "8001 [2]",
        "The passages do not say.",
        "The passage says 8001. [1]",
        "gRPC on port 9.",
        "No [x] mark",
    ],
)
def test_what_is_sure_of_a_part_is_sure_of_the_whole(whole):
    parts = {read_opinion(whole[:end], SENTENCE, is_whole=False) for end in range(len(whole) + 1)}
    assert parts - {"open"} <= {read_opinion(whole, SENTENCE, is_whole=True)}
