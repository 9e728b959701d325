import pytest

from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.registry import MetricPage

BUILD = Build("0.1.0", "c" * 40, "r7")


@pytest.mark.parametrize("process", ["gateway", "worker", "agent"])
def test_a_page_has_all_rows_of_its_exporter_and_no_other(process):
    from prometheus_client.parser import text_string_to_metric_families

    page = MetricPage(process, names.EXPORTERS[process], BUILD).render().decode()
    found = {}
    for family in text_string_to_metric_families(page):
        end = "_total" if family.type == "counter" else ""
        found[family.name + end] = (family.type, family.documentation)
    # prometheus_client tells when a counter began.
    found = {name: row for name, row in found.items() if not name.endswith("_created")}
    rows = names.EXPORTERS[process]
    assert set(found) == {row.name for row in rows}
    for row in rows:
        kind, said = found[row.name]
        assert kind == row.kind
        assert said == row.help or row.name.startswith("process_")


def test_a_page_says_which_build_runs():
    page = MetricPage("worker", names.WORKER, BUILD).render().decode()
    labels = f'model="",process="worker",release="r7",revision="{"c" * 40}",version="0.1.0"'
    assert f"trireme_build_info{{{labels}}} 1.0" in page


def test_a_page_tells_its_process_memory():
    page = MetricPage("worker", names.WORKER, BUILD).render().decode()
    (line,) = [line for line in page.splitlines() if line.startswith("process_resident_memory_bytes ")]
    assert float(line.split()[1]) > 1 << 20
