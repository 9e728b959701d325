"""What a newcomer asks about the project's own documents, through the default models; and the command.

Of the further and the strange questions one in three is asked, since each takes seconds; ASK_EVERY=1 asks all.
"""

import json
import os
import subprocess
import sys

import pytest
from stacks import QUESTIONS, ROOT, environment_of

from trireme.triton.client import TritonClient

# Of the twenty that people ask first, and of all that rules were tuned on.
FIRST_RIGHT = 16
RIGHT_SHARE = 0.8
STRANGE = (ROOT / "benchmarks" / "search" / "strange_questions.txt").read_text().splitlines()
TOLD_SHARE = 0.85
EVERY = int(os.environ.get("ASK_EVERY", "3"))


@pytest.fixture(scope="module")
def docs(serving):
    """Settings whose collection is what `make serve` indexes, but for pages without an answer asked for here."""
    return serving.settings


def trireme(settings, *words):
    command = [sys.executable, "-m", "trireme.cli", *words]
    return subprocess.run(
        command, env=environment_of(settings), capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def is_right(question, parts):
    text = "".join(part.text for part in parts)
    sources = {cited.source for cited in parts[-1].citations}
    return any(word in text for word in question["words"]) and bool(sources & set(question["sources"]))


def asked(part):
    return [question for question in QUESTIONS if question["part"] == part]


def find_wrong(docs, questions):
    """What was asked and answered wrongly, or without a source that is right."""
    with TritonClient(docs.grpc_url) as client:
        answers = [list(client.ask(one["text"], collection=docs.collection)) for one in questions]
    return [
        (one["text"], "".join(part.text for part in parts))
        for one, parts in zip(questions, answers, strict=True)
        if not is_right(one, parts)
    ]


def test_questions_and_their_sources_are_real():
    assert len(asked("first")) == 20
    assert {question["part"] for question in QUESTIONS} == {"first", "more", "held out"}
    for question in QUESTIONS:
        places = [(ROOT / "docs" / source, ROOT / source) for source in question["sources"]]
        files = [next(place for place in both if place.is_file()) for both in places]
        written = "".join(file.read_text(encoding="utf-8") for file in files)
        assert any(word in written for word in question["words"]), question["text"]


def test_what_a_newcomer_asks_first_gets_right_and_cited_answers(docs):
    wrong = find_wrong(docs, asked("first"))
    assert len(wrong) <= 20 - FIRST_RIGHT, wrong


def test_a_newcomers_further_questions_get_right_and_cited_answers(docs):
    questions = asked("more")[::EVERY]
    wrong = find_wrong(docs, questions)
    assert len(wrong) <= (1 - RIGHT_SHARE) * len(questions), wrong


def test_what_the_documents_do_not_say_is_not_answered(docs):
    questions = STRANGE[::EVERY]
    with TritonClient(docs.grpc_url) as client:
        answers = [list(client.ask(text, collection=docs.collection))[-1] for text in questions]
    answered = [
        text for text, last in zip(questions, answers, strict=True) if last.usage.answer_mode != "none"
    ]
    assert len(answered) <= (1 - TOLD_SHARE) * len(questions), answered


def test_the_command_prints_the_answer_and_its_source(docs):
    done = trireme(docs, "ask", "How do I change the port?")
    assert done.returncode == 0, done.stderr
    answer, source, cost = [line for line in done.stdout.splitlines() if line]
    assert "TRIREME_HTTP_PORT=" in answer
    assert source.startswith("[1] settings.md (characters ")
    assert cost.startswith("extractive, ")


def test_the_command_prints_json(docs):
    done = trireme(docs, "ask", "How do I change the port?", "--json", "--mode", "extractive", "--top-k", "3")
    document = json.loads(done.stdout)
    (cited,) = document["citations"]
    assert cited["text"] == document["answer"]
    assert document["usage"]["answer_mode"] == "extractive"


def test_the_default_llm_answers_through_rag(docs):
    with TritonClient(docs.grpc_url) as client:
        question = "What does the dynamic batcher wait for?"
        parts = list(
            client.ask(question, "generative", collection=docs.collection, sampling={"max_tokens": 48})
        )
    usage = parts[-1].usage
    assert "".join(part.text for part in parts).strip()
    assert len(parts) > 2
    assert 0 < usage.completion_tokens <= 48
    assert usage.prompt_tokens > 100
    assert parts[-1].finish_reason in {"stop", "length"}


def test_the_command_names_what_is_wrong(docs):
    done = trireme(docs, "ask", "oars", "--collection", "none")
    assert done.returncode == 1
    assert done.stderr.startswith("error: model search__retrieve: no collection 'none'")
    done = trireme(docs, "ask", " ")
    assert done.stderr == "error: text_input is empty; send a question\n"
