import pytest
from fake_pb import arguments, strings

from trireme.errors import InvalidInputError, TriremeError
from trireme.triton.model import BackendModel
from trireme.triton.tensors import read_strings, string_tensor


class Upper(BackendModel):
    """Answers in capitals; refuses "no", breaks on "bug" and fails whole batches with "all"."""

    known_parameters = frozenset({"size"})
    ready = True

    def load(self, config):
        self.size = config.read_int("size")

    def is_ready(self):
        return self.ready

    def execute(self, requests):
        return self.answer_all(requests, self._read, self._compute, self._write)

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
    assert (refused.error.code, refused.error.message) == ("INVALID_ARG", "text must not be no")
    assert failed.error.code == "INTERNAL"
    assert broken.error.code == "INTERNAL"


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
        assert pb.MetricFamily.metrics[f"trireme_model_ready/{tmp_path.name}"].value == value


def test_zero_requests_get_zero_answers(model):
    assert model.execute([]) == []


def test_a_gpu_instance_carries_its_device(pb, tmp_path):
    model = Upper()
    args = arguments(tmp_path, size=3) | {"model_instance_kind": "GPU", "model_instance_device_id": "1"}
    model.initialize(args)
    model.finalize()
    assert model.config.device_id == 1
