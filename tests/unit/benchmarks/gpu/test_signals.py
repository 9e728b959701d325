import pytest

from benchmarks.generation.clients import Answer
from benchmarks.gpu import signals
from benchmarks.gpu.machine import PROMPT_TOKENS
from trireme.observe import metrics as names

RATE, SHARE = 100.0, 0.5
COST = SHARE * PROMPT_TOKENS + signals.ANSWER_TOKENS


def page(**values):
    """A page of the model `llm` and, beside it, of another one."""
    lines = []
    for name, value in values.items():
        kind = f'kind="{name.rpartition("__")[2]}",' if "__" in name else ""
        metric = getattr(names, name.rpartition("__")[0] or name).name
        lines += [f'{metric}{{{kind}model="llm"}} {value}', f'{metric}{{{kind}model="other"}} 1e6']
    found = signals.Page.__new__(signals.Page)
    found._model, found._text = "llm", "\n".join(lines) + "\n"
    return found


def test_each_signal_stands_beside_what_was_sent():
    before = page(INPUT_TOKEN_WORK=SHARE)
    held = page(QUEUE_DEPTH=2, CAPACITY=RATE, BACKLOG=2 * COST / RATE)
    gone = page(QUEUE_DEPTH=0, CAPACITY=RATE, BACKLOG=0)
    after = page(
        OFFERED=5 * COST / RATE,
        REJECTED=COST / RATE,
        MODEL_TOKENS__input=4 * PROMPT_TOKENS,
        MODEL_TOKENS__output=4 * signals.ANSWER_TOKENS,
        QUEUE_WAITS=4,
        QUEUE_WAIT=8,
        CAPACITY=RATE,
        WARMUP=3,
    )
    answers = [Answer(sent=0.0, first=float(at), done=9.0) for at in (1, 1, 3, 3)]
    found = signals.compare(before, [held, held, gone], after, answers, 4 * COST / RATE, is_refused=True)
    for name in ("queue_depth", "waiting_work", "offered_over_refused_work", "input_tokens", "output_tokens"):
        said, true = found[name]
        assert said == pytest.approx(true), name
    assert found["readings"] == [2, 3]
    assert found["waits"] == [4, 4]
    assert found["mean_wait_s"] == [2, 2]
    assert found["capacity"] == pytest.approx([RATE, RATE])
    assert found["left"] == [0, 0]
