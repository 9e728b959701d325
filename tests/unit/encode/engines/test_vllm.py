"""VllmSession over a stand-in for vLLM: the same calls, states that a person can predict."""

import asyncio
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fakes.pooling_vllm import HIDDEN, StandIn, install, label, pool
from trireme.encode.engines import vllm
from trireme.encode.engines.vllm import VllmSession
from trireme.encode.pooling_files import (
    POOLING_FILE,
    PROBE_FILE,
    PoolingConfig,
    PoolingFiles,
    read_pooling_files,
    write_pooling_files,
)
from trireme.encode.session import SessionOptions, TokenBatch
from trireme.errors import ArtifactError, InvalidInputError, UnavailableError
from trireme.vllm_environment import DEVICES, ENVIRONMENT

CONFIG = PoolingConfig("mean", "bf16", max_length=12, vocabulary=50, cosine_min=0.999, cosine_mean=0.9995)
RNG = np.random.default_rng(0)


def rows_of(*rows):
    ids = np.array([token for row in rows for token in row], np.int64)
    return TokenBatch(ids, np.zeros_like(ids), np.array([len(row) for row in rows], np.int64))


PROBE = ((3, 4, 5), (9,), (40, 2, 2, 7))
ROWS = ((1, 2, 3), (49,), (7, 8), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11))


def pooled(rows, kind="MEAN"):
    return np.stack([pool(row, kind) for row in rows])


@pytest.fixture
def started(monkeypatch):
    for key in (DEVICES, *ENVIRONMENT):
        # So that what the session sets is taken back.
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    monkeypatch.setattr(vllm, "RESTART_PAUSE_SECONDS", 0.01)
    return install(monkeypatch)


@pytest.fixture
def open_session(started, tmp_path):
    """open_session(outputs of the probe, config, options, ...) -> the session, which is closed at the end."""
    opened = []

    def make(vectors=None, config=CONFIG, options=None, **more):
        vectors = pooled(PROBE) if vectors is None else vectors
        write_pooling_files(tmp_path, PoolingFiles(config, rows_of(*PROBE), vectors, **more))
        opened.append(VllmSession(tmp_path, options or SessionOptions()))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


def wait_until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("pooling", "kind"), [("mean", "MEAN"), ("cls", "CLS"), ("lasttoken", "LAST")], ids=str
)
def test_rows_get_the_states_that_the_checkpoints_pooling_makes(pooling, kind, open_session):
    config = PoolingConfig(pooling, "bf16", 12, 50, cosine_min=0.999, cosine_mean=0.999)
    found = open_session(pooled(PROBE, kind), config).run(rows_of(*ROWS))
    assert found.dtype == np.float32
    assert np.array_equal(found, pooled(ROWS, kind))


def test_a_shorter_vector_is_the_first_of_what_vllm_makes(open_session):
    config = PoolingConfig("mean", "bf16", 12, 50, truncate=3, cosine_min=0.999, cosine_mean=0.9995)
    session = open_session(pooled(PROBE)[:, :3], config)
    assert np.array_equal(session.run(rows_of(*ROWS)), pooled(ROWS)[:, :3])


SCORES = {"rank_correlation": 0.97, "score_difference": 0.05}
ANSWERS = RNG.normal(size=(2, HIDDEN)).astype(np.float32)


def test_answers_of_a_language_model_are_read_off_the_state_of_the_last_token(open_session):
    config = PoolingConfig("lasttoken", "bf16", 12, 50, head="score", softcap=2.0, **SCORES)

    def score(rows):
        no, yes = 2 * np.tanh(pooled(rows, "LAST") @ ANSWERS.T / 2).T
        return yes - no

    session = open_session(score(PROBE), config, answers=ANSWERS, groups=(2, 1))
    found = session.run(rows_of(*ROWS))
    assert found.shape == (4,)
    assert np.allclose(found, score(ROWS), atol=1e-6)


def test_a_single_answers_logit_is_the_score(open_session):
    config = PoolingConfig("lasttoken", "bf16", 12, 50, head="score", **SCORES)
    yes = ANSWERS[1:]
    session = open_session(pooled(PROBE, "LAST") @ yes[0], config, answers=yes, groups=(3,))
    assert np.allclose(session.run(rows_of(*ROWS)), pooled(ROWS, "LAST") @ yes[0], atol=1e-6)


@pytest.mark.parametrize("head", ["score", "labels"])
def test_a_head_of_vllms_own_is_asked_for_logits(head, open_session, started):
    config = PoolingConfig("lasttoken", "bf16", 12, 50, task="classify", head=head, padding=7, **SCORES)

    def outputs(rows):
        logits = np.stack([label(row) for row in rows])
        return logits[:, 1] - logits[:, 0] if head == "score" else logits

    # The probe's last row ends in padding, which a classifier reads past.
    probe = (*PROBE[:2], PROBE[2][:3])
    session = open_session(outputs(probe), config, groups=(2, 1) if head == "score" else ())
    assert {(one.task, one.use_activation) for one in started[0].parameters} == {("classify", False)}
    rows = ((7, 1, 7, 2), (3, 7), (7, 7, 7))
    assert np.allclose(session.run(rows_of(*rows)), outputs(((7, 1, 7, 2), (3,), (7,))))
    assert started[0].prompts[-3:] == [[7, 1, 7, 2], [3], [7]]


@pytest.mark.parametrize("head", ["score", "labels"])
@pytest.mark.parametrize(("name", "bound"), [("rank_correlation", 0.97), ("score_difference", 0.05)])
def test_each_bound_of_scores_is_judged_by_itself(head, name, bound, open_session):
    # The other one is as wide as can be. Three rows in another order, or all of them larger.
    other = {"rank_correlation": -1.0, "score_difference": 1e9} | {name: bound}
    config = PoolingConfig("lasttoken", "bf16", 12, 50, task="classify", head=head, **other)
    right = np.stack([label(row) for row in PROBE])
    right = right[:, 1] - right[:, 0] if head == "score" else right
    wrong = right[::-1] if name == "rank_correlation" else right * 1.5
    more = {"groups": (3,)} if head == "score" else {}
    with pytest.raises(ArtifactError, match=f"scores are too far from the original's: .*{name}"):
        open_session(wrong, config, **more)
    open_session(right, config, **more)


def test_a_model_whose_scores_are_not_the_originals_does_not_start(open_session, started):
    config = PoolingConfig("lasttoken", "bf16", 12, 50, head="score", **SCORES)
    yes = ANSWERS[1:]
    right = pooled(PROBE, "LAST") @ yes[0]
    for wrong in (right[::-1], right * 1.5, np.full(3, np.nan, np.float32)):
        with pytest.raises(
            ArtifactError,
            match=r"scores are too far .* or set min_rank_correlation and max_score_difference in the recipe",
        ):
            open_session(wrong, config, answers=yes, groups=(3,))
    assert all(one.is_shut_down for one in started)


def test_vllm_is_told_everything_that_a_checkpoint_could_say_otherwise(open_session, started, tmp_path):
    open_session(options=SessionOptions(device_id=1, gpu_memory_utilization=0.25))
    arguments = started[0].arguments
    assert arguments["model"] == str(tmp_path)
    assert (arguments["runner"], arguments["dtype"], arguments["max_model_len"]) == (
        "pooling",
        "bfloat16",
        12,
    )
    assert (arguments["load_format"], arguments["trust_remote_code"]) == ("safetensors", False)
    assert arguments["gpu_memory_utilization"] == 0.25
    assert arguments["max_num_batched_tokens"] >= arguments["max_num_seqs"]
    assert arguments["pooler_config"].use_activation is False
    assert {(one.task, one.use_activation) for one in started[0].parameters} == {("embed", False)}
    assert os.environ[DEVICES] == "1"
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_a_row_longer_than_a_step_of_vllm_fits_one():
    config = PoolingConfig("lasttoken", "fp16", 40_000, 50)
    arguments = vllm.engine_arguments(Path("models"), config, SessionOptions())
    assert (arguments["dtype"], arguments["max_num_batched_tokens"]) == ("float16", 40_000)
    # Of one that is not absolute vLLM asks the hub.
    assert arguments["model"] == str(Path.cwd() / "models")


@pytest.mark.parametrize("head", ["", "score", "labels"])
def test_nothing_of_a_row_is_kept_for_those_that_somebody_else_sends(head):
    config = PoolingConfig("lasttoken", "bf16", 12, 50, head=head)
    assert vllm.engine_arguments(Path("m"), config, SessionOptions())["enable_prefix_caching"] is False


def test_threads_get_the_rows_that_they_sent(open_session):
    session = open_session()
    batches = [tuple((n, n + k) for k in range(1, n + 2)) for n in range(8)]
    with ThreadPoolExecutor(8) as pool_of_threads:
        found = list(pool_of_threads.map(lambda rows: session.run(rows_of(*rows)), batches))
    assert all(np.array_equal(one, pooled(rows)) for one, rows in zip(found, batches, strict=True))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((50,),), "not within 0 to 49"),
        (((1,), (-1, 2)), "not within 0 to 49"),
        ((tuple(range(13)),), "a row has 13 tokens, the model has 12 positions"),
    ],
    ids=["beyond the table", "below it", "too long"],
)
def test_what_would_end_vllms_process_is_refused_before(rows, message, open_session, started):
    session = open_session()
    before = len(started[0].prompts)
    with pytest.raises(InvalidInputError, match=message):
        session.run(rows_of(*rows))
    assert len(started[0].prompts) == before


def test_a_model_whose_vectors_are_not_the_originals_does_not_start(open_session, started):
    vectors = pooled(PROBE)
    vectors[1] = -vectors[1]
    with pytest.raises(
        ArtifactError,
        match=r"vectors are too far from the original's: cosine_min -1\.0.* not 0\.999, .* or set min_cosine and",
    ):
        open_session(vectors)
    assert started[0].is_shut_down


def test_numbers_that_are_none_are_too_far_off(open_session):
    with pytest.raises(ArtifactError, match="too far"):
        open_session(np.full((3, HIDDEN), np.nan, np.float32))


def test_runs_that_wait_when_vllms_process_is_killed_fail_and_it_starts_again(open_session, started):
    session = open_session()
    started[0].is_held = True
    before = len(started[0].prompts)
    with ThreadPoolExecutor(1) as waiting:
        run = waiting.submit(session.run, rows_of(*ROWS))
        wait_until(lambda: len(started[0].prompts) == before + len(ROWS))
        started[0].die()
        with pytest.raises(UnavailableError, match="send the request again in a minute"):
            run.result(timeout=10)
    wait_until(lambda: len(started) == 2 and session._llm is started[1])
    assert started[0].is_shut_down
    assert np.array_equal(session.run(rows_of(*ROWS)), pooled(ROWS))


def test_while_vllm_does_not_start_again_runs_are_refused_at_once(open_session, started, monkeypatch):
    session = open_session()
    refused = threading.Event()
    opening = vllm.VllmSession._open

    async def fail_first(self):
        if not refused.is_set():
            raise RuntimeError("no memory")
        await opening(self)

    monkeypatch.setattr(vllm.VllmSession, "_open", fail_first)
    started[0].die()
    wait_until(lambda: session._llm is None)
    with pytest.raises(UnavailableError, match="vLLM is not running"):
        session.run(rows_of(*ROWS))
    refused.set()
    wait_until(lambda: session._llm is not None)
    assert np.array_equal(session.run(rows_of(*ROWS)), pooled(ROWS))


def test_a_run_that_vllm_fails_says_to_send_it_again(open_session, started):
    session = open_session()
    started[0].fails = True
    with pytest.raises(UnavailableError, match="vLLM failed while it worked on these rows"):
        session.run(rows_of(*ROWS))


def test_a_machine_without_vllm_is_named(open_session, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.async_llm", None)
    with pytest.raises(UnavailableError, match="vLLM cannot be imported"):
        open_session()


def test_a_start_that_fails_says_what_vllm_said_last(open_session, started, tmp_path):
    started.append(ValueError("first line\nout of memory"))
    with pytest.raises(ArtifactError, match=f"cannot load {tmp_path} with vLLM: out of memory"):
        open_session()


def test_a_closed_session_has_ended_vllm_and_may_be_closed_again(open_session, started):
    session = open_session()
    session.close()
    session.close()
    assert started[0].is_shut_down


def test_a_run_that_waits_when_the_session_is_closed_fails_and_so_does_a_later_one(open_session, started):
    session = open_session()
    started[0].is_held = True
    before = len(started[0].prompts)
    with ThreadPoolExecutor(1) as waiting:
        run = waiting.submit(session.run, rows_of(*ROWS))
        wait_until(lambda: len(started[0].prompts) == before + len(ROWS))
        session.close()
        with pytest.raises(UnavailableError, match="vLLM is not running"):
            run.result(timeout=10)
    with pytest.raises(UnavailableError, match="vLLM is not running"):
        session.run(rows_of(*ROWS))


def test_a_vllm_that_does_not_answer_at_its_start_is_ended(open_session, started, monkeypatch):
    async def fail(self):
        raise RuntimeError("its process is gone")

    monkeypatch.setattr(StandIn, "get_supported_tasks", fail)
    with pytest.raises(ArtifactError, match="its process is gone"):
        open_session()
    assert started[0].is_shut_down


def test_a_session_that_is_closed_amid_a_restart_leaves_no_vllm(open_session, started, monkeypatch):
    session = open_session()

    async def wait(self):
        await asyncio.Event().wait()

    monkeypatch.setattr(StandIn, "get_supported_tasks", wait)
    started[0].die()
    wait_until(lambda: len(started) == 2)
    session.close()
    assert started[1].is_shut_down


def test_a_vllm_that_does_not_end_as_it_should_is_started_again_all_the_same(
    open_session, started, monkeypatch
):
    session = open_session()

    def fail(timeout=None):
        raise RuntimeError("no such process")

    monkeypatch.setattr(started[0], "shutdown", fail)
    started[0].die()
    wait_until(lambda: len(started) == 2 and session._llm is started[1])
    assert np.array_equal(session.run(rows_of(*ROWS)), pooled(ROWS))


def test_states_that_do_not_fit_the_answers_are_an_error_of_the_files(open_session, started):
    config = PoolingConfig("lasttoken", "bf16", 12, 50, head="score")
    with pytest.raises(ArtifactError, match="cannot load"):
        open_session(config=config, answers=np.zeros((2, HIDDEN + 1), np.float32), groups=(3,))
    assert started[0].is_shut_down


@pytest.mark.parametrize("file", [POOLING_FILE, PROBE_FILE])
def test_a_missing_or_damaged_file_is_named(file, tmp_path):
    write_pooling_files(tmp_path, PoolingFiles(CONFIG, rows_of(*PROBE), pooled(PROBE)))
    (tmp_path / file).write_bytes(b"not this")
    with pytest.raises(ArtifactError, match=f"cannot load {file}"):
        read_pooling_files(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ArtifactError, match=f"cannot load {file}"):
        read_pooling_files(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 1}, "format version 2"),
        ({"pooling": "max"}, "an unknown pooling"),
        ({"precision": "int8"}, "an unknown precision"),
        ({"task": "score"}, "an unknown task"),
        ({"head": "both"}, "an unknown head"),
        ({"more": 1}, "more"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_config_that_says_what_nobody_knows_is_refused(change, message, tmp_path):
    write_pooling_files(tmp_path, PoolingFiles(CONFIG, rows_of(*PROBE), pooled(PROBE)))
    path = tmp_path / POOLING_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        read_pooling_files(tmp_path)


def test_files_without_a_probe_are_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    write_pooling_files(tmp_path, PoolingFiles(CONFIG, rows_of(*PROBE), pooled(PROBE)))
    tensors = load_file(tmp_path / PROBE_FILE)
    del tensors["outputs"]
    save_file(tensors, tmp_path / PROBE_FILE)
    with pytest.raises(ArtifactError, match=r"outputs"):
        read_pooling_files(tmp_path)
