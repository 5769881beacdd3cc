"""Stories of what goes wrong, over HTTP, with the real pyze in between: it goes on and believes only what it has seen."""

from __future__ import annotations

import json
import re
import shlex
import time
from datetime import datetime, timedelta, timezone

import pytest
from cloud import SECRETS, VIN, chargeto
from test_charge import report, says, wrote

AUTHORIZED = "err.func.wired.unauthorized"


def sleep(seconds):
    time.sleep(seconds)
    return False


def error(status, code, message="x", *headers):
    return status, {"errors": [{"errorCode": code, "errorMessage": message}]}, *headers


NESTED = json.dumps({"errors": [{"status": "409", "code": "409001", "title": "x", "detail": "y"}]})
FAULTS = [
    pytest.param("drop", "the connection broke", id="dropped"),
    pytest.param((502, b"<html><body>502 Bad Gateway</body></html>"), "something else than data (HTTP 502)", id="html"),
    pytest.param((200, b""), "something else than data (HTTP 200)", id="empty"),
    pytest.param((200, b"[1]"), "something else than data (HTTP 200)", id="a list"),
    pytest.param((200, b'{"data": {"attr'), "something else than data (HTTP 200)", id="cut off"),
    pytest.param((200, b"\xff\xfe{}"), "something else than data (HTTP 200)", id="not text"),
    pytest.param((200, {}), "without the data asked for", id="no data"),
    pytest.param((200, {"data": None}), "without the data asked for", id="null data"),
    pytest.param((200, {"data": {"attributes": None}}), "without the data asked for", id="null attributes"),
    pytest.param((200, {"data": {"attributes": []}}), "without the data asked for", id="attributes of a wrong type"),
    pytest.param((200, {"data": {"attributes": {"batteryLevel": None}}}), "no state of charge", id="null level"),
    pytest.param((200, {"data": {"attributes": {"batteryLevel": 101}}}), "no state of charge", id="level above 100"),
    pytest.param((200, {"data": {"attributes": {"batteryLevel": "86"}}}), "no state of charge", id="level a text"),
    pytest.param(error(200, "err.func.privacy.on"), "privacy mode is on in the car", id="200 with errors"),
    pytest.param(error(403, "err.func.wired.forbidden"), "this car, contract or key may not do that", id="forbidden"),
    pytest.param((403, {"error": "access_denied"}), "KAMEREON_API_KEY is outdated", id="outdated key"),
    pytest.param(error(400, "err.func.400"), "refused the request", id="400"),
    pytest.param(error(404, "err.func.wired.not-found"), "does not have this for this account and car", id="404"),
    pytest.param(error(500, "err.func.x", NESTED), "still busy with an earlier charge mode command", id="409001 in a text"),
    pytest.param(error(409, "err.func.x"), "still busy with an earlier charge mode command", id="409"),
    pytest.param(error(500, "err.tech.500"), "Renault's side has a technical fault", id="500"),
    pytest.param(error(501, "err.tech.501"), "gateway does not support that", id="501"),
    pytest.param(error(418, "err.new\n\x1b[31m"), "refused (HTTP 418, an unknown code)", id="a code nobody knows"),
    pytest.param((500, {"errors": "x"}), "refused (HTTP 500, an unknown code)", id="errors of a wrong type"),
    pytest.param((500, {"errors": [None]}), "refused (HTTP 500, an unknown code)", id="a null error"),
    pytest.param((500, {"message": "x"}), "something else than data (HTTP 500)", id="an error without errors"),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
@pytest.mark.parametrize("when", ["at start", "later"])
def test_one_line_names_the_fault_and_the_next_poll_decides_afresh(world, fault, expected, when):
    story = world(level=80, delay=timedelta(minutes=2))
    if when == "later":
        story.poll()
    story.cloud.always["GET battery-status"] = fault
    before = wrote(story)
    said = story.poll()[-2:] + story.poll()
    assert all(len(re.findall(".*next try in 5 minutes", line)) == (expected in line) for line in said)
    assert len([line for line in said if expected in line]) == 2
    assert wrote(story) == before  # nothing on a level that is not known
    del story.cloud.always["GET battery-status"]
    story.run(minutes=55)
    assert 85 <= story.car.level < 90
    assert not story.car.charging


@pytest.mark.parametrize("where", ["getJWT", "persons", "vehicles", "charging-settings", "POST actions"])
@pytest.mark.parametrize("fault", ["drop", (502, b"<html>"), (200, b""), (200, {}), error(500, "err.tech.500"), error(200, "x.y")])
def test_a_fault_of_any_request_is_survived(world, where, fault):
    story = world(level=80, delay=timedelta(minutes=2))
    if where == "POST actions" and fault == (200, {}):
        fault = (200, {"errors": [{}]})
    story.cloud.always[where] = fault
    story.run(minutes=30)
    if where != "charging-settings":
        assert len(story.faults()) == 6
        assert not [line for line in story.lines if "Traceback" in line]
    story.cloud.always.clear()
    story.run(minutes=60)
    assert 85 <= story.car.level < 90
    assert not story.car.charging


def test_a_cloud_that_is_down_at_start_is_waited_for(world):
    story = world(level=70, env={"KAMEREON_ROOT_URL": "https://127.0.0.1:1", "GIGYA_ROOT_URL": "https://127.0.0.1:1"})
    story.run(hours=1)
    assert len(story.lines) == 12
    assert story.lines[1] == "12:54:32 Renault's cloud cannot be reached: connection refused; next try in 5 minutes"


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        pytest.param("https://nowhere.invalid", "its name was not found (DNS)", id="dns"),
        pytest.param(None, "its certificate was not accepted (TLS)", id="tls"),
    ],
)
def test_the_network_s_faults_have_names(world, root, expected):
    story = world(level=70)
    story.env["GIGYA_ROOT_URL"] = root or story.cloud.url.replace("http:", "https:")
    story.restart()
    assert story.poll() == [line for line in story.lines if expected in line][:1]


@pytest.mark.parametrize("where", ["getJWT", "battery-status"])  # pyze has two sessions
def test_a_cloud_that_never_answers_costs_one_poll(world, where, monkeypatch):
    assert chargeto.TIMEOUTS == (10, 30)
    monkeypatch.setattr(chargeto, "TIMEOUTS", (0.5, 0.3))
    story = world(level=70)
    story.cloud.faults.append((where, "hang"))
    story.run(minutes=15)
    assert len(story.faults()) == 1
    assert "no answer within" in story.faults()[0]
    assert len(says(story, "we should charge")) == 2


@pytest.mark.parametrize(("field", "value", "code"), [("status", -1.4, "charge status -1.4"), ("plug", 7, "plug status 7")])
def test_an_unknown_state_is_named_once_and_decisions_go_on(world, field, value, code):
    story = world(level=70)
    report(story, 60, **{field: value})
    story.run(minutes=30)
    assert len(says(story, f"the car reports {code}")) == 1
    assert wrote(story)[0] == "charge-mode"
    assert "60% -, " in story.lines[1] or ", -, power" in story.lines[1]


@pytest.mark.parametrize(
    "settings",
    [{}, {"mode": 5, "schedules": None}, {"mode": "scheduled", "schedules": [{"id": 1, "activated": True, "monday": None}]},
     {"mode": "scheduled", "schedules": "none"}, {"mode": "delayed", "schedules": [7]}],
)  # fmt: skip
def test_surprising_schedules_are_unknown_and_replaced(world, settings):
    story = world(level=86)
    story.cloud.always["GET charging-settings"] = 200, {"data": {"attributes": settings}}
    story.run(minutes=20)
    assert wrote(story)[0] == "charge-schedule"
    assert not story.faults()


def test_an_error_nobody_foresaw_is_shown_once_without_secrets_and_the_loop_goes_on(world):
    story = world(level=70)
    story.poll()

    class Odd(chargeto.SimulatedZoe):
        def battery_status(self):
            raise ZeroDivisionError(" ".join(SECRETS))

        redact = story.script.car.redact

    story.script.car = Odd(story.car.local)
    story.lines.clear()
    story.run(minutes=15)
    assert len([line for line in story.lines if line.startswith("Traceback") and "ZeroDivisionError: *** ***" in line]) == 1
    assert [line[9:] for line in story.faults()] == ["an error in this script, ZeroDivisionError: please report it; next try in 5 minutes"] * 3
    assert not [secret for secret in (*SECRETS, VIN) if secret in "".join(story.lines)]


# ---- quota, 401, refused commands


@pytest.mark.parametrize("refusal", [error(429, "x"), error(400, "err.func.wired.overloaded"), (429, b"<html>")])
def test_a_lockout_is_waited_out_5_10_15_minutes_and_then_decided_at_once(world, refusal):
    story = world("2026-05-05T10:00:00Z", level=70, power=2.3)
    story.poll()
    story.cloud.always["GET battery-status"] = refusal
    begin = story.clock.now
    story.run(minutes=70)
    tries = [when - begin for when, _, _ in story.cloud.requests("battery-status")[1:]]
    assert [gap.seconds // 60 for gap in tries] == [0, 5, 15, 30, 45, 60]
    first, last = story.faults()[0], story.faults()[-1]
    assert first.endswith("the car holds a window until 12:45, then it stops by itself; next try in 5 minutes")
    assert last.endswith("the car's window ended at 12:45, it does not charge; next try in 15 minutes")
    assert not story.car.charging
    story.cloud.always.clear()
    story.lines.clear()
    story.run(minutes=15)
    assert [line[:8] for line in story.lines if "plugged in" in line] == ["13:20:00", "13:25:00", "13:30:00"]
    assert says(story, "scheduling on tuesday @ T13:15Z")


@pytest.mark.parametrize(
    ("header", "minutes"), [("Retry-After: 2400", 40), ("Retry-After: 86400", 60), ("Retry-After: 60", 5),
                            ("Retry-After: Tue, 05 May 2026 10:20:00 GMT", 20), ("Retry-After: soon", 5)],
)  # fmt: skip
def test_retry_after_is_honoured_up_to_an_hour(world, header, minutes):
    story = world("2026-05-05T10:00:00Z", level=70)
    story.cloud.always["GET battery-status"] = error(429, "x", "x", header)
    story.run(hours=2)
    first, second = (when for when, _, _ in story.cloud.requests("battery-status")[:2])
    assert second - first == timedelta(minutes=minutes)
    assert f"next try in {minutes} minutes" in story.faults()[0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("99999999999999999", 3600), ("1800.5", 1800.5), ("600 ", 600), ("-5", 0), ("Tue, 05 May 2026 10:20:00 -0000", 1200),
     ("Tue, 05 May 2026 09:20:00 GMT", 0), ("Tue, 99 May", 0), ("", 0)],
)  # fmt: skip
def test_forms_of_retry_after(header, seconds):
    response = chargeto.requests.Response()
    response.headers["Retry-After"] = header
    now = datetime(2026, 5, 5, 10, tzinfo=timezone.utc)
    assert chargeto._retry_after(response, now) == timedelta(seconds=seconds)


def test_the_pacing_begins_anew_after_a_success(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    for _ in range(2):
        begin = story.clock.now
        story.cloud.log.clear()
        story.cloud.faults += [("battery-status", error(429, "x"))] * 2
        story.run(minutes=20)
        gaps = [when - begin for when, _, _ in story.cloud.requests("battery-status")]
        assert [gap.seconds // 60 for gap in gaps] == [0, 5, 15]


def test_the_status_counts_when_the_code_says_something_else(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.cloud.faults.append(("battery-status", error(429, "err.tech.500")))
    assert "Renault's quota is used up" in story.poll()[-1]
    story.cloud.faults.append(("battery-status", error(401, "access_denied")))
    story.poll()
    assert len(story.faults()) == 1


def test_a_refused_command_leaves_the_car_as_it_was(world):
    story = world("2026-05-05T10:10:00Z", level=70, power=2.3)
    story.poll()
    story.cloud.always["charge-schedule"] = error(429, "x")
    assert "the car holds a window until 12:45, then it stops by itself" in story.poll()[-1]


def test_a_drip_is_cut_off(world, monkeypatch):
    assert chargeto.TOTAL_TIMEOUT == 60
    monkeypatch.setattr(chargeto, "TOTAL_TIMEOUT", 0.3)
    story = world(level=86)
    story.cloud.faults.append(("battery-status", "drip"))
    story.run(minutes=10)
    assert len(story.faults()) == 1
    assert "no whole answer within" in story.faults()[0]


def test_a_401_gets_a_new_jwt_and_one_more_try_in_the_same_poll(world):
    story = world(level=86)
    story.poll()
    story.cloud.log.clear()
    story.cloud.faults.append(("battery-status", error(401, AUTHORIZED)))
    story.poll()
    assert [what for _, what, _ in story.cloud.log] == ["GET battery-status", "POST accounts.getJWT", "GET battery-status"]
    assert not story.faults()
    story.cloud.log.clear()
    story.cloud.always["battery-status"] = error(401, AUTHORIZED)
    story.poll()
    assert len(story.cloud.requests("battery-status")) == 2
    assert len(story.faults()) == 1


@pytest.mark.parametrize("what", ["charge-schedule", "charge-mode"])
@pytest.mark.parametrize("refusal", ["drop", error(500, "err.tech.500"), error(200, "err.func.400"), error(409, "409001")])
def test_a_refused_stop_is_sent_again_at_every_poll_until_it_is_accepted(world, what, refusal):
    story = world(level=84)
    story.car.mode, story.car.schedules = "always", []
    report(story, 86, 1.0)
    story.cloud.always[what] = refusal
    story.run(minutes=15)
    assert wrote(story).count(what) == 3
    assert len(story.faults()) == 3
    story.cloud.always.clear()
    story.run(minutes=15)
    assert not story.car.charging


def test_a_command_whose_answer_was_lost_may_hold_or_not_and_is_never_believed(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.run(minutes=15)
    report(story, 70, 0.1)
    story.cloud.faults.append(("charge-schedule", "lose"))
    assert "the connection broke" in story.poll()[-1]
    report(story, 86, 0.1)
    assert "scheduling on monday @ T12:15Z for 15 minutes (to blocking charging)" in story.poll()
    story.run(hours=1)
    assert not story.car.charging


# ---- commands are verified


def test_a_block_that_never_reached_the_car_is_sent_again_once_the_car_has_reported(world):
    story = world("2026-05-05T10:01:00Z", level=85, power=3.7, delay=timedelta(minutes=1))
    story.car.mode, story.car.schedules = "always", []
    story.car.plug(True)
    lost = 200, {"data": {"type": "x", "id": "x", "attributes": {}}}
    story.cloud.faults += [("charge-schedule", lost), ("charge-mode", lost)]
    story.run(hours=3)
    blocks = [when for when, what, _ in story.cloud.writes() if "schedule" in what]
    assert len(blocks) == 2
    assert timedelta(minutes=10) <= blocks[1] - blocks[0] <= timedelta(minutes=25)
    assert not story.car.charging
    assert len(says(story, "the car charges though it is blocked: blocking it by charge-mode, charge-schedule")) == 1


@pytest.mark.parametrize("deed", ["start", "always"])
def test_who_starts_a_charge_in_the_app_at_the_limit_is_overruled_at_the_next_report(world, deed):
    story = world(level=86, delay=timedelta(minutes=2))
    story.run(hours=1)
    story.cloud.log.clear()
    story.car.send(*((chargeto.Call.START,) if deed == "start" else (chargeto.Call.MODE, chargeto.Mode.ALWAYS)))
    story.run(minutes=15)
    assert not story.car.charging
    assert story.car.level < 90
    assert wrote(story) == ["charge-schedule", "charge-mode"]


def test_a_charge_the_app_has_switched_off_is_taken_up_again(world):
    story = world("2026-05-05T10:01:00Z", level=66, delay=timedelta(minutes=2))
    story.run(minutes=20)
    story.car.send(chargeto.Call.SCHEDULES, [{"id": 1, "activated": True, "monday": {"startTime": "T03:00Z", "duration": 15}}])
    story.run(minutes=15)
    assert story.car.charging
    assert says(story, "the car does not charge though it should")
    assert len(story.cloud.requests("charging-settings")) == 2


def test_a_dead_charging_station_costs_few_writes_and_the_owner_hears_of_it_once(world):
    story = world("2026-05-05T10:00:00Z", level=70, idle_report_every=timedelta(minutes=10))
    story.car.powered = False
    story.run(days=1)
    assert wrote(story).count("charge-schedule") == 96
    assert len(story.cloud.writes()) - 96 <= 30
    assert len(says(story, "the car does not obey, it does not charge though it should: check the cable")) == 1
    assert len([message for message in story.notified if "does not obey" in message]) == 1
    again = [when for when, what, _ in story.cloud.writes() if "start" in what]
    gaps = [later - earlier for earlier, later in zip(again, again[1:])]
    assert all(gap >= timedelta(minutes=10) for gap in gaps)
    assert all(gap >= timedelta(hours=1) for gap in gaps[4:])
    story.car.powered = True
    story.run(hours=6)
    assert 85 <= story.car.level < 90


def test_a_car_deaf_to_blocks_is_told_three_times_more_and_then_once_an_hour(world):
    story = world("2026-05-05T10:00:00Z", level=50, power=1.0, capacity=1000.0)
    report(story, 86, 1.0)
    story.cloud.always["POST actions"] = 200, {"data": {}}
    at = []
    for _ in range(12 * 5):
        if story.clock.now.minute % 10 == 0:
            report(story, 86, 1.0)
        at += [story.clock.now] if "charges though it is blocked: blocking" in " ".join(story.poll()) else []
    minutes = [round((when - at[0]).total_seconds() / 60) for when in at]
    assert minutes == [0, 10, 20, 80, 140, 200, 260]
    assert len([message for message in story.notified if "unplug it" in message]) == 1
    report(story, 86, 0.1)
    story.poll()
    report(story, 86, 1.0)
    story.clock.now += timedelta(hours=1)
    report(story, 86, 1.0)
    assert "charges though it is blocked: blocking" in " ".join(story.poll())


def test_a_command_that_the_cloud_refuses_is_no_disobedience_of_the_car(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    story.cloud.always["POST actions"] = error(500, "err.tech.500")
    for _ in range(36):
        report(story, 86, 1.0)
        story.poll()
    assert not says(story, "the car charges though")
    assert not [message for message in story.notified if "obey" in message]
    story.cloud.always["POST actions"] = 200, {"data": {}}
    for minute in range(0, 25, 5):
        report(story, 86, 1.0)
        assert bool([line for line in story.poll() if "the car charges though" in line]) == (minute in (10, 20))


def test_who_starts_a_charge_again_and_again_is_overruled_every_time_and_the_car_is_not_blamed(world):
    story = world("2026-05-05T10:00:00Z", level=86, delay=timedelta(minutes=2))
    story.run(minutes=20)
    for _ in range(6):
        story.car.send(chargeto.Call.START)
        story.run(minutes=20)
        assert not story.car.charging
    assert not story.notified or not [message for message in story.notified if "obey" in message]


@pytest.mark.parametrize("settings", [None, {"mode": "delayed", "schedules": []}])
@pytest.mark.parametrize("level", [50, 70])
def test_a_dead_station_costs_few_writes_even_when_the_settings_cannot_be_read(world, settings, level):
    story = world("2026-05-05T10:00:00Z", level=level, idle_report_every=timedelta(minutes=10))
    answer = (200, {"data": {"attributes": settings}}) if settings else error(404, "err.func.wired.notFound")
    story.cloud.always["charging-settings"] = answer
    story.car.powered = False
    story.run(days=1)
    windows = 96 if level == 70 else 0
    assert len(story.cloud.writes()) - windows <= 30
    assert len([message for message in story.notified if "obey" in message]) == 1


def test_a_station_whose_charge_dies_at_once_costs_few_writes_too(world):
    story = world("2026-05-05T10:00:00Z", level=70)
    for minute in range(0, 24 * 60, 5):
        report(story, 70, 1.0 if minute % 20 == 0 else 0.1)
        story.poll()
    assert len(story.cloud.writes()) - 96 <= 30
    assert [message for message in story.notified if "obey" in message]


def test_a_plug_that_flickers_costs_few_writes_too(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    for minute in range(0, 24 * 60, 5):
        report(story, 50, 0.1, plug=minute // 5 % 2)
        story.poll()
    assert wrote(story).count("charging-start") == 24


def test_no_request_is_made_any_more_once_it_is_told_to_stop(world):
    story = world("2026-05-05T10:00:00Z", level=70)
    ending = []
    settings = story.script.settings
    story.script.car = chargeto.Renault(settings, lambda: story.stored, story.clock, lambda: bool(ending))

    def told_to_stop():
        ending.append(True)
        return 200, {"data": {"attributes": dict(story.car.attributes)}}

    story.cloud.faults.append(("battery-status", told_to_stop))
    story.run(hours=1)
    assert story.cloud.log[-1][1] == "GET battery-status"
    assert len(story.cloud.requests("battery-status")) == 1
    assert wrote(story) == []


def test_one_report_is_held_against_the_car_once(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    story.cloud.always["POST actions"] = 200, {"data": {}}
    story.clock.now += timedelta(hours=1)
    report(story, 86, 1.0)
    story.clock.now -= timedelta(hours=1)  # the car's clock is an hour ahead
    story.run(hours=1)
    assert len(says(story, "the car charges though")) == 1


def test_a_car_that_gives_no_timestamp_is_judged_by_the_poll(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    report(story, 86, 1.0, timestamp=None)
    story.run(minutes=31)
    assert len(says(story, "the car charges though")) == 3


@pytest.mark.parametrize("status", [0.3, -1.1, None])
def test_a_slow_charge_under_a_status_that_lies_is_no_disobedience(world, status):
    story = world("2026-05-05T10:00:00Z", level=70)
    for minute in range(0, 240, 10):
        report(story, 70 + minute // 30, status)
        story.poll(minutes=10)
    assert not says(story, "does not charge though")


@pytest.mark.parametrize("status", [0.3, -1.1, None])
def test_a_car_that_does_not_charge_under_a_status_that_lies_is_told_again(world, status):
    story = world("2026-05-05T10:00:00Z", level=40)
    for _ in range(12):
        report(story, 40, status)
        story.poll(minutes=10)
    assert says(story, "does not charge though")
    assert wrote(story).count("charging-start") >= 1


def test_a_change_of_the_mode_on_the_way_gets_its_ten_minutes(world):
    story = world("2026-05-05T10:00:00Z", level=60)
    report(story, 64, 1.0)
    story.run(minutes=60)
    report(story, 66, 1.0)
    story.poll()
    report(story, 66, 0.1)
    assert not [line for line in story.poll() if "does not charge though" in line]


def test_an_outage_that_ends_just_before_the_window_does_is_no_disobedience(world):
    story = world("2026-05-05T10:00:00Z", level=66, power=2.3, delay=timedelta(minutes=9))
    story.run(minutes=20)
    story.cloud.always[""] = "drop"
    story.run(minutes=20)
    story.cloud.always.clear()
    story.run(hours=1)
    assert not says(story, "does not charge though")
    assert story.car.charging


def test_the_last_line_of_a_car_that_nothing_stops(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    story.cloud.always["POST actions"] = 200, {"data": {}}
    for _ in range(8):
        report(story, 86, 1.0)
        story.poll(minutes=10)
    assert story.script.left_with() == "the car charges though it is blocked: nothing stops it"


@pytest.mark.parametrize(
    ("levels", "expected"), [([86, 86, 86, 87], 1), ([86, 86, 86, 86], 0)], ids=["rising", "steady"]
)
def test_a_status_that_is_stuck_is_seen_through_by_the_level(world, levels, expected):
    story = world("2026-05-05T10:00:00Z", level=86)
    for level in levels:
        report(story, level, -1.1)
        story.poll()
        story.clock.now += timedelta(minutes=10)
    assert len(says(story, "the car charges though it is blocked")) == expected


def test_a_lockout_in_which_the_window_ran_out_is_no_disobedience(world):
    story = world("2026-05-05T10:00:00Z", level=66, power=2.3)
    story.run(hours=1)
    story.cloud.always[""] = "drop"
    story.run(hours=2)
    assert not story.car.charging
    story.cloud.always.clear()
    story.run(minutes=30)
    assert story.car.charging
    assert not says(story, "the car does not charge though")


# ---- login


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (403005, "the login has expired: run `pyze login`"), (403013, "the login has expired: run `pyze login`"),
        (403042, "check GIGYA_API_KEY"), (403101, "a second factor is pending: log in once in the MyRenault app"),
        (403102, "a second factor is pending"), (400093, "are the two keys swapped?"), (403048, "limits the rate"),
        (999999, "refused (HTTP 200, 999999)"),
    ],
)  # fmt: skip
def test_what_gigya_refuses_is_told_with_what_to_do(world, code, expected):
    story = world(level=70)
    story.cloud.always["getJWT"] = 200, {"errorCode": code, "errorDetails": "x", "statusCode": 403}
    story.run(hours=1)
    tries = [when.minute for when, _, _ in story.cloud.requests("getJWT")]
    assert tries == ([49, 54, 4, 19, 34] if code != 999999 else [49, 54, 59, 4, 9, 14, 19, 24, 29, 34, 39, 44])
    assert all(expected in line for line in story.lines)
    assert len(story.lines) == len(tries)


def test_an_expired_session_is_told_once_and_a_new_login_is_picked_up_without_a_restart(world):
    story = world(level=86)
    story.run(hours=1)
    story.cloud.token = "a-new-token"
    story.run(hours=2)
    assert "the login has expired: run `pyze login`" in story.faults()[-1]
    assert len([message for message in story.notified if "login" in message]) == 1
    story.stored = {**story.stored, "gigya": "a-new-token"}
    story.run(minutes=20)
    assert story.lines[-1].startswith("no need to update")


def test_a_newer_api_key_comes_with_the_new_login(world):
    story = world(level=86)
    story.env["GIGYA_API_KEY"] = ""
    story.stored["gigya-api-key"] = "3_outdated"
    story.restart()
    story.poll()
    assert "are the two keys swapped" in story.faults()[0]
    story.cloud.token = "a-new-token"
    story.stored = {**story.stored, "gigya": "a-new-token", "gigya-api-key": "3_gigya-key-0123456789"}
    story.poll()
    assert len(story.faults()) == 1


def test_a_new_login_does_not_undo_the_environment_or_change_the_account(world):
    story = world(level=86, env={"SPECIFIC_VIN": VIN})
    story.stored["kamereon-api-key"] = "outdated"
    story.restart()
    story.run(hours=1)
    story.cloud.accounts["other"] = []
    story.cloud.token = "a-new-token"
    story.stored = {**story.stored, "gigya": "a-new-token", "kamereon-account": "other", "gigya-token": "foreign"}
    story.run(hours=1)
    assert not story.faults()


def test_a_credential_file_that_is_half_written_just_now_is_no_new_login(world):
    story = world(level=86)
    story.run(minutes=10)

    def half_written():
        raise chargeto.ConfigError("damaged")

    story.script.car._read_stored = half_written
    story.run(hours=1)
    assert not story.faults()


@pytest.mark.parametrize("where", ["battery-status", "getJWT", "charge-schedule"])
@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed_with_the_keys(world, where, status):
    story, thief = world(level=70), world(level=70)
    story.cloud.always[where] = (status, {"a": 1}, f"Location: {thief.cloud.url}/commerce/x")
    story.run(minutes=20)
    assert thief.cloud.log == []
    assert len(story.faults()) == 4


@pytest.mark.parametrize("secret", [*SECRETS, VIN])
@pytest.mark.parametrize("form", ["error", "errorCode"])
def test_a_cloud_that_answers_with_a_secret_is_not_quoted(world, secret, form):
    story = world(level=70)
    story.poll()
    body = {"error": f"{secret} is not allowed"} if form == "error" else {"errors": [{"errorCode": secret}]}
    story.cloud.always["battery-status"] = 403, body
    story.poll()
    assert story.faults()
    assert secret not in "".join(story.lines[1:])


def test_redact_knows_every_secret_in_every_form(world):
    story = world(level=70, env={"KAMEREON_ACCOUNT_ID": "account-77aa"})
    story.stored["gigya"] = "a token/with+signs"
    story.restart()
    story.script.car._vehicle = chargeto.Vehicle(VIN, "X101VE", "x")
    secrets = [*SECRETS[:2], "a token/with+signs", "a%20token%2Fwith%2Bsigns", "person-5f3a", "account-77aa", VIN]
    assert story.script.car.redact(" ".join(secrets)) == " ".join(["***"] * 7)


# ---- the quota of its own, and the owner hears of it


def test_however_often_the_cloud_refuses_never_more_than_30_requests_an_hour(world):
    story = world("2026-05-05T10:00:00Z", level=70)
    story.cloud.always["POST actions"] = error(401, AUTHORIZED)
    story.run(hours=6)
    made = [when for when, _, _ in story.cloud.log]
    assert max(sum(1 for other in made if when <= other < when + timedelta(hours=1)) for when in made) == 30
    assert says(story, "30 requests were made in an hour")


def test_the_owner_is_notified_once_per_occasion(world):
    story = world("2026-05-05T10:00:00Z", level=60)
    story.car.plug(False)
    story.run(hours=1)
    assert story.notified == ["chargeto: battery low at 60 % and not plugged in"]
    story.car.plug(True)
    story.run(hours=12)
    assert len(story.notified) == 2
    assert re.fullmatch(r"chargeto: charging was blocked at 8\d %", story.notified[1])
    story.restart()
    story.run(days=6)  # the block moves on meanwhile
    story.car.level = 70
    story.car.plug(False)
    story.run(hours=1)
    story.car.plug(True)
    story.run(hours=8)
    assert len(story.notified) == 3
    assert "blocked at" in story.notified[2]
    story.cloud.always[""] = "drop"
    story.run(minutes=54)
    assert len(story.notified) == 3
    story.run(hours=5)
    assert len(story.notified) == 4
    assert "out of reach for an hour" in story.notified[3]
    story.cloud.always.clear()
    story.run(hours=1)
    story.cloud.always[""] = "drop"
    story.run(hours=5)
    assert len(story.notified) == 5


def test_a_plug_status_that_is_missing_now_and_then_is_not_unplugged(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    for minute in range(0, 120, 5):
        report(story, 50, 0.0, plug=None if minute % 10 else 1)
        story.poll()
    assert not [message for message in story.notified if "not plugged in" in message]


def test_every_expiry_of_the_login_is_notified(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    for _ in range(2):
        story.cloud.always["getJWT"] = 200, {"errorCode": 403005}
        story.run(hours=1)
        story.cloud.always.clear()
        story.run(hours=1)
    assert len([message for message in story.notified if "login has expired" in message]) == 2


def test_the_notify_command_gets_the_message_as_its_last_argument(tmp_path):
    script = tmp_path / "tell me"
    script.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$(dirname "$0")/told"\n')
    script.chmod(0o755)
    settings = chargeto.Settings.from_env({"NOTIFY_COMMAND": f"'{script}' -a 'b c'"}, None)
    said = []
    chargeto.notifier(settings.notify_command, said.append, sleep)('it "costs" $HOME; 5')
    assert (tmp_path / "told").read_text() == '-a|b c|it "costs" $HOME; 5|'
    assert said == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/nowhere/at/all", "NOTIFY_COMMAND cannot be run: No such file or directory"),
        ("/bin/sh -c 'exit 3'", "NOTIFY_COMMAND failed with status 3"),
        ("/bin/sleep", "NOTIFY_COMMAND failed with status 1"),
        ("", None),
    ],
)
def test_a_notify_command_that_fails_is_one_line(command, expected):
    said = []
    chargeto.notifier(shlex.split(command), said.append, sleep)("hello")
    assert said == ([expected] if expected else [])


def test_a_notify_command_that_hangs_is_ended(monkeypatch):
    assert chargeto.NOTIFY_TIMEOUT == 30
    monkeypatch.setattr(chargeto, "NOTIFY_TIMEOUT", 0.2)
    said = []
    chargeto.notifier(["/bin/sh", "-c", "sleep 20"], said.append, sleep)("hello")
    assert len(said) == 1
    assert said[0].startswith("NOTIFY_COMMAND did not end within 0.2 seconds")
