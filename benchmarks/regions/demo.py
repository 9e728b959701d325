"""Two regions under load, one of which vanishes and comes back: who serves, from second to second.

eu has two replicas 7 ms away, us two behind a balancer 82 ms away. After a third of the time all packets to eu's
replicas are lost, after another third they pass again. In a terminal the view is drawn anew, else it is a line a
second. Network namespaces need root or user namespaces, and /dev/net/tun; where they cannot be made, all is on this
machine's loopback without delay, and eu's replicas are stopped (SIGSTOP) instead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

from benchmarks.common.script import make_parser, run_script
from benchmarks.regions.load import Load, Outcome
from benchmarks.regions.namespaces import Namespace, enter_own
from benchmarks.regions.world import ENTRY, FAR, HOME, Client, World, region_of
from trireme.errors import InvalidInputError, UnsupportedError

if TYPE_CHECKING:
    from rich.table import Table

WORK_MS, DEADLINE_S = 5.0, 10.0
SHORTEST_S = 6
WHOLE, CUT, HEALED = "all is well", "eu has vanished", "eu is back"


@dataclass(frozen=True, slots=True)
class Second:
    """What happened in one second. regions: name -> calls answered and their p50 in ms, None without a call.

    order: the regions as they are asked. replicas: region and address:port -> what its Envoy says of it.
    failed, slowest_s: since the beginning.
    """

    at: int
    phase: str
    regions: dict[str, tuple[int, float | None]]
    failed: int
    slowest_s: float
    order: tuple[str, ...]
    replicas: dict[str, str]


def summarize(
    at: int,
    phase: str,
    outcomes: Sequence[Outcome],
    order: Sequence[str],
    replicas: dict[str, str],
) -> Second:
    """The second before `at`, of all outcomes so far."""
    taken: dict[str, list[float]] = {name: [] for name in order}
    for one in outcomes:
        if one.region and at - 1 <= one.began_s + one.took_s < at:
            taken.setdefault(one.region, []).append(1e3 * one.took_s)
    return Second(
        at=at,
        phase=phase,
        regions={
            name: (len(times), statistics.median(times) if times else None) for name, times in taken.items()
        },
        failed=sum(bool(one.error) for one in outcomes),
        slowest_s=max((one.took_s for one in outcomes), default=0.0),
        order=tuple(order),
        replicas=replicas,
    )


def line_of(second: Second) -> str:
    """For what is no terminal."""
    served = ", ".join(
        f"{name} {calls}/s{p50_of(p50)} ({', '.join(states_of(second, name).values())})"
        for name, (calls, p50) in second.regions.items()
    )
    return (
        f"{second.at:3} s  {second.phase}: {served}; failed {second.failed}, slowest {second.slowest_s:.2f} s; "
        f"order {', '.join(second.order)}"
    )


def states_of(second: Second, region: str) -> dict[str, str]:
    """Of a region's replicas, by address:port."""
    own = f"{region} "
    return {name.removeprefix(own): state for name, state in second.replicas.items() if name.startswith(own)}


def p50_of(p50: float | None) -> str:
    """As it stands behind a number of calls."""
    return "" if p50 is None else f" p50 {p50:.0f} ms"


def table_of(second: Second) -> Table:
    """For a terminal."""
    from rich.table import Table

    table = Table(
        title=f"{second.at} s: {second.phase}",
        caption=f"failed {second.failed}, slowest call {second.slowest_s:.2f} s",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("region", "calls/s", "p50, ms", "replicas, as the region's Envoy sees them"):
        table.add_column(column)
    for number, name in enumerate(second.order, 1):
        calls, p50 = second.regions[name]
        states = [
            f"{one.split()[1]} {state}" for one, state in second.replicas.items() if one.startswith(name)
        ]
        bar = "█" * round(calls / 2)
        table.add_row(
            f"{number}. {name}", f"{calls:3} {bar}", "" if p50 is None else f"{p50:.0f}", "\n".join(states)
        )
    return table


@contextmanager
def shown() -> Iterator[Callable[[Second], None]]:
    """Gives what shows a second: drawn anew in a terminal, else a line."""
    if not sys.stdout.isatty():
        yield lambda second: print(line_of(second), flush=True)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda second: live.update(table_of(second), refresh=True)


def look(world: World) -> tuple[list[str], dict[str, str]]:
    """The order in which regions are asked, and how each replica is."""
    replicas: dict[str, str] = {}
    for region in (world.home, world.far):
        hosts = region.hosts(ENTRY)
        replicas |= {
            f"{one.region} {one.place}": hosts.get(one.place, "unknown")
            for one in world.replicas
            if one.region == region.name
        }
    return [HOME, *world.home.far_order(ENTRY)], replicas


def show(world: World, seconds: int, per_second: float) -> Second:
    """Runs the load, cuts, heals, and shows each second; returns the last. Blocks for so many seconds."""
    cut_at, heal_at = seconds // 3, 2 * seconds // 3
    phase = WHOLE
    with world.channel as channel, shown() as tell:
        client = Client(channel)
        load = Load(
            lambda: client.infer(WORK_MS, DEADLINE_S),
            region_of,
            per_second=per_second,
            calls=round(seconds * per_second),
        )
        try:
            for at in range(1, seconds + 1):
                time.sleep(max(0.0, at - load.now))
                tell(summarize(at, phase, load.outcomes[:], *look(world)))
                if at == cut_at:
                    world.cut()
                    phase = CUT
                elif at == heal_at:
                    world.heal()
                    phase = HEALED
        finally:
            load.stop()
        outcomes = load.wait()
    return summarize(seconds, phase, outcomes, *look(world))


def find_home(options: argparse.Namespace, words: list[str]) -> Namespace | None:
    """The namespace that this process is in from now on; None where there is none, and says why."""
    if not options.loopback:
        try:
            return enter_own("benchmarks.regions.demo", words)
        except UnsupportedError as error:
            print(f"No networks of their own: {error}.", flush=True)
    print(
        f"All is on the loopback of this machine, without delay; {HOME}'s replicas will be stopped.",
        flush=True,
    )
    return None


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Runs the demonstration."""
    if options.seconds < SHORTEST_S:
        raise InvalidInputError(f"--seconds must be at least {SHORTEST_S}, got {options.seconds}")
    home = find_home(options, words)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(World(File(folder), home)) as world,
    ):
        print(
            f"{options.per_second:g} idempotent calls a second to the Envoy of {HOME}; {FAR} is the next region.",
            flush=True,
        )
        last = show(world, options.seconds, options.per_second)
    calls = round(options.seconds * options.per_second)
    print(f"{last.failed} of {calls} calls failed; the slowest took {last.slowest_s:.2f} s.")


def main() -> int:
    """Returns the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--seconds", type=int, default=60, help="in all; a third until the loss, a third of it"
    )
    parser.add_argument("--per-second", type=float, default=50.0, help="calls")
    parser.add_argument(
        "--loopback", action="store_true", help="without namespaces, also where they can be made"
    )
    try:
        return run_script(parser, work)
    except BrokenPipeError:
        # Who read along has gone; nor is there one for what Python would say at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
