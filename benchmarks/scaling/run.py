"""Replays loads over ways to scale, with the arithmetic of Kubernetes' autoscaler and a measured model of replicas.

Without --data the page is made of the last results; with it the traces in that folder and synthetic days are
replayed first. --measure takes the service curve of a running server. --trace recommends knobs for a load of your
own: a CSV file with the columns seconds, input_tokens and output_tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from benchmarks.common.report import (
    DOCS,
    RESULTS,
    read_circumstances,
    read_record,
    render,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.scaling import load as loads
from benchmarks.scaling import reality as real
from benchmarks.scaling.fit import GAIN, MOST_TURNS, STEPS, Goal, Search
from benchmarks.scaling.fleet import Timing
from benchmarks.scaling.measure import WARM_UP, Job, measure, put, read_one_card, read_warm_up
from benchmarks.scaling.outcome import LATE_S, compare
from benchmarks.scaling.plots import draw_day, draw_frontier
from benchmarks.scaling.policies import AWS, CHOICES, MOST, Knobs, describe, ours
from benchmarks.scaling.reality import Reality
from benchmarks.scaling.service import Service, Services, pick_service, read_services
from benchmarks.scaling.study import (
    AWS_FITTED,
    BUDGET,
    BY_DAY,
    DAY_TOP,
    DEFAULT,
    FITTED,
    SEED,
    SPARE,
    STATIC,
    STATIC_LATE,
    STEP_SEEDS,
    Bench,
    Report,
    StepRow,
    WarmRow,
    make_report,
)
from trireme.errors import InvalidInputError

Row = TypeVar("Row", StepRow, WarmRow)
RECORD, CURVES, REALITY = "scaling.json", "service-curves.json", "scaling-reality.json"
PAGE = "autoscaling.md"
FRONTIER, DAY = "autoscaling.png", "autoscaling-day.png"
CARD, CARD_KIND = "2026-11-29-llama-70b-shape-gpu.json", "awq"
SERVICE, PRICE = "llama-70b-awq", 3.5
# Requests in flight that a curve is measured at, and the share of late answers that a recommendation allows.
IN_FLIGHT, MOST_LATE = (1, 2, 4, 8, 16, 32), 0.01


def group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by policy."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.policy, []).append(row)
    return found


def format_page(report: Report, services: Sequence[Service], reality: Reality | None) -> str:
    """The page in Markdown. reality: None where the model was not compared with servers."""
    return render(
        "scaling/autoscaling.md.j2",
        report=report,
        services=services,
        reality=reality,
        real=real,
        seen=report.circumstances,
        plots=(FRONTIER, DAY),
        late_s=LATE_S,
        load=loads,
        choices=CHOICES,
        knobs=Knobs(),
        budget=BUDGET,
        most=MOST,
        gain=GAIN,
        turns=MOST_TURNS,
        steps=STEPS,
        step_seeds=len(STEP_SEEDS),
        columns=loads.COLUMNS,
        names=(DEFAULT, SPARE, FITTED, BY_DAY, AWS_FITTED, STATIC),
        by_day=BY_DAY,
        static=STATIC,
        describe=describe,
        by_policy=group(report.steps),
        warm_by_policy=group(report.warm),
        warm_ups=sorted({row.warm_up_s for row in report.warm}),
        static_late=STATIC_LATE,
        day_top=DAY_TOP,
    )


def format_rule(knobs: Knobs, model: str = "MODEL") -> str:
    """The recording rule and the behavior that the knobs stand for, in YAML."""
    return render("scaling/rule.yaml.j2", knobs=knobs, model=model)


def run_measure(options: argparse.Namespace, words: list[str]) -> None:
    """Puts the curve of a running server's model into benchmarks/results/service-curves.json."""
    if options.model is None or options.service is None:
        raise InvalidInputError("--measure needs --model, and --service for the name of its curve")
    warm_up = options.warm_up_s
    if warm_up is None and options.metrics_url is not None:
        warm_up = read_warm_up(options.metrics_url, options.model)
    if warm_up is None:
        what = f"the server says no {WARM_UP} of that model: give --warm-up-s, or --metrics-url"
        raise InvalidInputError(what)
    seen = read_circumstances("benchmarks.scaling.run", words, SEED)
    job = Job(
        options.measure,
        options.model,
        tuple(options.in_flight),
        options.input,
        options.output,
        options.seconds,
        SEED,
    )
    places = options.places or max(options.in_flight)
    versions = ", ".join(f"{name} {seen.versions[name]}" for name in sorted(seen.versions))
    source = f"{options.model} through tritonserver; {seen.cpu}, {seen.cores} cores, load {seen.load:g}; "
    found = measure(job, options.service, warm_up, places, f"{source}{seen.date}; {versions}")
    keep(found)


def keep(service: Service) -> None:
    """Writes a curve beside those that are there."""
    known = read_services(RESULTS / CURVES).services
    write_json(RESULTS / CURVES, Services(put(known, service)))
    points = ", ".join(f"{one.in_flight}: {one.tokens_per_s:,.0f}" for one in service.points)
    print(f"{service.name}: tokens/s by requests in flight: {points}")


def run_trace(options: argparse.Namespace, bench: Bench) -> None:
    """Fits knobs on the first half of a user's own load and judges them on the second. Prints."""
    own = loads.read_own(options.trace)
    if options.volume != 1:
        copies = max(1, -(-options.volume // 1))
        own = loads.thin(loads.overlay(own, int(copies), SEED), options.volume / copies, SEED)
    first, second = loads.split(own, 0.5)
    search = Search(bench.service, loads.vary(first, SEED), bench.timing, SEED)
    found = search.fit(Goal(most_late=options.most_late))
    print(format_recommendation(bench, second, found.knobs, options.most_late, found.policies))


def format_recommendation(
    bench: Bench, second: loads.Load, knobs: Knobs, most_late: float, policies: int
) -> str:
    """The knobs, what they come to on the part that they were not fitted on, and how sure that is."""
    fitted, _ = bench.run(ours(knobs), second)
    shipped, _ = bench.run(ours(name="as shipped"), second)
    recipe, _ = bench.run(AWS, second)
    ones = [1.0] * len(fitted.late_blocks)
    per_block = fitted.requests / len(ones)
    interval = compare([one / per_block for one in fitted.late_blocks], ones, SEED)
    return render(
        "scaling/recommendation.md.j2",
        outcomes=(fitted, shipped, recipe),
        knobs=knobs,
        rule=format_rule(knobs),
        interval=interval,
        against=compare(fitted.late_blocks, recipe.late_blocks, SEED),
        paid=compare(fitted.paid_blocks, recipe.paid_blocks, SEED),
        blocks=len(ones),
        most_late=most_late,
        policies=policies,
        late_s=LATE_S,
    )


def read_reality() -> Reality | None:
    """The last comparison with servers."""
    path = RESULTS / REALITY
    return read_record(path, Reality) if path.is_file() else None


def run_study(options: argparse.Namespace, bench: Bench, words: list[str]) -> None:
    """Replays where there is data, and writes results, page and plots."""
    if options.data is not None:
        seen = read_circumstances("benchmarks.scaling.run", words, SEED)
        write_json(RESULTS / RECORD, make_report(bench, options.data, seen))
    report = read_record(RESULTS / RECORD, Report)
    draw_frontier(report, DOCS / FRONTIER)
    draw_day(report, DOCS / DAY)
    page = format_page(report, read_services(RESULTS / CURVES).services, read_reality())
    (DOCS / PAGE).write_text(page, encoding="utf-8")
    print(page)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """One of: a measurement, a comparison with servers, a recommendation, the page."""
    if options.measure is not None:
        run_measure(options, words)
        return
    if options.validate:
        found = real.validate(read_circumstances("benchmarks.scaling.run", words, SEED), SEED)
        write_json(RESULTS / REALITY, found)
        print(found)
        return
    if options.card:
        keep(read_one_card(RESULTS / CARD, CARD_KIND))
        return
    service = pick_service(read_services(RESULTS / CURVES).services, options.service or SERVICE)
    if options.warm_up_s is not None:
        service = replace(service, warm_up_s=options.warm_up_s)
    timing = Timing(delay_s=options.delay_s)
    bench = Bench(service, timing, options.price)
    if options.trace is not None:
        run_trace(options, bench)
    else:
        run_study(options, bench, words)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder of the traces: replay before the page is made")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="a CSV file: recommend knobs, write nothing"
    )
    parser.add_argument(
        "--volume", type=float, default=1.0, help="of --trace: so much of it, overlaid or thinned"
    )
    parser.add_argument(
        "--most-late", type=float, default=MOST_LATE, help=f"share of late answers (default {MOST_LATE})"
    )
    parser.add_argument("--service", help=f"the curve of a replica (default {SERVICE}), or its new name")
    parser.add_argument("--price", type=float, default=PRICE, help=f"of a replica's hour (default {PRICE})")
    parser.add_argument("--delay-s", type=float, default=15.0, help="of the metrics (default 15)")
    parser.add_argument("--warm-up-s", type=float, help="of a replica, in place of what was measured")
    parser.add_argument(
        "--validate", action="store_true", help="start and stop real servers by a policy, beside the model"
    )
    parser.add_argument("--card", action="store_true", help=f"take the curve of {CARD}")
    parser.add_argument("--measure", metavar="HOST:PORT", help="the gRPC port of a running server")
    parser.add_argument("--model", help="of that server")
    parser.add_argument("--metrics-url", help="of that server, for its warm-up")
    parser.add_argument("--in-flight", type=int, nargs="+", default=list(IN_FLIGHT))
    parser.add_argument(
        "--places", type=int, help="requests that it runs side by side (default: most in flight)"
    )
    parser.add_argument("--input", type=int, default=64, help="tokens of a request, about (default 64)")
    parser.add_argument("--output", type=int, default=0, help="tokens of an answer; 0: an encoder (default)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run of an encoder (default 5)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
