import sys

import pytest

from fakes.collectors import collecting
from trireme.errors import SettingError
from trireme.observe.build_info import Build
from trireme.observe.spans import SpanCounts
from trireme.otlp.opening import open_spans, resource_of
from trireme.settings import OTEL_HEADERS, OTEL_OFF, OTEL_PROTOCOL, OTEL_URL, environment, read_settings


def test_without_a_collector_nothing_is_sent_and_nothing_runs():
    sink = open_spans("gateway", Build(), **read_settings({}).collector)
    assert not sink.is_on
    assert sink.percent == 0
    assert sink.counts() == SpanCounts()


def test_with_one_the_settings_say_where_how_many_and_with_which_headers():
    with collecting() as collector:
        settings = read_settings(
            {
                "TRIREME_OTLP_URL": collector.url,
                "TRIREME_OTLP_PERCENT": "7",
                "TRIREME_OTLP_HEADERS": "X-Key=a%20b",
            }
        )
        sink = open_spans("gateway", Build(), **settings.collector)
        assert sink.is_on
        assert sink.percent == 7
        assert settings.collector["headers"] == {"x-key": "a b"}
        sink.close()
    assert "a%20b" not in repr(settings)


def test_without_the_extra_the_setting_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    with pytest.raises(SettingError, match=r"pip install 'trireme\[otlp\]'"):
        open_spans(
            "gateway", Build(), **read_settings({"TRIREME_OTLP_URL": "http://127.0.0.1:4318"}).collector
        )


def test_a_resource_says_which_process_and_build_sends():
    said = resource_of("server", Build("1.2", "abc", "r7"), "llm_0")
    assert said["service.name"] == "trireme-server"
    assert said["service.version"] == "1.2"
    assert said["trireme.release"] == "r7"
    assert said["service.instance.id"].endswith(":llm_0")
    assert "" not in resource_of("gateway", Build()).values()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example/api", "https://otel.example/api/v1/traces"),
        ("https://otel.example/v1/traces", "https://otel.example/v1/traces"),
        ("off", ""),
        ("", ""),
    ],
)
def test_traces_go_where_the_url_says(raw, expected):
    settings = read_settings({"TRIREME_OTLP_URL": raw})
    assert settings.collector["url"] == expected
    assert read_settings(environment(settings)).collector == settings.collector


@pytest.mark.parametrize(
    "raw",
    [
        "collector:4318",
        "grpc://h:1",
        "http://",
        "http://h:x",
        "http://h:99999",
        "http://h/?key=s3cret",
        "http://[h",
        "http://a b:4318",
        "http://h/a b",
        "http://h\tx:4318",
        "http://h/\x7f",
        "http://h/ü",
    ],
)
def test_what_is_no_url_of_a_collector_is_refused_and_not_quoted(raw):
    with pytest.raises(SettingError, match="TRIREME_OTLP_URL must be off, or the URL") as refused:
        read_settings({"TRIREME_OTLP_URL": raw})
    assert "s3cret" not in str(refused.value)


def test_a_password_in_the_url_is_refused_and_not_quoted():
    with pytest.raises(SettingError, match="TRIREME_OTLP_HEADERS") as refused:
        read_settings({"TRIREME_OTLP_URL": "http://ann:s3cret@h:1"})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("raw", ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0Ax: y", "a=s3cret%C3%A4"])
def test_headers_that_are_none_are_refused_and_not_quoted(raw):
    with pytest.raises(SettingError, match="TRIREME_OTLP_HEADERS must be name=value") as refused:
        read_settings({"TRIREME_OTLP_HEADERS": raw})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("raw", ["101", "-1", "half", ""])
def test_a_percentage_is_0_to_100(raw):
    with pytest.raises(SettingError, match="TRIREME_OTLP_PERCENT must be a number from 0 to 100"):
        read_settings({"TRIREME_OTLP_PERCENT": raw})


def test_opentelemetrys_own_variables_count_where_ours_say_nothing():
    theirs = {OTEL_URL: "http://h:4318", OTEL_HEADERS: "a=b"}
    assert read_settings(theirs).collector["url"] == "http://h:4318/v1/traces"
    assert read_settings(theirs).collector["headers"] == {"a": "b"}
    # Headers are those of the collector that they stand beside.
    ours = read_settings({**theirs, "TRIREME_OTLP_URL": "http://other:4318"}).collector
    assert (ours["url"], ours["headers"]) == ("http://other:4318/v1/traces", {})
    assert read_settings({**theirs, "TRIREME_OTLP_URL": "off"}).collector["url"] == ""
    assert read_settings({**theirs, OTEL_OFF: "true"}).collector["url"] == ""
    # A child of `off` is off, too.
    off = environment(read_settings({"TRIREME_OTLP_URL": "off"}))
    assert read_settings({**theirs, **off}).collector["url"] == ""


def test_another_protocol_is_refused_by_its_name():
    with pytest.raises(SettingError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"):
        read_settings({OTEL_URL: "http://h:4317", OTEL_PROTOCOL: "grpc"})
    assert read_settings({OTEL_PROTOCOL: "grpc"}).collector["url"] == ""
