"""Replies that are sent later: one to each request, whatever happens to it."""

import gc
import threading
import time
import weakref
from concurrent.futures import Future

import pytest

from fakes.fake_pb import Request, arguments, strings
from trireme.encode.row_queue import Pending
from trireme.errors import InvalidInputError, TriremeError
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.tensors import read_strings, string_tensor


class Later(BackendModel):
    """Answers in capitals when `finish` is called, last request first; refuses "no", breaks on "bug"."""

    def load(self, config):
        self.pending = []
        self.seconds = []

    def on_answered(self, seconds):
        self.seconds.append(seconds)

    def execute(self, requests):
        for reply in self.replies.owed(requests):
            with reply:
                reply.when(self._submit(reply.request), self._write)

    def _submit(self, request):
        text = read_strings(self.pb, request, "text")[0][0]
        if text == "no":
            raise InvalidInputError("text must not be no")
        if text == "submit":
            raise ValueError("secret detail")
        future = Future()
        self.pending.append((future, text))
        return Pending(future, str.upper)

    def _write(self, text):
        if text == "BUG":
            raise ValueError("secret detail")
        return [string_tensor(self.pb, "text", [[text]])]

    def finish(self):
        for future, text in reversed(self.pending):
            if text == "cannot":
                future.set_exception(TriremeError("cannot"))
            else:
                future.set_result(text)
        self.pending = []


@pytest.fixture
def later(pb, tmp_path):
    model = Later()
    model.initialize(arguments(tmp_path))
    yield model
    model.finalize()


def requests_of(*texts):
    return [Request(text=strings([text])) for text in texts]


def ask(model, *texts):
    """The requests once each has its reply."""
    requests = requests_of(*texts)
    assert model.execute(requests) is None
    model.finish()
    model.replies.close()
    return requests


def test_replies_may_come_in_any_order_and_bad_requests_fail_alone(later):
    good, refused, failed, broken, last = ask(later, "a", "no", "cannot", "bug", "b")
    assert good.response.outputs["text"].tolist() == [[b"A"]]
    assert last.response.outputs["text"].tolist() == [[b"B"]]
    assert (refused.response.error.code, refused.response.error.message) == (
        "INVALID_ARG",
        "[INVALID_ARG] text must not be no",
    )
    assert failed.response.error.message == "[INTERNAL] cannot"
    assert "secret detail" not in broken.response.error.message


def test_a_reply_waits_for_its_answer_alone(later):
    good, refused = requests_of("a", "no")
    later.execute([good, refused])
    assert refused.response.error.code == "INVALID_ARG"
    assert not good.sent
    later.finish()


def test_errors_that_come_later_are_counted_by_code(later, pb, tmp_path):
    ask(later, "a", "no", "cannot", "bug")
    name = f"trireme_request_failures_total/{tmp_path.name}"
    counts = {key: one.value for key, one in pb.MetricFamily.metrics.items() if key.startswith(name)}
    assert counts == {f"{name}/INVALID_ARG": 1, f"{name}/INTERNAL": 2}


def test_a_submit_that_breaks_ends_its_request_alone_and_is_logged(later, pb):
    first, second = ask(later, "submit", "a")
    assert first.response.error.code == "INTERNAL"
    assert second.response.outputs["text"].tolist() == [[b"A"]]
    assert "secret detail" in pb.Logger.errors[0]
    assert "secret detail" not in first.response.error.message


def test_a_response_that_cannot_be_sent_is_logged_and_the_others_are_sent(later, pb):
    def fail(response, flags=0):
        raise RuntimeError("gone")

    first, second = requests_of("a", "b")
    second.send = fail
    later.execute([first, second])
    later.finish()
    later.replies.close()
    assert first.response.outputs["text"].tolist() == [[b"A"]]
    assert "gone" in pb.Logger.errors[0]


def test_every_reply_has_its_seconds(later):
    ask(later, "a", "no")
    assert len(later.seconds) == 2
    assert all(seconds >= 0 for seconds in later.seconds)


def test_the_thread_that_brings_an_answer_does_not_wait_for_its_sending(later):
    sending, goes_on = threading.Event(), threading.Event()

    def send_slowly(response, flags=0):
        sending.set()
        assert goes_on.wait(60)

    slow, quick = requests_of("a", "b")
    slow.send = send_slowly
    later.execute([slow])
    later.finish()
    assert sending.wait(60)
    later.execute([quick])
    later.finish()
    assert not quick.sent
    goes_on.set()
    later.replies.close()
    assert quick.response.outputs["text"].tolist() == [[b"B"]]


class Held(Request):
    """A request that can be watched."""


@pytest.mark.parametrize("text", ["a", "no", "cannot", "bug", "submit"])
def test_what_was_answered_is_let_go_of_without_the_collector(later, text):
    gc.collect()
    gc.disable()
    try:
        request = Held(text=strings([text]))
        request.send, sent = (lambda response, flags=0: sent.append(response)), []
        watched = weakref.ref(request)
        later.execute([request])
        del request
        later.finish()
        deadline = time.monotonic() + 60
        while not sent and time.monotonic() < deadline:
            time.sleep(0.001)
        later.replies.close()
        assert len(sent) == 1
        assert watched() is None
    finally:
        gc.enable()
