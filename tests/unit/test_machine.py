import socket

import pytest

from trireme import machine
from trireme.machine import (
    CoreShare,
    parse_cpuinfo,
    pick_ports,
    read_free_memory,
    read_machine,
    read_versions,
    share_cores,
)

CPUINFO = """processor : 0
model name\t: A CPU @ 2 GHz
flags\t\t: fpu avx2 avx512_vnni sse2

processor : 1
model name\t: Another
flags\t\t: avx512f
"""


def test_the_processor_and_the_flags_that_matter_are_read():
    assert parse_cpuinfo(CPUINFO) == ("A CPU @ 2 GHz", ("avx2", "avx512_vnni"))


def test_an_arm_machine_names_features():
    assert parse_cpuinfo("Features : fp asimd asimddp\n") == ("", ("asimddp",))
    assert parse_cpuinfo("") == ("", ())


def test_the_machine_is_the_one_the_test_runs_on():
    machine = read_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert "Linux" in machine.system


def test_versions_are_those_installed():
    versions = read_versions()
    assert versions["numpy"].startswith("1.")
    assert "trireme" in versions


def test_picked_ports_differ_and_are_free():
    ports = pick_ports("127.0.0.1", 3)
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("cores", "parts"), [(8, 1), (8, 2), (8, 3), (2, 2), (7, 4)])
def test_each_core_is_shared_out_once_and_none_gets_two_more_than_another(cores, parts):
    ids = list(range(10, 10 + cores))
    shares = share_cores(ids, parts)
    assert [core for share in shares for core in share.ids] == ids
    sizes = [len(share.ids) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert {share.count for share in shares} == {min(sizes)}


def test_cores_that_are_too_few_are_shared():
    assert share_cores([4, 5], 3) == [CoreShare((4,), 1), CoreShare((5,), 1), CoreShare((4,), 1)]


def test_free_memory_is_no_more_than_the_control_group_has_left(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CONTROL_GROUP", tmp_path)
    of_machine = read_free_memory()
    assert 0 < of_machine <= read_machine().memory_gib * 2**30
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert read_free_memory() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert read_free_memory() > 2000
