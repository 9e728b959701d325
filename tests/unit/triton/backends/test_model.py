import dataclasses
import gc
import logging
import time
import weakref

import pytest

from fakes.fake_pb import arguments, strings
from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.errors import InvalidInputError, TriremeError
from trireme.observe.metrics import Metric
from trireme.triton.backends.loaded import name_version
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.tensors import read_strings, string_tensor


class Upper(BackendModel):
    """Answers in capitals; refuses "no", breaks on "bug" and fails whole batches with "all"."""

    known_parameters = frozenset({"size"})
    ready = True

    def load(self, config):
        self.size = config.read_int("size")

    def is_ready(self):
        return self.ready

    def execute(self, requests):
        return self.replies.answer_all(requests, self._read, self._compute, self._write)

    def _read(self, request):
        text = read_strings(self.pb, request, "text")[0][0]
        if text == "no":
            raise InvalidInputError("text must not be no")
        return text

    def _compute(self, texts):
        if "all" in texts:
            raise ValueError("secret detail")
        return [TriremeError("cannot") if text == "cannot" else text.upper() for text in texts]

    def _write(self, text):
        if text == "BUG":
            raise ValueError("secret detail")
        return [string_tensor(self.pb, "text", [[text]])]


@pytest.fixture
def model(pb, tmp_path):
    model = Upper()
    model.initialize(arguments(tmp_path, size=3))
    yield model
    model.finalize()


def run(model, *texts):
    return model.execute([{"text": strings([text])} for text in texts])


def test_every_request_gets_exactly_one_answer_and_bad_ones_fail_alone(model):
    good, refused, failed, broken, last = run(model, "a", "no", "cannot", "bug", "b")
    assert good.outputs["text"].tolist() == [[b"A"]]
    assert last.outputs["text"].tolist() == [[b"B"]]
    assert (refused.error.code, refused.error.message) == ("INVALID_ARG", "[INVALID_ARG] text must not be no")
    assert failed.error.code == "INTERNAL"
    assert broken.error.code == "INTERNAL"


def test_every_error_begins_with_its_code(model):
    for response in run(model, "no", "cannot", "bug"):
        assert response.error.message.startswith(f"[{response.error.code}] ")


def test_an_unexpected_error_reaches_the_log_and_not_the_client(model, pb):
    first, second = run(model, "all", "a")
    for response in (first, second):
        assert "secret detail" not in response.error.message
    assert "secret detail" in pb.Logger.errors[0]


def test_invalid_utf8_is_refused_by_name(model):
    (response,) = model.execute([{"text": strings([b"ab\xff"])}])
    assert response.error.code == "INVALID_ARG"
    assert "text is not valid UTF-8: bad byte at 2" in response.error.message


def test_an_unknown_parameter_stops_the_load_and_is_named(pb, tmp_path):
    with pytest.raises(pb.TritonModelException, match="unknown parameter colour"):
        Upper().initialize(arguments(tmp_path, size=3, colour="red"))


@pytest.mark.parametrize("size", ["-1", "x", ""])
def test_a_malformed_parameter_stops_the_load_and_is_named(pb, tmp_path, size):
    with pytest.raises(pb.TritonModelException, match="parameter size"):
        Upper().initialize(arguments(tmp_path, size=size))


def test_a_missing_parameter_stops_the_load_and_is_named(pb, tmp_path):
    with pytest.raises(pb.TritonModelException, match="size"):
        Upper().initialize(arguments(tmp_path))


def test_the_gauge_carries_what_is_ready_says(pb, tmp_path):
    class Down(Upper):
        ready = False

    for kind, value in ((Upper, 1.0), (Down, 0.0)):
        model = kind()
        model.initialize(arguments(tmp_path, size=3))
        model.finalize()
        labels = f"{tmp_path.name}/{tmp_path.name}_0_0"
        assert pb.MetricFamily.metrics[f"trireme_model_ready/{labels}"].value == value
        assert time.time() - pb.MetricFamily.metrics[f"trireme_model_checked_seconds/{labels}"].value < 60


def _loads(pb, tmp_path):
    """Digests that the model has said, in order."""
    begin = f"trireme_model_loaded_seconds/{tmp_path.name}/{tmp_path.name}_0_0/"
    return [name.removeprefix(begin) for name in pb.MetricFamily.metrics if name.startswith(begin)]


def test_each_load_has_a_name_of_its_own_that_begins_with_what_was_loaded(pb, tmp_path):
    for name, text in (("prompt", "one"), ("prompt", "one"), ("prompt", "two"), ("relevance", "one")):
        (tmp_path / f"{name}.toml").write_text(text)
        model = Upper()
        model.initialize(arguments(tmp_path, size=3))
        model.finalize()
    names = _loads(pb, tmp_path)
    assert len(set(names)) == 4
    first, same, other, third = (name.partition("-")[0] for name in names)
    assert first == same
    assert len({first, other, third}) == 3


def manifest_of():
    files = dict.fromkeys(
        ("openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json"), "a" * 64
    )
    return Manifest(
        model="m",
        kind="generator",
        source="s",
        revision="r",
        precision="int8",
        dimensions=8,
        max_length=64,
        files=files,
        sizes=dict.fromkeys(files, 1),
    )


def test_the_version_of_a_load_is_that_of_its_manifests_files_whenever_they_were_built(pb, tmp_path):
    folder = tmp_path / "1"
    folder.mkdir()
    built = manifest_of()
    again = dataclasses.replace(
        built, tools={"openvino": "2"}, figures={"kl": 0.5}, inputs_digest="i2", revision="r2"
    )
    other = dataclasses.replace(built, files={**built.files, "config.json": "f" * 64})
    for manifest, prompt, size in ((built, "one", 3), (again, "two", 4), (other, "two", 4)):
        write_manifest(folder, manifest)
        (tmp_path / "prompt.toml").write_text(prompt)
        model = Upper()
        model.initialize(arguments(tmp_path, size=size))
        model.finalize()
    first, same, changed = (name.partition("/")[2] for name in _loads(pb, tmp_path))
    assert first == same == built.version
    assert changed == other.version != built.version


def test_a_manifest_that_cannot_be_read_has_no_version(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert name_version(tmp_path) == ""


def test_a_model_without_a_manifest_has_the_version_of_recipe_prompt_and_weights_of_relevance(pb, tmp_path):
    (tmp_path / "recipe.toml").write_text("kind")
    for name, text in (("prompt", "one"), ("prompt", "one"), ("prompt", "two"), ("relevance", "two")):
        (tmp_path / f"{name}.toml").write_text(text)
        model = Upper()
        model.initialize(arguments(tmp_path, size=3))
        model.finalize()
    first, same, *others = (name.partition("/")[2] for name in _loads(pb, tmp_path))
    assert first == same
    assert len({first, *others}) == 3 and all(others)


def test_a_model_whose_files_changed_while_it_loaded_does_not_say_what_it_has(pb, tmp_path):
    class Late(Upper):
        def load(self, config):
            super().load(config)
            config.version_dir.mkdir(exist_ok=True)
            (config.version_dir / "manifest.json").write_text("{}")

    model = Late()
    model.initialize(arguments(tmp_path, size=3))
    model.finalize()
    # Neither the load's name, nor the version of its files.
    assert _loads(pb, tmp_path) == ["/"]


def test_the_restarts_of_the_server_are_shown(pb, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIREME_SERVER_RESTARTS", "3")
    model = Upper()
    model.initialize(arguments(tmp_path, size=3))
    model.finalize()
    assert pb.MetricFamily.metrics[f"trireme_server_restarts/{tmp_path.name}"].value == 3


def test_an_unloaded_model_holds_no_metric_of_the_server(pb, tmp_path):
    model = Upper()
    model.initialize(arguments(tmp_path, size=3))
    counter = model.metrics.make(Metric("made", "counter", "by a test"))
    counter.increment(1)
    metrics = [weakref.ref(metric) for metric in pb.MetricFamily.metrics.values()]
    assert metrics
    model.finalize()
    pb.MetricFamily.metrics.clear()
    assert [metric() for metric in metrics if metric() is not None] == []
    # Whoever still counts does no harm.
    counter.increment(1)
    counter.set(1)
    counter.observe(1)


def test_a_load_that_fails_holds_no_metric_of_the_server(pb, tmp_path):
    class Failing(Upper):
        def load(self, config):
            self.counted = self.metrics.make(Metric("made", "counter", "by a test"))
            raise TriremeError("cannot")

    with pytest.raises(pb.TritonModelException, match="cannot"):
        Failing().initialize(arguments(tmp_path, size=3))
    (metric,) = [weakref.ref(metric) for metric in pb.MetricFamily.metrics.values()]
    pb.MetricFamily.metrics.clear()
    assert metric() is None


def test_what_our_modules_log_is_in_the_servers_log(model, pb):
    logging.getLogger("trireme.generate").error("the engine failed")
    assert pb.Logger.errors[-1] == "the engine failed"
    logging.getLogger("trireme.generate").warning("the engine is up")
    assert pb.Logger.warnings == ["the engine is up"]


def test_an_error_that_was_sent_holds_no_request(model):
    class Held(dict):
        """A request that can be watched."""

    gc.collect()
    gc.disable()
    try:
        request = Held(text=strings(["no"]))
        watched = weakref.ref(request)
        (response,) = model.execute([request])
        assert response.error.code == "INVALID_ARG"
        del request
        assert watched() is None
    finally:
        gc.enable()


def test_zero_requests_get_zero_answers(model):
    assert model.execute([]) == []


def test_a_gpu_instance_carries_its_device(pb, tmp_path):
    model = Upper()
    args = arguments(tmp_path, size=3) | {"model_instance_kind": "GPU", "model_instance_device_id": "1"}
    model.initialize(args)
    model.finalize()
    assert model.config.device_id == 1


class Measured(Upper):
    """Counts its requests and measures its rate."""

    def execute(self, requests):
        return self.answer_measured(requests, self._read, self._compute, self._write)


def test_a_model_that_answers_at_once_offers_its_requests_and_measures_those_that_worked(pb, tmp_path):
    model = Measured()
    model.initialize(arguments(tmp_path, size=3))
    try:
        run(model, "cannot", "cannot")
        # A database that is away refuses quickly: that is no rate.
        assert model.rate.value == 0.0
        run(model, "a", "no", "b", "cannot")
        assert model.rate.value > 0
        # "no" cannot be read.
        assert (model.work.totals().offered, model.work.totals().waits) == (5, 5)
    finally:
        model.finalize()


@pytest.mark.parametrize(("setting", "warms_up"), [("on", True), ("off", False)])
def test_without_warm_up_a_model_warms_nothing_up_whatever_its_configuration_says(
    pb, tmp_path, monkeypatch, setting, warms_up
):
    monkeypatch.setenv("TRIREME_WARM_UP", setting)
    given = arguments(tmp_path, size=3)
    given["model_config"] = given["model_config"][:-1] + ', "model_warmup": [{"name": "one"}]}'
    model = Measured()
    model.initialize(given)
    assert (model.config.warms_up, model.may_warm_up) == (warms_up, warms_up)
    model.finalize()


@pytest.mark.parametrize("warms_up", [False, True])
def test_the_warm_up_ends_with_the_first_answer_where_triton_asks_for_one_and_else_with_the_load(
    pb, tmp_path, warms_up
):
    given = arguments(tmp_path, size=3)
    if warms_up:
        given["model_config"] = given["model_config"][:-1] + ', "model_warmup": [{"name": "one"}]}'
    model = Measured()
    model.initialize(given)
    before = model._warmup_seconds()
    assert (before is None) == warms_up
    run(model, "a")
    after = model._warmup_seconds()
    assert after > 0
    run(model, "b")
    assert model._warmup_seconds() == after
    model.finalize()
