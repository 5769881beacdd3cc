"""How far past the limit: the plain script against PREDICT_STOP=1, side by side, on the same simulated cars.

    python tests/benchmark.py            prints the tables, writes tests/benchmark.svg (a few minutes)

Every charge goes from 55 % to a limit of 85 %, through the real pyze and over HTTP, on a battery that charges slower
above 80 %. It varies the power, how often the car reports, how long it takes to obey, when the script polls, the
battery, and whether a lockout of two hours begins in mid charge. Figures are in points of state of charge.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from cloud import World

LIMIT = 85
POWERS = (3.7, 7.4, 11.0, 22.0, 40.0)
REPORTS = (10, 20, 30)
DELAYS = (1, 5, 10)
PHASES = (0, 100, 200)  # seconds of the first poll after the car was plugged in
BATTERIES = (41.0, 52.0)
LOCKOUT = timedelta(hours=2)


class Case(NamedTuple):
    """One charge."""

    predict: bool
    power: float
    report: int
    delay: int
    phase: int
    battery: float
    lockout: bool


class Result(NamedTuple):
    """What came of it. overshoot: past the limit; undershoot: short of it, at the end; late: minutes past the limit."""

    overshoot: float
    undershoot: float
    stops: int
    requests: int
    late: float
    track: list[tuple[float, float, float, bool]]


def charge(case: Case) -> Result:
    """Simulate one charge and an hour after it."""
    world = World(
        "2026-05-05T08:00:00Z", level=55, power=case.power, capacity=case.battery, delay=timedelta(minutes=case.delay),
        report_every=timedelta(minutes=case.report), env={"PREDICT_STOP": "1"} if case.predict else {},
    )  # fmt: skip
    car, cloud, clock = world.car, world.cloud, world.clock
    begin = clock.now
    clock.now += timedelta(seconds=case.phase)
    charging, stops, late, locked = False, 0, 0.0, None
    track: list[tuple[float, float, float, bool]] = []

    def wait(seconds: float) -> bool:
        """Let time pass in small steps, to see what the car does between the polls."""
        nonlocal charging, stops, late, locked
        end = clock.now + timedelta(seconds=seconds)
        while clock.now < end:
            step = min(timedelta(seconds=30), end - clock.now)
            clock.now += step
            car.advance(clock.now)
            stops += charging and not car.charging
            late += (step / timedelta(minutes=1)) if car.charging and car.level > LIMIT else 0
            charging = car.charging
            minutes = (clock.now - begin) / timedelta(minutes=1)
            track.append((minutes, car.level, car.attributes["batteryLevel"], car.mode == "scheduled" and car._window_open()))
        if case.lockout and locked is None and car.level >= 75:
            locked = clock.now + LOCKOUT
            cloud.always[""] = 429, {"errors": [{"errorCode": "err.func.wired.overloaded"}]}
        if locked and clock.now >= locked:
            cloud.always.clear()
        over = world.script.watch.charge is False and not car.charging and (locked is None or clock.now >= locked)
        quiet.append(over)
        return quiet[-12:] == [True] * 12

    quiet: list[bool] = []
    world.script.run(wait)
    cloud.close()
    made = [when for when, _, _ in cloud.log]
    hourly = max(sum(1 for other in made if when <= other < when + timedelta(hours=1)) for when in made)
    return Result(max(0.0, car.level - LIMIT), max(0.0, LIMIT - car.level), stops, hourly, late, track)


def run(cases: list[Case]) -> list[Result]:
    """All of them, on every core."""
    with multiprocessing.Pool() as pool:
        return pool.map(charge, cases, chunksize=2)


def row(name: str, results: list[Result]) -> str:
    """One line of a table."""
    over, under = [r.overshoot for r in results], [r.undershoot for r in results]
    return (
        f"| {name} | {mean(over):.1f} | {max(over):.1f} | {mean(under):.1f} | {max(under):.1f} |"
        f" {max(r.stops for r in results)} | {max(r.requests for r in results)} | {max(r.late for r in results):.0f} |"
    )


def tables(cases: list[Case], results: list[Result]) -> str:
    """Plain beside predicted, for each power, by report interval, with and without a lockout."""
    head = (
        "| charge | overshoot mean | worst | undershoot mean | worst | stops | requests an hour | minutes past the limit |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    lines = []
    for lockout, report in itertools.product((False, True), sorted({case.report for case in cases})):
        lines += ["", f"Reports every {report} minutes{', two-hour lockout' * lockout}:", "", head]
        for power, predict in itertools.product(sorted({case.power for case in cases}), (False, True)):
            chosen = [
                result for case, result in zip(cases, results)
                if (case.lockout, case.report, case.power, case.predict) == (lockout, report, power, predict)
            ]  # fmt: skip
            if chosen:
                lines.append(row(f"{power:g} kW {'predicted' if predict else 'plain'}", chosen))
    return "\n".join(lines)


def picture(path: Path) -> None:
    """Level over time with reports, windows and limit, plain beside predicted."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "chargeto"  # the same file every time
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), sharex=True, sharey=True)
    for axis, predict in zip(axes, (False, True)):
        result = charge(Case(predict, 22.0, 10, 10, 100, 52.0, False))
        times, levels, reports, windows = zip(*result.track)
        title = f"PREDICT_STOP=1: {result.overshoot - result.undershoot:+.1f} points" if predict else f"plain: {result.overshoot:+.1f} points"
        axis.set_title(title)
        axis.axhline(LIMIT, color="tab:red", linestyle="--", linewidth=1, label="limit")
        axis.plot(times, levels, color="tab:blue", label="state of charge")
        axis.step(times, reports, where="post", color="gray", linewidth=0.9, label="as last reported")
        axis.fill_between(times, 0, 100, where=windows, color="tab:green", alpha=0.15, linewidth=0, label="charge window open")
        axis.set_ylim(54, 100)
        axis.set_xlim(0, 110)
        axis.set_xlabel("minutes")
    axes[0].set_ylabel("%")
    axes[0].legend(loc="upper left", fontsize=8)
    figure.suptitle("22 kW, a report every 10 minutes, 10 minutes to obey, 52 kWh", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture-only", action="store_true")
    args = parser.parse_args()
    if not args.picture_only:
        cases = [
            Case(*values)
            for values in itertools.product((False, True), POWERS, REPORTS, DELAYS, PHASES, BATTERIES, (False, True))
        ]
        results = run(cases)
        print(f"{len(cases)} charges, limit {LIMIT} %\n{tables(cases, results)}")
    picture(Path(__file__).with_name("benchmark.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
