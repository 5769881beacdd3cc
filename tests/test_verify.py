"""The car's own later report is the judge: what it does is believed, what it was told is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stories import error, report, says, wrote


def test_a_block_that_never_reached_the_car_is_sent_again_once_the_car_has_reported(world):
    story = world("2026-05-05T10:01:00Z", level=85, power=3.7, delay=timedelta(minutes=1))
    story.car.settings = {"mode": "always", "schedules": []}
    story.car.plug(True)
    lost = 200, {"data": {"type": "x", "id": "x", "attributes": {}}}
    story.cloud.faults += [("charge-schedule", lost), ("charge-mode", lost)]
    story.run(hours=3)
    blocks = [when for when, what, _ in story.cloud.writes() if "schedule" in what]
    assert len(blocks) == 2
    assert timedelta(minutes=10) <= blocks[1] - blocks[0] <= timedelta(minutes=25)
    assert not story.car.charging
    assert len(says(story, "the car charges though it is blocked")) == 1


@pytest.mark.parametrize("deed", ["start", "always"])
def test_who_starts_a_charge_in_the_app_at_the_limit_is_overruled_at_the_next_report(world, deed):
    story = world(level=86, delay=timedelta(minutes=2))
    story.run(hours=1)
    story.cloud.log.clear()
    story.car.app(deed)
    story.run(minutes=15)
    assert not story.car.charging
    assert story.car.level < 90
    assert wrote(story) == ["charge-schedule", "charge-mode"]


@pytest.mark.parametrize("deed", ["start", "always"])
@pytest.mark.parametrize("minutes", [0, 35])
def test_a_restart_above_the_limit_while_the_app_has_it_charging(world, deed, minutes):
    story = world("2026-05-05T10:00:00Z", level=86, power=7.4)
    story.run(hours=2)
    story.car.app(deed)
    story.run(minutes=minutes)
    story.restart()
    story.run(minutes=45)
    assert not story.car.charging
    assert story.car.level < 93


@pytest.mark.parametrize("level", [75, 84.9])
def test_always_in_the_app_on_the_way_ends_at_94_percent_at_most(world, level):
    story = world("2026-05-05T10:01:00Z", level=66, power=11, delay=timedelta(minutes=9))
    story.run(lambda: story.car.level >= level)
    story.car.app("always")
    story.run(hours=4)
    assert not story.car.charging
    assert 85 <= story.car.level <= 94


@pytest.mark.parametrize("lost", [(200, {"data": {}}), "drop", "lose"])
def test_a_ze40_stuck_at_not_available_whose_always_got_lost_charges_to_the_limit(world, lost):
    story = world("2026-05-05T10:00:00Z", level=50, idle_report_every=timedelta(minutes=10))
    story.cloud.always["battery-status"] = lambda: (200, {"data": {"attributes": {**story.car.attributes, "chargingStatus": -1.1}}})
    story.cloud.faults += [("charge-mode", lost), ("charging-start", lost)]
    story.run(minutes=100)
    assert story.car.charging
    story.run(hours=5)
    assert not story.car.charging
    assert 85 <= story.car.level <= 90


def test_a_charge_the_app_has_switched_off_is_taken_up_again(world):
    story = world("2026-05-05T10:01:00Z", level=66, delay=timedelta(minutes=2))
    story.run(minutes=20)
    story.car.app("schedules", [{"id": 1, "activated": True, "monday": {"startTime": "T03:00Z", "duration": 15}}])
    story.run(minutes=15)
    assert story.car.charging
    assert says(story, "the car does not charge though it should")


def test_a_car_deaf_to_blocks_is_told_three_times_more_and_then_once_an_hour(world):
    story = world("2026-05-05T10:00:00Z", level=50, power=1.0, capacity=1000.0)
    report(story, 86, 1.0)
    story.cloud.always["POST actions"] = 200, {"data": {}}
    at = []
    for _ in range(12 * 5):
        if story.clock.now.minute % 10 == 0:
            report(story, 86, 1.0)
        at += [story.clock.now] if "charges though it is blocked" in " ".join(story.poll()) else []
    minutes = [round((when - at[0]).total_seconds() / 60) for when in at]
    assert minutes == [0, 10, 20, 80, 140, 200, 260]
    assert len([message for message in story.notified if "unplug it" in message]) == 1
    report(story, 86, 0.1)
    story.poll()
    report(story, 86, 1.0)
    story.clock.now += timedelta(hours=1)
    report(story, 86, 1.0)
    assert "charges though it is blocked" in " ".join(story.poll())


def test_a_command_that_the_cloud_refuses_is_no_disobedience_of_the_car(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    story.cloud.always["POST actions"] = error(500, "err.tech.500")
    for _ in range(36):
        report(story, 86, 1.0)
        story.poll()
    assert not says(story, "the car charges though")
    assert not [message for message in story.notified if "told again every hour" in message]
    story.cloud.always["POST actions"] = 200, {"data": {}}
    for minute in range(0, 25, 5):
        report(story, 86, 1.0)
        assert bool([line for line in story.poll() if "the car charges though" in line]) == (minute in (10, 20))


def test_who_starts_a_charge_again_and_again_is_overruled_every_time_and_the_car_is_not_blamed(world):
    story = world("2026-05-05T10:00:00Z", level=86, delay=timedelta(minutes=2))
    story.run(minutes=20)
    for _ in range(6):
        story.car.app("start")
        story.run(minutes=20)
        assert not story.car.charging
    assert not story.notified or not [message for message in story.notified if "told again every hour" in message]


@pytest.mark.parametrize("settings", [None, {"mode": "delayed", "schedules": []}])
@pytest.mark.parametrize("level", [50, 70])
def test_a_dead_station_costs_few_writes_even_when_the_settings_cannot_be_read(world, settings, level):
    story = world("2026-05-05T10:00:00Z", level=level, idle_report_every=timedelta(minutes=10))
    answer = (200, {"data": {"attributes": settings}}) if settings else error(404, "err.func.wired.notFound")
    story.cloud.always["charging-settings"] = answer
    story.car.powered = False
    story.run(days=1)
    assert len(story.cloud.writes()) <= 130
    assert len([message for message in story.notified if "told again every hour" in message]) == 1


def test_a_lost_answer_leaves_the_mode_unknown_whatever_is_wanted_next(world):
    story = world("2026-05-05T10:00:00Z", level=60)
    report(story, 64, 1.0)
    story.poll()
    report(story, 65, 1.0)
    story.cloud.faults.append(("charge-mode", "lose"))
    story.poll()
    report(story, 64, 1.0)
    story.poll()
    assert story.cloud.writes()[-1][2] == {"action": "always_charging"}


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
    assert wrote(story).count("charge-mode") >= 2


def test_an_outage_that_ends_just_before_the_window_does_is_no_disobedience(world):
    story = world("2026-05-05T10:00:00Z", level=66, power=2.3, delay=timedelta(minutes=9))
    story.run(minutes=20)
    story.cloud.always[""] = "drop"
    story.run(minutes=20)
    story.cloud.always.clear()
    story.run(hours=1)
    assert not says(story, "does not charge though")
    assert story.car.charging


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
