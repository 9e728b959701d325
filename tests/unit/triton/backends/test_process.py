from fakes.fake_pb import MetricFamily, arguments
from fakes.spans import KeptSpans
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.process_use import ProcessUse
from trireme.observe.spans import NoSpans
from trireme.triton.backends import process
from trireme.triton.backends.config import read_model_config
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.backends.process import EVERY, ProcessTelling, SpanTelling


def telling(pb, tmp_path, version="d" * 64):
    config = read_model_config(arguments(tmp_path), frozenset())
    metrics = ModelMetrics(pb, config.name)
    return ProcessTelling(metrics, config, version, Build("0.1.0", "e" * 40, "r1"))


def value(row):
    (found,) = [one.value for key, one in MetricFamily.metrics.items() if key.startswith(row.name + "/")]
    return found


def test_a_model_says_its_build_and_its_digest(pb, tmp_path):
    telling(pb, tmp_path)
    name = tmp_path.name
    assert {key for key in MetricFamily.metrics if "info" in key} == {
        f"{names.BUILD_INFO.name}/{name}/server/0.1.0/{'e' * 40}/r1",
        f"{names.MODEL_INFO.name}/{name}/{'d' * 12}/",
    }
    assert value(names.BUILD_INFO) == value(names.MODEL_INFO) == 1


def test_memory_is_as_it_is_and_processor_time_only_grows(pb, tmp_path, monkeypatch):
    seen = iter([ProcessUse(100, 2.0), ProcessUse(90, 3.5), ProcessUse(80, 1.5), None, ProcessUse(70, 2.0)])
    monkeypatch.setattr(process, "read_use", lambda pid: next(seen))
    told = telling(pb, tmp_path)
    had = []
    for call in range(4 * EVERY + 1):
        told.tell()
        if call % EVERY == 0:
            had.append((value(names.MODEL_MEMORY), value(names.MODEL_CPU)))
    assert had == [(100, 2.0), (90, 3.5), (80, 3.5), (80, 3.5), (70, 4.0)]


def test_what_became_of_spans_is_told_as_it_grows_and_nothing_where_none_are_sent(pb, tmp_path):
    config = read_model_config(arguments(tmp_path), frozenset())
    spans = KeptSpans()
    told = SpanTelling(ModelMetrics(pb, config.name), config, spans)
    for count in (2, 5, 5):
        spans.kept[:] = range(count)
        told.tell()
    key = f"{names.MODEL_SPANS.name}/{config.name}/{config.instance}"
    assert MetricFamily.metrics[f"{key}/sent"].value == 5
    assert MetricFamily.metrics[f"{key}/dropped"].value == 0
    MetricFamily.metrics.clear()
    SpanTelling(ModelMetrics(pb, config.name), config, NoSpans()).tell()
    assert MetricFamily.metrics == {}
