"""Where charges end: the plain script beside PREDICT_STOP=1, in an unsteady world.

    python tests/benchmark.py            prints the tables, writes tests/benchmark.svg (about two minutes on two cores)

No car is told twice alike: every command takes a time of its own to reach it (1 to 10 minutes), every report comes
after an interval of its own (10 to 15). Batteries of 41 and 52 kWh, half of them charging slower from 80 % on. A charge
begins in mode "always" below the lower threshold, by the script's window, by the app before the script starts, or by
the app after that. "Fresh" is the first charge of a process, "fourth" has seen three. Points of state of charge.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from cloud import Zoe, chargeto

LIMIT = 85.0
POWERS = (3.7, 7.4, 11.0, 22.0, 40.0)
CHARGES = 300  # for each power
BEGINNINGS = ("always", "window", "app before", "app after")
KINDS = ("plain", "predicted", "lockout")
LOCKOUT = timedelta(hours=2)
MINUTE = timedelta(minutes=1)
BEGIN = datetime(2026, 5, 4, tzinfo=timezone.utc)
ZONE = chargeto.pytz.timezone("Europe/Paris")


class Result(NamedTuple):
    """What came of a charge. error: past the limit at its end; late: minutes of charging past the limit."""

    error: float
    stops: int
    late: float
    requests: int
    unknowable: float  # the error that the random delay of a perfectly timed stop would cause


class Car(Zoe):
    """A car of this world, with its own dice. Every method of the script's adapter counts as a request."""

    def __init__(self, dice: random.Random, power: float) -> None:
        self.dice, self.requests, self.locked = dice, [], (BEGIN, BEGIN)  # type: ignore[var-annotated]
        self.tapers = dice.random() < 0.5
        super().__init__(
            (BEGIN + timedelta(seconds=dice.uniform(0, 86400))).astimezone(ZONE), power=power, capacity=41.0 if dice.random() < 0.5 else 52.0,
            delay=lambda: dice.uniform(1, 10) * MINUTE, report_every=lambda: dice.uniform(10, 15) * MINUTE,
        )  # fmt: skip

    def points(self, minutes: float) -> float:
        """How far a charge gets near the limit."""
        slowing = 0.4 + (100 - LIMIT) * 0.03 if self.tapers else 1.0
        return self.full_power * slowing * minutes / 60 / self.capacity * 100

    def _request(self) -> None:
        self.requests.append(self.now)
        if self.locked[0] <= self.now < self.locked[1]:
            raise chargeto.QuotaError("locked out")

    def battery_status(self) -> Any:
        self._request()
        return super().battery_status()

    def charging_settings(self) -> Any:
        self._request()
        return super().charging_settings()

    def send(self, call: Any, attributes: Any) -> None:
        if not self.by_the_app:
            self._request()
        super().send(call, attributes)

    by_the_app = False

    def app(self, deed: str, schedules: Any = None) -> None:
        self.by_the_app = True
        super().app(deed, schedules)
        self.by_the_app = False


class Life:
    """A car and the script, for one charge after another."""

    def __init__(self, power: float, number: int, predict: bool) -> None:
        self.dice = random.Random(f"{power} {number}")
        self.car = Car(self.dice, power)
        self.car.plug(False)
        self.dice.seed(f"{power} {number}")
        env = {"PREDICT_STOP": "1" if predict else "0", "VEHICLE_TZ": "Europe/Paris"}
        self.settings = chargeto.Settings.from_env(env, None)
        self.script: chargeto.Controller | None = None

    def charge(self, beginning: str, lockout: bool = False) -> Result:
        """One charge, and what is left of it when the car has rested for 80 minutes."""
        car, dice, track, rest = self.car, self.dice, [], [0]
        car.level = dice.uniform(65, 72) if beginning == "window" else dice.uniform(35, 60)
        car.plug(True)
        if beginning == "app before":
            car.app("always" if dice.random() < 0.5 else "start")
            met = dice.uniform(45, 70)  # where the script finds it, at least
            while car.level < met or not car.charging:
                car.advance(car.now + MINUTE)
        elif beginning == "app after":
            car.app("always" if dice.random() < 0.5 else "start")
        locked_at = dice.uniform(75, LIMIT) if lockout else 101.0
        if self.script is None:
            car.advance(car.now + dice.uniform(0, 5) * MINUTE)
            self.script = chargeto.Controller(self.settings, car, lambda: car.now, lambda _: None)
        begin = car.now
        past, stops = len(car.charged), 0

        def sleep(seconds: float) -> bool:
            car.advance(car.now + timedelta(seconds=seconds))
            if car.level > locked_at and car.locked[0] == BEGIN:
                car.locked = (car.now, car.now + LOCKOUT)
            track.append(car.charging)
            rest[0] = 0 if car.charging or car.level < 67 else rest[0] + round(seconds)
            return rest[0] > 80 * 60 + (LOCKOUT.seconds if lockout else 0) or car.now - begin > timedelta(hours=30)

        self.script.run(sleep)
        stops = sum(earlier and not later for earlier, later in zip(track, track[1:]))
        late = sum(level > LIMIT for _, level in car.charged[past:]) / 2
        hours = [sum(0 <= (other - one).total_seconds() < 3600 for other in car.requests) for one in car.requests]
        error = car.level - LIMIT
        car.plug(False)
        away = car.now + dice.uniform(60, 300) * MINUTE
        self.script.run(lambda seconds: car.advance(car.now + timedelta(seconds=seconds)) or car.now > away)
        del car.requests[:], car.charged[:]
        return Result(error, stops, late, max(hours) + 5, car.points(2.25))  # and a JWT every 14 minutes


def life(case: tuple[float, int, str]) -> list[Result]:
    """The first and the fourth charge of one life, or the first alone."""
    power, number, kind = case
    one = Life(power, number, predict=kind != "plain")
    first = one.charge(BEGINNINGS[number % 4], lockout=kind == "lockout")
    if kind != "predicted":
        return [first]
    for more in (1, 2, 3):
        one.charge(BEGINNINGS[(number + more) % 4])
    one.dice.seed(f"{power} {number}")  # the first charge once more: only the script has changed
    return [first, one.charge(BEGINNINGS[number % 4])]


def run(charges: int, powers: tuple[float, ...] = POWERS) -> dict[tuple[str, float], list[Result]]:
    """Every charge, by kind and power; with as many processes as there are cores."""
    cases = [(power, number, kind) for power in powers for kind in KINDS for number in range(charges)]
    with multiprocessing.Pool() as pool:
        lives = pool.map(life, cases, chunksize=10)
    results: dict[tuple[str, float], list[Result]] = {}
    for (power, _, kind), charged in zip(cases, lives):
        for name, result in zip(("fresh" if kind == "predicted" else kind, "fourth"), charged):
            results.setdefault((name, power), []).append(result)
    return results


def row(results: list[Result]) -> dict[str, float]:
    """The figures of a table's line."""
    over, under = [max(one.error, 0.0) for one in results], [max(-one.error, 0.0) for one in results]
    return {
        "error": mean(abs(one.error) for one in results), "over": mean(over), "worst over": max(over), "under": mean(under),
        "worst under": max(under), "stops": max(one.stops for one in results), "requests": max(one.requests for one in results),
        "late": max(one.late for one in results), "unknowable": mean(one.unknowable for one in results),
    }  # fmt: skip


def table(results: dict[tuple[str, float], list[Result]]) -> str:
    """All figures, one line for each kind and power."""
    head = f"{'':>8} {'kW':>5} {'charges':>8} {'mean error':>11} {'delay alone':>12} {'mean over':>10} {'worst':>6}"
    lines = [f"{head} {'mean under':>11} {'worst':>6} {'stops':>6} {'requests/h':>11} {'late min':>9}"]
    order = ("plain", "fresh", "fourth", "lockout")
    for kind, power in sorted(results, key=lambda key: (order.index(key[0]), key[1])):
        one = row(results[kind, power])
        lines.append(
            f"{kind:>8} {power:5.1f} {len(results[kind, power]):8} {one['error']:11.2f} {one['unknowable']:12.2f} {one['over']:10.2f}"
            f" {one['worst over']:6.1f} {one['under']:11.2f} {one['worst under']:6.1f} {one['stops']:6} {one['requests']:11}"
            f" {one['late']:9.1f}"
        )
    return "\n".join(lines)


def picture(results: dict[tuple[str, float], list[Result]]) -> str:
    """Where the charges ended: a dot for each, plain beside predicted, against the limit."""
    low, high, width, height = 78, 102, 720, 340

    def y(level: float) -> float:
        return 30 + (high - level) / (high - low) * (height - 70)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="45" y="18" fill="#333">Where {len(results["plain", 11.0])} charges end: plain, and with PREDICT_STOP=1</text>',
    ]
    for level in range(80, 101, 5):
        colour, wide = ("#c00", 1.5) if level == LIMIT else ("#ddd", 1)
        parts.append(f'<path d="M45 {y(level):.0f}H{width - 10}" stroke="{colour}" stroke-width="{wide}"/>')
        parts.append(f'<text x="38" y="{y(level) + 4:.0f}" text-anchor="end" fill="#333">{level} %</text>')
    column = 0
    for power in (7.4, 11.0, 22.0):
        for kind, colour, name in (("plain", "#888", "plain"), ("fresh", "#06c", "predicted")):
            middle = 100 + column * 110
            dots = [
                f"M{middle + (number * 37 % 61 - 30):.0f} {y(LIMIT + one.error):.1f}h0" for number, one in enumerate(results[kind, power])
            ]
            parts.append(f'<path d="{"".join(dots)}" stroke="{colour}" stroke-width="4" stroke-linecap="round" opacity=".45"/>')
            parts.append(f'<text x="{middle}" y="{height - 24}" text-anchor="middle" fill="{colour}">{name}</text>')
            column += 1
        parts.append(f'<text x="{middle - 55}" y="{height - 6}" text-anchor="middle" fill="#333">{power:g} kW</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--charges", type=int, default=CHARGES)
    parser.add_argument("--powers", type=float, nargs="*", default=POWERS)
    parser.add_argument("--no-picture", action="store_true")
    args = parser.parse_args()
    results = run(args.charges, tuple(args.powers))
    print(table(results))
    if not args.no_picture:
        (Path(__file__).parent / "benchmark.svg").write_text(picture(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
