"""What Triton's stub gives a model, small enough to predict: tensors, responses, metrics, a log."""

import json

import numpy as np


class Tensor:
    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1


class TritonError:
    INVALID_ARG, NOT_FOUND, UNAVAILABLE, INTERNAL = "INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "INTERNAL"
    UNSUPPORTED, ALREADY_EXISTS, CANCELLED = "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"

    def __init__(self, message, code):
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, output_tensors, error=None):
        self.outputs = {tensor.name: tensor.array for tensor in output_tensors}
        self.error = error


class Metric:
    def __init__(self):
        self.value = 0.0
        self.observed = []

    def observe(self, value):
        self.observed.append(value)

    def increment(self, by):
        self.value += by

    def set(self, value):
        self.value = value


class MetricFamily:
    COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
    metrics: dict[str, Metric] = {}

    def __init__(self, name, description, kind):
        self.name = name

    def Metric(self, labels, buckets=()):  # noqa: N802 - Triton's name
        return self.metrics.setdefault("/".join((self.name, *labels.values())), Metric())


class Logger:
    errors: list[str] = []
    warnings: list[str] = []
    infos: list[str] = []

    @classmethod
    def log_error(cls, text):
        cls.errors.append(text)

    @classmethod
    def log_warn(cls, text):
        cls.warnings.append(text)

    @classmethod
    def log_info(cls, text):
        cls.infos.append(text)


class TritonModelException(Exception):
    pass


def get_input_tensor_by_name(request, name):
    return Tensor(name, request[name]) if name in request else None


def strings(*rows):
    """A STRING tensor [len(rows), n] as the stub hands it over: objects holding bytes."""
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for i, row in enumerate(rows):
        array[i, :] = [value if isinstance(value, bytes) else value.encode() for value in row]
    return array


def arguments(model_dir, inputs=("text",), outputs=(), **parameters):
    """What `initialize` receives."""
    config = {
        "input": [{"name": name} for name in inputs],
        "output": [{"name": name} for name in outputs],
        "parameters": {key: {"string_value": str(value)} for key, value in parameters.items()},
    }
    return {
        "model_config": json.dumps(config),
        "model_repository": str(model_dir),
        "model_version": "1",
        "model_name": model_dir.name,
        "model_instance_name": f"{model_dir.name}_0_0",
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }


class Answer:
    """A response of another model to a BLS request."""

    def __init__(self, outputs=None, error=None):
        self.outputs, self.message = outputs or {}, error

    def has_error(self):
        return self.message is not None

    def error(self):
        return TritonErrorText(self.message)

    def output_tensors(self):
        return [OutputTensor(name, array) for name, array in self.outputs.items()]


class TritonErrorText:
    def __init__(self, text):
        self.text = text

    def message(self):
        return self.text


class OutputTensor:
    def __init__(self, name, array):
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


class InferenceRequest:
    """Answered by `models`: model name -> a function of the inputs' arrays that gives an Answer."""

    models: dict = {}

    def __init__(self, model_name, requested_output_names, inputs, parameters=None):
        self.model, self.inputs = model_name, {tensor.name: tensor.array for tensor in inputs}

    def exec(self):
        if self.model not in self.models:
            return Answer(error=f"Failed: Model {self.model} is not ready.")
        return self.models[self.model](self.inputs)


class Request(dict):
    """Inputs by name, and the sender of a response that comes later."""

    def __init__(self, **inputs):
        super().__init__(inputs)
        self.sent = []

    def get_response_sender(self):
        return self

    def send(self, response, flags=0):
        self.sent.append((response, flags))

    @property
    def response(self):
        """The one response, which is also the last."""
        [(response, flags)] = self.sent
        assert flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL
        return response
