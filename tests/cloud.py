"""The simulated cloud: Gigya and Kamereon on loopback, as strict as renault.md says, with a simulated car behind.

They serve the tests, the soak and the benchmark alike. The car is the one of --demo, with what that does not need.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import socket
import sys
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable
from urllib.parse import parse_qs, urlsplit

import jwt

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

import chargeto  # noqa: E402

API_KEY, GIGYA_KEY = "kamereon-key-0123456789", "3_gigya-key-0123456789"
TOKEN, PERSON, ACCOUNT, VIN = "st2.s.login-token", "person-5f3a", "account-77aa", "VF1AG000064123456"
SECRETS = (API_KEY, GIGYA_KEY, TOKEN, PERSON, ACCOUNT)

Answer = "tuple[int, dict[str, Any]]"


class RefusedError(Exception):
    """An error answer in Kamereon's words."""

    def __init__(self, status: int, code: str, message: str = "refused") -> None:
        super().__init__(code)
        errors = [{"errorCode": code, "errorMessage": message, "errorType": "functional"}]
        self.answer = (status, {"type": "FUNCTIONAL", "messages": [{"code": code, "message": message}], "errors": errors})


def require(condition: object, code: str = "err.func.400", status: int = 400, message: str = "refused") -> None:
    """Refuse the request unless the condition holds."""
    if not condition:
        raise RefusedError(status, code, message)


class Zoe(chargeto.SimulatedZoe):
    """The car of --demo, and what real ones have beside it (renault.md): a plug, other models, reports while it rests.

    delay and report_every may be functions, which draw one for each command and each report. idle_report_every: None,
    it sleeps while it does not charge. deaf: it ignores kcm charge/schedule. powered: its charging station gives current.
    """

    def __init__(
        self, local: datetime, level: float = 60.0, power: float = 11.0, capacity: float = 52.0, delay: Any = timedelta(minutes=5),
        report_every: Any = timedelta(minutes=10), idle_report_every: timedelta | None = None, model: str = "X101VE", deaf: bool = False,
    ) -> None:  # fmt: skip
        self.plugged, self.powered, self.until = True, True, local
        self.asked = self.was_open = False  # asked to start: holds until a schedule says otherwise
        self.draw_delay, self.draw_interval, self.idle_report_every = delay, report_every, idle_report_every
        self.model, self.deaf = model, deaf
        self.charged: list[tuple[datetime, float]] = []  # when it charged, by its own clock, twice a minute, and its level
        self.level, self.full_power, self.capacity = level, power, capacity
        super().__init__(local)
        night = {"startTime": "T02:00Z", "duration": 240}
        self.settings["schedules"] = [{"id": 1, "activated": True, **{day: dict(night) for day in chargeto.DAYS}}]
        self.update()

    def send(self, call: chargeto.Call, attributes: Any) -> None:
        self.delay = self.draw_delay() if callable(self.draw_delay) else self.draw_delay
        super().send(call, copy.deepcopy(attributes))

    def app(self, deed: str, schedules: Any = None) -> None:
        """The owner's app: start, mode always, or schedules."""
        start = {"action": "start"}
        kca = {"start": (chargeto.Call.START, start), "always": (chargeto.Call.MODE, {"action": "always_charging"}),
               "schedules": (chargeto.Call.SCHEDULES, {"schedules": schedules})}  # fmt: skip
        kcm = {"start": (chargeto.Call.KCM_START, start), "always": (chargeto.Call.KCM_START, start),
               "schedules": (chargeto.Call.KCM_SCHEDULES, {"schedules": schedules})}  # fmt: skip
        self.send(*(kcm if self.model in chargeto.KCM_MODELS else kca)[deed])

    tapers = True

    @property
    def power(self) -> float:  # type: ignore[override]
        """Near full, from 80 % on, a battery charges slower."""
        return self.full_power * (min(1.0, 0.4 + (100 - self.level) * 0.03) if self.tapers else 1.0)

    def plug(self, plugged: bool) -> None:
        """Plug the cable in or out; the car reports it."""
        self.plugged, self.asked = plugged, False
        self.update()
        self.report()

    @property
    def local(self) -> datetime:
        """The car's own clock."""
        return self.now.astimezone(self.zone)

    def update(self) -> None:
        super().update()
        if self.charging:
            self.charged.append((self.local, self.level))
        if not self.charging and self.idle_report_every and self.now - self.reported >= self.idle_report_every:
            self.report()

    def obey(self, call: chargeto.Call, attributes: Any) -> None:
        """What is not a call for this car is accepted and ignored (renault.md 3)."""
        calls = chargeto.Call
        if (call in (calls.KCM_SCHEDULES, calls.KCM_START)) != (self.model in chargeto.KCM_MODELS):
            return
        if call is calls.KCM_START:
            self.asked = False
            at = attributes.get("startDateTime")
            self.settings = {"mode": "delayed" if at else "always", "schedules": []}
            if at:
                self.settings["startDateTime"] = at
                self.until = datetime.fromisoformat(at.replace("Z", "+00:00"))
        elif call is calls.KCM_SCHEDULES:
            if not self.deaf:
                self.settings, self.asked = {"mode": "scheduled", "schedules": attributes["schedules"]}, False
        elif call is calls.START:
            self.asked = self.plugged
        else:
            super().obey(call, attributes)
            # schedule mode alone stops no charge while the car has no schedule
            self.asked = attributes.get("action") == "schedule_mode" and self.charging and not self.settings["schedules"]

    def window_open(self) -> bool:
        """Whether the weekly schedule, read as the car reads it and not with the script's arithmetic, lets it charge now."""
        minute = (self.local.weekday() * 24 + self.local.hour) * 60 + self.local.minute
        for schedule in self.settings["schedules"]:
            for day, charge in schedule.items():
                if schedule["activated"] and day in chargeto.DAYS and charge:
                    start = chargeto.DAYS.index(day) * 1440 + int(charge["startTime"][1:3]) * 60 + int(charge["startTime"][4:6])
                    if (minute - start) % 10080 < charge["duration"]:
                        return True
        return False

    def may_charge(self) -> bool:
        if self.settings["mode"] == "delayed" and self.now >= self.until:
            self.settings = {"mode": "always", "schedules": []}
        was_open, self.was_open = self.was_open, self.window_open()
        if was_open and not self.was_open:
            self.asked = False  # the end of a window ends the charge
        may = {"always": True, "scheduled": self.was_open}.get(self.settings["mode"], False) or self.asked
        return may and self.plugged and self.powered

    def report(self) -> None:
        self.reported = self.now
        self.report_every = self.draw_interval() if callable(self.draw_interval) else self.draw_interval
        super().report()
        waiting = 0.2 if self.level >= 100 else 0.1
        resting = waiting if self.plugged else 0.0
        self.attributes.update(plugStatus=int(self.plugged), chargingStatus=1.0 if self.charging else resting)


class Cloud:
    """Both services on one loopback port; `log` has every request, `faults` what goes wrong next."""

    def __init__(self, car: Zoe, clock: Callable[[], datetime]) -> None:
        self.car, self.clock = car, clock
        self.accounts: dict[str, list[dict[str, Any]]] = {ACCOUNT: [{"vin": VIN, "vehicleDetails": {
            "registrationNumber": "AB-123-CD", "brand": {"label": "RENAULT"}, "model": {"code": car.model, "label": "ZOE"},
        }}]}
        self.log: list[tuple[datetime, str, Any]] = []  # when, "METHOD what", attributes of the body
        self.answers: list[int] = []  # the status of every answer
        self.faults: list[tuple[str, Any]] = []  # (part of "METHOD what", what happens): each is used once, in order
        self.always: dict[str, Any] = {}  # the same, for as long as it stands here
        self.token = TOKEN
        self.released = threading.Event()  # lets hanging requests go
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop serving: from now on connections are refused."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def requests(self, part: str = "") -> list[tuple[datetime, str, Any]]:
        """Every request so far with `part` in "METHOD what"."""
        return [entry for entry in self.log if part in entry[1]]

    def writes(self) -> list[tuple[datetime, str, Any]]:
        """Every command to the car so far."""
        return [entry for entry in self.log if entry[1].startswith(("POST actions/", "POST kcm/"))]

    def _answer(self, method: str, target: str, headers: Any, body: bytes) -> Any:
        url = urlsplit(target)
        what = url.path.rpartition("/")[2]
        kind = "actions/" if "/actions/" in url.path else "kcm/" if "/kcm/" in url.path else ""
        entry = f"{method} {kind}{what}"
        if url.path.startswith("/commerce/v1/persons/"):
            entry = f"{method} persons"
        with self._lock:
            self.car.advance(self.clock())
            form = parse_qs(body.decode()) if what.startswith("accounts.") else {}
            data = json.loads(body) if body and not form else None
            attributes = data["data"].get("attributes") if isinstance(data, dict) and isinstance(data.get("data"), dict) else data
            self.log.append((self.clock(), entry, attributes))
            fault = next((fault for part, fault in self.always.items() if part in entry), None)
            for index, (part, once) in enumerate(self.faults):
                if part in entry:
                    fault = once
                    del self.faults[index]
                    break
            if callable(fault):
                fault = fault()
            if fault not in (None, "lose"):
                return fault
            try:
                if what == "accounts.getJWT":
                    return self._jwt(form)
                answer = 200, self._kamereon(method, url, headers, data)
                return "drop" if fault == "lose" else answer  # it was done, but nobody hears of it
            except RefusedError as refusal:
                return refusal.answer

    def _jwt(self, form: dict[str, list[str]]) -> Answer:
        def refused(code: int, details: str) -> Answer:
            return 200, {"errorCode": code, "errorDetails": details, "statusCode": code // 1000}

        if form.get("ApiKey") != [GIGYA_KEY]:
            return refused(400093, "Invalid ApiKey parameter")
        if form.get("login_token") != [self.token]:
            return refused(403005, "Unauthorized user")
        if form.get("expiration") != ["900"] or "data.personId" not in form.get("fields", [""])[0]:
            return refused(400006, "Invalid parameter value")
        expires = self.clock() + timedelta(seconds=900)
        claims = {"iat": self.clock(), "exp": expires, "data.personId": PERSON, "n": len(self.log)}
        return 200, {"errorCode": 0, "statusCode": 200, "id_token": jwt.encode(claims, "a signing key of thirty-two bytes")}

    def _kamereon(self, method: str, url: Any, headers: Any, data: Any) -> dict[str, Any]:
        if headers.get("apikey") != API_KEY:
            raise RefusedError(403, "err.func.403")
        try:
            options: Any = {"verify_exp": False, "verify_iat": False}
            claims = jwt.decode(
                headers.get("x-gigya-id_token", ""), "a signing key of thirty-two bytes", ["HS256"], options=options
            )
        except jwt.InvalidTokenError:
            raise RefusedError(401, "err.func.wired.unauthorized") from None
        require(claims["exp"] > self.clock().timestamp(), "err.func.wired.unauthorized", 401)
        require(len(parse_qs(url.query).get("country", [""])[0]) == 2)
        if url.path == f"/commerce/v1/persons/{PERSON}":
            return {"personId": PERSON, "accounts": [{"accountId": name, "accountType": "MYRENAULT"} for name in self.accounts]}
        path = re.fullmatch(r"/commerce/v1/accounts/([^/]+)/(.*)", url.path)
        require(path and path[1] in self.accounts, "err.func.wired.notFound", 404)
        assert path
        links = self.accounts[path[1]]
        if path[2] == "vehicles":
            return {"accountId": path[1], "country": "GB", "vehicleLinks": links}
        place = re.fullmatch(r"kamereon/(kca/car-adapter/v\d/cars|kcm/v1/vehicles)/([^/]+)/(.+)", path[2])
        require(place and place[2] in [link["vin"] for link in links], "err.func.wired.forbidden", 403)
        assert place
        endpoint = f"{place[1][4:].replace('car-adapter/', '').replace('/cars', '').replace('/vehicles', '')} {place[3]}"
        phase2 = self.car.model in ("X102VE", "XCB1VE")
        kcm = place[1].startswith("kcm")
        require(phase2 or not kcm, "err.func.wired.notFound", 404)
        if method == "GET":
            require(not (endpoint == "v1 charge-mode" and phase2), "err.func.vcps.ev.charge-mode.error")
            reads = {
                "v2 battery-status": dict(self.car.attributes),
                "v1 charging-settings": copy.deepcopy(self.car.settings),
                "v1 charge/settings": copy.deepcopy(self.car.settings),
                "v1 charge-mode": {"chargeMode": {"always": "always_charging"}.get(self.car.settings["mode"], "schedule_mode")},
            }
            require(endpoint in reads, "err.func.wired.notFound", 404)
            return {"data": {"type": "Car", "id": place[2], "attributes": reads[endpoint]}}
        require(headers.get("Content-type") == "application/vnd.api+json")
        require(isinstance(data, dict) and set(data) == {"data"} and set(data["data"]) == {"type", "attributes"})
        kind, attributes = data["data"]["type"], data["data"]["attributes"]
        calls = chargeto.Call
        if endpoint == "v1 actions/charge-mode":
            require(not phase2, "err.func.wired.notFound", 404)
            require(kind == "ChargeMode" and set(attributes) == {"action"})
            require(attributes["action"] in ("always_charging", "schedule_mode"))
            call = calls.MODE
        elif endpoint in ("v2 actions/charge-schedule", "v1 charge/schedule"):
            require(kind == "ChargeSchedule" and set(attributes) == {"schedules"})
            check_schedules(attributes["schedules"], range(1, 6) if phase2 else (1,), same_every_day=phase2)
            call = calls.KCM_SCHEDULES if kcm else calls.SCHEDULES
        elif endpoint == "v1 actions/charging-start":
            require(kind == "ChargingStart" and attributes == {"action": "start"})
            call = calls.START
        else:  # pause-resume is accepted, and nothing happens
            require(endpoint in ("v1 charge/start", "v1 charge/pause-resume"), "err.func.wired.notFound", 404)
            require(kind == "ChargingStart" and attributes.get("action") == "start")
            require(set(attributes) <= {"action", "startDateTime"})
            at = attributes.get("startDateTime")
            require(at is None or re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", at))
            until = at and datetime.fromisoformat(at.replace("Z", "+00:00"))
            require(until is None or timedelta(0) < until - self.clock() <= timedelta(hours=24))
            call = calls.KCM_START
        if endpoint != "v1 charge/pause-resume":
            self.car.send(call, attributes)
        return {"data": {"type": kind, "id": "a-command-id", "attributes": attributes}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = cloud._answer(self.command, self.path, self.headers, body)
                if answer == "hang":
                    cloud.released.wait(60)
                if answer == "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    while not cloud.released.wait(0.05):
                        try:
                            self.wfile.write(b" ")
                        except OSError:
                            break
                if answer in ("hang", "drop", "drip"):
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, content, *extra = answer
                cloud.answers.append(status)
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(raw)}", *extra, "", ""]
                self.wfile.write("\r\n".join(lines).encode() + raw)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, *args: object) -> None:
                """The cloud has its own log."""

        return Handler


def check_schedules(schedules: Any, ids: Any, same_every_day: bool = False) -> None:
    """Refuse what a gateway refuses of a schedule list (renault.md 3)."""
    require(isinstance(schedules, list) and schedules)
    require(len({schedule.get("id") for schedule in schedules}) == len(schedules))
    for schedule in schedules:
        require(schedule.get("id") in ids and isinstance(schedule.get("activated"), bool))
        charges = {day: charge for day, charge in schedule.items() if day not in ("id", "activated")}
        require(charges)
        for day, charge in charges.items():
            require(day in chargeto.DAYS and set(charge) == {"startTime", "duration"})
            require(re.fullmatch(r"T([01]\d|2[0-3]):(00|15|30|45)Z", charge["startTime"]))
            duration = charge["duration"]
            require(type(duration) is int and duration % 15 == 0 and 15 <= duration <= 1440)
        message = "A schedule must have the same startTime/duration on each day"
        require(not same_every_day or len({str(charge) for charge in charges.values()}) == 1, message=message)


class Clock:
    """A clock that only moves when told to, and a sleep that moves it."""

    def __init__(self, now: datetime) -> None:
        self.now = now.astimezone(timezone.utc)

    def __call__(self) -> datetime:
        """The time."""
        return self.now


class World:
    """A car, its cloud, the script's controller and a clock: what a story needs.

    `lines` has what the script has said; `charging` the car's state and level after each poll.
    """

    STORED = {"gigya": TOKEN, "gigya-person-id": PERSON}  # noqa: RUF012
    ENV = {"KAMEREON_API_KEY": API_KEY, "GIGYA_API_KEY": GIGYA_KEY, "VEHICLE_TZ": "Europe/Stockholm"}  # noqa: RUF012

    def __init__(self, start: str = "2021-10-21T10:49:32Z", env: dict[str, str] | None = None, **car: Any) -> None:
        self.clock = Clock(datetime.fromisoformat(start.replace("Z", "+00:00")))
        self.env = {**self.ENV, **(env or {})}
        zone = chargeto.pytz.timezone(self.env["VEHICLE_TZ"])
        self.car = Zoe(self.clock().astimezone(zone), **car)
        self.cloud = Cloud(self.car, self.clock)
        self.lines: list[str] = []
        self.notified: list[str] = []
        self.dry_run = False
        self.state: str | None = None
        self.stored = dict(self.STORED)  # pyze's credential file
        self.restart()

    def restart(self) -> None:
        """A new process: it knows nothing but its environment and pyze's credential file."""
        urls = {"KAMEREON_ROOT_URL": self.cloud.url, "GIGYA_ROOT_URL": self.cloud.url}
        settings = chargeto.Settings.from_env({**urls, **self.env}, self.stored)
        self.script = chargeto.Controller(
            settings, chargeto.Renault(settings, lambda: self.stored, self.clock), self.clock,
            self.lines.append, self.notified.append, self.dry_run, self.state,
        )

    def run(self, until: Callable[[], bool] | None = None, **span: float) -> None:
        """Let the script poll, until a time span has passed or a condition holds."""
        end = self.clock.now + timedelta(**span) if span else datetime.max.replace(tzinfo=timezone.utc)

        def wait(seconds: float) -> bool:
            self.clock.now += timedelta(seconds=seconds)
            return self.clock.now >= end or bool(until and until())

        self.script.run(wait)
        self.car.advance(self.clock())

    def sleep(self, seconds: float) -> None:
        """A sleep that takes no time."""
        self.clock.now += timedelta(seconds=seconds)

    def poll(self, minutes: float = 5) -> list[str]:
        """One poll, then time passes; returns what the script said."""
        seen = len(self.lines)
        self.run(minutes=1)
        self.clock.now += timedelta(minutes=minutes - 5)
        self.car.advance(self.clock())
        return self.lines[seen:]

    def faults(self) -> list[str]:
        """The lines that tell of a failed poll."""
        return [line for line in self.lines if "next try" in line]
