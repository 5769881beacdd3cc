"""Stories of what goes wrong between the script and Renault's cloud: one line each, and it goes on."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from cloud import SECRETS, VIN
from stories import AUTHORIZED, error, report, says, wrote

import chargeto


def busiest_hour(story):
    """The most requests that any hour has seen."""
    made = [when for when, _, _ in story.cloud.log]
    return max(sum(1 for other in made if when <= other < when + timedelta(hours=1)) for when in made)


NESTED = json.dumps({"errors": [{"status": "409", "code": "409001", "title": "x", "detail": "y"}]})
FAULTS = [
    pytest.param("drop", "cannot be reached (ConnectionError): check the network", id="dropped"),
    pytest.param((502, b"<html><body>502 Bad Gateway</body></html>"), "something else than data (HTTP 502)", id="html"),
    pytest.param((200, b""), "something else than data (HTTP 200)", id="empty"),
    pytest.param((200, b"[1]"), "something else than data (HTTP 200)", id="a list"),
    pytest.param((200, b'{"data": {"attr'), "something else than data (HTTP 200)", id="cut off"),
    pytest.param((200, b"\xff\xfe{}"), "something else than data (HTTP 200)", id="not text"),
    pytest.param((200, {}), "without the data asked for", id="no data"),
    pytest.param((200, {"data": None}), "without the data asked for", id="null data"),
    pytest.param((200, {"data": {"attributes": None}}), "without the data asked for", id="null attributes"),
    pytest.param((200, {"data": {"attributes": []}}), "no state of charge", id="attributes of a wrong type"),
    pytest.param((200, {"data": {"attributes": {"batteryLevel": None}}}), "no state of charge", id="null level"),
    pytest.param((200, {"data": {"attributes": {"batteryLevel": 101}}}), "no state of charge", id="level above 100"),
    pytest.param((200, {"data": {"attributes": {"batteryLevel": "86"}}}), "no state of charge", id="level a text"),
    pytest.param(error(200, "err.func.privacy.on"), "privacy mode is on in the car", id="200 with errors"),
    pytest.param(error(403, "err.func.wired.forbidden"), "the car, the contract or a key may not do that", id="forbidden"),
    pytest.param((403, {"error": "access_denied"}), "KAMEREON_API_KEY is outdated", id="outdated key"),
    pytest.param(error(400, "err.func.400"), "refused (HTTP 400)", id="400"),
    pytest.param(error(404, "err.func.wired.not-found"), "does not have this for this account and car", id="404"),
    pytest.param(error(500, "err.func.x", NESTED), "still busy with an earlier charge mode command", id="409001 in a text"),
    pytest.param(error(409, "err.func.x"), "still busy with an earlier charge mode command", id="409"),
    pytest.param(error(500, "err.tech.500"), "Renault's side has a technical fault", id="500"),
    pytest.param(error(501, "err.tech.501"), "gateway does not support that", id="501"),
    pytest.param(error(418, "err.new\n\x1b[31m"), "refused (HTTP 418)", id="a code nobody knows"),
    pytest.param((500, {"errors": "x"}), "refused (HTTP 500)", id="errors of a wrong type"),
    pytest.param((500, {"errors": [None]}), "refused (HTTP 500)", id="a null error"),
    pytest.param((500, {"message": "x"}), "something else than data (HTTP 500)", id="an error without errors"),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
def test_one_line_names_the_fault_and_the_next_poll_decides_afresh(world, fault, expected):
    story = world(level=80, delay=timedelta(minutes=2))
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
@pytest.mark.parametrize("fault", ["drop", (200, {}), error(500, "err.tech.500")])
def test_a_fault_of_any_request_is_survived(world, where, fault):
    story = world(level=80, delay=timedelta(minutes=2))
    if where == "POST actions" and fault == (200, {}):
        fault = (200, {"errors": [{}]})
    story.cloud.always[where] = fault
    story.run(minutes=30)
    if where != "charging-settings":
        assert len(story.faults()) == (4 if where == "POST actions" else 6)
        assert not [line for line in story.lines if "Traceback" in line]
    story.cloud.always.clear()
    story.run(minutes=60)
    assert 85 <= story.car.level < 92
    assert not story.car.charging


@pytest.mark.parametrize("root", ["https://127.0.0.1:10", "https://nowhere.invalid", None], ids=["refused", "dns", "tls"])
def test_no_way_to_the_cloud_is_one_line_a_poll_without_its_address(world, root):
    story = world(level=70)
    root = root or story.cloud.url.replace("http:", "https:")
    story.env.update(GIGYA_ROOT_URL=root, KAMEREON_ROOT_URL=root)
    story.restart()
    story.run(minutes=30)
    assert len(story.lines) == len(says(story, "check the network; next try in 5 minutes")) == 6
    assert root.partition("//")[2] not in "".join(story.lines)


@pytest.mark.parametrize("where", ["getJWT", "battery-status"])  # pyze has two sessions
def test_a_cloud_that_never_answers_costs_one_poll(world, where, monkeypatch):
    assert chargeto.TIMEOUTS == (10, 30)
    monkeypatch.setattr(chargeto, "TIMEOUTS", (0.5, 0.3))
    story = world(level=70)
    story.cloud.faults.append((where, "hang"))
    story.run(minutes=15)
    assert len(story.faults()) == 1
    assert "(ReadTimeout)" in story.faults()[0]
    assert len(says(story, "we should charge")) == 2


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

    story.script.car = Odd(story.car.local)
    story.lines.clear()
    story.run(minutes=15)
    assert len(story.lines) == 3
    assert all(re.fullmatch(r"[\d:]{8} an error in this script \(ZeroDivisionError, line \d+\): please report it; next try in 5 minutes", line)
               for line in story.lines)
    assert not [secret for secret in (*SECRETS, VIN) if secret in "".join(story.lines)]


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
    assert last.endswith("the car is blocked, but for tuesday 12:00 to 12:45; next try in 15 minutes")
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


@pytest.mark.parametrize("what", ["charge-schedule", "charge-mode"])
@pytest.mark.parametrize("refusal", ["drop", error(409, "409001")])
def test_a_refused_stop_is_sent_again_at_every_poll_until_it_is_accepted(world, what, refusal):
    story = world(level=84)
    story.car.settings = {"mode": "always", "schedules": []}
    report(story, 86, 1.0)
    story.cloud.always[what] = refusal
    story.run(minutes=20)
    assert wrote(story).count(what) == 3
    assert len(story.faults()) == 3
    story.cloud.always.clear()
    story.run(minutes=15)
    assert not story.car.charging


@pytest.mark.parametrize(("what", "refusal"), [
    ("charge-mode", error(409, "409001")), ("charge-mode", error(401, AUTHORIZED)), ("charge-mode", "lose"),
    ("charge-schedule", error(429, "x")), ("charge-schedule", "drop"),
])  # fmt: skip
def test_a_stop_refused_for_three_hours_and_the_status_is_read_all_the_same(world, what, refusal):
    story = world("2026-05-05T10:00:00Z", level=86, power=2.3)
    story.car.settings = {"mode": "always", "schedules": []}
    story.car.update()
    story.cloud.always[what] = refusal
    story.run(hours=3)
    read = [when for when, _, _ in story.cloud.requests("battery-status")]
    assert max(later - when for when, later in zip(read, read[1:])) == timedelta(minutes=10)
    assert busiest_hour(story) <= 30
    story.cloud.always.clear()
    story.run(minutes=25)
    assert not story.car.charging
    assert story.car.level < 98


def test_a_command_whose_answer_was_lost_may_hold_or_not_and_is_never_believed(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.run(minutes=15)
    report(story, 70, 0.1)
    story.cloud.faults.append(("charge-schedule", "lose"))
    assert "(ConnectionError)" in story.poll()[-1]
    report(story, 86, 0.1)
    assert "scheduling on monday @ T12:15Z for 15 minutes (to blocking charging)" in story.poll()
    story.run(hours=1)
    assert not story.car.charging


@pytest.mark.parametrize("where", ["battery-status", "getJWT", "charge-schedule"])
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed_with_the_keys(world, where, status):
    story, thief = world(level=70), world(level=70)
    story.cloud.always[where] = (status, {"a": 1}, f"Location: {thief.cloud.url}/commerce/x")
    story.run(minutes=20)
    assert thief.cloud.log == []
    assert len(story.faults()) == (3 if where == "charge-schedule" else 4)


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


def test_however_often_the_cloud_refuses_never_more_than_30_requests_an_hour(world):
    story = world("2026-05-05T10:00:00Z", level=70)
    story.cloud.always["POST actions"] = error(401, AUTHORIZED)
    story.run(hours=6)
    assert busiest_hour(story) in range(20, 31)
    assert says(story, "30 requests were made in an hour")
