"""What a region that vanishes costs its clients: all packets to its replicas are lost, and nothing is refused.

Two regions in network namespaces of this machine, round trips of 7 and 82 ms: see benchmarks/regions/world.py.
Needs what makes namespaces: root, or user namespaces, and /dev/net/tun.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import grpc

from benchmarks.common.report import (
    DOCS,
    RESULTS,
    read_circumstances,
    read_json,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.regions.delays import Path
from benchmarks.regions.load import Load, Outcome
from benchmarks.regions.namespaces import Namespace, enter_own
from benchmarks.regions.region import PROFILE
from benchmarks.regions.world import ENTRY, FAR, FAR_PATH, HOME, NEAR_PATH, Client, World, region_of
from trireme.errors import InvalidInputError, UnavailableError

FILE = RESULTS / "regions.json"
SEED = 0
PER_SECOND = 50.0
WORK_MS = 5.0
# Seconds of a run: until the cut, of the cut, after it.
BEFORE_S, CUT_S, AFTER_S = 3.0, 6.0, 3.0
DEADLINE_S = 10.0
# Their first message would come after so long, and they begin so long before the cut.
STREAMS, STREAM_MS, STREAM_LEAD_S = 10, 1_000.0, 0.5
LOSS_PERCENT = 0.5
_SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One cut. elsewhere_s: from the cut to the first answer of the other region; back_s: from the healing to the
    first near answer of a call begun after it. Seconds. None: there was none.

    streams: of those that had not begun at the cut, how many came whole.
    """

    calls: int
    failed: int
    worst_s: float
    near_p50_ms: float | None
    far_p50_ms: float | None
    elsewhere_s: float | None
    back_s: float | None
    streams: int
    errors: dict[str, int]


def measure(world: World, client: Client) -> Run:
    """One run under load. Blocks for its seconds."""
    settle(world, client)
    calls = round(PER_SECOND * (BEFORE_S + CUT_S + AFTER_S))
    load = Load(lambda: client.infer(WORK_MS, DEADLINE_S), region_of, per_second=PER_SECOND, calls=calls)
    time.sleep(BEFORE_S - STREAM_LEAD_S)
    streams = [client.stream(STREAM_MS, DEADLINE_S) for _ in range(STREAMS)]
    time.sleep(max(0.0, BEFORE_S - load.now))
    cut_at = load.now
    world.cut()
    time.sleep(max(0.0, BEFORE_S + CUT_S - load.now))
    world.heal()
    healed_at = load.now
    outcomes = load.wait()
    return summarize(outcomes, cut_at, healed_at, sum(came_whole(one) for one in streams))


def summarize(outcomes: Sequence[Outcome], cut_at: float, healed_at: float, streams: int) -> Run:
    """What became of the calls of one run; times are those of the load."""
    ends = [(one.began_s + one.took_s, one) for one in outcomes if one.region]
    far = [end for end, one in ends if one.region == FAR and end >= cut_at]
    back = [end for end, one in ends if one.region == HOME and one.began_s >= healed_at]
    errors = [one.error for one in outcomes if one.error]
    return Run(
        calls=len(outcomes),
        failed=len(errors),
        worst_s=max(one.took_s for one in outcomes),
        near_p50_ms=_p50_ms(outcomes, HOME),
        far_p50_ms=_p50_ms(outcomes, FAR),
        elsewhere_s=min(far) - cut_at if far else None,
        back_s=min(back) - healed_at if back else None,
        streams=streams,
        errors={error: errors.count(error) for error in sorted(set(errors))},
    )


def _p50_ms(outcomes: Sequence[Outcome], region: str) -> float | None:
    taken = [one.took_s for one in outcomes if one.region == region]
    return 1e3 * statistics.median(taken) if taken else None


def came_whole(stream: Any) -> bool:
    """Whether both messages of a stream come. Blocks until it ends."""
    try:
        return len(list(stream)) == 2
    except grpc.RpcError:
        return False


def settle(world: World, client: Client) -> None:
    """Blocks until near replicas have answered twenty calls in a row, as before any cut."""
    in_a_row, deadline = 0, time.monotonic() + _SETTLE_S
    while in_a_row < 20:
        if time.monotonic() > deadline:
            raise UnavailableError(f"{HOME} does not serve: {world.home.hosts(ENTRY)}")
        try:
            is_near = region_of(client.infer(WORK_MS, DEADLINE_S).result()) == HOME
        except grpc.RpcError:
            is_near = False
        in_a_row = in_a_row + 1 if is_near else 0


@dataclass(frozen=True, slots=True)
class Case:
    """A row: Envoy's settings, and the percent of packets that both links lose all the time."""

    name: str
    settings: Mapping[str, Any]
    loss_percent: float = 0.0
    has_tls: bool = True

    @property
    def paths(self) -> tuple[Path, Path]:
        """Of the links."""
        near, far = (
            dataclasses.replace(one, loss_percent=self.loss_percent) for one in (NEAR_PATH, FAR_PATH)
        )
        return near, far


CASES = (
    Case("as by default", {}),
    Case("regional", PROFILE),
    Case(f"regional, {LOSS_PERCENT:g} % of all packets lost", PROFILE, LOSS_PERCENT),
)


def measure_case(home: Namespace, case: Case, runs: int) -> list[Run]:
    """Runs of a case, each over new regions: the first call elsewhere opens the connection."""
    found = []
    for number in range(runs):
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(World(File(folder), home, case.paths, case.settings, has_tls=case.has_tls)) as world,
            world.channel as channel,
        ):
            found.append(measure(world, Client(channel)))
            show_progress_note(f"{case.name}, run {number + 1}: {found[-1]}")
    return found


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, writes results and the page's section."""
    if options.runs < 1:
        raise InvalidInputError(f"--runs must be at least 1, got {options.runs}")
    if not options.page:
        measure_all(options.runs, words)
    section = section_of(read_json(FILE))
    print(section)
    write_section(DOCS / "regions.md", "benchmarks.regions", section)


def measure_all(runs: int, words: list[str]) -> None:
    """Measures and writes the file of results."""
    seen = read_circumstances("benchmarks.regions.run", words, seed=SEED)
    home = enter_own("benchmarks.regions.run", words)
    rows = [(case, measure_case(home, case, runs)) for case in CASES]
    record = {
        "seen": dataclasses.asdict(seen),
        "per_second": PER_SECOND,
        "work_ms": WORK_MS,
        "seconds": BEFORE_S + CUT_S + AFTER_S,
        "cut_s": CUT_S,
        "streams": STREAMS,
        "round_trips_ms": [2 * path.delay_ms for path in (NEAR_PATH, FAR_PATH)],
        "rows": [
            {**dataclasses.asdict(case), "runs": [dataclasses.asdict(run) for run in found]}
            for case, found in rows
        ],
    }
    write_json(FILE, record)


def section_of(record: Mapping[str, Any]) -> str:
    """The page's section of what was measured."""
    rows = [summary_of(row["name"], [Run(**run) for run in row["runs"]]) for row in record["rows"]]
    runs = len(record["rows"][0]["runs"])
    return render("regions/vanished.md.j2", **{**record, "rows": rows}, runs=runs)


def summary_of(settings: str, runs: Sequence[Run]) -> dict[str, Any]:
    """A row of the table: sums, medians, and the least and the most of the runs."""

    def span(name: str) -> list[float] | None:
        values = sorted(value for run in runs if (value := getattr(run, name)) is not None)
        return [statistics.median(values), values[0], values[-1]] if len(values) == len(runs) else None

    return {
        "settings": settings,
        "calls": sum(run.calls for run in runs),
        "failed": sum(run.failed for run in runs),
        "streams": sum(run.streams for run in runs),
        **{name: span(name) for name in ("worst_s", "elsewhere_s", "back_s", "near_p50_ms", "far_p50_ms")},
    }


def main() -> int:
    """Returns the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each set of settings")
    parser.add_argument("--page", action="store_true", help="write the page of the last results alone")
    return run_script(parser, work)


if __name__ == "__main__":
    raise SystemExit(main())
