#!/usr/bin/env python3
# /// script
# requires-python = ">=3.8"
# dependencies = ["pyze==0.6.0", "python-dateutil", "pytz"]
# ///
"""chargeto.py - hold a Renault Zoe's charge between two thresholds

usage: chargeto.py [--once|--restore] [--dry-run] | --demo | --help | --version

Every 5 minutes it asks Renault's cloud for the state of charge. Below the lower
threshold the car always charges, in between a 45 minute window of its schedule
rolls along, at the limit that moves to yesterday, which blocks the charge.
  --once      poll once, for a look (not for cron); exit status 1 when it failed
  --dry-run   read, decide and print, but write nothing to the car
  --restore   put back the charge mode and schedules the car had before
  --demo      charge a simulated car on a fast clock; needs no account
Environment variables, see .env.example; an empty one counts as not set:
  KAMEREON_API_KEY, GIGYA_API_KEY    Renault's API keys [what pyze has stored]
  KAMEREON_ACCOUNT_ID                the account [pyze's choice]
  SPECIFIC_VIN                       the vehicle [the account's first]
  VEHICLE_TZ                         the car's time zone [this machine's]
  MAX_CHARGE_THRESHOLD               the limit, percent [85]
  ALWAYS_CHARGE_AT_THRESHOLD         below it the car always charges [65]
  PREDICT_STOP                       1: stop at the limit, by prediction [0]
  CHARGE_HOURS                       such as 22:00-06:00, the cheap ones [any]
  NOTIFY_COMMAND                     run with a message as last argument [none]
  KAMEREON_ROOT_URL, GIGYA_ROOT_URL  Renault's servers [those for Europe]
Log in once with `pyze login`. Exit status 2: usage, configuration or login."""

# How it holds the car, in three mechanisms; the sections come in the order of a poll (Controller.poll):
#   battery-status -> Report -> decide -> Action -> target -> commands -> send; Watch looks on, Forecast looks ahead.
# 1. What is not known is told anew (_send, _judge): a part of what the car holds is unknown before a command changes it
#    and known when the cloud has accepted that; all of it is unknown when the car is to do something else.
# 2. The car's own report is the judge (Watch): one that was made 10 minutes after the car was told, and shows the
#    opposite, makes everything unknown again: three times, then once an hour, and the owner hears of it.
# 3. The window in the car ends by itself (rolling_window): a lockout or a dead machine costs what is left of it. Mode
#    "always" does not end: below the lower threshold, and for a phase 2 car that had to be started outright.
# renault.md: our notes on Renault's cloud, by section. RA#n: issues of github.com/hacf-fr/renault-api.

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import logging
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence, TypeVar


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _stop_early(*_: object) -> None:
    os.write(1, b"stopped: the car is as it was found\n")
    os._exit(0)


if __name__ == "__main__":  # loading what follows takes a moment
    _on_signals(_stop_early)
try:
    import dateutil.parser
    import dateutil.tz
    import pytz
    import requests
    from jwt.exceptions import PyJWTError
    from pyze.api import gigya, kamereon
    from requests.adapters import HTTPAdapter
except ModuleNotFoundError as error:
    print(f"chargeto: the package {error.name} is missing: see the README, .venv/bin/python has it", file=sys.stderr)
    raise SystemExit(2) from None

__version__ = "2.0.0"
T = TypeVar("T")
Clock = Callable[[], datetime]
Tell = Callable[[str], None]

POLL_INTERVAL = timedelta(minutes=5)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
OBEY = timedelta(minutes=10)  # a command has this long to reach the car (spec)
# Times a car that does not obey is told again (then once an hour, and the owner hears of it), and a phase 2 car is told
PATIENCE, OUTRIGHT_AFTER = 3, 2  # again to charge by its window (then by mode "always")
WINDOW_MINUTES = 45  # 30 minutes ahead of the quarter hour that has begun; schedules start on these (renault.md 3)
BLOCK_MINUTES = 15  # the shortest window Renault takes (renault.md 3)
IMAGINED = [timedelta(minutes=6.5)] * 4  # delays to obey, beside those that were seen: one lucky sample must not decide
SOONEST_POLL = timedelta(seconds=30)  # between two regular ones, when the car must be told to stop
DELAY = timedelta(hours=24)  # of a delayed start (RA#2202); renewed when half of it is over
SETTINGS_TRIES = 3  # polls that fail rather than begin without knowing the owner's own charge settings
REQUESTS_AN_HOUR = 30  # at most, of every kind; Renault's own limit is not known (renault.md 1)
JWT_LIFE = timedelta(minutes=14)  # Gigya gives 15; one to spare for clocks and slow requests
TIMEOUTS = (10, 30)  # seconds to connect and for each read; pyze itself sets none (renault.md 4.1)
NOTIFY_TIMEOUT = 30  # seconds
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# The car's codes and pyze's words for them (renault.md 2). Newer cars send others.
UNPLUGGED, PLUGGED_IN = 0, 1
PLUG_STATUS = {UNPLUGGED: "unplugged", PLUGGED_IN: "plugged in", -1: "plug error", -2147483648: "not available"}
CHARGE_ENDED, CHARGING = 0.2, 1.0  # below "ended" the car waits to be told to charge, or is in trouble
CHARGE_STATUS = {
    0.0: "Not charging", 0.1: "Waiting for planned charge", CHARGE_ENDED: "Charge ended",
    0.3: "Waiting for current charge", 0.4: "Energy flap opened", CHARGING: "Charging",
    -1.0: "Not charging or plugged in", -1.1: "Not available",
}  # fmt: skip
SAYS_NOTHING = (0.3, -1.1)  # 0.3 is sent while charging too (RA#550); a ZE40 is stuck at -1.1 (RA#1213)


# ---------------------------------------------------------------- errors
class ConfigError(Exception):
    """The owner must change something before it can run: one line for each of its args, exit status 2."""


class CarError(Exception):
    """This poll failed, the next may not. Its text is the line for the owner; retry_after: what Renault asks for."""
    retry_after = timedelta(0)


class UnauthorizedError(CarError):
    """The cloud no longer takes the JWT: a new one is needed (renault.md 1, 4.3)."""


class LoginError(CarError):
    """The login no longer holds: the owner must do what the text says, and the script picks it up."""


class QuotaError(CarError):
    """Renault limits the rate."""


# ---------------------------------------------------------------- configuration
PERCENT = r"100(\.0*)?|\d\d?(\.\d*)?", "={} is not a number from 0 to 100: give percent, for example 80"
SECRET = r"[\w.~+/=-]*", " holds a character that no key or account has: copy it again"
HOST = r"https://[a-z\d]([a-z\d.-]*[a-z\d])?|https?://(localhost|127\.[\d.]+|\[::1\])"
SERVER = rf"({HOST})(:\d{{2,5}})?(/[\w./-]*)?", " must be https://HOST (http:// only for a server on this machine)"
SPAN = r"(([01]\d|2[0-3]):[0-5]\d|24:00)-(([01]\d|2[0-3]):[0-5]\d|24:00)"
HOURS = rf"((?!(.*,)?(..:..)-\3|.*24:00-00:00){SPAN}(,{SPAN})*)?"
# Variable: its default, how a value looks, and what is told of one that looks otherwise; secret ones are not shown
VARIABLES = {
    "MAX_CHARGE_THRESHOLD": ("85", *PERCENT),
    "ALWAYS_CHARGE_AT_THRESHOLD": ("65", *PERCENT),
    "PREDICT_STOP": ("0", "[01]", "={} must be 1 (stop by prediction) or 0"),
    "CHARGE_HOURS": ("", HOURS, "={} must be times from 00:00 to 24:00, begin and end apart: for example 22:00-06:00"),
    "SPECIFIC_VIN": ("", r"\w*", "={} is not a VIN: `pyze vehicles` lists yours"),
    "KAMEREON_ACCOUNT_ID": ("", *SECRET),
    "KAMERON_ACCOUNT_ID": ("", *SECRET),  # the spec's spelling
    "KAMEREON_API_KEY": ("", *SECRET),
    "GIGYA_API_KEY": ("", *SECRET),
    "KAMEREON_ROOT_URL": (kamereon.DEFAULT_ROOT_URL, *SERVER),
    "GIGYA_ROOT_URL": (gigya.DEFAULT_ROOT_URL, *SERVER),
    "NOTIFY_COMMAND": ("", r"""([^'"\\]|'[^']*'|"[^"\\]*")*""", " has a quote without its other half, or a backslash"),
}
KEYS = {"kamereon-api-key": "KAMEREON_APIKEY", "gigya-api-key": "GIGYA_KEY_EU"}  # as pyze and as renault-api name them


@dataclass(frozen=True)
class Settings:
    """What the owner has set; `limit` and `always_below` in percent of state of charge; `given`: the rest as it is."""
    zone: tzinfo
    zone_name: str
    limit: float = 85.0
    always_below: float = 65.0
    predict_stop: bool = False
    charge_hours: str = ""
    notify_command: tuple[str, ...] = field(default=(), repr=False)
    given: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str], stored: Mapping[str, str] | None) -> Settings:
        """Read the environment; `stored`: by pyze, None: no login is needed. Raises ConfigError, all faults at once."""
        given = {name: value.strip() for name, value in env.items() if value.strip()}
        faults, values = [], {}
        for name, (default, pattern, fault) in VARIABLES.items():
            values[name] = given.get(name, default)
            if not re.fullmatch(pattern, values[name], re.ASCII | re.IGNORECASE):
                faults.append(name + fault.format(values[name]))
                values[name] = "nan"  # neither above nor below another threshold
        limit, always_below = float(values["MAX_CHARGE_THRESHOLD"]), float(values["ALWAYS_CHARGE_AT_THRESHOLD"])
        if always_below >= limit:
            both = f"MAX_CHARGE_THRESHOLD={limit:g} must be above ALWAYS_CHARGE_AT_THRESHOLD={always_below:g}"
            faults.append(f"{both} (without a value they are 85 and 65)")
        account = values["KAMEREON_ACCOUNT_ID"] = values["KAMEREON_ACCOUNT_ID"] or values["KAMERON_ACCOUNT_ID"]
        if stored is not None:
            for key, place in KEYS.items():
                name = key.upper().replace("-", "_")
                if not values[name] and key not in stored:
                    fault = f"{name} is not set and pyze has none stored: the key, the same for everyone, is {place} in"
                    faults.append(f"{fault} https://github.com/hacf-fr/renault-api/blob/main/src/renault_api/const.py")
            # Without an account pyze looks for those of the person who has logged in
            if "gigya" not in stored or not (account or set(stored) & {"kamereon-account", "gigya-person-id"}):
                faults.append("not logged in, or the login cannot be read: run `pyze login`, then start again")
        zone, zone_name = _zone(given.get("VEHICLE_TZ"), faults)
        if faults:
            raise ConfigError(*faults)
        predict_stop, notify_command = values["PREDICT_STOP"] == "1", tuple(shlex.split(values["NOTIFY_COMMAND"]))
        hours = values["CHARGE_HOURS"]
        return cls(zone, zone_name, limit, always_below, predict_stop, hours, notify_command, values)


def _zone(name: str | None, faults: list[str]) -> tuple[tzinfo, str]:
    # The car's time zone and how it is called; this machine's own when none is set
    if name is None:
        local = dateutil.tz.gettz() or dateutil.tz.tzlocal()
        return local, f"{datetime.now(local):UTC%z} (this machine's zone)"
    with contextlib.suppress(pytz.UnknownTimeZoneError):
        return pytz.timezone(name), name
    forms = {form.lower(): zone for zone in pytz.common_timezones for form in (zone.rpartition("/")[2], zone)}
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), forms, n=3, cutoff=0.5)
    wanted = ", ".join(dict.fromkeys(forms[form] for form in near)) or "Europe/Paris, Europe/London"
    faults.append(f"VEHICLE_TZ={name} is not a time zone: did you mean {wanted}?")
    return timezone.utc, name


# ---------------------------------------------------------------- the model: vehicle, report, charge settings, command
KCM_MODELS = ("X102VE", "XCB1VE")  # Zoe phase 2, Megane: they take the phone app's calls, every other model pyze's
OWN_LIMIT = ("R5E1VE", "A4E1VE", "A5E1AE", "XCB1SE")  # these hold a limit that is set in the app


class Vehicle(NamedTuple):
    """A vehicle; `name` as its owner knows it."""
    vin: str
    model: str
    name: str


def moment(text: object) -> datetime | None:
    """A timestamp of the cloud's, in UTC; None for anything else."""
    try:
        made = dateutil.parser.isoparse(text)  # type: ignore[arg-type]
        return made.astimezone(timezone.utc) if made.tzinfo else made.replace(tzinfo=timezone.utc)
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Report:
    """What the car last reported (renault.md 2); None for what it did not, or not usably."""
    level: float | None = None  # percent, 0 to 100
    plug: float | None = None
    status: float | None = None
    power: float | None = None  # its unit differs: never decided on
    remaining: float | None = None  # minutes to 100 %
    made: datetime | None = None  # by the car's clock

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Report:
        """Read a battery-status answer; any field may be missing, null or nonsense."""

        def number(name: str, least: float = -1e12, most: float = 1e12) -> float | None:
            value: Any = attributes.get(name)
            return value if type(value) in (int, float) and least <= value <= most else None

        return cls(
            level=number("batteryLevel", 0, 100), plug=number("plugStatus"), status=number("chargingStatus"),
            power=number("chargingInstantaneousPower"), remaining=number("chargingRemainingTime", 0),
            made=moment(attributes.get("timestamp")),
        )  # fmt: skip

    @property
    def plugged_in(self) -> bool:
        """Plugged in, by the plug status, or by a charge status that only a plugged-in car has."""
        if self.plug in (UNPLUGGED, PLUGGED_IN):
            return self.plug == PLUGGED_IN
        return self.status in (0.1, CHARGE_ENDED, 0.3, CHARGING)

    @property
    def charges(self) -> bool | None:
        """Whether the car charges, by its status; None when that says nothing."""
        if self.status not in CHARGE_STATUS or self.status in SAYS_NOTHING:
            return None
        return self.status == CHARGING


class Mode(Enum):
    """The car's charge modes; "delayed": until a moment, then always."""
    ALWAYS = "always"
    SCHEDULED = "scheduled"
    DELAYED = "delayed"


MODE_ACTIONS = {Mode.ALWAYS: "always_charging", Mode.SCHEDULED: "schedule_mode"}  # "always" is refused (renault.md 3)
MODES = {**{mode.value: mode for mode in Mode}, **{word: mode for mode, word in MODE_ACTIONS.items()}}  # a ZE40's words


class Window(NamedTuple):
    """One charge window of the weekly schedule, in car-local time; `start` and `duration` in minutes."""
    day: str
    start: int
    duration: int

    def clock(self, after: int = 0) -> str:
        """The car-local time, HH:MM, some minutes after the start."""
        return f"{(self.start + after) // 60 % 24:02}:{(self.start + after) % 60:02}"

    def to_schedules(self) -> list[dict[str, Any]]:
        """As the car takes it: schedule 1, active, this day alone; car-local time labelled Z (renault.md 3)."""
        return [{"id": 1, "activated": True, self.day: {"startTime": f"T{self.clock()}Z", "duration": self.duration}}]

    @classmethod
    def from_schedules(cls, schedules: Any) -> Window | None:
        """The window a car holds; None when its schedules are not of the kind that `to_schedules` gives."""
        try:
            (schedule,) = [schedule for schedule in schedules if schedule["activated"]]
            ((day, charge),) = [(day, schedule[day]) for day in DAYS if schedule.get(day)]
            hours, minutes = charge["startTime"].strip("TZ").split(":")
            return cls(day, int(hours) * 60 + int(minutes), int(charge["duration"]))
        except (AttributeError, LookupError, TypeError, ValueError):
            return None

    def open_at(self, local: datetime) -> bool:
        """Whether the car may charge by this window at a car-local time; it repeats every week."""
        minute = (local.weekday() * 24 + local.hour) * 60 + local.minute
        return (minute - DAYS.index(self.day) * 24 * 60 - self.start) % (7 * 24 * 60) < self.duration


class ChargeSettings(NamedTuple):
    """What the car holds, or is to hold; None where it is not known. until: of a delay. asked: to start."""
    mode: Mode | None = None
    window: Window | None = None
    until: datetime | None = None
    asked: bool | None = None

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> ChargeSettings:
        """Read a charging-settings answer (renault.md 3)."""
        mode = MODES.get(str(attributes.get("mode")))
        until = moment(attributes.get("startDateTime")) if mode is Mode.DELAYED else None
        return cls(mode, Window.from_schedules(attributes.get("schedules")), until)

    def common(self, other: ChargeSettings) -> ChargeSettings:
        """What is known while a command that leads from this to the other may have arrived or not."""
        return ChargeSettings._make(mine if mine == its else None for mine, its in zip(self, other))


class Call(Enum):
    """What a car can be told: the place below an account's kamereon/ and the type of the body (renault.md 3)."""
    SCHEDULES = ("kca/car-adapter/v2/cars/{}/actions/charge-schedule", "ChargeSchedule")
    MODE = ("kca/car-adapter/v1/cars/{}/actions/charge-mode", "ChargeMode")
    START = ("kca/car-adapter/v1/cars/{}/actions/charging-start", "ChargingStart")
    KCM_SCHEDULES = ("kcm/v1/vehicles/{}/charge/schedule", "ChargeSchedule")  # and schedule mode with it
    # It wipes the schedules, for mode "always" (RA#1708); with a startDateTime it stops the charge until then (RA#2202)
    KCM_START = ("kcm/v1/vehicles/{}/charge/start", "ChargingStart")


UNKNOWN = ChargeSettings()
START = {"action": "start"}
ALWAYS_LINE = "setting charge mode to always"


class Command(NamedTuple):
    """One thing the car is told: the body's attributes, what the owner reads of it, and what the car then holds."""
    call: Call
    attributes: Mapping[str, Any]
    line: str
    holds: ChargeSettings


# ---------------------------------------------------------------- the core: report, car-local time, settings
class Action(Enum):
    """What should happen; its value is the line that says so, word for word the spec's."""
    ALWAYS = "always charging as battery low"
    WINDOW = "we should charge, setting 30 minute window from 15 minutes ago"
    WAIT = "wait to schedule charge till car is plugged in"
    BLOCK = "skipping charge as at  {:g} %"


def decide(report: Report, settings: Settings) -> Action:
    """The whole policy, in the owner's order. Raises CarError when the level is not known."""
    if report.level is None:
        raise CarError("the car reports no state of charge that can be used: nothing is sent on a guess")
    if report.level < settings.always_below:
        return Action.ALWAYS
    if report.level >= settings.limit:
        return Action.BLOCK
    return Action.WINDOW if report.plugged_in else Action.WAIT


def hours_left(charge_hours: str, local: datetime) -> int:
    """How many minutes of the charge hours are left at a car-local time, 60 at most and when there are none."""
    within: set[int] = set()  # minutes of a day, so that hours which adjoin are one
    for span in re.findall(r"(\d+):(\d+)-(\d+):(\d+)", charge_hours):
        start, end = int(span[0]) * 60 + int(span[1]), int(span[2]) * 60 + int(span[3])
        within.update(minute % 1440 for minute in range(start, end if end > start else end + 1440))
    now = local.hour * 60 + local.minute
    return next((count for count in range(60) if within and (now + count) % 1440 not in within), 60)


def rolling_window(local: datetime, left: timedelta | None = None, hours: int = 60) -> Window:
    """The window that lets the car charge now; left: to charge, as predicted; hours: left of the charge hours."""
    duration = min((local.minute % 15 + hours) // 15 * 15, WINDOW_MINUTES)
    if left is not None:
        duration = min(math.ceil((local.minute % 15 + left / MINUTE - 2) / 15) * 15, duration) or BLOCK_MINUTES
    return Window(DAYS[local.weekday()], local.hour * 60 + local.minute // 15 * 15, duration)


def block_window(local: datetime, held: Window | None) -> Window:
    """The window that keeps the car from charging: yesterday, or the one it holds while that is a day away."""
    near = (DAYS[local.weekday()], DAYS[(local.weekday() + 1) % 7])  # schedules repeat every week
    if held and held.duration == BLOCK_MINUTES and held.day not in near:
        return held
    return rolling_window(local)._replace(day=DAYS[local.weekday() - 1], duration=BLOCK_MINUTES)


def target(
    action: Action, report: Report, held: ChargeSettings, local: datetime, left: timedelta | None, hours: int,
    deaf: bool, outright: bool,
) -> ChargeSettings:  # fmt: skip
    """What the car is to hold; left: of the charge, as predicted. deaf, outright: to be told past its schedules."""
    if action is Action.WAIT:
        return held
    if action is Action.BLOCK and not deaf:
        return ChargeSettings(Mode.SCHEDULED, block_window(local, held.window))
    if action is Action.BLOCK and held.until and held.until - local > DELAY / 2:
        return held
    if action is Action.BLOCK:
        in_a_day = local.astimezone(timezone.utc).replace(microsecond=0) + DELAY
        return ChargeSettings(Mode.DELAYED, until=in_a_day.astimezone(local.tzinfo))
    start = report.plugged_in and report.status is not None and report.status < CHARGE_ENDED
    if action is Action.ALWAYS or outright:
        return ChargeSettings(Mode.ALWAYS, asked=start)
    return ChargeSettings(Mode.SCHEDULED, rolling_window(local, left, hours), asked=start)


def _schedule_command(call: Call, window: Window, holds: ChargeSettings) -> Command:
    line = f"scheduling on {window.day} @ T{window.clock()}Z for {window.duration} minutes"
    return Command(call, {"schedules": window.to_schedules()}, line, holds)


def kca_commands(wanted: ChargeSettings, held: ChargeSettings, report: Report) -> list[Command]:
    """What is still to be sent by pyze's calls. Schedule mode goes without a line, as in the spec's sample."""
    commands = []
    if wanted.window and wanted.window != held.window:
        held = held._replace(window=wanted.window)
        commands.append(_schedule_command(Call.SCHEDULES, wanted.window, held))
    if wanted.mode and wanted.mode is not held.mode:
        held = held._replace(mode=wanted.mode)
        line = ALWAYS_LINE if wanted.mode is Mode.ALWAYS else ""
        commands.append(Command(Call.MODE, {"action": MODE_ACTIONS[wanted.mode]}, line, held))
    if wanted.asked and not held.asked:
        line = f"starting charging as not currently charging {report.status}"
        commands.append(Command(Call.START, START, line, held._replace(asked=True)))
    return commands


def kcm_commands(wanted: ChargeSettings, held: ChargeSettings, _: Report) -> list[Command]:
    """What is still to be sent by the app's calls: one sets mode and window together, and a window starts the car."""
    if wanted.mode is Mode.ALWAYS and (held.mode is not Mode.ALWAYS or (wanted.asked and not held.asked)):
        return [Command(Call.KCM_START, START, ALWAYS_LINE, ChargeSettings(Mode.ALWAYS, asked=True))]
    if wanted.until and wanted.until != held.until:
        line = f"delaying the charge to {wanted.until:%A %H:%M}"
        at = f"{wanted.until.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        return [Command(Call.KCM_START, {**START, "startDateTime": at}, line, wanted)]
    if wanted.window and (wanted.mode, wanted.window) != (held.mode, held.window):
        return [_schedule_command(Call.KCM_SCHEDULES, wanted.window, wanted._replace(asked=None))]
    return []


def left_with(held: ChargeSettings, local: datetime, limit: float) -> str:
    """What becomes of the car while nobody tells it anything."""
    if held.until:
        return f"the car is blocked until {held.until.astimezone(local.tzinfo):%A %H:%M}, then it charges"
    if held.mode is Mode.ALWAYS:
        return f"always charging: nothing will stop it at {limit:g} %"
    if held.mode is None or held.window is None:
        return "what the car holds is not known"
    end = held.window.clock(held.window.duration)
    if held.window.open_at(local):
        return f"the car holds a window until {end}, then it stops by itself"
    return f"the car is blocked, but for {held.window.day} {held.window.clock()} to {end}"


def status_line(report: Report, local: datetime, limit: float) -> str:
    """The line of every poll, word for word the spec's; a code that nobody knows stands there with its number."""

    def shown(value: object, words: Mapping[Any, str] | None = None) -> str:
        return "-" if value is None else (words or {}).get(value, str(value))

    to_limit: float | None = None  # minutes, by the car's own estimate; 0 at or above the limit
    if report.level is not None and report.level >= limit:
        to_limit = 0
    elif report.level is not None and report.remaining is not None:
        to_limit = round(report.remaining / (100 - report.level) * (limit - report.level), 0)
    level = "-" if report.level is None else f"{report.level:g}"
    updated = report.made and f"{report.made:%Y-%m-%dT%H:%M:%SZ}"
    return (
        f"{local:%H:%M:%S} {level}% {shown(report.plug, PLUG_STATUS)}, {shown(report.status, CHARGE_STATUS)},"
        f" power: {shown(report.power)} remaining: {shown(report.remaining)}"
        f" (ttc: {shown(to_limit)}min)  [updated: {shown(updated)}]"
    )


# ---------------------------------------------------------------- the watch: does the car obey?
DISOBEYS = {
    True: "does not charge though it should: check the cable, the charging station and the MyRenault app",
    False: "charges though it is blocked: unplug it, or stop it at the charging station",
}


class Watch:
    """Whether the car does what it was told, by its own later reports; wish: to charge or not, None: neither."""

    def __init__(self, wish: bool | None) -> None:
        self.wish, self.again, self.stubborn = wish, 0, False  # told again in vain; more than PATIENCE times
        self.told: datetime | None = None  # when the cloud had accepted everything; None: not yet
        self.obeyed = False  # it did as told: what it does later is someone else's doing
        self.settled = False  # it rests as told, or charges and its level has risen since
        self._level: float = 0  # by the report on which it was told
        self._first: tuple[datetime, float] | None = None  # time and level of a report by which it should have obeyed
        self._judged: datetime | None = None  # the last report that was held against it

    def tell(self, now: datetime, report: Report) -> None:
        """The cloud has accepted everything that the car is to be told: from now on it has OBEY to follow."""
        self.told, self._level, self._first, self.obeyed = now, report.level or 0, None, False

    def disobeys(self, report: Report, now: datetime) -> bool:
        """Whether a report, made OBEY after the car was told, shows the opposite: then it is to be told again."""
        if self.wish is None or self.told is None or report.level is None:
            return False
        made, charges = report.made or now, report.charges
        due = made >= self.told + OBEY
        if due and charges is None:
            charges = self._by_level(made, report.level)
        if charges is self.wish:
            self.obeyed = True
            if not charges or report.level > self._level:  # "charging" alone may be a current that dies at once
                self.settled, self.again, self.stubborn = True, 0, False
        if not due or charges is None or charges is self.wish or made == self._judged:
            return False
        self.stubborn = self.again >= PATIENCE
        if self.stubborn and now < self.told + HOUR:
            return False
        self.again += 1
        self.told, self._judged, self.settled = None, made, False
        return True

    def _by_level(self, made: datetime, level: float) -> bool | None:
        # Whether it charges, where the status says nothing: the level has risen, or has not for a whole hour
        first, before = self._first or (made, level)
        known = level > before or made - first >= HOUR
        self._first = (made, level) if known else (first, before)
        return level > before if known else None


# ---------------------------------------------------------------- the forecast: where will the charge be? PREDICT_STOP
class Forecast:
    """Where a charge is between the car's reports, when to stop it, and what to take up again."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.blocked = settings, False
        self.stops: list[datetime] = []
        self._delays: list[timedelta] = []  # to obey
        self._told: datetime | None = None  # to stop, and it has not yet
        self._reports: list[tuple[datetime, float]] = []  # time and level, while it charges without a break
        self._rate: float | None = None  # points of state of charge a minute

    def told(self, charge: bool | None, now: datetime) -> None:
        """The cloud has accepted that the car is to charge, or to stop; None: neither."""
        self._told = now if charge is False and self._reports else None

    def see(self, report: Report) -> None:
        """Learn from a report."""
        if not report.plugged_in:
            self._told, self._rate, self.stops = None, None, []
        if self._told and report.made and report.charges is False and report.made >= self._told:
            self._delays, self._told = [*self._delays[-7:], min(report.made - self._told, OBEY)], None
        if not report.charges or report.made is None or report.level is None:
            self._reports = []
        elif not self._reports or report.made > self._reports[-1][0]:
            self._reports = [*self._reports[-4:], (report.made, report.level)]
            self._learn_rate(report.level, report.remaining)

    def _learn_rate(self, level: float, remaining: float | None) -> None:
        # By the last reports, since a battery charges slower near full; until they tell, by the car's own estimate.
        # They are whole percents: every pair of them gives the rate a lower and an upper bound.
        low, high = 0.0, math.inf
        for number, (made, before) in enumerate(self._reports):
            for later, after in self._reports[number + 1 :]:
                low = max(low, (after - before - 1) / ((later - made) / MINUTE))
                high = min(high, (after - before + 1) / ((later - made) / MINUTE))
        if 7 * high <= 9 * low:  # good to an eighth
            self._rate = (low + high) / 2
        elif self._rate or remaining:
            self._rate = min(max(self._rate or (100 - level) / (remaining or 1), low), max(low, high))

    def level(self, now: datetime) -> float | None:
        """The state of charge now; None without reports of a running charge."""
        if not self.settings.predict_stop or not self._reports or not self._rate:
            return None
        made, level = self._reports[-1]
        # Each report says where the charge was, give or take a point; together they say it better
        lines = [before + self._rate * ((made - when) / MINUTE) for when, before in self._reports]
        at_report = min(max((max(lines) + min(lines) + 1) / 2, level), level + 1)
        return min(at_report + self._rate * max(0.0, (now - made) / MINUTE), 100.0)

    def left(self, level: float | None) -> timedelta | None:
        """How long it takes from a level to the limit; not negative. None when the level or the rate is not known."""
        if level is None or not self._rate:
            return None
        return max(0.0, self.settings.limit - level) / self._rate * MINUTE

    def stop_in(self, now: datetime) -> timedelta:
        """How long until the car must be told to stop at the limit; negative when it is late, long when not known."""
        left = self.left(self.level(now))
        delays = [*self._delays, *IMAGINED]
        return DELAY if left is None else left - sum(delays, timedelta(0)) / len(delays)

    def adjust(self, action: Action, report: Report, now: datetime) -> Action:
        """Stop before the limit is reported; take up again, once, what has stopped far short of it."""
        if action is Action.ALWAYS and (self.level(now) or 0) >= self.settings.always_below:
            action = Action.WINDOW  # which ends by itself, unlike "always"
        if not self.settings.predict_stop or action is Action.ALWAYS or not report.plugged_in or report.level is None:
            self.blocked = False
            return action
        self.stops = [when for when in self.stops if now - when < DELAY / 2]  # those of this charge
        if not self.blocked and (action is Action.BLOCK or self.stop_in(now) < SOONEST_POLL):
            self.blocked = True
            self.stops.append(now)
        elif report.charges is False and not self._told and len(self.stops) < 2:  # it rests; a short push overshoots
            left = self.left(report.level)
            short = report.level < self.settings.limit - 5 if left is None else left > timedelta(minutes=20)
            self.blocked = self.blocked and not short
        return Action.BLOCK if self.blocked else action

    def words(self, now: datetime) -> str:
        """What the status line goes on with; empty without an estimate."""
        level = self.level(now)
        left = self.left(level)
        return "" if left is None or self.blocked else f" ~{level:.0f}% now, stop in {math.ceil(left / MINUTE)}min"


# ---------------------------------------------------------------- the car in Renault's cloud
# How error codes of Gigya and Kamereon begin, and what the owner can do (renault.md 1)
CLOUD_ERRORS: dict[str, tuple[type[CarError], str]] = {
    "403005|403013": (LoginError, "the login has expired: run `pyze login` in another terminal, it is picked up"),
    "403042": (LoginError, "the login was refused: check GIGYA_API_KEY, see the README, then run `pyze login`"),
    "403048": (QuotaError, "Renault's login service limits the rate: wait"),
    "40310": (LoginError, "a second factor is pending: log in once in the MyRenault app, then run `pyze login`"),
    "400093": (LoginError, "GIGYA_API_KEY is malformed: check it (are the two keys swapped?)"),
    "err.func.wired.overloaded": (QuotaError, "Renault's quota is used up: wait, and leave the app closed"),
    "err.func.wired.unauthorized": (UnauthorizedError, "Renault's cloud does not take the login: wait"),
    "err.func.wired.forbidden|err.func.403": (CarError, "the car, the contract or a key may not do that: check them"),
    "access_denied": (CarError, "KAMEREON_API_KEY is outdated: get the current one, see the README"),
    "err.func.wired.not": (CarError, "Renault's cloud does not have this for this account and car: check both"),
    "409001": (CarError, "the car is still busy with an earlier charge mode command: wait"),
    "err.tech.501": (CarError, "this car's gateway does not support that: it may do without"),
    "err.tech": (CarError, "Renault's side has a technical fault: wait"),
    "err.func.privacy.on": (CarError, "privacy mode is on in the car: switch it off on the car's screen"),
}
STATUS_CODES = {401: '"err.func.wired.unauthorized', 409: '"409001', 429: '"err.func.wired.overloaded'}


class Transport(HTTPAdapter):
    """What pyze's sessions send through: time limits, a limit of the rate, and a CarError for every bad answer."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._sent: list[datetime] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request. Raises CarError, whose text holds no address, key, account or VIN."""
        now = self._clock()
        self._sent = [when for when in self._sent if now - HOUR < when <= now]
        if len(self._sent) >= REQUESTS_AN_HOUR:
            raise CarError(f"{REQUESTS_AN_HOUR} requests were made in an hour, more would risk a lockout: wait")
        self._sent.append(now)
        kwargs["timeout"] = TIMEOUTS
        try:
            response = super().send(request, *args, **kwargs)
            content = response.content
        except OSError as error:  # its own text would show the account and the VIN
            raise CarError(f"Renault's cloud cannot be reached ({type(error).__name__}): check the network") from None
        body: Any = None
        with contextlib.suppress(ValueError, RecursionError):  # not JSON: told below, by its status
            body = json.loads(content)
        # A redirect would take the keys along; faults come with status 200 too (renault.md 1, 4.6)
        good = response.status_code < 300 and isinstance(body, dict)
        if not good or body.get("errors") or body.get("errorCode") or body.get("error"):
            raise _cloud_error(response, content.decode(errors="replace"), now)
        return response


def _cloud_error(response: requests.Response, content: str, now: datetime) -> CarError:
    # Turn a bad answer into the error that says what to do; its text is not quoted, it may hold a secret
    status, value, asked = response.status_code, response.headers.get("Retry-After", ""), timedelta(0)
    with contextlib.suppress(TypeError, ValueError, OverflowError):  # in seconds or as a date
        asked = timedelta(seconds=int(value)) if value.isdigit() else parsedate_to_datetime(value) - now
    content = STATUS_CODES.get(status) or content.replace(" ", "")
    for codes, (kind, text) in CLOUD_ERRORS.items():
        found = re.search(rf'"(?:errorCode":)?({codes})', content)  # it may be nested in a text (renault.md 1)
        if found:
            error = kind(f"{text} (HTTP {status}, {found[1]})")
            error.retry_after = min(max(asked, timedelta(0)), HOUR)
            return error
    fault = "refused" if '"error' in content else "answered with something else than data"
    return CarError(f"Renault's cloud {fault} (HTTP {status}): wait")


class Login(Dict[str, str]):
    """The credentials `pyze login` has stored, as pyze wants to see them: read, never written (renault.md 4.2)."""

    def __setitem__(self, name: str, value: Any) -> None:  # pyze gives (token, expiry) (renault.md 4.3)
        super().__setitem__(name, value[0] if isinstance(value, tuple) else value)


class Renault:
    """One vehicle in Renault's cloud. The only class that knows pyze; what asks Renault may raise CarError."""

    def __init__(self, settings: Settings, read_stored: Callable[[], Mapping[str, str]], clock: Clock) -> None:
        self._given, self._read_stored, self._clock = settings.given, read_stored, clock
        self._vehicle: Vehicle | None = None
        self._pyze: Any = None  # pyze's object for it
        self._login = Login(read_stored())
        self._jwt_until = clock()  # a stored JWT is another process's, judged by another clock
        os.environ.pop("KAMEREON_ACCOUNT_ID", None)  # pyze would take even an empty one, at every call (renault.md 4.4)
        mint = gigya.Gigya(credentials=self._login, root_url=self._given["GIGYA_ROOT_URL"].rstrip("/"))
        root = self._given["KAMEREON_ROOT_URL"].rstrip("/")
        self._kamereon = kamereon.Kamereon(credentials=self._login, gigya=mint, root_url=root)
        transport = Transport(clock)
        for session in (mint._session, self._kamereon._session):
            session.mount("https://", transport)
            session.mount("http://", transport)

    @staticmethod
    def stored(path: str) -> dict[str, str]:
        """What pyze has stored in a file, by its names; empty without a login, or with one that can't be read."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError), open(path) as file:
            return {name: entry["token"] for name, entry in json.load(file).items()}
        return {}

    def vehicle(self) -> Vehicle:
        """The vehicle, found once. Raises ConfigError when there is none that can be used."""
        if self._vehicle is None:
            self._vehicle = self._find()
            self._pyze = kamereon.Vehicle(self._vehicle.vin, self._kamereon)
        return self._vehicle

    def battery_status(self) -> Mapping[str, Any]:
        """The car's last report (renault.md 2), of the vehicle found before."""
        return self._authorized(lambda: dict(self._pyze._get("battery-status", 2)))

    def charging_settings(self) -> Mapping[str, Any]:
        """What it holds (renault.md 3), past pyze's reader, which a null stops (renault.md 4.7)."""
        return self._authorized(lambda: dict(self._pyze._get("charging-settings")))

    def send(self, call: Call, attributes: Mapping[str, Any]) -> None:
        """Tell the car; returning means that the cloud has accepted it, not that the car obeys."""
        place, kind = call.value
        url = f"{self._kamereon._root_url}/commerce/v1/accounts/{self._login['kamereon-account']}/kamereon/{place}"
        body = {"data": {"type": kind, "attributes": attributes}}
        self._authorized(lambda: self._pyze._request("POST", url.format(self._pyze._vin), json=body))

    def _authorized(self, request: Callable[[], T], again: bool = True) -> T:
        # Make a request with a JWT that is still good, and once more with a new one when it was refused
        if "gigya-token" not in self._login or self._clock() >= self._jwt_until:
            self._login.pop("gigya-token", None)  # then pyze mints one
            self._read_login()
            self._jwt_until = self._clock() + JWT_LIFE
        try:
            return request()
        except UnauthorizedError:
            if not again:
                raise
            self._login.pop("gigya-token", None)  # pyze would keep it (renault.md 4.3)
            return self._authorized(request, again=False)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OSError, PyJWTError):
            # how pyze and requests meet an answer they did not expect; their texts may hold secrets
            raise CarError("Renault's cloud answered without the data asked for: wait") from None

    def _read_login(self) -> None:  # it may be a new one; the keys in the environment win
        names = ("gigya", "gigya-person-id", "gigya-api-key", "kamereon-api-key")
        fresh = self._read_stored()  # half written just now, it is empty
        self._login.update({name: fresh[name] for name in names if name in fresh})
        keys = {key: self._given[key.upper().replace("-", "_")] for key in KEYS}
        self._login.update({key: value for key, value in keys.items() if value})

    def _find(self) -> Vehicle:
        wanted, seen = self._given["SPECIFIC_VIN"], []
        for account in self._accounts():
            self._login["kamereon-account"] = account  # from now on the one that pyze asks
            kamereon.Kamereon.get_vehicles.cache_clear()  # it would answer for the account before (renault.md 4.5)
            for link in self._authorized(lambda: list(self._kamereon.get_vehicles()["vehicleLinks"] or [])):
                details = link.get("vehicleDetails") or {}  # it and what is in it may be missing
                model = details.get("model") or {}
                words = (model.get("label"), model.get("code"), details.get("registrationNumber"), link["vin"])
                seen.append(" ".join(str(word) for word in words if word))
                if wanted.upper() not in ("", link["vin"].upper()):
                    continue
                if model.get("code") in OWN_LIMIT:
                    fault = "has a charge limit of its own, set it in the MyRenault app: it takes no commands from here"
                    raise ConfigError(f"the {seen[-1]} {fault} (for another vehicle set SPECIFIC_VIN)")
                return Vehicle(link["vin"], model.get("code", ""), seen[-1])
        if not seen:
            raise ConfigError("there is no vehicle in your account: check the MyRenault app and KAMEREON_ACCOUNT_ID")
        raise ConfigError(f"SPECIFIC_VIN={wanted} is not among your vehicles; there are: {', '.join(seen)}")

    def _accounts(self) -> list[str]:  # pyze's choice first; it may be one without a vehicle
        if self._given["KAMEREON_ACCOUNT_ID"]:
            return [self._given["KAMEREON_ACCOUNT_ID"]]
        accounts = self._authorized(lambda: [account["accountId"] for account in self._kamereon.get_accounts()])
        if not accounts:  # an answer without them is an odd one, no reason to end
            raise CarError("Renault's cloud names no account for this login: check the MyRenault app")
        return sorted(accounts, key=lambda account: bool(account != self._login.get("kamereon-account")))


# ---------------------------------------------------------------- the simulated car of --demo
class SimulatedZoe:
    """A Zoe phase 1, its battery and its modem, with `Renault`'s methods; time passes for it in `advance` alone."""
    delay, report_every = timedelta(minutes=5), timedelta(minutes=10)  # of commands, of reports while it charges
    level, power, capacity = 60.0, 11.0, 52.0  # percent, kW, kWh

    def __init__(self, local: datetime) -> None:
        self.now, self.zone, self.charging = local.astimezone(timezone.utc), local.tzinfo, False
        self.settings: dict[str, Any] = {"mode": "scheduled", "schedules": []}
        self.on_the_way: list[tuple[datetime, Call, Mapping[str, Any]]] = []
        self.report()

    def vehicle(self) -> Vehicle:
        return Vehicle("", "X101VE", "simulated X101VE")

    def battery_status(self) -> Mapping[str, Any]:
        return self.attributes

    def charging_settings(self) -> Mapping[str, Any]:
        return self.settings

    def send(self, call: Call, attributes: Mapping[str, Any]) -> None:
        self.on_the_way.append((self.now + self.delay, call, attributes))

    def advance(self, until: datetime) -> None:
        while self.now < until:
            step = min(timedelta(seconds=30), until - self.now)
            if self.charging:
                self.level = min(100.0, self.level + self.power * (step / HOUR) / self.capacity * 100)
            self.now += step
            self.update()

    def update(self) -> None:
        while self.on_the_way and self.on_the_way[0][0] <= self.now:
            self.obey(*self.on_the_way.pop(0)[1:])
        charging = self.may_charge() and self.level < 100
        if charging != self.charging or (charging and self.now >= self.next_report):
            self.charging = charging
            self.report()

    def obey(self, call: Call, attributes: Mapping[str, Any]) -> None:
        if call is Call.MODE:
            self.settings["mode"] = MODES[attributes["action"]].value
        elif call is Call.SCHEDULES:
            self.settings["schedules"] = attributes["schedules"]

    def may_charge(self) -> bool:
        window = Window.from_schedules(self.settings["schedules"])
        is_open = window is not None and window.open_at(self.now.astimezone(self.zone))
        return is_open or self.settings["mode"] == "always"

    def report(self) -> None:
        self.next_report = self.now + self.report_every
        self.attributes = {
            "timestamp": f"{self.now:%Y-%m-%dT%H:%M:%SZ}", "batteryLevel": int(self.level), "plugStatus": PLUGGED_IN,
            "chargingStatus": CHARGING if self.charging else 0.1,
            "chargingInstantaneousPower": self.power if self.charging else 0.0,
            "chargingRemainingTime": round((100 - self.level) / 100 * self.capacity / self.power * 60),
        }  # fmt: skip


# ---------------------------------------------------------------- the owner's own charge mode and schedules
def save_own(path: str, attributes: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Keep a charging-settings answer in a file of mode 0600, whole or not at all; returns what is kept."""
    held = ChargeSettings.from_attributes(attributes)
    if held.window and held.window.duration <= WINDOW_MINUTES:
        attributes = {}  # a script's, not an owner's: of an earlier run whose file is gone
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(attributes, file)
        os.replace(path + ".new", path)
        return attributes
    except OSError as error:
        tell(f"your own charge settings cannot be saved in {path}: {error.strerror}")
        return {}


def read_own(path: str, tell: Tell) -> Mapping[str, Any] | None:
    """What is saved; None without a file; empty when nothing could be saved, or read: then the file stays as it is."""
    if not os.path.exists(path):
        return None
    with contextlib.suppress(OSError, ValueError, RecursionError), open(path, encoding="utf-8") as file:
        own = json.load(file)
        if isinstance(own, dict):
            return own
    tell(f"your own charge settings cannot be read from {path}: the file is left as it is")
    return {}


def own_schedules(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The schedules of a charging-settings answer that hold a window, without their empty days."""
    kept = []
    for entry in filter(lambda entry: isinstance(entry, dict), attributes.get("schedules") or []):
        filled = {name: value for name, value in entry.items() if value is not None}
        if set(DAYS) & set(filled):
            kept.append(filled)
    return kept


def own_hours(attributes: Mapping[str, Any]) -> str:
    """Schedules of one or two windows, the same every day, as CHARGE_HOURS would have them; empty for any others."""
    days = []
    for day in DAYS:
        entries = [{"activated": entry.get("activated"), day: entry.get(day)} for entry in own_schedules(attributes)]
        windows = [Window.from_schedules([entry]) for entry in entries]
        days.append({f"{w.clock()}-{w.clock(w.duration)}" for w in windows if w and w.duration < 24 * 60})
    regular = attributes.get("mode") == "scheduled" and len(days[0]) <= 2 and all(spans == days[0] for spans in days)
    return ",".join(sorted(days[0])) if regular else ""


def restore(car: Renault | SimulatedZoe, state: str, dry_run: bool, sleep: Callable[[float], None], tell: Tell) -> int:
    """Put the owner's charge mode and schedules back, and see by the car's settings that they are; the exit status."""
    vehicle = car.vehicle()
    path = os.path.join(state, f"{vehicle.vin}.json")
    own = read_own(path, tell)
    if not own:
        tell(f"nothing is saved for this car in {path}")
        return 1
    mode = ChargeSettings.from_attributes(own).mode
    if mode not in MODE_ACTIONS:  # delayed, to a moment that is long past
        mode = Mode.SCHEDULED if own_schedules(own) else Mode.ALWAYS
    # An owner without one gets ours switched off: what can't be restored is to charge by no window
    schedules = own_schedules(own) or [{**Window(DAYS[0], 0, BLOCK_MINUTES).to_schedules()[0], "activated": False}]
    calls: dict[Call, Mapping[str, Any]] = {Call.MODE: {"action": MODE_ACTIONS[mode]}}
    if vehicle.model in KCM_MODELS:
        calls = {Call.KCM_START: START} if mode is Mode.ALWAYS else {Call.KCM_SCHEDULES: {"schedules": schedules}}
    elif schedules:
        calls = {Call.SCHEDULES: {"schedules": schedules}, **calls}
    for call, attributes in calls.items():
        tell(f"{call.value[1]} {json.dumps(attributes)}")
        if not dry_run:
            car.send(call, attributes)
    if dry_run:
        tell("dry run: nothing of that was sent")
        return 0
    # An earlier command of the script may still be on its way: until then, what looks restored is only not yet changed
    tell("waiting for the car to take it over, 10 to 15 minutes")
    sleep(OBEY.total_seconds())
    for _ in range(6):
        with contextlib.suppress(CarError):  # the next look may do
            shown = car.charging_settings()
            same = mode is Mode.ALWAYS or own_schedules(shown) == schedules  # "always" shows none (renault.md 3)
            if same and ChargeSettings.from_attributes(shown).mode is mode:
                os.remove(path)
                tell("restored: the car holds your own charge settings")
                return 0
        sleep(60)
    tell(f"the car has not taken it over: your own charge settings stay in {path}, try again later")
    return 1


# ---------------------------------------------------------------- the loop
def say(line: str) -> None:
    """Print one line at once, for tmux, pipes and journald, past a buffer that would fail once more at the end."""
    try:
        os.write(sys.stdout.fileno(), f"{line}\n".encode(sys.stdout.encoding, "replace"))
    except BrokenPipeError:
        raise SystemExit(1) from None  # nobody reads any more
    except OSError:
        return  # the disk is full or the terminal gone: no reason to leave the car alone


def notify(settings: Settings, message: str) -> None:
    """Run the owner's command, if any, with a message as its last argument; whatever happens to it is one line."""
    command, quiet = [*settings.notify_command, message], subprocess.DEVNULL
    try:
        if settings.notify_command:
            subprocess.run(command, timeout=NOTIFY_TIMEOUT, check=True, stdin=quiet, stdout=quiet, stderr=quiet)
    except (OSError, subprocess.SubprocessError):  # their texts would show the command, which may hold a secret
        say(f"NOTIFY_COMMAND failed, or did not end within {NOTIFY_TIMEOUT} seconds: try it by hand")


class Controller:
    """Asks the car, lets the core decide, tells the car what is not known; state: folder of the owner's settings."""

    def __init__(
        self, settings: Settings, car: Renault | SimulatedZoe, clock: Clock, tell: Tell = say,
        alert: Tell = lambda _: None, dry_run: bool = False, state: str | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.car, self.clock, self.tell, self.alert = settings, car, clock, tell, alert
        self.dry_run, self.state = dry_run, state
        self.held: ChargeSettings | None = None  # None until the car's settings have been asked for
        self.watch: Watch | None = None  # None until the first decision
        self.forecast = Forecast(settings)
        self.deaf = self.paused = False  # deaf to schedules; paused outside the charge hours
        self.wait = POLL_INTERVAL  # until the next poll
        self._sending = False  # this poll has come to the commands
        self._occasions: set[str] = set()  # of which the owner has been notified
        self._answered = clock()  # when the car was last read
        self._refused = self._unread = 0  # polls in a row that were refused, and that could not read the settings

    def run(self, sleep: Callable[[float], object]) -> None:
        """Poll until `sleep`, which takes seconds, returns something true. Raises ConfigError, KeyboardInterrupt."""
        while True:
            began = self.clock()
            self.try_poll()
            took = min(max(self.clock() - began, timedelta(0)), self.wait)  # however its clock was set
            if sleep((self.wait - took).total_seconds()):
                return

    def left_with(self) -> str:
        """What becomes of the car while nobody tells it anything."""
        if self.held is None:
            return "the car is as it was found"
        return left_with(self.held, self._local(), self.settings.limit)

    def _local(self) -> datetime:
        return self.clock().astimezone(self.settings.zone)

    def try_poll(self, last: bool = False) -> bool:
        """Poll once and set `wait`; a poll that fails is one line and False. Raises ConfigError."""
        self.wait, self._sending = POLL_INTERVAL, False
        try:
            self.poll()
            self._refused = 0
            return True
        except ConfigError:
            raise
        except CarError as error:
            fault = error
        except Exception as error:  # noqa: BLE001 - nobody foresaw it: it is told, and the car is not left alone
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            fault = CarError(f"an error in this script ({type(error).__name__}, line {line}): please report it")
        patient = isinstance(fault, (QuotaError, LoginError))
        self._refused = self._refused + 1 if patient or self._sending else 0
        longest = 2 if self._sending else 3  # where only commands are refused, the car is still read every 10 minutes
        self.wait = max(POLL_INTERVAL * min(max(self._refused, 1), longest), fault.retry_after)
        left = f"; {self.left_with()}" if patient else ""
        then = "" if last else f"; next try in {math.ceil(self.wait / MINUTE)} minutes"
        self.tell(f"{self._local():%H:%M:%S} {fault}{left}{then}")
        silent = self.clock() - self._answered >= HOUR and not isinstance(fault, LoginError)
        self._occasion("login", isinstance(fault, LoginError), str(fault))
        self._occasion("cloud", silent, f"Renault's cloud has been out of reach for an hour: {fault}")
        return False

    def poll(self) -> None:
        """The way of a poll, as drawn at the top of this file. Raises CarError, ConfigError."""
        vehicle, settings, forecast = self.car.vehicle(), self.settings, self.forecast
        held = self.held or self._first_look(vehicle)
        report = Report.from_attributes(self.car.battery_status())
        now, local = self.clock(), self._local()
        self._answered = now
        forecast.see(report)
        self.tell(status_line(report, local, settings.limit) + forecast.words(now))
        decided = decide(report, settings)
        action = forecast.adjust(decided, report, now)
        reason = action.value.format(report.level) + ("" if action is decided else " (predicted)")
        hours = hours_left(settings.charge_hours, local)
        self.paused = hours < BLOCK_MINUTES and action in (Action.WINDOW, Action.WAIT)
        if self.paused:  # the forecast does not count this as a stop
            action, reason = Action.BLOCK, f"waiting for the charge hours {settings.charge_hours}"
        self.tell(reason)
        watch, held = self._judge(action, report, held)
        kcm, left = vehicle.model in KCM_MODELS, forecast.left(forecast.level(now))
        outright = kcm and not watch.settled and (self.deaf or watch.again >= OUTRIGHT_AFTER)
        wanted = target(action, report, held, local, left, hours, kcm and self.deaf, outright)
        commands = (kcm_commands if kcm else kca_commands)(wanted, held, report)
        for command in commands:
            self._send(command, " (to blocking charging)" if action is Action.BLOCK else "")
        if not commands and action in (Action.WINDOW, Action.BLOCK):
            self.tell("no need to update car schedule as same as requested setting")
        if action is Action.WINDOW:
            self.wait = min(max(forecast.stop_in(now), SOONEST_POLL), POLL_INTERVAL)
        self._occasions -= {"login", "cloud"}
        low = action is Action.ALWAYS and report.plug == UNPLUGGED
        self._occasion("low", low, f"battery low at {report.level:g} % and not plugged in")
        if watch.told is None and not self.dry_run:
            blocked = bool(commands) and action is Action.BLOCK and report.plugged_in and not watch.again
            self._occasion("blocked", blocked and not self.paused, f"charging was blocked at {report.level:g} %")
            watch.tell(self.clock(), report)
            forecast.told(watch.wish, self.clock())

    def _first_look(self, vehicle: Vehicle) -> ChargeSettings:
        # Ask what the car holds, and keep what is the owner's own before the first command goes out
        path = os.path.join(self.state, f"{vehicle.vin}.json") if self.state and not self.dry_run else ""
        own = read_own(path, self.tell) if path else {}
        attributes: Mapping[str, Any] = {}
        try:
            attributes = self.car.charging_settings()
        except (QuotaError, LoginError):
            raise
        except CarError as error:
            self._unread += 1
            if own is None and self._unread <= SETTINGS_TRIES:
                raise  # the next poll may still get it
            self.tell(f"what the car holds is unknown: {error}")
        limits = f"always charging below {self.settings.always_below:g} %, blocking at {self.settings.limit:g} %"
        dry = ", dry run: nothing is written to the car" if self.dry_run else ""
        self.tell(f"{vehicle.name}: car time {self.settings.zone_name}, {limits}{dry}")
        kept = own or (own is None and save_own(path, attributes, self.tell))
        if kept:
            self.tell(f"your own charge settings are kept in {path}: --restore brings them back")
        hours = own_hours(attributes)
        if kept and own is None and hours and not self.settings.charge_hours:
            self.tell(f"your own schedule was {hours} every day: CHARGE_HOURS={hours} keeps to it")
        self.held = held = ChargeSettings.from_attributes(attributes)
        self.deaf = held.mode is Mode.DELAYED
        blocked = held.mode is Mode.SCHEDULED and held.window == block_window(self._local(), held.window)
        if (self.deaf or blocked) and hours_left(self.settings.charge_hours, self._local()) >= BLOCK_MINUTES:
            self.forecast.blocked, self.forecast.stops = True, [self.clock()]  # by the process before this one
        return held

    def _judge(self, action: Action, report: Report, held: ChargeSettings) -> tuple[Watch, ChargeSettings]:
        # Mechanisms 1 and 2: make everything unknown when the car is to do something else, or does not obey
        watch, window = self.watch, held.window if held.mode is Mode.SCHEDULED else None
        wish = False if action is Action.BLOCK else report.plugged_in or None
        lapsed = action is Action.WINDOW and window is not None and not window.open_at(self._local())
        if watch is None:  # what its settings show counts as told now, so that a restart repeats no more than a start
            watch = Watch(wish)
        elif wish is not watch.wish or lapsed:
            watch = Watch(wish)
            held = held if wish is None else UNKNOWN
        elif watch.disobeys(report, self.clock()):
            self.tell(f"the car {DISOBEYS[bool(wish)]}; telling it again")
            self.deaf = self.deaf or not (wish or watch.obeyed)
            held = held._replace(asked=None) if wish and watch.stubborn else UNKNOWN
        self.watch, self.held = watch, held
        self._occasion("stubborn", watch.stubborn, f"the car {DISOBEYS[bool(wish)]}; it is told again every hour")
        return watch, held

    def _send(self, command: Command, why: str) -> None:
        # Mechanism 1: what it changes is unknown before it goes out, and known when the cloud has accepted it
        if command.line:
            self.tell(command.line + why)
        if not self.dry_run:
            self._sending = True
            self.held = (self.held or UNKNOWN).common(command.holds)
            self.car.send(command.call, command.attributes)
            self.held = command.holds

    def _occasion(self, name: str, now: bool, message: str) -> None:
        if now and name not in self._occasions:
            self.alert(f"chargeto: {message}")
        self._occasions = self._occasions | {name} if now else self._occasions - {name}


# ---------------------------------------------------------------- the command line
def _now() -> datetime:
    return datetime.now(timezone.utc)


def demo(settings: Settings) -> None:
    """Charge a simulated car from 60 % with the real loop and a fast clock, then say where it stopped."""
    car = SimulatedZoe(datetime.now(settings.zone).replace(hour=12, minute=49, second=32))
    controller = Controller(settings, car, lambda: car.now)
    begin, resting = car.now, [False]

    def sleep(seconds: float) -> bool:
        time.sleep(0.02 if controller.paused else 0.25)
        car.advance(car.now + timedelta(seconds=seconds))
        blocked = controller.watch is not None and controller.watch.wish is False and not controller.paused
        resting.append(blocked and not car.charging)
        return all(resting[-2:]) or car.now > begin + 36 * HOUR

    with contextlib.suppress(KeyboardInterrupt):
        controller.run(sleep)
    verdict = "blocked" if resting[-1] else "ended before it was blocked"
    end = f"the simulated car is at {car.level:.1f} %, {car.level - settings.limit:+.1f} points from the limit"
    say(f"demo: {verdict} at {settings.limit:g} %, {end}, after {(car.now - begin) / HOUR:.1f} simulated hours")


def hold(args: argparse.Namespace) -> int:
    """Hold the owner's car, or do what the options say; returns the exit status. Raises ConfigError."""
    path = os.environ.get("PYZE_TOKEN_STORE") or os.path.expanduser("~/.credentials/pyze.json")
    settings = Settings.from_env(os.environ, Renault.stored(path))
    if os.stat(path).st_mode & 0o077:
        print(f"chargeto: others may read your login: chmod 600 {path}", file=sys.stderr)
    state = os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "chargeto")
    car = Renault(settings, lambda: Renault.stored(path), _now)
    controller = Controller(settings, car, _now, say, lambda message: notify(settings, message), args.dry_run, state)
    try:
        if args.restore:
            return restore(car, state, args.dry_run, time.sleep, say)
        if args.once:
            return 0 if controller.try_poll(last=True) else 1
        controller.run(time.sleep)
    except CarError as error:  # of --restore
        say(f"{error}; your own charge settings stay in {state}")
        return 1
    except KeyboardInterrupt:
        kept = f"your own charge settings stay in {state}, the car may not hold them yet"
        say(f"stopped: {kept if args.restore else controller.left_with()}")
    return 0


def stop(*_: object) -> None:
    """Do what Ctrl-C does, wherever the script is; from now on signals are ignored, so that its last line gets out."""
    _on_signals(lambda *_: None)
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status. Every fault of the owner's is one line."""
    parser = argparse.ArgumentParser(usage=str(__doc__).splitlines()[2][7:], add_help=False, allow_abbrev=False)
    for option in ("--help", "--once", "--dry-run", "--restore", "--demo", "--version"):
        parser.add_argument(option, action="store_true")
    args = parser.parse_args(argv)
    if args.once + args.restore + args.demo > 1 or (args.demo and args.dry_run):
        parser.error("these options do not go together")
    _on_signals(stop)
    logging.disable()  # urllib3 would log addresses, which hold the account and the VIN
    try:
        if args.help or args.version:
            say(f"chargeto {__version__}" if args.version else str(__doc__))
        elif args.demo:
            demo(Settings.from_env(os.environ, None))
        else:
            return hold(args)
    except ConfigError as error:
        for fault in error.args:
            print("chargeto:", " ".join(fault.split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped: the car is as it was found")
    return 0


if __name__ == "__main__":
    status = main()
    _on_signals(signal.SIG_IGN)  # while Python ends, one would kill it
    raise SystemExit(status)
