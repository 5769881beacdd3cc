"""Stories of a charge: the loop, through the real pyze and over HTTP, with a simulated cloud and car."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from stories import report, says, wrote

GOLDEN = """\
12:49:32 86% plugged in, Waiting for planned charge, power: 11.5 remaining: 55 (ttc: 12.0min)  [updated: 2021-10-21T10:48:57Z]
we should charge, setting 30 minute window from 15 minutes ago
scheduling on thursday @ T12:45Z for 45 minutes
starting charging as not currently charging 0.1
12:54:35 86% plugged in, Charging, power: 11.5 remaining: 55 (ttc: 12.0min)  [updated: 2021-10-21T10:50:53Z]
we should charge, setting 30 minute window from 15 minutes ago
no need to update car schedule as same as requested setting
12:59:36 86% plugged in, Charging, power: 11.5 remaining: 55 (ttc: 12.0min)  [updated: 2021-10-21T10:50:53Z]
we should charge, setting 30 minute window from 15 minutes ago
no need to update car schedule as same as requested setting
13:04:37 89% plugged in, Charging, power: 11.5 remaining: 50 (ttc: 0min)  [updated: 2021-10-21T11:04:19Z]
skipping charge as at  89 %
scheduling on wednesday @ T13:00Z for 15 minutes (to blocking charging)
13:09:38 89% plugged in, Waiting for planned charge, power: 11.5 remaining: 50 (ttc: 0min)  [updated: 2021-10-21T11:05:21Z]
skipping charge as at  89 %
no need to update car schedule as same as requested setting
13:14:39 89% plugged in, Waiting for planned charge, power: 11.5 remaining: 50 (ttc: 0min)  [updated: 2021-10-21T11:05:21Z]
skipping charge as at  89 %
no need to update car schedule as same as requested setting
"""
REPORTS = [  # poll at, then what the car had reported by then
    ("10:49:32", 86, 0.1, 55, "10:48:57"),
    ("10:54:35", 86, 1.0, 55, "10:50:53"),
    ("10:59:36", 86, 1.0, 55, "10:50:53"),
    ("11:04:37", 89, 1.0, 50, "11:04:19"),
    ("11:09:38", 89, 0.1, 50, "11:05:21"),
    ("11:14:39", 89, 0.1, 50, "11:05:21"),
]


def test_the_spec_s_sample_comes_out_word_for_word(world):
    story = world(env={"MAX_CHARGE_THRESHOLD": "89"})
    for at, level, status, remaining, updated in REPORTS:
        story.clock.now = datetime.fromisoformat(f"2021-10-21T{at}+00:00")
        report(story, level, status, chargingRemainingTime=remaining, chargingInstantaneousPower=11.5,
               timestamp=f"2021-10-21T{updated}Z")  # fmt: skip
        story.script.poll()
    assert story.lines[1:] == GOLDEN.splitlines()
    assert wrote(story) == ["charge-schedule", "charging-start", "charge-schedule", "charge-mode"]


def test_a_charge_at_11_kw_from_60_percent_ends_blocked(world):
    story = world(level=60)
    story.run(hours=12)
    assert not story.faults()
    assert not story.car.charging
    assert 85 <= story.car.level <= 90
    assert Counter(wrote(story)) == {"charge-schedule": 6, "charge-mode": 3, "charging-start": 1}
    assert [body["action"] for _, what, body in story.cloud.writes() if "mode" in what] == [
        "always_charging", "schedule_mode", "schedule_mode",
    ]  # fmt: skip
    assert story.lines[0] == (
        "ZOE X101VE AB-123-CD VF1AG000064123456: car time Europe/Stockholm, always charging below 65 %, blocking at 85 %"
    )


@pytest.mark.parametrize(
    ("start", "longest"),
    [
        pytest.param("2026-03-29T00:10:00Z", 10, id="spring"),  # the car's clock jumps out of the window it holds
        pytest.param("2026-10-25T00:10:00Z", 10, id="autumn"),
        pytest.param("2026-10-24T21:10:00Z", 0, id="midnight"),
        pytest.param("2026-01-04T21:50:00Z", 0, id="the week's end"),
    ],
)
@pytest.mark.parametrize("power", [3.7, 22])
def test_a_charge_across_a_clock_change_goes_on_and_ends_blocked(world, start, longest, power):
    story = world(start, level=66, power=power)
    story.run(lambda: story.car.charging)
    charging = []
    story.run(lambda: charging.append(story.car.charging) or story.car.attributes["batteryLevel"] >= 85)
    assert charging.count(False) * 5 <= longest
    story.run(hours=1)
    assert not story.car.charging
    assert not story.faults()


def test_a_week_parked_at_the_limit_charges_nothing_and_writes_little(world):
    story = world(level=86)
    story.run(days=5)
    assert story.car.level == 86
    assert wrote(story) == ["charge-schedule", "charge-schedule"]  # the first, and one when it came near
    assert story.notified == ["chargeto: charging was blocked at 86 %"]
    first, second = (when for when, _, _ in story.cloud.writes())
    assert timedelta(days=4) < second - first < timedelta(days=5)


def test_an_idle_day_costs_288_reads_97_logins_5_requests_at_start_and_one_write(world):
    story = world(level=86)
    story.run(days=1)
    made = Counter(what for _, what, _ in story.cloud.log)
    assert made["GET battery-status"] == 288
    assert made["POST accounts.getJWT"] <= 97
    assert len(story.cloud.writes()) == 1
    start = Counter(what for _, what, _ in story.cloud.log[:5])
    assert start == {"POST accounts.getJWT": 1, "GET persons": 1, "GET vehicles": 1, "GET charging-settings": 1,
                     "GET battery-status": 1}  # fmt: skip
    assert sum(made.values()) == 288 + made["POST accounts.getJWT"] + 3 + 1


def test_charging_costs_one_write_a_quarter_of_an_hour(world):
    story = world("2026-05-05T10:00:00Z", level=66, power=2.3)
    story.run(minutes=15)
    story.cloud.log.clear()
    story.run(hours=3)
    assert wrote(story) == ["charge-schedule"] * 12
    assert len(says(story, "no need to update car schedule")) == 3 * 12 - 12 + 2


def test_a_low_battery_is_charged_always_and_told_once_even_when_not_plugged_in(world):
    story = world(level=40)
    story.car.plug(False)
    story.run(hours=2)
    assert [body for _, _, body in story.cloud.writes()] == [{"action": "always_charging"}]
    assert len(says(story, "setting charge mode to always")) == 1
    assert len(says(story, "always charging as battery low")) == 24
    assert ", power: 0.0 remaining:" in story.lines[1]
    assert "40% unplugged, Not charging" in story.lines[1]
    story.car.plug(True)
    story.run(hours=12)
    assert 85 <= story.car.level <= 90


@pytest.mark.parametrize("mode", ["always", "always_charging"])
def test_a_car_that_already_charges_always_is_not_told_again(world, mode):
    story = world(level=40)
    story.cloud.always["GET charging-settings"] = 200, {"data": {"attributes": {"mode": mode, "schedules": []}}}
    report(story, 40)
    story.run(minutes=30)
    assert wrote(story) == ["charging-start"]
    assert not says(story, "setting charge mode")


def test_in_between_and_not_plugged_in_it_waits(world):
    story = world(level=70)
    story.car.plug(False)
    story.run(hours=1)
    assert wrote(story) == []
    assert story.lines[2] == "wait to schedule charge till car is plugged in"


def test_a_start_is_asked_for_once_per_report(world):
    story = world(level=70)
    report(story, 70, 0.1)
    story.run(minutes=30)
    assert wrote(story).count("charging-start") == 1
    report(story, 70, 0.1)
    story.run(minutes=30)
    assert wrote(story).count("charging-start") == 2
    report(story, 70, 0.2)
    story.run(minutes=30)
    assert wrote(story).count("charging-start") == 2


def test_a_refused_start_is_asked_for_again_at_the_next_poll(world):
    story = world(level=70)
    report(story, 70, 0.1)
    story.cloud.faults.append(("charging-start", (500, {"errors": [{"errorCode": "err.tech.500"}]})))
    story.run(minutes=20)
    assert wrote(story).count("charging-start") == 2


def test_a_restart_before_the_car_has_reported_repeats_a_start_and_nothing_else(world):
    story = world("2026-05-05T10:01:00Z", level=70, delay=timedelta(0))
    report(story, 70, 0.1)
    story.poll()
    first = wrote(story)
    story.restart()
    story.poll()
    assert wrote(story)[len(first) :] == ["charging-start"]


@pytest.mark.parametrize("level", [50, 70, 86])
def test_a_restart_repeats_nothing(world, level):
    story = world("2026-05-05T10:46:00Z", level=level)
    story.run(minutes=9)
    before = len(story.cloud.writes())
    for _ in range(3):
        story.restart()
        story.poll(minutes=0)
    assert before
    assert len(story.cloud.writes()) == before


@pytest.mark.parametrize("mode", ["delayed", "odd", None])
def test_a_low_battery_is_charged_always_whatever_the_car_was_set_to(world, mode):
    story = world(level=40)
    story.cloud.always["GET charging-settings"] = 200, {"data": {"attributes": {"mode": mode, "schedules": []}}}
    if mode is None:
        story.cloud.always["GET charging-settings"] = 501, {"errors": [{"errorCode": "err.tech.501"}]}
    story.run(minutes=30)
    assert wrote(story)[0] == "charge-mode"
    assert story.car.charging


def test_a_car_that_does_not_tell_its_settings_is_told_everything(world):
    story = world(level=86)
    story.cloud.always["GET charging-settings"] = 501, {"errors": [{"errorCode": "err.tech.501"}]}
    story.run(hours=1)
    assert wrote(story) == ["charge-schedule", "charge-mode"]
    assert len(story.cloud.requests("charging-settings")) == 1
    assert says(story, "what the car holds is unknown: this car's gateway does not support that: it may do without (HTTP 501, err.tech.501)")


def test_a_dry_run_decides_and_prints_and_writes_nothing(world):
    story = world(level=70)
    story.dry_run = True
    story.restart()
    story.run(hours=1)
    assert wrote(story) == []
    assert len(says(story, "we should charge")) == 12
    assert len(says(story, "scheduling on thursday @ T")) == 12
    assert says(story, "dry run: nothing is written to the car")


def test_polls_are_five_minutes_apart_however_long_a_poll_takes(world):
    story = world(level=70)
    waited = []

    def wait(seconds):
        waited.append(seconds)
        story.clock.now += timedelta(seconds=seconds)
        return len(waited) == 3

    def slow():
        story.clock.now += timedelta(seconds=20)
        return 200, {"data": {"attributes": dict(story.car.attributes)}}

    story.cloud.always["battery-status"] = slow
    story.script.run(wait)
    assert waited == [280.0, 280.0, 280.0]


@pytest.mark.parametrize(("hours", "wait"), [(1, 0), (-1, 300)])
def test_a_clock_that_is_set_during_a_poll_stretches_no_wait(world, hours, wait):
    story, waits = world(level=70), []

    def set_it():
        story.clock.now += timedelta(hours=hours)
        return 200, {"data": {"attributes": dict(story.car.attributes)}}

    story.cloud.faults.append(("battery-status", set_it))
    story.script.run(lambda seconds: waits.append(seconds) or True)
    assert waits == [wait]


def test_a_night_without_the_cloud_costs_what_is_left_of_the_window(world):
    story = world("2026-05-05T10:01:00Z", level=66, power=3.7)
    story.run(minutes=30)
    story.cloud.always[""] = "drop"
    before = story.car.level
    story.run(hours=8)
    assert not story.car.charging
    assert story.car.level - before < 3.7 / 52 * 100 * 45 / 60
    story.cloud.always.clear()
    story.run(minutes=25)
    assert story.car.charging
    story.run(hours=6)
    assert 85 <= story.car.level <= 88


def test_another_account_and_vehicle_by_name(world):
    story = world(env={"SPECIFIC_VIN": "vf1other", "KAMERON_ACCOUNT_ID": "second"})
    story.cloud.accounts["second"] = [{"vin": "VF1FIRST"}, {"vin": "VF1OTHER"}]
    story.run(minutes=5)
    assert story.lines[0].startswith("VF1OTHER: car time")
    assert not story.cloud.requests("persons")


def test_each_root_url_goes_where_it_belongs(world):
    story, gigya = world(level=86), world(level=86)
    story.env["GIGYA_ROOT_URL"] = gigya.cloud.url + "/"
    story.restart()
    story.poll()
    assert [what for _, what, _ in gigya.cloud.log] == ["POST accounts.getJWT"]
    assert not story.cloud.requests("getJWT")
    assert not story.faults()


def test_the_first_vehicle_of_several_is_taken(world):
    story = world(level=86)
    story.cloud.accounts["account-77aa"].append({"vin": "VF1SECOND"})
    story.poll()
    assert story.lines[0].startswith("ZOE X101VE AB-123-CD VF1AG000064123456")
