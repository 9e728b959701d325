import pytest

from fakes.cascade_gateways import V1, calibration_of
from trireme.gateway.cascades.plan import CascadePlan, StepPlan
from trireme.gateway.cascades.versions import KNOWN_SECONDS, UNKNOWN, VERSION, StepVersions, say_change
from trireme.providers.models import ServedModel

V2 = "2" * 64


class Served:
    """What Triton serves; a test changes it."""

    def __init__(self, *models):
        self.age = 0.0
        self.serve(*models)

    def serve(self, *models):
        self.known = {model.name: model for model in models}


def model(version=V1):
    return ServedModel("llm", "chat", True, "load", versions=(("llm", version),))


CALLED = (("embedding", "e"), ("llm", V1), ("rag", ""), ("reranker", "r"), ("search__retrieve", "s"))
RAG = ServedModel("rag", "answer", True, "load", versions=CALLED)


def watch(served, *versions, target=("local", "llm")):
    """The step, its StepVersions, and what those told."""
    step = StepPlan("small", (target,), calibration=calibration_of("tokens", versions=versions))
    told = []
    plans = {"m": CascadePlan("m", (step, StepPlan("big", (("p", "big"),))))}
    return step, StepVersions(plans, served, lambda *said: told.append(said)), told


def test_a_step_is_used_while_what_it_was_fitted_on_is_served():
    step, versions, told = watch(Served(model()), ("llm", V1))
    assert versions.reason("m", step) == ""
    assert versions.answered("m", step, "llm") == ""
    assert versions.details() == []
    assert all(fault == "" for *_, fault in told)


def test_a_model_that_is_another_is_told_once_and_so_is_its_return():
    served = Served(model())
    step, versions, told = watch(served, ("llm", V1))
    versions.look()
    del told[:]
    served.serve(model(version=V2))
    for _ in range(3):
        versions.look()
        assert versions.reason("m", step) == versions.answered("m", step, "llm") == VERSION
    ((name, of, fault),) = told
    assert (name, of) == ("m", "small")
    assert V2[:8] in fault
    assert "step small of model m is not used" in versions.details()[0]
    assert say_change(*told[0]) == versions.details()[0]
    served.serve(model(version="3" * 64))
    versions.look()
    assert len(told) == 2
    served.serve(model())
    versions.look()
    assert told[2] == ("m", "small", "")
    assert say_change(*told[2]) == "step small of model m may be used"
    assert versions.details() == []


@pytest.mark.parametrize("version", ["", V2])
def test_a_model_of_which_nobody_knows_the_files_is_another(version):
    step, versions, _ = watch(Served(model(version=version)), ("llm", V1))
    assert versions.reason("m", step) == VERSION


def test_a_model_that_is_not_served_is_another():
    step, versions, _ = watch(Served(), ("llm", V1))
    assert versions.reason("m", step) == VERSION
    assert "does not serve 'llm'" in versions.details()[0]


def test_what_was_known_last_holds_for_a_while_and_then_nothing_is_judged_or_told():
    served = Served(model())
    step, versions, told = watch(served, ("llm", V1))
    # As long as a slow server may take to answer nothing else is known; it is bounded.
    served.age = KNOWN_SECONDS
    assert versions.reason("m", step) == versions.answered("m", step, "llm") == ""
    del told[:]
    served.age = KNOWN_SECONDS + 0.1
    assert versions.reason("m", step) == versions.answered("m", step, "llm") == UNKNOWN
    served.age, served.known = 0.0, None
    versions.look()
    assert versions.reason("m", step) == UNKNOWN
    assert told == []


def test_a_model_that_calls_others_may_be_fitted_on_those():
    pairs = (("embedding", "e"), ("reranker", "r"), ("search__retrieve", "s"))
    step, versions, _ = watch(Served(RAG, model()), *pairs, target=("local", "rag"))
    assert versions.reason("m", step) == ""
    step, other, _ = watch(Served(RAG, model()), ("reranker", "r2"), target=("local", "rag"))
    assert other.reason("m", step) == VERSION


def test_a_calibration_of_something_else_is_of_no_use():
    step, versions, _ = watch(Served(RAG, model()), ("equivalence", "x"), target=("local", "rag"))
    assert versions.reason("m", step) == VERSION
    assert "'equivalence', which 'rag' does not call" in versions.details()[0]
    step, versions, _ = watch(Served(RAG, model()), ("reranker", "r"), target=("local", "llm"))
    assert versions.reason("m", step) == VERSION


def test_a_providers_version_is_what_its_answers_name():
    step, versions, told = watch(Served(), ("p:s", "s-1"), target=("p", "s"))
    assert versions.reason("m", step) == ""
    assert versions.answered("m", step, "s-1") == ""
    assert versions.answered("m", step, "s-2") == versions.answered("m", step, "s-2") == VERSION
    assert [fault for *_, fault in told] == ["", "it was fitted on 's-1', and p:s answers as 's-2'"]
    # It is asked again: nobody else could tell when it is the old one.
    assert versions.reason("m", step) == ""


def test_the_last_step_needs_no_version():
    _, versions, _ = watch(Served(), ("llm", V1))
    last = StepPlan("big", (("local", "other"),))
    assert versions.reason("m", last) == versions.answered("m", last, "x") == ""
