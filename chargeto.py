#!/usr/bin/env python3
# /// script
# requires-python = ">=3.8"
# dependencies = ["pyze==0.6.0", "python-dateutil", "pytz"]
# ///
"""chargeto.py - hold a Renault Zoe's charge between two thresholds

usage: chargeto.py [--once] [--dry-run] | --demo | --help | --version

Every 5 minutes it asks Renault's cloud for the state of charge and writes the
car's charge schedule: below the lower threshold the car always charges, in
between a 45 minute window rolls along with the clock, and at the limit the
window moves to yesterday, which stops the charge. Ctrl-C ends it.

  --once       poll once; exit status 0, or 1 when the poll failed
  --dry-run    read, decide and print, but write nothing to the car
  --demo       a simulated car and a fast clock: no account, no network

Environment variables, see .env.example; an empty one counts as not set:
  KAMEREON_API_KEY, GIGYA_API_KEY    Renault's API keys [what pyze has stored]
  KAMEREON_ACCOUNT_ID                the account [pyze's choice]
  SPECIFIC_VIN                       the vehicle [the account's first]
  VEHICLE_TZ                         the car's time zone [this machine's]
  MAX_CHARGE_THRESHOLD               the limit, percent [85]
  ALWAYS_CHARGE_AT_THRESHOLD         below it the car always charges [65]
  KAMEREON_ROOT_URL, GIGYA_ROOT_URL  Renault's servers [those for Europe]
Log in once with `pyze login`. Exit status 2: usage, configuration or login."""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import json
import logging
import math
import os
import re
import signal
import sys
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import Any, Callable, Dict, Iterator, Mapping, NoReturn, Protocol, Sequence, TypeVar, cast
from urllib.parse import urlsplit

import dateutil.parser
import dateutil.tz
import pytz
import requests
from pyze.api import Gigya, Kamereon, Vehicle
from pyze.api.schedule import ChargeMode, ChargeSchedules
from requests.adapters import HTTPAdapter

__version__ = "1.0.0"

POLL_INTERVAL = timedelta(minutes=5)
QUARTER = timedelta(minutes=15)  # schedules start on quarter hours (renault.md 3)
WINDOW_MINUTES = 45  # 30 minutes ahead of the quarter hour that has begun
BLOCK_MINUTES = 15  # the shortest window Renault takes (renault.md 3)
BLOCK_CLEARANCE = timedelta(hours=24)  # schedules repeat weekly: a block moves on before it comes round
JWT_LIFE = timedelta(minutes=14)  # Gigya gives 15; one to spare for clocks and slow requests
TIMEOUTS = (10, 30)  # seconds to connect and for each read; pyze itself sets none (renault.md 4.1)
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
            found.append(f"MAX_CHARGE_THRESHOLD={limit:g} must be above ALWAYS_CHARGE_AT_THRESHOLD={always_below:g}")
        zone, zone_name = _zone(given.get("VEHICLE_TZ"), found)
        account = given.get("KAMEREON_ACCOUNT_ID") or given.get("KAMERON_ACCOUNT_ID")  # the spec's spelling
        keys = {}
        for name, place in (("KAMEREON_API_KEY", "KAMEREON_APIKEY"), ("GIGYA_API_KEY", "GIGYA_KEY_EU")):
            keys[name] = given.get(name) or (stored or {}).get(name.lower().replace("_", "-"), "")
            if stored is not None and not keys[name]:
                found.append(
                    f"{name} is not set and pyze has none stored: the key, the same for everyone, is {place} in"
                    " https://github.com/hacf-fr/renault-api/blob/main/src/renault_api/const.py"
                )
        for name, value in (*keys.items(), ("KAMEREON_ACCOUNT_ID", account or "")):
            if not re.fullmatch(r"[\w.~+/=-]*", value, re.ASCII):  # not shown: it may be secret
                found.append(f"{name} holds a character that no key or account has: copy it again")
        login = {"gigya"} if account or "kamereon-account" in (stored or {}) else {"gigya", "gigya-person-id"}
        if stored is not None and not faults and not login <= set(stored):
            found.append("not logged in: run `pyze login`, then start again")
        roots = [_root(name, given, found) for name in ("KAMEREON_ROOT_URL", "GIGYA_ROOT_URL")]
        if found:
            raise ConfigError(*found)
        return cls(
            zone, zone_name, limit, always_below, given.get("SPECIFIC_VIN", "").upper() or None, account,
            keys["KAMEREON_API_KEY"], keys["GIGYA_API_KEY"], roots[0], roots[1],
        )  # fmt: skip


def _percent(name: str, given: Mapping[str, str], default: float, faults: list[str]) -> float:
    """A threshold; NaN, which is neither above nor below another, when it is at fault."""
    value = given.get(name, str(default))
    try:
        percent = float(value)
    except ValueError:
        percent = math.nan
    if 0 <= percent <= 100:
        return percent
    faults.append(f"{name}={value} is not a number from 0 to 100: give percent, for example {default:g}")
    return math.nan


def _zone(name: str | None, faults: list[str]) -> tuple[tzinfo, str]:
    """The car's zone: pytz for a name, dateutil for this machine's own."""
    if name is None:
        local = dateutil.tz.gettz() or dateutil.tz.tzlocal()
        return local, f"{datetime.now(local).tzname()} (this machine's zone)"
    try:
        return pytz.timezone(name), name
    except pytz.UnknownTimeZoneError:
        names = {form.lower(): zone for zone in pytz.all_timezones for form in (zone.rpartition("/")[2], zone)}
        near = difflib.get_close_matches(name.lower().replace(" ", "_"), names, n=3, cutoff=0)
        wanted = ", ".join(dict.fromkeys(names[form] for form in near))
        faults.append(f"VEHICLE_TZ={name} is not a time zone: did you mean {wanted}?")
        return timezone.utc, name


def _root(name: str, given: Mapping[str, str], faults: list[str]) -> str | None:
    """Another server: https, or http on loopback, since logins and keys go there."""
    value = given.get(name)
    if value is None:
        return None
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
        local = host == "localhost" or (not host.strip("0123456789.:abcdef") and ipaddress.ip_address(host).is_loopback)
        plain = host and port != 0 and not (url.query or url.fragment or "@" in url.netloc)
        good = plain and (url.scheme == "https" or (url.scheme == "http" and local))
    except ValueError:
        good = False
    if not good:
        shown = value.rpartition("@")[2]  # what stands before an @ may be a password
        faults.append(f"{name}={shown} must be https://HOST (http:// only for a server on this machine)")
    return value.rstrip("/")


# ---------------------------------------------------------------- the model: report, charge mode, charge window


class Mode(Enum):
    """The two charge modes the script uses."""

    ALWAYS = "always"
    SCHEDULED = "scheduled"


# Both generations' words (renault.md 3). "delayed" is neither: it counts as unknown and is overwritten.
MODES = {
    "always": Mode.ALWAYS, "always_charging": Mode.ALWAYS, "scheduled": Mode.SCHEDULED, "schedule_mode": Mode.SCHEDULED,
}  # fmt: skip


class Call(Enum):
    """What the car can be told. With it goes: a list of schedules, a `Mode`, or None."""

    SCHEDULES = "charge schedules"
    MODE = "charge mode"
    START = "start"


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

        def number(name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
            value = attributes.get(name)
            usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            return cast(float, value) if usable and least <= cast(float, value) <= most else None

        updated = attributes.get("timestamp")
        try:
            dateutil.parser.isoparse(updated)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            updated = None
        return cls(
            level=number("batteryLevel", 0, 100), plug=number("plugStatus"), status=number("chargingStatus"),
            power=number("chargingInstantaneousPower"), remaining=number("chargingRemainingTime", 0), updated=updated,
        )  # fmt: skip

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

    @property
    def start_time(self) -> str:
        """As the car takes it: car-local time, labelled Z (renault.md 3)."""
        return f"T{self.start // 60:02}:{self.start % 60:02}Z"

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
    """What the car is known to hold; None where that is not known, or is none of ours."""

    mode: Mode | None = None
    window: Window | None = None

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Held:
        """Read a charging-settings answer (renault.md 3)."""
        return cls(MODES.get(str(attributes.get("mode"))), Window.from_schedules(attributes.get("schedules")))


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


def rolling_window(local: datetime) -> Window:
    """The window that lets the car charge now: from the quarter hour at or before, car-local."""
    return Window(DAYS[local.weekday()], local.hour * 60 + local.minute // 15 * 15, WINDOW_MINUTES)


def block_window(local: datetime, held: Window | None) -> Window:
    """The window that keeps the car from charging: yesterday, or the one it holds while that is far off."""
    if held and held.duration == BLOCK_MINUTES and not opens_within(held, local, BLOCK_CLEARANCE):
        return held
    return replace(rolling_window(local), day=DAYS[local.weekday() - 1], duration=BLOCK_MINUTES)


def opens_within(window: Window, local: datetime, span: timedelta) -> bool:
    """Whether a window is open at any time from now until `span` has passed.

    It walks true time and looks at the car's clock on the way, so that a clock change needs no rule of its own.
    """
    start, zone = local.astimezone(timezone.utc), local.tzinfo
    return any(window.open_at((start + step * POLL_INTERVAL).astimezone(zone)) for step in range(span // POLL_INTERVAL))


def should_start(report: Report, action: Action) -> bool:
    """Whether the car is to be asked to charge: it may, it is plugged in, and it says it does not."""
    may_charge = action in (Action.ALWAYS, Action.WINDOW)
    return may_charge and report.plugged_in and report.status is not None and report.status < CHARGE_ENDED


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


# ---------------------------------------------------------------- the car in Renault's cloud


class Car(Protocol):
    """What the loop needs of a car: `Renault` is the real one, `SimulatedZoe` the one of --demo and of the tests.

    All of it may raise CarError, and `Renault` ConfigError when the account or the vehicle is not there.
    """

    def name(self) -> str:
        """The vehicle as the start-up line names it."""

    def battery_status(self) -> Mapping[str, Any]:
        """The car's last report: the attributes of battery-status (renault.md 2)."""

    def charging_settings(self) -> Mapping[str, Any]:
        """The attributes of charging-settings (renault.md 3)."""

    def send(self, call: Call, value: Any = None) -> None:
        """Tell the car; returning means that the cloud has accepted it, not that the car obeys."""


# Kamereon's error codes, by their longest known beginning, and what the owner can do (renault.md 1).
KAMEREON_ERRORS = {
    "err.func.wired.overloaded": "Renault's quota is used up",
    "err.func.wired.forbidden": "this car or contract may not do that: check the services in the MyRenault app",
    "err.func.403": "this car or contract may not do that: check the services in the MyRenault app",
    "access_denied": "the KAMEREON_API_KEY is outdated: get the current one, see the README",
    "err.func.wired.not": "Renault's cloud does not offer this for this car",
    "err.func.400": "Renault's cloud refused the request",
    "409001": "the car is still busy with an earlier charge mode command",
    "err.tech.501": "this car's gateway does not support that",
    "err.tech": "Renault's side has a technical fault",
    "err.func.privacy.on": "privacy mode is on in the car: switch it off on the car's screen",
}
# Gigya's error codes (renault.md 1)
GIGYA_ERRORS = {
    403005: "the login has expired: run `pyze login`",
    403013: "the login has expired: run `pyze login`",
    403042: "the login was refused: check GIGYA_API_KEY (the README says where the current one is), then `pyze login`",
    403048: "Renault's login service limits the rate: it needs time",
    403101: "a second factor is pending: log in once in the MyRenault app or web site, then run `pyze login`",
    403102: "a second factor is pending: log in once in the MyRenault app or web site, then run `pyze login`",
    400093: "GIGYA_API_KEY is malformed: check it (are the two keys swapped?)",
}


class Transport(HTTPAdapter):
    """What pyze's sessions send through: a time limit for every request, and a CarError for every bad answer."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request. Raises CarError, whose text holds no address, key, account or VIN."""
        kwargs["timeout"] = TIMEOUTS
        try:
            response = super().send(request, *args, **kwargs)
            body = json.loads(response.content)
        except requests.RequestException as error:
            raise CarError(f"Renault's cloud cannot be reached: {_network_fault(error)}") from None
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise CarError(f"Renault's cloud answered with something else than data (HTTP {response.status_code})")
        if body.get("errorCode"):
            code = body["errorCode"]
            raise CarError(GIGYA_ERRORS.get(code, f"Renault's login service refused ({_code(code)})"))
        if response.status_code >= 400 or body.get("errors") or body.get("error"):
            _raise_kamereon(response.status_code, body)
        return response


def _network_fault(error: Exception) -> str:
    """Name the cause; the exception's own text would show the account and the VIN."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted (TLS): check this machine's clock and network"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUTS[1]} seconds"
    for mark, cause in (("resol", "its name was not found (DNS)"), ("refused", "connection refused")):
        if mark in str(error):
            return cause
    return "the connection broke"


def _code(value: object) -> str:
    """An error code from the cloud, as far as it can be printed."""
    return re.sub(r"[^\w.-]", "", str(value))[:60] or "no code"


def _raise_kamereon(status: int, body: Mapping[str, Any]) -> NoReturn:
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code = str(first.get("errorCode") or first.get("code") or body.get("error") or "no code")
    known = [text for beginning, text in KAMEREON_ERRORS.items() if code.startswith(beginning)]
    text = f"{known[0] if known else 'Renault refused'} (HTTP {status}, {_code(code)})"
    raise UnauthorizedError(text) if status == 401 or code == "err.func.wired.unauthorized" else CarError(text)


class Login(Dict[str, str]):
    """The credentials `pyze login` has stored, as pyze wants to see them: read, never written (renault.md 4.2)."""

    def __setitem__(self, name: str, value: Any) -> None:
        """pyze stores (token, expiry) pairs; the expiry is `Renault`'s affair (renault.md 4.3)."""
        super().__setitem__(name, value[0] if isinstance(value, tuple) else value)


T = TypeVar("T")


class Renault(Car):
    """One vehicle in Renault's cloud. The only class that knows pyze; every request to Renault is made here."""

    def __init__(self, settings: Settings, stored: Mapping[str, str], clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._login = Login(stored)
        self._login.pop("gigya-token", None)  # the JWT of another process, judged by another clock
        self._login["gigya-api-key"] = settings.gigya_key
        self._login["kamereon-api-key"] = settings.kamereon_key
        self._jwt_until = datetime.min.replace(tzinfo=timezone.utc)
        os.environ.pop("KAMEREON_ACCOUNT_ID", None)  # pyze would take even an empty one, at every call (renault.md 4.4)
        roots = [{"root_url": root} if root else {} for root in (settings.gigya_root, settings.kamereon_root)]
        gigya = Gigya(credentials=self._login, **roots[0])
        self._kamereon = Kamereon(credentials=self._login, gigya=gigya, **roots[1])
        for session in (gigya._session, self._kamereon._session):
            session.mount("https://", Transport())
            session.mount("http://", Transport())
        self._vehicle: Any = None
        self._name = ""

    @staticmethod
    def stored(env: Mapping[str, str]) -> dict[str, str]:
        """What pyze has stored, by its names; empty without a login. Raises ConfigError when it can't be read."""
        path = env.get("PYZE_TOKEN_STORE") or os.path.expanduser("~/.credentials/pyze.json")
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

    def name(self) -> str:
        """Model, registration and VIN, as far as the vehicle list has them."""
        self._connect()
        return self._name

    def battery_status(self) -> Mapping[str, Any]:
        """GET battery-status."""
        return self._call(lambda vehicle: vehicle._get("battery-status", 2))

    def charging_settings(self) -> Mapping[str, Any]:
        """GET charging-settings, past pyze's reader, which a null stops (renault.md 4.7)."""
        return self._call(lambda vehicle: vehicle._get("charging-settings"))

    def send(self, call: Call, value: Any = None) -> None:
        """POST charge-schedule, charge-mode or charging-start."""
        if call is Call.SCHEDULES:
            schedules = ChargeSchedules({"schedules": value})
            self._call(lambda vehicle: vehicle.set_charge_schedules(schedules))
        elif call is Call.MODE:  # pyze's ChargeMode.always is refused (renault.md 3)
            mode = ChargeMode.always_charging if value is Mode.ALWAYS else ChargeMode.schedule_mode
            self._call(lambda vehicle: vehicle.set_charge_mode(mode))
        else:
            self._call(lambda vehicle: vehicle.charge_start())

    def _call(self, request: Callable[[Any], Any]) -> Mapping[str, Any]:
        self._connect()
        answer = self._authorized(lambda: request(self._vehicle))
        if not isinstance(answer, dict):
            raise CarError("Renault's cloud answered without the data asked for")
        return answer

    def _authorized(self, request: Callable[[], T]) -> T:
        """Make a request with a JWT that is still good, and once more with a new one when it was refused."""
        if self._clock() >= self._jwt_until:
            self._login.pop("gigya-token", None)
        for again in (True, False):
            if "gigya-token" not in self._login:
                self._jwt_until = self._clock() + JWT_LIFE
            try:
                return request()
            except UnauthorizedError:
                self._login.pop("gigya-token", None)
                if not again:
                    raise
            except (LookupError, TypeError, AttributeError, RuntimeError):  # how pyze meets a field it expected
                raise CarError("Renault's cloud answered without the data asked for") from None
        raise AssertionError("unreachable")

    def _connect(self) -> None:
        """Find the account and the vehicle, once. Raises CarError, and ConfigError when there is no such vehicle."""
        if self._vehicle is not None:
            return
        wanted, seen = self._settings.vin, []
        for account in self._accounts():
            self._login["kamereon-account"] = account
            Kamereon.get_vehicles.cache_clear()  # it would answer for the account before (renault.md 4.5)
            links = self._authorized(lambda: [dict(link) for link in self._kamereon.get_vehicles()["vehicleLinks"]])
            for link in links:
                vin, details = str(link.get("vin") or ""), link.get("vehicleDetails")
                if vin and wanted in (None, vin.upper()):
                    self._vehicle, self._name = Vehicle(vin, self._kamereon), _vehicle_name(vin, details)
                    return
                seen.append(_vehicle_name(vin, details))
        there_are = ", ".join(seen) or "no vehicles at all"
        if wanted is None:
            raise ConfigError("the account has no vehicle: check KAMEREON_ACCOUNT_ID, and the MyRenault app")
        raise ConfigError(f"SPECIFIC_VIN={wanted} is not among your vehicles; there are: {there_are}")

    def _accounts(self) -> Iterator[str]:
        """The account that is set, or pyze's choice and then the person's others."""
        if self._settings.account:
            yield self._settings.account
            return
        chosen = self._login.get("kamereon-account")
        if chosen:
            yield chosen
        accounts = self._authorized(lambda: [str(account["accountId"]) for account in self._kamereon.get_accounts()])
        yield from (account for account in accounts if account != chosen)


def _vehicle_name(vin: str, details: object) -> str:
    """Model, registration and VIN, as far as the vehicle list has them."""
    known: Mapping[str, Any] = details if isinstance(details, dict) else {}
    model = known.get("model")
    words = (model.get("label") if isinstance(model, dict) else None, known.get("registrationNumber"), vin)
    return " ".join(word for word in words if isinstance(word, str) and word)


# ---------------------------------------------------------------- the simulated car of --demo and of the tests


class SimulatedZoe(Car):
    """A Zoe, its battery and its modem. `advance` lets time pass; only then does it charge, obey and report.

    capacity in kWh, power in kW, level in percent with its fractions (reports have whole percents); it reports every
    `report_every` while charging and whenever its charge or plug status changes; a command reaches it after `delay`.
    """

    STEP = timedelta(seconds=30)

    def __init__(
        self, local: datetime, level: float = 60.0, power: float = 11.0, capacity: float = 52.0,
        report_every: timedelta = timedelta(minutes=10), delay: timedelta = timedelta(minutes=5),
    ) -> None:  # fmt: skip
        self.local = local  # the car's own clock, aware
        self.level, self.power, self.capacity = level, power, capacity
        self.report_every, self.delay = report_every, delay
        self.plugged, self.charging = True, False
        self.mode = "scheduled"
        night = {"startTime": "T02:00Z", "duration": 240}
        self.schedules: list[dict[str, Any]] = [{"id": 1, "activated": True, **{day: dict(night) for day in DAYS}}]
        self._started = False  # asked to start; holds until a schedule says otherwise
        self._was_open = False
        self._on_the_way: list[tuple[datetime, Call, Any]] = []
        self.attributes: dict[str, Any] = {}  # the last report, as battery-status has it (renault.md 2)
        self._report()

    def name(self) -> str:
        """The name in the start-up line."""
        return "simulated Zoe"

    def battery_status(self) -> Mapping[str, Any]:
        """The last report."""
        return self.attributes

    def charging_settings(self) -> Mapping[str, Any]:
        """The charging settings."""
        return {"mode": self.mode, "schedules": self.schedules}

    def send(self, call: Call, value: Any = None) -> None:
        """The cloud has accepted it; it reaches the car after the delay."""
        self._on_the_way.append((self.local + self.delay, call, value))

    def plug(self, plugged: bool) -> None:
        """Plug the cable in or out; the car reports it."""
        self.plugged, self._started = plugged, False
        self._update()
        self._report()

    def drive_to(self, level: float) -> None:
        """Drive away and park, not plugged in."""
        self.level = level
        self.plug(False)

    def advance(self, until: datetime) -> None:
        """Let time pass."""
        zone = self.local.tzinfo
        while self.local < until:
            step = min(self.STEP, until - self.local)
            if self.charging:
                slowing = min(1.0, 0.4 + (100 - self.level) * 0.03)  # near full, as batteries do: from 80 % on
                gain = self.power * slowing * (step / timedelta(hours=1)) / self.capacity * 100
                self.level = min(100.0, self.level + gain)
            self.local = (self.local.astimezone(timezone.utc) + step).astimezone(zone)
            self._update()
            if self.charging and self.local - self._reported >= self.report_every:
                self._report()

    def _update(self) -> None:
        """Obey what has arrived, then charge or not by what the car holds."""
        arrived = [entry for entry in self._on_the_way if entry[0] <= self.local]
        self._on_the_way = [entry for entry in self._on_the_way if entry[0] > self.local]
        for _, call, value in arrived:
            if call is Call.START:
                self._started = self.plugged
            elif call is Call.MODE:  # which alone stops no charge while the car has no schedule (renault.md 3)
                self._started = self.charging and value is Mode.SCHEDULED and not self.schedules
                self.mode = value.value
            else:
                self.schedules, self._started = value, False
        window_open = self._window_open()
        if self._was_open and not window_open:
            self._started = False  # the end of a window ends the charge
        self._was_open = window_open
        charging = self.plugged and self.level < 100 and (self.mode == "always" or window_open or self._started)
        if charging != self.charging:
            self.charging = charging
            self._report()

    def _window_open(self) -> bool:
        """Whether the weekly schedule, read as the car reads it, lets it charge now."""
        minute = (self.local.weekday() * 24 + self.local.hour) * 60 + self.local.minute
        for schedule in self.schedules:
            for day, charge in schedule.items():
                if schedule["activated"] and day in DAYS and charge:
                    start = DAYS.index(day) * 1440 + int(charge["startTime"][1:3]) * 60 + int(charge["startTime"][4:6])
                    if (minute - start) % WEEK_MINUTES < charge["duration"]:
                        return True
        return False

    def _report(self) -> None:
        self._reported = self.local
        waiting = 0.2 if self.level >= 100 else 0.1
        self.attributes = {
            "timestamp": self.local.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "batteryLevel": int(self.level),
            "plugStatus": int(self.plugged),
            "chargingStatus": 1.0 if self.charging else waiting if self.plugged else 0.0,
            "chargingInstantaneousPower": self.power if self.charging else 0.0,
            "chargingRemainingTime": round((100 - self.level) / 100 * self.capacity / self.power * 60),
        }


# ---------------------------------------------------------------- the loop


def say(line: str) -> None:
    """Print one line at once, for tmux, pipes and journald."""
    print(line, flush=True)


class Controller:
    """Asks the car, lets the core decide and tells the car what differs from what it is known to hold.

    clock: returns the time, aware. tell: takes a line for the owner. Both, and the car, are handed in.
    """

    def __init__(
        self, settings: Settings, car: Car, clock: Callable[[], datetime],
        tell: Callable[[str], None] = say, dry_run: bool = False,
    ) -> None:  # fmt: skip
        self.settings, self.car, self.clock, self.tell, self.dry_run = settings, car, clock, tell, dry_run
        self.held: Held | None = None  # None until the car's settings have been asked for
        self.start_asked_at: str | None = ""  # the report on which the car was last asked to start; "": none yet
        self._introduced = False

    def run(self, wait: Callable[[float], bool]) -> None:
        """Poll until `wait`, which takes seconds, returns True. Raises ConfigError."""
        while True:
            began = self.clock()
            self.try_poll()
            left = began + POLL_INTERVAL - self.clock()  # a clock that is set back must not stretch it
            if wait(min(max(left, timedelta(0)), POLL_INTERVAL).total_seconds()):
                return

    def try_poll(self) -> bool:
        """Poll once; a poll that fails is one line and False. Raises ConfigError."""
        try:
            self.poll()
        except CarError as error:
            self.tell(f"{error}; next try in {POLL_INTERVAL // timedelta(minutes=1)} minutes")
            return False
        return True

    def poll(self) -> None:
        """Ask, decide, do. Raises CarError, ConfigError."""
        if not self._introduced:
            settings = self.settings
            self.tell(
                f"{self.car.name()}: car time {settings.zone_name}, always charging below {settings.always_below:g} %,"
                f" blocking at {settings.limit:g} %" + (", dry run: nothing is written to the car" * self.dry_run)
            )
            self._introduced = True
        report = Report.from_attributes(self.car.battery_status())
        local = self.clock().astimezone(self.settings.zone)
        self.tell(status_line(report, local, self.settings.limit))
        action = decide(report, self.settings)
        held = self._known(report, local)
        if action is Action.ALWAYS:
            self.tell("always charging as battery low")
            if held.mode is not Mode.ALWAYS:
                self.tell("setting charge mode to always")
                self._write_mode(Mode.ALWAYS)
        elif action is Action.WINDOW:
            self.tell("we should charge, setting 30 minute window from 15 minutes ago")
            self._hold_window(rolling_window(local), "")
        elif action is Action.BLOCK:
            self.tell(f"skipping charge as at  {report.level:g} %")
            self._hold_window(block_window(local, held.window), " (to blocking charging)")
        else:
            self.tell("wait to schedule charge till car is plugged in")
        if should_start(report, action) and self.start_asked_at != report.updated:
            self.tell(f"starting charging as not currently charging {report.status}")
            if not self.dry_run:
                self.car.send(Call.START)
                self.start_asked_at = report.updated

    def _known(self, report: Report, local: datetime) -> Held:
        """What the car holds; at start it is asked once, so that a restart repeats nothing."""
        if self.held is None:
            try:
                self.held = Held.from_attributes(self.car.charging_settings())
            except CarError as error:
                self.tell(f"what the car holds is unknown: {error}")
                self.held = Held()
            if self.held == Held(Mode.SCHEDULED, rolling_window(local)):
                self.start_asked_at = report.updated  # written less than a quarter of an hour ago, and asked with it
        return self.held

    def _hold_window(self, window: Window, why: str) -> None:
        held = self.held or Held()
        if window == held.window:
            self.tell("no need to update car schedule as same as requested setting")
        else:
            self.tell(f"scheduling on {window.day} @ {window.start_time} for {window.duration} minutes{why}")
            self._send(Call.SCHEDULES, [window.to_schedule()], replace(held, window=None), replace(held, window=window))
        if held.mode is not Mode.SCHEDULED:
            self._write_mode(Mode.SCHEDULED)

    def _write_mode(self, mode: Mode) -> None:
        held = self.held or Held()
        self._send(Call.MODE, mode, replace(held, mode=None), replace(held, mode=mode))

    def _send(self, call: Call, value: Any, before: Held, after: Held) -> None:
        """Tell the car. Only what was accepted counts; a request that failed may have reached the car or not."""
        if not self.dry_run:
            self.held = before
            self.car.send(call, value)
            self.held = after


# ---------------------------------------------------------------- the command line

DEMO_PACE = 0.3  # seconds of real time for a poll interval
DEMO_POLLS = 42  # at the most: the demo stays under 15 seconds whatever the thresholds are


def demo(settings: Settings, stop: threading.Event) -> int:
    """Charge a simulated car from 60 % with the real loop, then say where it stopped."""
    begin = datetime.now(timezone.utc)
    car = SimulatedZoe(begin.astimezone(settings.zone))
    over: list[bool] = []

    def wait(seconds: float) -> bool:
        car.advance(car.local + timedelta(seconds=seconds))
        over.append(car.attributes["batteryLevel"] >= settings.limit and not car.charging)
        return stop.wait(DEMO_PACE) or over[-2:] == [True, True] or len(over) >= DEMO_POLLS

    Controller(settings, car, lambda: car.local).run(wait)
    if over and over[-1]:
        hours, past = (car.local - begin) / timedelta(hours=1), car.level - settings.limit
        end = f"stopped at {car.level:.1f} %, {past:.1f} points past the limit"
        say(f"demo: blocked at {settings.limit:g} %, the simulated car {end}, after {hours:.1f} simulated hours")
    else:
        end = "charging" if car.charging else "not charging"
        say(f"demo: ended before the limit of {settings.limit:g} %, the simulated car is {end} at {car.level:.1f} %")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(prog="chargeto.py", add_help=False, allow_abbrev=False)
    for option in ("--once", "--dry-run", "--demo", "--help", "--version"):
        parser.add_argument(option, action="store_true")
    parser.usage = "chargeto.py [--once] [--dry-run] | --demo | --help | --version"
    args = parser.parse_args(argv)
    if args.demo and (args.once or args.dry_run):
        parser.error("--demo goes with no other option")
    if args.help or args.version:
        say(f"chargeto {__version__}" if args.version else (__doc__ or ""))
        return 0
    logging.disable()  # urllib3 would log addresses, which hold the account and the VIN
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        stored: Mapping[str, str] | None = None
        faults: Sequence[str] = ()
        if not args.demo:
            try:
                stored = Renault.stored(os.environ)
            except ConfigError as error:
                stored, faults = {}, error.faults
        settings = Settings.from_env(os.environ, stored, faults)
        if stored is None:
            return demo(settings, stop)
        car = Renault(settings, stored, lambda: datetime.now(timezone.utc))
        controller = Controller(settings, car, lambda: datetime.now(timezone.utc), dry_run=args.dry_run)
        if args.once:
            return 0 if controller.try_poll() else 1
        controller.run(stop.wait)
    except ConfigError as error:
        for fault in error.faults:
            print(f"chargeto: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
