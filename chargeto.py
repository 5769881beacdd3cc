#!/usr/bin/env python3
# /// script
# requires-python = ">=3.8"
# dependencies = ["pyze==0.6.0", "python-dateutil", "pytz"]
# ///
"""chargeto.py - hold a Renault Zoe's charge between two thresholds

usage: chargeto.py [--once | --restore] [--dry-run]
       chargeto.py --demo [--model MODEL] | --help | --version

Every 5 minutes it asks Renault's cloud for the state of charge. Below the lower
threshold the car always charges, in between a 45 minute window of its schedule
rolls along, at the limit that moves to yesterday, which blocks the charge.
  --once      poll once; exit status 0, or 1 when the poll failed
  --dry-run   read, decide and print, but write nothing to the car
  --restore   put back the charge mode and schedules the car had before
  --demo      a simulated car and a fast clock; MODEL: X101VE, X102VE or XCB1VE
Environment variables, see .env.example; an empty one counts as not set:
  KAMEREON_API_KEY, GIGYA_API_KEY    Renault's API keys [what pyze has stored]
  KAMEREON_ACCOUNT_ID                the account [pyze's choice]
  SPECIFIC_VIN                       the vehicle [the account's first]
  VEHICLE_TZ                         the car's time zone [this machine's]
  MAX_CHARGE_THRESHOLD               the limit, percent [85]
  ALWAYS_CHARGE_AT_THRESHOLD         below it the car always charges [65]
  PREDICT_STOP                       1: stop at the limit, by prediction [0]
  NOTIFY_COMMAND                     run with a message as last argument [none]
  KAMEREON_ROOT_URL, GIGYA_ROOT_URL  Renault's servers [those for Europe]
Log in once with `pyze login`. Exit status 2: usage, configuration or login."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import logging
import math
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Callable, Dict, Iterator, Mapping, Protocol, Sequence, TypeVar, cast
from urllib.parse import quote

try:
    import dateutil.parser
    import dateutil.tz
    import pytz
    import requests
    from jwt.exceptions import PyJWTError
    from pyze.api import Gigya, Kamereon
    from pyze.api import Vehicle as PyzeVehicle
    from pyze.api.schedule import ChargeMode, ChargeSchedules
    from requests.adapters import HTTPAdapter
except ModuleNotFoundError as error:
    print(f"chargeto: the package {error.name} is missing: see the README, .venv/bin/python has it", file=sys.stderr)
    raise SystemExit(2) from None
except KeyboardInterrupt:  # loading takes a moment
    raise SystemExit(130) from None

# renault.md in the comments below: our notes on Renault's cloud, by section; RA#n: issues of hacf-fr/renault-api.

__version__ = "1.0.0"

POLL_INTERVAL = timedelta(minutes=5)
LONGEST_WAIT = timedelta(hours=1)  # the most that a Retry-After is given
REQUESTS_AN_HOUR = 30  # of every kind; Renault's true quota is not known (renault.md 1)
OBEY = timedelta(minutes=10)  # a command has this long to reach the car
PATIENCE = 3  # times a car that does not obey is told again, then the owner hears of it
STUBBORN_INTERVAL = timedelta(hours=1)  # between further tries
OUT_OF_REACH = timedelta(hours=1)  # without an answer: then the owner hears of it
LEVEL_RISES = timedelta(minutes=60)  # by a percent at least, even in a slow charge
STARTS_A_DAY = 24  # requests to start, however a charging station behaves
NOTIFY_TIMEOUT = 30  # seconds
QUARTER = timedelta(minutes=15)  # schedules start on quarter hours (renault.md 3)
WINDOW_MINUTES = 45  # 30 minutes ahead of the quarter hour that has begun
BLOCK_MINUTES = 15  # the shortest window Renault takes (renault.md 3)
BLOCK_CLEARANCE = timedelta(hours=24)  # schedules repeat weekly: a block moves on before it comes round
RESTORE_INTERVAL, RESTORE_TRIES = timedelta(minutes=1), 16  # for a command to reach the car, and some to spare
DELAY = timedelta(hours=24)  # of a delayed start (RA#2202); renewed when half of it is over
RATE_REPORTS = 3  # this many reports before the last one tell the charge rate
END_MARGIN = timedelta(minutes=1)  # an estimate so much too late does not cost another quarter of an hour
EXTRA_POLL, EXTRA_POLLS = timedelta(seconds=30), 6  # the soonest, and how many in an hour
ESTIMATE_AGE = timedelta(minutes=90)  # no estimate from an older report
MOST_STOPS = 2  # in one charge
JWT_LIFE = timedelta(minutes=14)  # Gigya gives 15; one to spare for clocks and slow requests
TIMEOUTS = (10, 30)  # seconds to connect and for each read; pyze itself sets none (renault.md 4.1)
TOTAL_TIMEOUT = 60  # seconds for a whole request
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEK_MINUTES = 7 * 24 * 60

# The car's codes and pyze's words for them (renault.md 2). Newer cars send others.
PLUG_STATUS = {0: "unplugged", 1: "plugged in", -1: "plug error", -2147483648: "not available"}
CHARGE_STATUS = {
    0.0: "Not charging", 0.1: "Waiting for planned charge", 0.2: "Charge ended", 0.3: "Waiting for current charge",
    0.4: "Energy flap opened", 1.0: "Charging", -1.0: "Not charging or plugged in", -1.1: "Not available",
}  # fmt: skip
CHARGING = 1.0
CHARGE_ENDED = 0.2  # below it the car waits to be told to charge, or is in trouble
PLUGGED_IN = 1


# ---------------------------------------------------------------- errors


class ConfigError(Exception):
    """The owner must change something before it can run: one line a fault, exit status 2."""

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults


class CarError(Exception):
    """This poll failed, the next may not; the text is the line for the owner."""


class UnauthorizedError(CarError):
    """The cloud no longer takes the JWT: a new one is needed (renault.md 1, 4.3)."""


class LoginError(CarError):
    """The login no longer holds: the owner must do what the text says, and the script picks it up."""


class StoppedError(Exception):
    """Not a fault: the owner wants it to end, so no further request is made."""


class QuotaError(CarError):
    """Renault limits the rate; `retry_after` is what it asks for, zero when it does not say."""

    def __init__(self, text: str, retry_after: timedelta = timedelta(0)) -> None:
        super().__init__(text)
        self.retry_after = retry_after


# ---------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """What the owner has set; `limit` and `always_below` in percent of state of charge."""

    zone: tzinfo
    zone_name: str
    limit: float = 85.0
    always_below: float = 65.0
    vin: str | None = None
    account: str | None = field(default=None, repr=False)
    kamereon_key: str = field(default="", repr=False)
    gigya_key: str = field(default="", repr=False)
    kamereon_root: str | None = None  # None: pyze's own, for Europe
    gigya_root: str | None = None
    notify_command: tuple[str, ...] = field(default=(), repr=False)
    predict_stop: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str], stored: Mapping[str, str] | None, faults: Sequence[str] = ()) -> Settings:
        """Read the environment; `stored` is what pyze has stored, None when no login is needed.

        Raises ConfigError with every fault at once, those met before included.
        """
        found = list(faults)
        given = {name: value.strip() for name, value in env.items() if value.strip()}
        always_below = _percent("ALWAYS_CHARGE_AT_THRESHOLD", given, cls.always_below, found)
        limit = _percent("MAX_CHARGE_THRESHOLD", given, cls.limit, found)
        if always_below >= limit:
            found.append(
                f"MAX_CHARGE_THRESHOLD={limit:g} must be above ALWAYS_CHARGE_AT_THRESHOLD={always_below:g}"
                f" (without a value they are {cls.limit:g} and {cls.always_below:g})"
            )
        zone, zone_name = _zone(given.get("VEHICLE_TZ"), found)
        account_name = "KAMEREON_ACCOUNT_ID" if "KAMEREON_ACCOUNT_ID" in given else "KAMERON_ACCOUNT_ID"  # the spec's
        account = given.get(account_name)
        keys = {}
        for name, place in (("KAMEREON_API_KEY", "KAMEREON_APIKEY"), ("GIGYA_API_KEY", "GIGYA_KEY_EU")):
            keys[name] = given.get(name) or (stored or {}).get(name.lower().replace("_", "-"), "")
            if stored is not None and not keys[name]:
                found.append(
                    f"{name} is not set and pyze has none stored: the key, the same for everyone, is {place} in"
                    " https://github.com/hacf-fr/renault-api/blob/main/src/renault_api/const.py"
                )
        for name, value in (*keys.items(), (account_name, account or "")):
            if not re.fullmatch(r"[\w.~+/=-]*", value, re.ASCII):  # not shown: it may be secret
                found.append(f"{name} holds a character that no key or account has: copy it again")
        login = {"gigya"} if account or "kamereon-account" in (stored or {}) else {"gigya", "gigya-person-id"}
        if stored is not None and not faults and not login <= set(stored):
            found.append("not logged in: run `pyze login`, then start again")
        try:
            notify = tuple(shlex.split(given.get("NOTIFY_COMMAND", "")))
        except ValueError as error:
            found.append(f"NOTIFY_COMMAND cannot be read: {str(error).lower()}")  # its value may be secret
        predict = given.get("PREDICT_STOP", "0")
        if predict not in ("0", "1"):
            found.append(f"PREDICT_STOP={predict} must be 1 (stop by prediction) or 0")
        roots = [_root(name, given, found) for name in ("KAMEREON_ROOT_URL", "GIGYA_ROOT_URL")]
        if found:
            raise ConfigError(*found)
        return cls(
            zone, zone_name, limit, always_below, given.get("SPECIFIC_VIN"), account,
            keys["KAMEREON_API_KEY"], keys["GIGYA_API_KEY"], roots[0], roots[1], notify, predict == "1",
        )  # fmt: skip


def _percent(name: str, given: Mapping[str, str], default: float, faults: list[str]) -> float:
    """A threshold; NaN, which is neither above nor below another, when it is at fault."""
    value = given.get(name, str(default))
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", value) and float(value) <= 100:
        return float(value)
    faults.append(f"{name}={value} is not a number from 0 to 100: give percent, for example {default:g}")
    return math.nan


def _zone(name: str | None, faults: list[str]) -> tuple[tzinfo, str]:
    """The car's zone: pytz for a name, dateutil for this machine's own."""
    if name is None:
        local = dateutil.tz.gettz()
        if local is None or isinstance(local, dateutil.tz.tzstr):  # a tzstr reads TZ=UTC+3 the wrong way round
            local = dateutil.tz.tzlocal()
        return local, f"{datetime.now(local):UTC%z} (this machine's zone)"
    try:
        return pytz.timezone(name), name
    except pytz.UnknownTimeZoneError:
        forms = {form.lower(): zone for zone in pytz.common_timezones for form in (zone.rpartition("/")[2], zone)}
        near = difflib.get_close_matches(name.lower().replace(" ", "_"), forms, n=3, cutoff=0.5)
        within = [zone for zone in pytz.common_timezones if name.lower() in zone.lower()]
        wanted = list(dict.fromkeys([*(forms[form] for form in near), *within])) or ["Europe/Paris", "Europe/London"]
        faults.append(f"VEHICLE_TZ={name} is not a time zone: did you mean {', '.join(wanted[:3])}?")
        return timezone.utc, name


def _root(name: str, given: Mapping[str, str], faults: list[str]) -> str | None:
    """Another server: https, or http on loopback, since logins and keys go there."""
    value = given.get(name)
    if value is None:
        return None
    label = r"[a-z\d]([a-z\d-]{0,61}[a-z\d])?"
    loopback = r"localhost|127(\.\d{1,3}){3}|\[::1\]"
    server = rf"(https://({label}(\.{label})*|\[::1\])|http://({loopback}))(:[1-9]\d{{0,3}}|:[1-5]\d{{4}}|:6[0-4]\d{{3}})?(/[\w./-]*)?"
    if not re.fullmatch(server, value, re.ASCII | re.IGNORECASE):
        shown = value.rpartition("@")[2].partition("?")[0]  # what stands before an @ may be a password
        faults.append(f"{name}={shown} must be https://HOST (http:// only for a server on this machine)")
    return value.rstrip("/")


# ---------------------------------------------------------------- the model: report, charge mode, charge window


class Mode(Enum):
    """The car's charge modes."""

    ALWAYS = "always"
    SCHEDULED = "scheduled"
    DELAYED = "delayed"  # until a moment, then always


MODES = {mode.value: mode for mode in Mode}
MODES.update(always_charging=Mode.ALWAYS, schedule_mode=Mode.SCHEDULED)  # a ZE40's words (renault.md 3)


class Call(Enum):
    """What a car can be told; with it goes what the comment says (renault.md 3)."""

    SCHEDULES = "charge-schedule"  # a list of schedules
    MODE = "charge-mode"  # a Mode
    START = "charging-start"  # None
    KCM_SCHEDULES = "kcm charge/schedule"  # a list of schedules; brings schedule mode with it
    KCM_START = "kcm charge/start"  # None; brings mode "always" and wipes the schedules (RA#1708)
    KCM_DELAY = "kcm charge/start in 24 hours"  # a datetime; stops the charge until then (RA#2202)


@dataclass(frozen=True)
class Dialect:
    """The calls that a car listens to, each in the order in which they are made."""

    window: tuple[Call, ...]
    always: Call
    start: Call
    blocks: tuple[tuple[Call, ...], ...]  # the ways to block, from the first to the last resort


KCA = Dialect(
    (Call.SCHEDULES, Call.MODE), Call.MODE, Call.START, ((Call.SCHEDULES, Call.MODE), (Call.MODE, Call.SCHEDULES)),
)  # fmt: skip
KCM = Dialect((Call.KCM_SCHEDULES,), Call.KCM_START, Call.KCM_START, ((Call.KCM_SCHEDULES,), (Call.KCM_DELAY,)))
DIALECTS = {"X102VE": KCM, "XCB1VE": KCM}  # Zoe phase 2, Megane; every other model: KCA, as pyze makes them
OWN_LIMIT = ("R5E1VE", "A4E1VE", "A5E1AE", "XCB1SE")  # these hold a limit that is set in the app


@dataclass(frozen=True)
class Vehicle:
    """A vehicle as the vehicle list has it; `name` as its owner knows it."""

    vin: str
    model: str
    name: str

    @classmethod
    def from_link(cls, link: Mapping[str, Any]) -> Vehicle:
        """Read an entry of vehicleLinks; all but the VIN may be missing."""
        details = link.get("vehicleDetails")
        known: Mapping[str, Any] = details if isinstance(details, dict) else {}
        model: Any = known.get("model") if isinstance(known.get("model"), dict) else {}
        words = (model.get("label"), model.get("code"), known.get("registrationNumber"))
        return cls(str(link["vin"]), str(model.get("code") or ""), " ".join(str(word) for word in words if word))

    def __str__(self) -> str:
        return f"{self.name} {self.vin}".strip()

    @property
    def dialect(self) -> Dialect:
        """The calls it listens to."""
        return DIALECTS.get(self.model, KCA)


def moment(text: object) -> datetime | None:
    """A timestamp of the cloud's, in UTC; None for anything else."""
    try:
        made = dateutil.parser.isoparse(text)  # type: ignore[arg-type]
        return made.astimezone(timezone.utc) if made.tzinfo else made.replace(tzinfo=timezone.utc)
    except (TypeError, ValueError, OverflowError):
        return None


def mode_of(attributes: Mapping[str, Any]) -> Mode | None:
    """The charge mode in a charging-settings answer; None for a word that is not known."""
    return MODES.get(str(attributes.get("mode")))


def recent(times: Sequence[datetime], now: datetime, span: timedelta) -> list[datetime]:
    """Those of the times that lie within the span before now."""
    return [when for when in times if now - span < when <= now]


@dataclass(frozen=True)
class Report:
    """What the car last reported (renault.md 2); None for what it did not, or not usably.

    level: state of charge, percent, 0 to 100. power: in units that differ from car to car, never decided on.
    remaining: minutes to 100 %. updated: when the car made this report, as it wrote it.
    """

    level: float | None = None
    plug: float | None = None
    status: float | None = None
    power: float | None = None
    remaining: float | None = None
    updated: str | None = None

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Report:
        """Read a battery-status answer; any field may be missing, null or nonsense."""

        def number(name: str, least: float = -1e12, most: float = 1e12) -> float | None:
            value: Any = attributes.get(name)
            # Not math.isfinite: an integer may be too long for it
            return value if type(value) in (int, float) and least <= value <= most else None

        updated = attributes.get("timestamp")
        return cls(
            level=number("batteryLevel", 0, 100), plug=number("plugStatus"), status=number("chargingStatus"),
            power=number("chargingInstantaneousPower"), remaining=number("chargingRemainingTime", 0),
            updated=updated if moment(updated) else None,
        )  # fmt: skip

    @property
    def made(self) -> datetime | None:
        """When the car made this report."""
        return moment(self.updated)

    @property
    def oddities(self) -> list[str]:
        """What it says in codes that nobody has explained yet (renault.md 2)."""
        known = (("plug status", self.plug, PLUG_STATUS), ("charge status", self.status, CHARGE_STATUS))
        return [f"{name} {value:g}" for name, value, codes in known if value is not None and value not in codes]

    @property
    def plugged_in(self) -> bool:
        """Plugged in, by the plug status, or by a charge status that only a plugged-in car has."""
        if self.plug in (0, PLUGGED_IN):
            return self.plug == PLUGGED_IN
        return self.status in (0.1, CHARGE_ENDED, 0.3, CHARGING)


@dataclass(frozen=True)
class Window:
    """One charge window of the weekly schedule, in car-local time; `start` and `duration` in minutes."""

    day: str
    start: int
    duration: int

    def clock(self, after: int) -> str:
        """The car-local time, HH:MM, some minutes after the start."""
        return f"{(self.start + after) // 60 % 24:02}:{(self.start + after) % 60:02}"

    @property
    def start_time(self) -> str:
        """As the car takes it: car-local time, labelled Z (renault.md 3)."""
        return f"T{self.clock(0)}Z"

    def to_schedule(self) -> dict[str, Any]:
        """Schedule 1, active, holding this day alone (renault.md 3)."""
        return {"id": 1, "activated": True, self.day: {"startTime": self.start_time, "duration": self.duration}}

    @classmethod
    def from_schedules(cls, schedules: object) -> Window | None:
        """The window a car holds, None when its schedules are not what `to_schedule` writes."""
        entries = schedules if isinstance(schedules, list) else []
        active = [entry for entry in entries if isinstance(entry, dict) and entry.get("activated")]
        charges = [(day, active[0][day]) for day in DAYS if active[0].get(day)] if len(active) == 1 else []
        if len(charges) != 1 or active[0].get("id") != 1 or not isinstance(charges[0][1], dict):
            return None
        day, charge = charges[0]
        start, duration = re.fullmatch(r"T(\d\d):(\d\d)Z", str(charge.get("startTime"))), charge.get("duration")
        return cls(day, int(start[1]) * 60 + int(start[2]), duration) if start and isinstance(duration, int) else None

    def open_at(self, local: datetime) -> bool:
        """Whether the car may charge by this window at a car-local time; it repeats every week."""
        minute = (local.weekday() * 24 + local.hour) * 60 + local.minute
        return (minute - DAYS.index(self.day) * 24 * 60 - self.start) % WEEK_MINUTES < self.duration


@dataclass(frozen=True)
class Held:
    """What the car is known to hold; None where that is not known, or is none of ours. until: of mode DELAYED."""

    mode: Mode | None = None
    window: Window | None = None
    until: datetime | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it looks like what the script writes; then it is not the owner's own."""
        return self.window is not None and self.window.duration <= WINDOW_MINUTES

    def common(self, other: Held) -> Held:
        """What is known while a command that leads from this to the other may have arrived or not."""
        return Held(
            self.mode if self.mode is other.mode else None,
            self.window if self.window == other.window else None,
            self.until if self.until == other.until else None,
        )

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Held:
        """Read a charging-settings answer (renault.md 3)."""
        mode = mode_of(attributes)
        until = moment(attributes.get("startDateTime") or attributes.get("dateTime"))
        window = Window.from_schedules(attributes.get("schedules"))
        return cls(mode, window, until if mode is Mode.DELAYED else None)


@dataclass(frozen=True)
class Step:
    """One command to the car: what is sent, the line that tells of it, and what the car holds once it is accepted."""

    call: Call
    value: Any
    line: str | None
    held: Held


# ---------------------------------------------------------------- the core: report, car-local time, settings


class Action(Enum):
    """What should happen, from the most to the least permission to charge."""

    ALWAYS = "always"
    WINDOW = "window"
    WAIT = "wait"
    BLOCK = "block"


def decide(report: Report, settings: Settings) -> Action:
    """The whole policy, in the owner's order. Raises CarError when the level is not known."""
    if report.level is None:
        raise CarError("the car reports no state of charge that can be used: nothing is sent on a guess")
    if report.level < settings.always_below:
        return Action.ALWAYS
    if report.level >= settings.limit:
        return Action.BLOCK
    return Action.WINDOW if report.plugged_in else Action.WAIT


def rolling_window(local: datetime, left: timedelta | None = None) -> Window:
    """The window that lets the car charge now: from the quarter hour at or before, car-local.

    left: how long the charge is predicted to take; then it ends at the first quarter hour at or after that.
    """
    duration = WINDOW_MINUTES
    if left is not None:
        begun = timedelta(minutes=local.minute % 15, seconds=local.second)
        duration = min(max(math.ceil((begun + left - END_MARGIN) / QUARTER), 1) * 15, WINDOW_MINUTES)
    return Window(DAYS[local.weekday()], local.hour * 60 + local.minute // 15 * 15, duration)


def block_window(local: datetime, held: Window | None) -> Window:
    """The window that keeps the car from charging: yesterday, or the one it holds while that is far off."""
    kept = held and held.duration == BLOCK_MINUTES and held.day != DAYS[local.weekday()]
    if held and kept and not opens_within(held, local, BLOCK_CLEARANCE):
        return held
    return replace(rolling_window(local), day=DAYS[local.weekday() - 1], duration=BLOCK_MINUTES)


def opens_within(window: Window, local: datetime, span: timedelta) -> bool:
    """Whether a window is open at any time from now until `span` has passed.

    It walks true time and looks at the car's clock on the way, so that a clock change needs no rule of its own.
    """
    if (DAYS.index(window.day) - local.weekday()) % 7 > 2:
        return False  # no clock change brings it near enough to look
    now = local.astimezone(timezone.utc)
    at = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    while at < now + span and not window.open_at(at.astimezone(local.tzinfo)):
        at += POLL_INTERVAL
    return at < now + span


def plan(
    calls: Sequence[Call], action: Action, local: datetime, held: Held,
    others: Sequence[Any] = (), left: timedelta | None = None,
) -> list[Step]:  # fmt: skip
    """Which of the calls are still needed, given what the car holds.

    others: the owner's schedules, inactive. left: how long the charge is predicted to take.
    """
    block = action is Action.BLOCK
    window = block_window(local, held.window) if block else rolling_window(local, left)
    why = " (to blocking charging)" if block else ""
    schedules = f"scheduling on {window.day} @ {window.start_time} for {window.duration} minutes{why}"
    always = "setting charge mode to always"
    mode = Mode.ALWAYS if action is Action.ALWAYS else Mode.SCHEDULED
    now, until = local.astimezone(timezone.utc), held.until
    if until is None or until - now < DELAY / 2:
        until = (now + DELAY).replace(microsecond=0)
    delay = f"delaying the charge to {until.astimezone(local.tzinfo):%A %H:%M}{why}"
    steps: list[Step] = []
    for call in calls:
        step = {
            Call.SCHEDULES: Step(call, [window.to_schedule()], schedules, replace(held, window=window)),
            Call.MODE: Step(call, mode, always if action is Action.ALWAYS else None, Held(mode, held.window)),
            Call.KCM_SCHEDULES: Step(call, [window.to_schedule(), *others], schedules, Held(Mode.SCHEDULED, window)),
            Call.KCM_START: Step(call, None, always, Held(Mode.ALWAYS)),
            Call.KCM_DELAY: Step(call, until, delay, Held(Mode.DELAYED, None, until)),
        }[call]
        if step.held != held:
            steps.append(step)
        held = step.held
    return steps


def clean_schedules(schedules: object, ids: Sequence[int] = range(1, 6)) -> list[dict[str, Any]]:
    """The schedules of a charging-settings answer in the form in which a car takes them; what is odd is left out."""
    cleaned: dict[int, dict[str, Any]] = {}
    for schedule in schedules if isinstance(schedules, list) else []:
        if isinstance(schedule, dict) and schedule.get("id") in ids:
            days = {day: schedule[day] for day in DAYS if isinstance(schedule.get(day), dict)}
            charges = {
                day: {"startTime": charge.get("startTime"), "duration": charge.get("duration")}
                for day, charge in days.items()
                if re.fullmatch(r"T([01]\d|2[0-3]):(00|15|30|45)Z", str(charge.get("startTime")))
                and type(charge.get("duration")) is int and charge["duration"] in range(15, 1441, 15)
            }  # fmt: skip
            if charges:
                cleaned[schedule["id"]] = {
                    "id": schedule["id"], "activated": schedule.get("activated") is True, **charges
                }  # fmt: skip
    return list(cleaned.values())


def describe(own: Mapping[str, Any]) -> str:
    """The owner's charge mode and schedules, as one would say it."""
    mode = mode_of(own)
    if mode is not Mode.SCHEDULED:
        return {Mode.ALWAYS: "always charging", Mode.DELAYED: "a delayed charge"}.get(mode or Mode.SCHEDULED, "unknown")
    parts = []
    for schedule in clean_schedules(own.get("schedules")):
        charges: dict[tuple[str, int], list[int]] = {}
        for number, day in enumerate(DAYS):
            if schedule["activated"] and day in schedule:
                charges.setdefault((schedule[day]["startTime"], schedule[day]["duration"]), []).append(number)
        for (start, duration), days in charges.items():
            names = ", ".join(DAYS[number] for number in days)
            if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
                names = "every day" if len(days) == 7 else f"{DAYS[days[0]]} to {DAYS[days[-1]]}"
            length = f"{duration / 60:g} hour{'s' * (duration != 60)}" if duration % 60 == 0 else f"{duration} minutes"
            parts.append(f"{names} {start[1:6]} for {length}")
    return "; ".join(parts) or "schedule mode without a schedule"


def should_start(report: Report, action: Action) -> bool:
    """Whether the car is to be asked to charge: it may, it is plugged in, and it says it does not."""
    may_charge = action in (Action.ALWAYS, Action.WINDOW)
    return may_charge and report.plugged_in and report.status is not None and report.status < CHARGE_ENDED


def charging(report: Report, earlier: Report | None) -> bool | None:
    """Whether the car charges, as far as its reports tell; `earlier` is one since when nothing has changed.

    The status can lie (0.3 while charging, RA#550) or be stuck at -1.1 (RA#1213): then the level tells, by rising, or
    by not rising within LEVEL_RISES.
    """
    if report.status in CHARGE_STATUS and report.status not in (0.3, -1.1):
        return report.status == CHARGING
    if not earlier or not earlier.made or not report.made or earlier.level is None or report.level is None:
        return None
    if report.level > earlier.level:
        return True
    return False if report.made - earlier.made >= LEVEL_RISES else None


def left_with(held: Held, local: datetime, limit: float) -> str:
    """What becomes of the car while nobody tells it anything."""
    window = held.window
    if held.mode is Mode.DELAYED and held.until:
        return f"the car is blocked until {held.until.astimezone(local.tzinfo):%A %H:%M}, then it charges"
    if held.mode is Mode.ALWAYS:
        return f"always charging: nothing will stop it at {limit:g} %"
    if held.mode is None or window is None:
        return "what the car holds is not known"
    if window.open_at(local):
        return f"the car holds a window until {window.clock(window.duration)}, then it stops by itself"
    if held.is_ours and window.duration > BLOCK_MINUTES:
        return f"the car's window ended at {window.clock(window.duration)}, it does not charge"
    return f"the car is blocked, but for {window.day} {window.clock(0)} to {window.clock(window.duration)}"


def minutes_to_limit(report: Report, limit: float) -> float | None:
    """Minutes until the limit by the car's own estimate, in whole minutes; 0 at or above it."""
    if report.level is None:
        return None
    if report.level >= limit:
        return 0
    if report.remaining is None:
        return None
    return round(report.remaining / (100 - report.level) * (limit - report.level), 0)


def status_line(report: Report, local: datetime, limit: float) -> str:
    """The line of every poll, word for word the spec's."""

    def shown(value: object) -> str:
        return "-" if value is None else str(value)

    level = "-" if report.level is None else f"{report.level:g}"
    plug = PLUG_STATUS.get(cast(int, report.plug), "-")
    status = CHARGE_STATUS.get(cast(float, report.status), "-")
    return (
        f"{local:%H:%M:%S} {level}% {plug}, {status}, power: {shown(report.power)} remaining: {shown(report.remaining)}"
        f" (ttc: {shown(minutes_to_limit(report, limit))}min)  [updated: {shown(report.updated)}]"
    )


# ---------------------------------------------------------------- the memory: does the car obey?


class Watch:
    """Whether the car does what it was last told about charging, by its own later reports.

    charge: True, it should; False, it should not; None, nothing that its reports could show.
    start_asked: it has been asked to start since. owed: it is to be told again, and the cloud has not accepted it yet.
    again: how often it was told again, in vain. ignored: it has not obeyed at all since it was told, unlike a car that
    someone else has told otherwise. stubborn: it was told PATIENCE times more, in vain.
    first: the first report by which it should have obeyed.
    """

    def __init__(self, charge: bool | None, report: Report | None = None) -> None:
        self.charge, self.again = charge, 0
        self.start_asked = self.owed = self.ignored = self.stubborn = False
        self._obeyed = report is not None and charging(report, None) is charge
        self._told: datetime | None = None  # None: not yet
        self._level: float | None = None  # by the report on which it was told
        self.first: Report | None = None
        self._judged: str | None = None  # the last report that was held against it

    @property
    def is_told(self) -> bool:
        """Whether the cloud has accepted all that there was to tell."""
        return self._told is not None and not self.owed

    def told(self, report: Report, now: datetime) -> None:
        """The cloud has accepted everything that the car is to be told: from now on it has OBEY to follow."""
        self._told, self._level, self.owed, self.first = now, report.level, False, None

    def disobeys(self, report: Report, now: datetime) -> bool:
        """Whether a report, made OBEY after the car was told, shows the opposite: then it is to be told again.

        Once a report, and once an hour when the car is stubborn.
        """
        made = report.made or now
        if self.charge is None or self._told is None or self.owed or made < self._told:
            return False
        charges = charging(report, self.first)
        if charges is self.charge:
            self._obeyed = True
            if not charges or (report.level or 0) > (self._level or 0):  # "charging" alone may be a station's last gasp
                self.again, self.stubborn = 0, False
        if made < self._told + OBEY:
            return False
        self.first = self.first or report
        if charges is None or charges is self.charge or (report.updated and report.updated == self._judged):
            return False
        self.stubborn = self.again >= PATIENCE
        if self.stubborn and now < self._told + STUBBORN_INTERVAL:
            return False
        self.again += 1
        self.owed, self.start_asked, self._judged = True, False, report.updated
        self.ignored, self._obeyed = not self._obeyed, False
        return True


# ---------------------------------------------------------------- the memory: where will the charge be? (PREDICT_STOP)


class Forecast:
    """What this charge has shown: its rate, how long the car takes to obey, how often it was stopped.

    Rates are in points of state of charge a minute. A charge lasts while the car is plugged in.
    """

    def __init__(self, limit: float, always_below: float) -> None:
        self.limit, self.always_below = limit, always_below
        self._delays: list[timedelta] = []  # outlive a charge
        self._charges: bool | None = None  # by the last report
        self._told: tuple[bool, datetime] | None = None  # to change that, and not yet followed
        self._begin()

    def _begin(self) -> None:
        self._reports: list[tuple[datetime, float]] = []  # while it has charged without a break
        self._rate: float | None = None
        self._rest: float | None = None  # the level at which it rests, not charging
        self.stops, self.blocked = 0, False

    @property
    def delay(self) -> timedelta:
        """How long the car takes to obey: the mean of what was seen, a cautious default before."""
        return sum(self._delays, timedelta(0)) / len(self._delays) if self._delays else OBEY

    def told(self, charge: bool, now: datetime) -> None:
        """The cloud has accepted that the car is to charge, or to stop."""
        if self._charges is charge:
            self._told = None
        elif self._told is None or self._told[0] is not charge:
            self._told = (charge, now)

    def see(self, report: Report, ended: bool = False) -> None:
        """Learn from a report. ended: the window that the car holds is over, so it may have stopped by itself."""
        if not report.plugged_in:
            self._begin()
            self._told = None
        charges, made, level = charging(report, None), report.made, report.level
        self._charges = charges
        if self._told and made and self._told[0] is charges and made >= self._told[1]:
            if made - self._told[1] <= 2 * OBEY and not (ended and not charges):
                self._delays = [*self._delays[-4:], made - self._told[1]]
            self._told = None
        if not charges or made is None or level is None:
            if charges is False and level is not None:
                self.stops += bool(self._reports) and ended and not self.blocked
                if self._rest is not None and level < self._rest - 1:
                    self.stops, self.blocked = 0, False  # it was used since: what follows is a charge of its own
                self._rest = level
            self._reports = []
            return
        self._rest = None
        if self._reports and made <= self._reports[-1][0] and (made, level) != self._reports[-1]:
            self._reports = []  # the car's clock was set
        if (made, level) not in self._reports:
            self._reports = [*self._reports[-RATE_REPORTS:], (made, level)]
            self._rate = self._learn_rate(report) or self._rate

    def _learn_rate(self, report: Report) -> float | None:
        """From the reports, which are whole percents: every pair of them gives the rate a lower and an upper bound.

        Only the latest reports count, since a battery charges slower near full. Until they tell it well, the car's own
        estimate of the remaining time does, within those bounds.
        """
        low, high = 0.0, math.inf
        for made, level in self._reports:
            for later, more in self._reports:
                if later > made:
                    minutes = (later - made) / timedelta(minutes=1)
                    low, high = max(low, (more - level - 1) / minutes), min(high, (more - level + 1) / minutes)
        if low > 0 and high < math.inf and abs(high - low) <= (low + high) / 8:
            return (low + high) / 2
        guess = self._rate
        if report.remaining and report.level is not None:
            guess = guess or (100 - report.level) / report.remaining
        if guess is None:
            return (low + high) / 2 if low > 0 and high < math.inf else None
        return min(max(guess, low), max(low, high))

    def level(self, now: datetime) -> float | None:
        """The state of charge now; None without a report of a running charge that is fresh enough."""
        if not self._reports or self._rate is None or now - self._reports[-1][0] > ESTIMATE_AGE:
            return None
        made, level = self._reports[-1]
        # Each report says where the charge was, give or take a point: together they say it better
        lines = [past + self._rate * ((made - when) / timedelta(minutes=1)) for when, past in self._reports]
        at_report = min(max((max(lines) + min(lines) + 1) / 2, level), level + 1)
        return min(at_report + self._rate * max(0.0, (now - made) / timedelta(minutes=1)), 100.0)

    def left(self, now: datetime) -> timedelta | None:
        """How long until the limit; not negative."""
        level = self.level(now)
        if level is None or not self._rate:
            return None
        return timedelta(minutes=min(max(0.0, self.limit - level) / self._rate, WEEK_MINUTES))

    def stop_in(self, now: datetime) -> timedelta | None:
        """How long until the car must be told, to stop at the limit; not negative."""
        left = self.left(now)
        return None if left is None else max(left - self.delay, timedelta(0))

    def adjust(self, action: Action, report: Report, now: datetime) -> Action:
        """Stop before the limit is reported, and do not take up again what stopped a point short of it.

        A charge that stopped shorter is taken up once.
        """
        if action is Action.ALWAYS and (self.level(now) or 0) >= self.always_below:
            action = Action.WINDOW  # which ends by itself, unlike "always"
        if action is Action.ALWAYS or not report.plugged_in or report.level is None:
            self.blocked = False
            return action
        stop_in = self.stop_in(now)
        if self.blocked:
            stopped = self._charges is False and self._told is None
            short = stopped and report.level < self.limit - 1 and self.stops < MOST_STOPS
            self.blocked = action is Action.BLOCK or not short
        elif self.stops and self._charges is False and report.level >= self.limit - 1:
            self.blocked = True  # the window's end has stopped it
        elif action is Action.BLOCK or (stop_in is not None and stop_in < EXTRA_POLL):
            self.blocked = True
            self.stops += 1
        return Action.BLOCK if self.blocked else action


# ---------------------------------------------------------------- the car in Renault's cloud


class Car(Protocol):
    """What the loop needs of a car: `Renault` is the real one, `SimulatedZoe` the one of --demo and of the tests.

    All of it may raise CarError, and `Renault` ConfigError when the account or the vehicle is not there.
    """

    def vehicle(self) -> Vehicle:
        """Which car it is."""

    def battery_status(self) -> Mapping[str, Any]:
        """The car's last report: the attributes of battery-status (renault.md 2)."""

    def charging_settings(self) -> Mapping[str, Any]:
        """The attributes of charging-settings (renault.md 3)."""

    def redact(self, text: str) -> str:
        """The text without any secret."""

    def send(self, call: Call, value: Any = None) -> None:
        """Tell the car; returning means that the cloud has accepted it, not that the car obeys."""


EXPIRED = "the login has expired: run `pyze login` in another terminal, it is picked up from there"
SECOND_FACTOR = "a second factor is pending: log in once in the MyRenault app or web site, then run `pyze login`"
FORBIDDEN = "this car, contract or key may not do that: check the services in the MyRenault app, and the keys"
# Error codes of Gigya and Kamereon by their beginning, and what the owner can do (renault.md 1)
CLOUD_ERRORS: dict[str, tuple[type[CarError], str]] = {
    "403005": (LoginError, EXPIRED),
    "403013": (LoginError, EXPIRED),
    "403042": (LoginError, "the login was refused: check GIGYA_API_KEY, see the README, then run `pyze login`"),
    "403048": (QuotaError, "Renault's login service limits the rate"),
    "403101": (LoginError, SECOND_FACTOR),
    "403102": (LoginError, SECOND_FACTOR),
    "400093": (LoginError, "GIGYA_API_KEY is malformed: check it (are the two keys swapped?)"),
    "err.func.wired.overloaded": (QuotaError, "Renault's quota is used up"),
    "err.func.wired.unauthorized": (UnauthorizedError, "Renault's cloud does not take the login"),
    "err.func.wired.forbidden": (CarError, FORBIDDEN),
    "err.func.403": (CarError, FORBIDDEN),
    "access_denied": (CarError, "KAMEREON_API_KEY is outdated: get the current one, see the README"),
    "err.func.wired.not": (CarError, "Renault's cloud does not have this for this account and car"),
    "err.func.400": (CarError, "Renault's cloud refused the request"),
    "409001": (CarError, "the car is still busy with an earlier charge mode command"),
    "err.tech.501": (CarError, "this car's gateway does not support that"),
    "err.tech": (CarError, "Renault's side has a technical fault"),
    "err.func.privacy.on": (CarError, "privacy mode is on in the car: switch it off on the car's screen"),
}
STATUS_CODES = {401: "err.func.wired.unauthorized", 409: "409001", 429: "err.func.wired.overloaded"}


class Transport(HTTPAdapter):
    """What pyze's sessions send through: a time limit, a limit of the rate, and a CarError for every bad answer."""

    def __init__(self, clock: Callable[[], datetime], stopping: Callable[[], bool]) -> None:
        super().__init__()
        self._clock, self._stopping = clock, stopping
        self._sent: list[datetime] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request. Raises CarError, whose text holds no address, key, account or VIN, and StoppedError."""
        if self._stopping():
            raise StoppedError
        now = self._clock()
        self._sent = recent(self._sent, now, timedelta(hours=1))
        if len(self._sent) >= REQUESTS_AN_HOUR:
            raise QuotaError(f"{REQUESTS_AN_HOUR} requests were made in an hour, more would risk a lockout")
        self._sent.append(now)
        kwargs["timeout"], begin = TIMEOUTS, time.monotonic()
        try:
            with _time_limit(TOTAL_TIMEOUT):
                response = super().send(request, *args, **kwargs)
                content = response.content
        except OSError as error:  # requests' exceptions, and a missing certificate file
            late = time.monotonic() - begin >= TOTAL_TIMEOUT
            fault = _network_fault(TimeoutError() if late else error)
            raise CarError(f"Renault's cloud cannot be reached: {fault}") from None
        body = None
        with contextlib.suppress(ValueError, RecursionError):  # not JSON: told below, by its status
            body = json.loads(content)
        codes = list(_codes(body))
        if response.status_code >= 300 or codes or not isinstance(body, dict):  # a redirect would take the keys along
            raise _cloud_error(response, codes, now)
        return response


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when it takes longer: a time limit for each read does not end an answer that only drips."""

    def expire(*_: object) -> None:
        raise TimeoutError("too long")  # with a text: socket.py of Python 3.8 looks into it

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _network_fault(error: Exception) -> str:
    """Name the cause; the exception's own text would show the account and the VIN."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted (TLS): check this machine's clock and network"
    if isinstance(error, TimeoutError):
        return f"no whole answer within {TOTAL_TIMEOUT} seconds"
    if isinstance(error, requests.Timeout):
        connecting = isinstance(error, requests.exceptions.ConnectTimeout)
        return f"no answer within {TIMEOUTS[0 if connecting else 1]} seconds"
    causes = {"resol": "its name was not found (DNS)", "not known": "its name was not found (DNS)"}
    causes["refused"] = "connection refused"
    return next((cause for mark, cause in causes.items() if mark in str(error)), "the connection broke")


def _codes(body: object) -> Iterator[str]:
    """Every error code in an answer; Kamereon nests them, at times as JSON in a text (renault.md 1)."""
    if not isinstance(body, dict):
        return
    errors = body.get("errors") or []
    for error in errors if isinstance(errors, list) else [errors]:
        inner = error if isinstance(error, dict) else {}
        with contextlib.suppress(TypeError, ValueError):  # most are messages for people
            yield from _codes(json.loads(inner.get("errorMessage") or ""))
        yield str(inner.get("errorCode") or inner.get("code") or "no code")
    yield from (str(body[name]) for name in ("errorCode", "error") if body.get(name))


def _cloud_error(response: requests.Response, codes: Sequence[str], now: datetime) -> CarError:
    """Turn a bad answer into the error that says what to do."""
    status = response.status_code
    by_status = [STATUS_CODES[status]] if status in STATUS_CODES else []
    for code in (*by_status, *codes) if status in (401, 429) else (*codes, *by_status):
        for beginning, (kind, text) in CLOUD_ERRORS.items():
            if code.startswith(beginning):
                text += f" (HTTP {status}, {_printable(code)})"
                return QuotaError(text, _retry_after(response, now)) if kind is QuotaError else kind(text)
    if codes:
        return CarError(f"Renault's cloud refused (HTTP {status}, {_printable(codes[0])})")
    return CarError(f"Renault's cloud answered with something else than data (HTTP {status})")


def _printable(code: str) -> str:
    """A code as Renault writes them; anything else may be a secret."""
    return code if re.fullmatch(r"(err\.[a-z.-]+\d{0,3})|\d{3,6}|access_denied", code) else "an unknown code"


def _retry_after(response: requests.Response, now: datetime) -> timedelta:
    """The Retry-After header, in seconds or as a date; zero without one."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        if re.fullmatch(r"\d+(\.\d*)?", value):
            return min(timedelta(seconds=float(value[:9])), LONGEST_WAIT)
        until = parsedate_to_datetime(value)
        until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
        return min(max(until - now, timedelta(0)), LONGEST_WAIT)
    except (TypeError, ValueError, OverflowError):
        return timedelta(0)


class Login(Dict[str, str]):
    """The credentials `pyze login` has stored, as pyze wants to see them: read, never written (renault.md 4.2)."""

    def __setitem__(self, name: str, value: Any) -> None:
        """pyze stores (token, expiry) pairs; the expiry is `Renault`'s affair (renault.md 4.3)."""
        super().__setitem__(name, value[0] if isinstance(value, tuple) else value)


T = TypeVar("T")


class Renault(Car):
    """One vehicle in Renault's cloud. The only class that knows pyze; every request to Renault is made here."""

    def __init__(
        self, settings: Settings, read_stored: Callable[[], Mapping[str, str]], clock: Callable[[], datetime],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._clock = clock
        self._read_stored = read_stored
        self._stored = read_stored()
        self._login = Login(self._stored)
        self._login.pop("gigya-token", None)  # the JWT of another process, judged by another clock
        self._login["gigya-api-key"] = settings.gigya_key
        self._login["kamereon-api-key"] = settings.kamereon_key
        self._jwt_until = datetime.min.replace(tzinfo=timezone.utc)
        os.environ.pop("KAMEREON_ACCOUNT_ID", None)  # pyze would take even an empty one, at every call (renault.md 4.4)
        roots = [{"root_url": root} if root else {} for root in (settings.gigya_root, settings.kamereon_root)]
        gigya = Gigya(credentials=self._login, **roots[0])
        self._kamereon = Kamereon(credentials=self._login, gigya=gigya, **roots[1])
        transport = Transport(clock, stopping)
        for session in (gigya._session, self._kamereon._session):
            session.mount("https://", transport)
            session.mount("http://", transport)
        self._vehicle: Vehicle | None = None
        self._pyze: Any = None  # pyze's object for it

    @staticmethod
    def credential_file(env: Mapping[str, str]) -> str:
        """Where pyze keeps the login."""
        return env.get("PYZE_TOKEN_STORE") or os.path.expanduser("~/.credentials/pyze.json")

    @staticmethod
    def stored(env: Mapping[str, str]) -> dict[str, str]:
        """What pyze has stored, by its names; empty without a login. Raises ConfigError when it can't be read."""
        path = Renault.credential_file(env)
        try:
            with open(path, encoding="utf-8") as file:
                entries = json.load(file)
            return {name: entry["token"] for name, entry in entries.items() if isinstance(entry["token"], str)}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"pyze's credential file {path} cannot be read: {error.strerror}") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ConfigError(f"pyze's credential file {path} is damaged: run `pyze login`") from None

    def vehicle(self) -> Vehicle:
        """Find the account and the vehicle, once. Raises ConfigError when there is none that can be used."""
        if self._vehicle is None:
            self._vehicle = self._find()
            self._pyze = PyzeVehicle(self._vehicle.vin, self._kamereon)
        return self._vehicle

    def battery_status(self) -> Mapping[str, Any]:
        return self._call(lambda pyze: pyze._get("battery-status", 2))

    def charging_settings(self) -> Mapping[str, Any]:
        """GET charging-settings, past pyze's reader, which a null stops (renault.md 4.7)."""
        return self._call(lambda pyze: pyze._get("charging-settings"))

    def send(self, call: Call, value: Any = None) -> None:
        """POST a command: pyze's own, or through pyze one of those that the phone app makes (renault.md 3)."""
        if call is Call.SCHEDULES:
            schedules = ChargeSchedules({"schedules": value})
            self._call(lambda pyze: pyze.set_charge_schedules(schedules))
        elif call is Call.MODE:  # pyze's ChargeMode.always is refused (renault.md 3)
            mode = ChargeMode.always_charging if value is Mode.ALWAYS else ChargeMode.schedule_mode
            self._call(lambda pyze: pyze.set_charge_mode(mode))
        elif call is Call.START:
            self._call(lambda pyze: pyze.charge_start())
        elif call is Call.KCM_SCHEDULES:
            self._kcm("charge/schedule", "ChargeSchedule", {"schedules": value})
        else:
            at = {"startDateTime": f"{value.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"} if value else {}
            self._kcm("charge/start", "ChargingStart", {"action": "start", **at})

    def _kcm(self, endpoint: str, kind: str, attributes: Mapping[str, Any]) -> None:
        """One of the phone app's calls, with pyze's session and headers."""
        data = {"data": {"type": kind, "attributes": attributes}}
        place = "{}/commerce/v1/accounts/{}/kamereon/kcm/v1/vehicles/{}/{}"
        self._call(
            lambda pyze: pyze._request(
                "POST", place.format(pyze._root_url, self._kamereon.get_account_id(), pyze._vin, endpoint), json=data
            ).json()
        )

    def _call(self, request: Callable[[Any], Any]) -> Mapping[str, Any]:
        self.vehicle()
        answer = self._authorized(lambda: request(self._pyze))
        if not isinstance(answer, dict):
            raise CarError("Renault's cloud answered without the data asked for")
        return answer

    def _authorized(self, request: Callable[[], T]) -> T:
        """Make a request with a JWT that is still good, and once more with a new one when it was refused."""
        if self._clock() >= self._jwt_until:
            self._login.pop("gigya-token", None)
        for again in (True, False):
            if "gigya-token" not in self._login:
                self._read_login_again()
                self._jwt_until = self._clock() + JWT_LIFE
            try:
                return request()
            except UnauthorizedError:
                self._login.pop("gigya-token", None)
                if not again:
                    raise
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OSError, PyJWTError):
                # how pyze and requests meet an answer they did not expect; their texts may hold secrets
                raise CarError("Renault's cloud answered without the data asked for") from None
        raise AssertionError("unreachable")

    def _read_login_again(self) -> None:
        """Take over a new `pyze login`, and API keys that came from it; the file may be half written just now."""
        try:
            stored = self._read_stored()
        except ConfigError:
            return  # what it held before may still do; if not, the line about the login says what to do
        if stored.get("gigya", self._stored["gigya"]) != self._stored["gigya"]:
            for name in ("gigya", "gigya-person-id", "gigya-api-key", "kamereon-api-key"):
                if name in stored and self._login.get(name) == self._stored.get(name):  # else it is the environment's
                    self._login[name] = stored[name]
            self._stored = stored

    def redact(self, text: str) -> str:
        """Take every secret out of a text that nobody foresaw."""
        for secret in (*self._login.values(), self._settings.account, self._vehicle and self._vehicle.vin):
            if secret:
                text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
        return text

    def _find(self) -> Vehicle:
        wanted, seen, accounts = self._settings.vin, [], 0
        for account in self._accounts():
            accounts += 1
            self._login["kamereon-account"] = account
            Kamereon.get_vehicles.cache_clear()  # it would answer for the account before (renault.md 4.5)
            links = self._authorized(lambda: list(self._kamereon.get_vehicles()["vehicleLinks"] or []))
            for vehicle in (Vehicle.from_link(link) for link in links if isinstance(link, dict) and link.get("vin")):
                if wanted is None or wanted.upper() == vehicle.vin.upper():
                    if vehicle.model in OWN_LIMIT:
                        raise ConfigError(
                            f"the {vehicle.name} holds a charge limit of its own, set it in the MyRenault app: it takes"
                            " no commands from here (for another vehicle set SPECIFIC_VIN)"
                        )
                    return vehicle
                seen.append(str(vehicle))
        held_by = f"{accounts} account{'s' * (accounts != 1)}"
        if not seen:
            raise ConfigError(f"there is no vehicle in {held_by}: check the MyRenault app and KAMEREON_ACCOUNT_ID")
        there_are = f"there are: {', '.join(seen)} (in {held_by})"
        raise ConfigError(f"SPECIFIC_VIN={wanted} is not among your vehicles; {there_are}")

    def _accounts(self) -> Iterator[str]:
        """The account that is set, or pyze's choice and then the person's others."""
        if self._settings.account:
            yield self._settings.account
            return
        chosen = self._login.get("kamereon-account")
        if chosen:
            yield chosen
        accounts = self._authorized(lambda: [str(account["accountId"]) for account in self._kamereon.get_accounts()])
        if not accounts:
            raise CarError("Renault's cloud names no account for this login: check the MyRenault app")
        yield from (account for account in accounts if account != chosen)


# ---------------------------------------------------------------- the simulated car of --demo and of the tests


class SimulatedZoe(Car):
    """A Zoe, its battery and its modem. `advance` lets time pass; only then does it charge, obey and report.

    capacity in kWh, power in kW, level in percent with its fractions (reports have whole percents); it reports every
    `report_every` while charging, else every `idle_report_every` (None: it sleeps), and whenever its charge or plug
    status changes; a command reaches it after `delay`. deaf: it ignores kcm charge/schedule.
    """

    STEP = timedelta(seconds=30)

    def __init__(
        self, local: datetime, level: float = 60.0, power: float = 11.0, capacity: float = 52.0,
        report_every: timedelta = timedelta(minutes=10), delay: timedelta = timedelta(minutes=5),
        idle_report_every: timedelta | None = None, model: str = "X101VE", deaf: bool = False,
    ) -> None:  # fmt: skip
        self.now, self.zone = local.astimezone(timezone.utc), local.tzinfo
        self.level, self.power, self.capacity = level, power, capacity
        self.report_every, self.idle_report_every, self.delay = report_every, idle_report_every, delay
        self.plugged, self.powered, self.charging = True, True, False  # powered: the charging station gives current
        self.model, self.deaf = model, deaf
        self.mode, self.until = "scheduled", self.now
        night = {"startTime": "T02:00Z", "duration": 240}
        self.schedules: list[dict[str, Any]] = [{"id": 1, "activated": True, **{day: dict(night) for day in DAYS}}]
        self._started = False  # asked to start; holds until a schedule says otherwise
        self._was_open = False
        self._on_the_way: list[tuple[datetime, Call, Any]] = []
        self.attributes: dict[str, Any] = {}  # the last report, as battery-status has it (renault.md 2)
        self._update()
        self._report()

    def vehicle(self) -> Vehicle:
        return Vehicle("", self.model, f"simulated {self.model}")

    def battery_status(self) -> Mapping[str, Any]:
        return self.attributes

    def charging_settings(self) -> Mapping[str, Any]:
        delayed = {"startDateTime": f"{self.until.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"}
        return {"mode": self.mode, "schedules": self.schedules, **(delayed if self.mode == "delayed" else {})}

    def send(self, call: Call, value: Any = None) -> None:
        """The cloud has accepted it; it reaches the car after the delay."""
        self._on_the_way.append((self.now + self.delay, call, value))

    def redact(self, text: str) -> str:
        return text

    def plug(self, plugged: bool) -> None:
        """Plug the cable in or out; the car reports it."""
        self.plugged, self._started = plugged, False
        self._update()
        self._report()

    @property
    def local(self) -> datetime:
        """The car's own clock."""
        return self.now.astimezone(self.zone)

    def advance(self, until: datetime) -> None:
        """Let time pass."""
        until = until.astimezone(timezone.utc)
        while self.now < until:
            step = min(self.STEP, until - self.now)
            if self.charging:
                slowing = min(1.0, 0.4 + (100 - self.level) * 0.03)  # near full, as batteries do: from 80 % on
                gain = self.power * slowing * (step / timedelta(hours=1)) / self.capacity * 100
                self.level = min(100.0, self.level + gain)
            self.now += step
            self._update()
            every = self.report_every if self.charging else self.idle_report_every
            if every and self.now - self._reported >= every:
                self._report()

    def _update(self) -> None:
        """Obey what has arrived, then charge or not by what the car holds."""
        arrived = [entry for entry in self._on_the_way if entry[0] <= self.now]
        self._on_the_way = [entry for entry in self._on_the_way if entry[0] > self.now]
        kcm = (Call.KCM_SCHEDULES, Call.KCM_START, Call.KCM_DELAY)
        # What is not a call for this car is accepted and ignored (renault.md 3)
        for call, value in ((call, value) for _, call, value in arrived if (call in kcm) == (self.model in DIALECTS)):
            if call is Call.START:
                self._started = self.plugged
            elif call is Call.MODE:  # which alone stops no charge while the car has no schedule (renault.md 3)
                self._started = self.charging and value is Mode.SCHEDULED and not self.schedules
                self.mode = value.value
            elif call is Call.KCM_START:
                self.mode, self.schedules, self._started = "always", [], False
            elif call is Call.KCM_DELAY:
                self.mode, self.until, self._started = "delayed", value, False
            elif call is Call.SCHEDULES or not self.deaf:
                self.schedules, self._started = value, False
                self.mode = "scheduled" if call is Call.KCM_SCHEDULES else self.mode
        if self.mode == "delayed" and self.now >= self.until:
            self.mode = "always"
        window_open = self._window_open()
        if self._was_open and not window_open:
            self._started = False  # the end of a window ends the charge
        self._was_open = window_open
        may_charge = self.mode == "always" or (window_open and self.mode == "scheduled") or self._started
        charging = self.plugged and self.powered and self.level < 100 and may_charge
        if charging != self.charging:
            self.charging = charging
            self._report()

    def _window_open(self) -> bool:
        """Whether the weekly schedule, read as the car reads it, lets it charge now."""
        local = self.local
        minute = (local.weekday() * 24 + local.hour) * 60 + local.minute
        for schedule in self.schedules:
            for day, charge in schedule.items():
                if schedule["activated"] and day in DAYS and charge:
                    start = DAYS.index(day) * 1440 + int(charge["startTime"][1:3]) * 60 + int(charge["startTime"][4:6])
                    if (minute - start) % WEEK_MINUTES < charge["duration"]:
                        return True
        return False

    def _report(self) -> None:
        self._reported = self.now
        waiting = 0.2 if self.level >= 100 else 0.1
        self.attributes = {
            "timestamp": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
            "batteryLevel": int(self.level),
            "plugStatus": int(self.plugged),
            "chargingStatus": 1.0 if self.charging else waiting if self.plugged else 0.0,
            "chargingInstantaneousPower": self.power if self.charging else 0.0,
            "chargingRemainingTime": round((100 - self.level) / 100 * self.capacity / self.power * 60),
        }


# ---------------------------------------------------------------- the owner's own schedule


def own_path(state: str, vin: str) -> str:
    """The file that keeps a car's own charge mode and schedules."""
    return os.path.join(state, re.sub(r"\W", "", vin) + ".json")


def write_whole(path: str, text: str) -> None:
    """Write a file of mode 0600, whole or not at all. Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def read_notes(path: str) -> Mapping[str, Any]:
    """What the process before this one noted; empty when it noted nothing."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        with open(path + ".notes", encoding="utf-8") as file:
            notes = json.load(file)
        return notes if isinstance(notes, dict) else {}
    return {}


def read_own(path: str, tell: Callable[[str], None]) -> Mapping[str, Any] | None:
    """The owner's charging settings, empty when they could not be saved, None without a file; a damaged one is kept."""
    folder = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as file:
            own = json.load(file)
        if own == {} or (own["mode"] in MODES and isinstance(own["schedules"], (list, type(None)))):
            return cast(Mapping[str, Any], own)
        raise ValueError
    except FileNotFoundError:
        return None
    except OSError as error:
        tell(f"your saved schedule in {folder} cannot be read: {error.strerror}")
        return {}
    except (ValueError, LookupError, TypeError, RecursionError):
        aside = path + ".damaged"
        while os.path.exists(aside):
            aside += "~"
        with contextlib.suppress(OSError):
            os.replace(path, aside)
        tell(f"your saved schedule in {folder} is damaged, it is kept beside as .damaged")
    return None


def restore(
    car: Car, state: str, dry_run: bool, clock: Callable[[], datetime], wait: Callable[[float], bool],
    tell: Callable[[str], None],
) -> int:  # fmt: skip
    """Put the owner's charge mode and schedules back, and see by the car's settings that they are; the exit status."""
    vehicle = car.vehicle()
    path = own_path(state, vehicle.vin)
    own = read_own(path, tell)
    if not own:
        tell(f"nothing is saved for this car in {state}")
        return 1
    kcm = vehicle.dialect is KCM
    schedules = clean_schedules(own.get("schedules"), range(1, 6) if kcm else (1,))
    mode = MODES[own["mode"]]
    if mode is Mode.DELAYED:  # to a moment that is long past
        mode = Mode.SCHEDULED if schedules else Mode.ALWAYS
    # A car without schedules of its own gets ours back switched off
    schedules = schedules or [{**Window("monday", 0, BLOCK_MINUTES).to_schedule(), "activated": False}]
    sends: list[tuple[Call, Any]] = [(Call.SCHEDULES, schedules), (Call.MODE, mode)]
    if kcm:
        sends = [(Call.KCM_START, None)] if mode is Mode.ALWAYS else [(Call.KCM_SCHEDULES, schedules)]

    def is_back() -> bool:
        now = car.charging_settings()
        mine = clean_schedules(now.get("schedules"))
        # In mode "always" most cars do not tell their schedules (renault.md 3)
        same = all(schedule in mine for schedule in schedules) or (mode is Mode.ALWAYS and (kcm or not mine))
        return mode_of(now) is mode and same

    # What the script told the car last may still be on its way: until then, what looks restored is only not yet changed
    told = moment(read_notes(path).get("told"))
    certain = told + OBEY if told else clock()
    with contextlib.suppress(CarError):
        if not dry_run and clock() < certain and not is_back():
            certain = clock()
    for call, value in sends:
        what = value.value if call is Call.MODE else json.dumps(value or "now")
        tell(f"{'would send' if dry_run else 'sending'} {call.value} {what}")
        if not dry_run:
            car.send(call, value)
    for _ in range(0 if dry_run else RESTORE_TRIES):
        try:
            if clock() >= certain and is_back():
                tell(f"restored: {describe(own)}")
                os.remove(path)
                with contextlib.suppress(OSError):
                    os.remove(path + ".notes")
                return 0
        except CarError as error:
            tell(str(error))
        except OSError as error:
            tell(f"what is saved in {state} cannot be deleted: {error.strerror}")
            return 1
        tell("waiting for the car to take it over")
        if wait(RESTORE_INTERVAL.total_seconds()):
            break
    if not dry_run:
        tell(f"the car has not taken it over yet; it stays saved: {describe(own)}")
    return 0 if dry_run else 1


# ---------------------------------------------------------------- the loop


def say(line: str) -> None:
    """Print one line at once, for tmux, pipes and journald. Raises BrokenPipeError when nobody reads any more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        return  # the disk is full or the terminal gone: no reason to leave the car alone


def notifier(
    command: Sequence[str], tell: Callable[[str], None], wait: Callable[[float], bool]
) -> Callable[[str], None]:
    """A function that runs the owner's command with a message as its last argument; `wait` ends it early."""

    def notify(message: str) -> None:
        quiet, end = subprocess.DEVNULL, time.monotonic() + NOTIFY_TIMEOUT
        try:
            process = subprocess.Popen([*command, message], stdin=quiet, stdout=quiet, stderr=quiet)
        except (OSError, ValueError) as error:
            tell(f"NOTIFY_COMMAND cannot be run: {getattr(error, 'strerror', None) or 'check it'}")
            return
        while process.poll() is None and time.monotonic() < end and not wait(0.02):
            pass
        if process.poll() is None:
            process.kill()
            tell(f"NOTIFY_COMMAND did not end within {NOTIFY_TIMEOUT} seconds, or not before the script did")
        elif process.wait():
            tell(f"NOTIFY_COMMAND failed with status {process.returncode}")

    return notify if command else lambda _: None


REASONS = {
    Action.ALWAYS: "always charging as battery low",
    Action.WINDOW: "we should charge, setting 30 minute window from 15 minutes ago",
    Action.WAIT: "wait to schedule charge till car is plugged in",
    Action.BLOCK: "skipping charge as at ",
}


class Controller:
    """Asks the car, lets the core decide and tells the car what differs from what it is known to hold.

    clock: returns the time, aware. tell takes a line for the owner, notify a message.
    """

    def __init__(
        self, settings: Settings, car: Car, clock: Callable[[], datetime], tell: Callable[[str], None] = say,
        notify: Callable[[str], None] | None = None, dry_run: bool = False, state: str | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.car, self.clock, self.tell, self.dry_run = settings, car, clock, tell, dry_run
        self.state = state  # the folder for the owner's own schedule; None: it is not kept
        self.held: Held | None = None  # None until the car's settings have been asked for
        self.way = 0  # of the dialect's ways to block: the one that is used now
        self._others: list[dict[str, Any]] = []  # the owner's schedules beside ours
        self.watch = Watch(None)
        self.forecast = Forecast(settings.limit, settings.always_below) if settings.predict_stop else None
        self.delay = POLL_INTERVAL  # until the next poll
        self._notify = notify or (lambda _: None)
        self._messages: list[str] = []  # for the owner, after the car has been told
        self._occasions: set[str] = set()  # of which the owner has been notified
        self._starts: list[datetime] = []  # requests to start of the last day
        self._extra: list[datetime] = []  # polls between the regular ones of the last hour
        self._refused = 0  # polls in a row that Renault's quota or login refused
        self._updated: str | None = None  # the car's last report
        self._asked: str | None = None  # the report on which the process before this one asked the car to start
        self._asked_on: str | None = None  # and this one
        self._touched = False  # the car was told something
        self._answered = clock()  # when the cloud last answered
        self._said: dict[str, str] = {}  # lines that are told again only when they change

    def run(self, wait: Callable[[float], bool]) -> None:
        """Poll until `wait`, which takes seconds, returns True. Raises ConfigError."""
        while True:
            began = self.clock()
            try:
                self.try_poll()
            except StoppedError:
                return
            if self._refused:
                began = self.clock()  # what Renault asks for counts from its refusal
            left = began + self.delay - self.clock()  # a clock that is set back must not stretch it
            if wait(min(max(left, timedelta(0)), self.delay).total_seconds()):
                return

    def left_with(self) -> str:
        """What becomes of the car while nobody tells it anything."""
        if self.watch.stubborn and self.watch.charge is False:
            return "the car charges though it is blocked: nothing stops it"
        if self.held and self.held.window is None and not self._touched:
            return "the car is as it was found"
        return left_with(self.held or Held(), self._local(), self.settings.limit)

    def _local(self) -> datetime:
        """The time on the car's clock."""
        return self.clock().astimezone(self.settings.zone)

    def try_poll(self, last: bool = False) -> bool:
        """Poll once and set `delay`; a poll that fails is one line and False. Raises ConfigError."""
        self.delay, failed = POLL_INTERVAL, None
        try:
            self.poll()
            self._refused = 0
        except (QuotaError, LoginError) as error:
            self._refused += 1
            asked = error.retry_after if isinstance(error, QuotaError) else timedelta(0)
            self.delay = max(asked, POLL_INTERVAL * min(self._refused, 3))
            failed = f"{error}; {self.left_with()}"
            if isinstance(error, LoginError):
                self._answered = self.clock()
                self._occasion("login", True, str(error))
        except CarError as error:
            failed = str(error)
        except (ConfigError, BrokenPipeError, StoppedError):
            raise
        except Exception as error:  # noqa: BLE001 - nobody foresaw it: it is shown, once, and the car is not left alone
            text = self.car.redact(traceback.format_exc().rstrip())
            self._say_once(text, text)
            failed = f"an error in this script, {type(error).__name__}: please report it"
        if failed is None:
            self._send_messages()
            return True
        now, failed = self.clock(), self.car.redact(failed)
        then = "" if last else f"; next try in {math.ceil(self.delay / timedelta(minutes=1))} minutes"
        self.tell(f"{now.astimezone(self.settings.zone):%H:%M:%S} {failed}{then}")
        silent = now - self._answered
        self._occasion("cloud", silent >= OUT_OF_REACH, f"Renault's cloud has been out of reach for an hour: {failed}")
        self._send_messages()
        return False

    def poll(self) -> None:
        """Ask, decide, do. Raises CarError, ConfigError."""
        settings, vehicle = self.settings, self.car.vehicle()
        self._say_once(
            "start",
            f"{vehicle}: car time {settings.zone_name}, always charging below {settings.always_below:g} %,"
            f" blocking at {settings.limit:g} %" + (", dry run: nothing is written to the car" * self.dry_run),
        )
        if self.held is None:
            self.held = self._learn(vehicle)
        report = Report.from_attributes(self.car.battery_status())
        self._updated = report.updated
        self._answered = self.clock()
        self._occasions -= {"login", "cloud"}
        now, local = self._answered, self._local()
        line = status_line(report, local, settings.limit)
        if self.forecast:
            window = self.held.window
            self.forecast.see(report, window is not None and not window.open_at(local))
            level, left = self.forecast.level(now), self.forecast.left(now)
            if level is not None and left is not None and not self.forecast.blocked:
                line += f" ~{level:.0f}% now, stop in {math.ceil(left / timedelta(minutes=1))}min"
        self.tell(line)
        for oddity in report.oddities:
            self._say_once(oddity, f"the car reports {oddity}, which nobody has explained yet: taken as unknown")
        reason = action = decide(report, settings)
        if self.forecast:
            action = self.forecast.adjust(action, report, now)
            stop_in = self.forecast.stop_in(now)
            self._extra = recent(self._extra, now, timedelta(hours=1))
            soon = action is Action.WINDOW and stop_in is not None and stop_in < POLL_INTERVAL
            if soon and stop_in is not None and len(self._extra) < EXTRA_POLLS:
                self.delay = max(stop_in, EXTRA_POLL)
                self._extra.append(now)
        low = action is Action.ALWAYS and not report.plugged_in
        if report.plug is not None or not low:  # one that is not reported is not unplugged
            self._occasion("low", low, f"battery low at {report.level:g} % and not plugged in")
        self._verify(report, action, local)
        early = ""
        if reason is not action:
            obeyed = charging(report, None) is False
            early = " (the predicted stop)" if obeyed else f" (predicted: {settings.limit:g} % when the car obeys)"
        self.tell(REASONS[action] + (f" {report.level:g} %{early}" * (action is Action.BLOCK)))
        steps = self._steps(report, action, local)
        if action in (Action.WINDOW, Action.BLOCK) and not {step.call for step in steps} - {Call.MODE, Call.START}:
            self.tell("no need to update car schedule as same as requested setting")
        mode = self.held.mode
        for step in steps:
            self._send(step)
        # A window that only rolls on tells the car nothing new
        new = any(step.held.mode is not mode or step.call in (Call.START, Call.KCM_START) for step in steps)
        if not self.dry_run and (new or not self.watch.is_told):
            self.watch.told(report, self.clock())
        if action is not Action.BLOCK:
            self._occasions.discard("blocked")
        elif not self.dry_run:
            if not steps or not report.plugged_in:
                self._occasions.add("blocked")  # it was before
            self._occasion("blocked", True, f"charging was blocked at {report.level:g} %")

    def _verify(self, report: Report, action: Action, local: datetime) -> None:
        """See whether the car obeys; when it does not, what it holds is unknown again, and it is to be told again."""
        held, ways = self.held or Held(), self.car.vehicle().dialect.blocks
        charge = {Action.BLOCK: False, Action.WAIT: None}.get(action, report.plugged_in or None)
        # The next window may reach the car after this one has ended: that pause is not the car's fault
        soon = (self._answered + OBEY).astimezone(local.tzinfo)
        lapsed = action is Action.WINDOW and held.window is not None and not held.window.open_at(soon)
        if charge != self.watch.charge or lapsed:
            self.watch = Watch(charge, report)
            self.watch.start_asked = self._asked is not None and self._asked == report.updated
            self._asked = None
        again = self.watch.disobeys(report, self._answered)
        if again and charge:
            self.tell("the car does not charge though it should: asking what it holds, and telling it again")
        elif again:
            self.way = (self.way + self.watch.ignored) % len(ways)  # the way that works is kept
            self._note()
            way = ", ".join(call.value for call in ways[self.way])
            self.tell(f"the car charges though it is blocked: blocking it by {way}")
        if self.watch.owed and not charge:
            self.held = Held()
        elif self.watch.owed and self.watch.again <= 2:  # later only the start is asked for
            self.held = replace(Held.from_attributes(self._ask_settings()), window=held.window)
        fault = "does not charge though it should: check the cable, the charging station and the MyRenault app"
        if charge is False:
            fault = "charges though it is blocked: unplug it or stop it at the charging station"
        message = f"the car does not obey, it {fault}; trying again every hour"
        if self.watch.stubborn and "stubborn" not in self._occasions:
            self.tell(message)
        self._occasion("stubborn", self.watch.stubborn, message)

    def _steps(self, report: Report, action: Action, local: datetime) -> list[Step]:
        """What the car is to be told now, by the calls it listens to."""
        held, dialect = self.held or Held(), self.car.vehicle().dialect
        calls = {Action.ALWAYS: (dialect.always,), Action.WINDOW: dialect.window, Action.WAIT: ()}
        left = self.forecast.left(self._answered) if self.forecast else None
        steps = plan(calls.get(action, dialect.blocks[self.way]), action, local, held, self._others, left)
        after = steps[-1].held if steps else held
        if dialect.start is Call.START:
            start = should_start(report, action) and not self.watch.start_asked
            start = start or (self.watch.owed and self.watch.charge is True and not steps)
        else:
            # Here the window is itself the request. Only a car that has reported since and does not charge is started,
            # for good, and gets its window again once it charges; so does one whose delay is taken back.
            owed = self.watch.owed and self.watch.charge is True
            start = owed and all(step.call is not Call.KCM_START for step in steps)
            start = start or (action is Action.WINDOW and held.mode is Mode.DELAYED)
            waits = self.watch.start_asked and not charging(report, self.watch.first)
            if action is Action.WINDOW and (start or waits):
                steps = []
            after = Held(Mode.ALWAYS)
        self._starts = recent(self._starts, self._answered, timedelta(days=1))
        if start and len(self._starts) < STARTS_A_DAY:
            line = f"starting charging as not currently charging {'-' if report.status is None else report.status}"
            steps.append(Step(dialect.start, None, line, after))
        return steps

    def _learn(self, vehicle: Vehicle) -> Held:
        """Ask at start what the car holds, so that a restart repeats nothing, and keep what is the owner's own."""
        attributes = self._ask_settings()
        if not attributes and self.state and not os.path.exists(own_path(self.state, vehicle.vin)):
            attributes = self._ask_settings()  # once more, since what is lost now is lost
        held = Held.from_attributes(attributes)
        if held.mode is Mode.DELAYED and vehicle.dialect is KCM:
            self.way = KCM.blocks.index((Call.KCM_DELAY,))
        blocked = held.mode is Mode.SCHEDULED and held.window == block_window(self._local(), held.window)
        if self.forecast and (held.mode is Mode.DELAYED or blocked):
            self.forecast.stops, self.forecast.blocked = 1, True  # by the process before this one
        own: Mapping[str, Any] | None = attributes
        if self.state:
            path = own_path(self.state, vehicle.vin)
            notes = read_notes(path)
            self._asked, way = notes.get("asked"), notes.get("way")
            self.way = cast(int, way) if way in range(len(vehicle.dialect.blocks)) else self.way
            own = read_own(path, self.tell)
            if own is None:
                own = {name: attributes.get(name) for name in ("mode", "schedules")}
                doubtful = held.mode is Mode.ALWAYS and os.path.exists(path + ".damaged")
                if held.mode is None or held.is_ours or doubtful:
                    own = {}  # not known; and from now on it cannot be
                try:
                    if not self.dry_run and not os.path.exists(path):
                        write_whole(path, json.dumps(own))
                except OSError as error:
                    self.tell(f"your schedule cannot be saved in {self.state}: {error.strerror}")
            if own:
                kept = "; restore it with --restore" * os.path.exists(path)
                self.tell(f"your schedule: {describe(own)}{kept}")
        if vehicle.dialect is KCM:
            mine = clean_schedules((own or attributes).get("schedules"), range(2, 6))
            # One that differs from day to day would be refused, and ours with it
            same = [schedule for schedule in mine if len({str(schedule[day]) for day in DAYS if day in schedule}) == 1]
            self._others = [{**schedule, "activated": False} for schedule in same]
        return held

    def _ask_settings(self) -> Mapping[str, Any]:
        """Ask for the charging settings; empty when the car or the cloud does not answer that."""
        try:
            return self.car.charging_settings()
        except (QuotaError, LoginError):
            raise
        except CarError as error:
            self.tell(f"what the car holds is unknown: {error}")
            return {}

    def _send(self, step: Step) -> None:
        """Tell the car. Only what was accepted counts; a request that failed may have reached the car or not."""
        if step.line or self.dry_run:
            self.tell(step.line or "setting charge mode to scheduled")
        if not self.dry_run:
            before = self.held or Held()
            self.held = before.common(step.held)
            try:
                self.car.send(step.call, step.value)
            except QuotaError:
                self.held = before  # it was refused, not lost
                raise
            self.held, self._touched = step.held, True
            if self.forecast and self.watch.charge is not None:
                self.forecast.told(self.watch.charge, self.clock())
            if step.call in (Call.START, Call.KCM_START):
                self.watch.start_asked = True
                self._starts.append(self.clock())
            self._note()

    def _note(self) -> None:
        """Keep for the next process when the car was last told, on which report to start, and the way to block it."""
        if self.watch.start_asked:
            self._asked_on = self._updated
        if self.state and not self.dry_run:
            notes = json.dumps({"told": self.clock().isoformat(), "asked": self._asked_on, "way": self.way})
            with contextlib.suppress(OSError):  # at worst a restart asks once more
                write_whole(own_path(self.state, self.car.vehicle().vin) + ".notes", notes)

    def _say_once(self, key: str, line: str) -> None:
        if self._said.get(key) != line:
            self.tell(line)
            self._said[key] = line

    def _occasion(self, name: str, now: bool, message: str) -> None:
        """Notify the owner once when an occasion arises."""
        if now and name not in self._occasions:
            self._messages.append(f"chargeto: {self.car.redact(message)}")
        self._occasions = self._occasions | {name} if now else self._occasions - {name}

    def _send_messages(self) -> None:
        """Only now: the owner's command may take its time."""
        messages, self._messages = self._messages, []
        for message in messages:
            self._notify(message)


# ---------------------------------------------------------------- the command line

DEMO_PACE = 0.25  # seconds of real time for a poll interval
DEMO_VARIABLES = ("VEHICLE_TZ", "MAX_CHARGE_THRESHOLD", "ALWAYS_CHARGE_AT_THRESHOLD", "PREDICT_STOP")
DEMO_POLLS = 42  # at the most: the demo stays under 15 seconds whatever the thresholds are


def demo(settings: Settings, model: str, stop: Stop) -> int:
    """Charge a simulated car from 60 % with the real loop, then say where it stopped."""
    noon = datetime.now(settings.zone).replace(hour=12, minute=49, second=32)  # a time without its own schedule
    car = SimulatedZoe(noon, model=model)
    begin = car.now
    at_first = car.level
    controller = Controller(settings, car, lambda: car.now)
    over: list[bool] = []

    def wait(seconds: float) -> bool:
        car.advance(car.now + timedelta(seconds=seconds))
        over.append(controller.watch.charge is False and not car.charging)
        return stop.wait(DEMO_PACE) or over[-2:] == [True, True] or len(over) >= DEMO_POLLS

    controller.run(wait)
    if over and over[-1]:
        hours, past = (car.now - begin) / timedelta(hours=1), car.level - max(settings.limit, at_first)
        end = f"{abs(past):.1f} points {'past' if past >= 0 else 'before'} the limit, after {hours:.1f} simulated hours"
        say(f"demo: blocked at {settings.limit:g} %, the simulated car stopped at {car.level:.1f} %, {end}")
    else:
        end = "charging" if car.charging else "not charging"
        say(f"demo: ended before the limit of {settings.limit:g} %, the simulated car is {end} at {car.level:.1f} %")
    return 0


USAGE = "chargeto.py [--once | --restore] [--dry-run] | --demo [--model MODEL] | --help | --version"


class Stop:
    """A sleep that a signal ends. A pipe, since an Event's lock can be held when the signal comes."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it has been told often enough
            os.write(self._write, b".")

    def wait(self, seconds: float) -> bool:
        """Sleep; True when it is time to stop."""
        return bool(select.select([self._read], [], [], seconds)[0])


def utc_now() -> datetime:
    """The clock of everything but the demo and the tests."""
    return datetime.now(timezone.utc)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(prog="chargeto.py", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    for option in ("--once", "--dry-run", "--restore", "--demo", "--version"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--model", choices=("X101VE", *DIALECTS))
    parser.usage = USAGE
    args = parser.parse_args(argv)
    if args.once + args.restore + args.demo > 1 or (args.demo and args.dry_run) or (args.model and not args.demo):
        parser.error("these options do not go together")
    if args.help or args.version:
        say(f"chargeto {__version__}" if args.version else (__doc__ or ""))
        return 0
    logging.disable()  # urllib3 would log addresses, which hold the account and the VIN
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - closed by the caller
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a car's name may not fit a plain terminal
    stop = Stop()
    try:
        stored: Mapping[str, str] | None = None
        faults: Sequence[str] = ()
        if not args.demo:
            try:
                stored = Renault.stored(os.environ)
            except ConfigError as error:
                stored, faults = {}, error.faults
            if stored and os.stat(path := Renault.credential_file(os.environ)).st_mode & 0o077:
                print(f"chargeto: others may read your login: chmod 600 {path}", file=sys.stderr)
        env = {name: value for name, value in os.environ.items() if not args.demo or name in DEMO_VARIABLES}
        settings = Settings.from_env(env, stored, faults)
        if settings.notify_command and not shutil.which(settings.notify_command[0]):
            print("chargeto: NOTIFY_COMMAND names no command that can be run", file=sys.stderr)
        if stored is None:
            return demo(settings, args.model or "X101VE", stop)
        car = Renault(settings, lambda: Renault.stored(os.environ), utc_now, lambda: stop.wait(0))
        notify = notifier(settings.notify_command, say, stop.wait)
        state = os.environ.get("XDG_STATE_HOME", "")
        state = os.path.join(state if os.path.isabs(state) else os.path.expanduser("~/.local/state"), "chargeto")
        if args.restore:
            return restore(car, state, args.dry_run, utc_now, stop.wait, say)
        controller = Controller(settings, car, utc_now, say, notify, args.dry_run, state)
        if args.once:
            return 0 if controller.try_poll(last=True) else 1
        controller.run(stop.wait)
        say(f"stopped: {controller.left_with()}")
    except ConfigError as error:
        for fault in error.faults:
            print("chargeto:", " ".join(fault.split()), file=sys.stderr)
        return 2
    except CarError as error:  # of --restore; what is saved stays saved
        say(car.redact(str(error)))
        return 1
    except StoppedError:  # --once or --restore were ended early
        return 1
    except BrokenPipeError:  # nobody reads the output any more
        return 1
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # what is left in the buffer must not raise it once more at the very end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
