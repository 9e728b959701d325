import socket

from trireme.machine import parse_cpuinfo, pick_ports, read_machine, read_versions

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
