"""CHARGE_HOURS: the owner's cheap hours stay cheap. Every story counts the minutes that were charged outside them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cloud import VIN, World
from stories import says

from chargeto import ConfigError, Settings, hours_left, own_hours

NIGHT = "22:00-06:00"


def minutes_outside(world: World, begin: str = "22:00", end: str = "06:00") -> float:
    """How many minutes the car has charged outside the hours, by its own clock, at or above the lower threshold."""

    def within(local: datetime) -> bool:
        clock = local.strftime("%H:%M")
        return begin <= clock < end if begin < end else clock >= begin or clock < end

    return sum(level >= 65 and not within(local - timedelta(seconds=30)) for local, level in world.car.charged) / 2


def evening(world, hours=NIGHT, start="2021-10-21T16:00:32Z", **more) -> World:
    """18:00 in Stockholm."""
    env = {"CHARGE_HOURS": hours, **more.pop("env", {})}
    return world(start, env, **{"level": 70, "delay": timedelta(minutes=8), **more})


def test_plugged_in_at_18_it_charges_from_22_to_the_limit(world):
    one = evening(world)
    one.run(hours=3, minutes=55)
    assert one.car.level == 70
    assert says(one, "waiting for the charge hours 22:00-06:00")
    one.run(hours=8)
    assert minutes_outside(one) == 0
    assert 85 <= one.car.level <= 90
    assert len(one.notified) == 1, "for the limit, not for the hours"


def test_empty_at_18_it_charges_at_once_and_waits_at_the_lower_threshold(world):
    one = evening(world, level=50)
    one.run(hours=3, minutes=55)
    assert 65 <= one.car.level <= 73
    one.run(hours=8)
    assert minutes_outside(one) <= 25, "as long as the car takes to report and obey"
    assert one.car.level >= 85


def test_with_a_lower_threshold_of_0_an_empty_car_waits_too(world):
    one = evening(world, level=10, env={"ALWAYS_CHARGE_AT_THRESHOLD": "0"})
    one.run(hours=3, minutes=55)
    assert one.car.level == 10
    one.run(hours=8)
    assert not [local for local, _ in one.car.charged if 6 <= local.hour < 22]
    assert one.car.level >= 60


def test_two_hours_a_day_are_enough_in_the_end(world):
    one = evening(world, "12:00-14:00", power=3.7)
    one.run(hours=24)
    assert 80 <= one.car.level < 85
    one.run(hours=24)
    assert minutes_outside(one, "12:00", "14:00") == 0
    assert one.car.level >= 85


def test_a_slow_charge_takes_two_nights(world):
    one = evening(world, power=1.0, delay=timedelta(minutes=10))
    one.run(hours=13)
    assert 80 < one.car.level < 85
    one.run(hours=23)
    assert minutes_outside(one) == 0
    assert one.car.level >= 85


@pytest.mark.parametrize(
    ("start", "hours", "begin", "end"),
    [
        pytest.param("2021-10-30T20:00:32Z", "02:30-05:00", "02:30", "05:00", id="autumn: three o'clock comes twice"),
        pytest.param("2021-10-30T20:00:32Z", "23:00-02:30", "23:00", "02:30", id="autumn: they end in the hour that comes twice"),
        pytest.param("2021-03-27T20:00:32Z", "01:15-03:30", "01:15", "03:30", id="spring"),
        pytest.param("2021-03-27T20:00:32Z", "23:00-02:30", "23:00", "02:30", id="spring: they end in the hour that is missing"),
    ],
)
def test_when_the_clocks_change_within_the_hours_the_cars_local_time_decides(world, start, hours, begin, end):
    one = evening(world, hours, start, power=3.7)
    one.run(hours=14)
    assert minutes_outside(one, begin, end) == 0
    assert one.car.level >= 74


def test_a_lockout_across_the_end_costs_no_minute_outside(world):
    one = evening(world, power=2.3)
    one.run(hours=11, minutes=25)
    one.cloud.always["GET battery-status"] = 429, {}
    one.run(hours=3)
    assert minutes_outside(one) == 0
    assert one.car.level >= 75


@pytest.mark.parametrize("hours", [1, 3, 6, 11, 12.5])
def test_a_restart_changes_nothing(world, hours):
    one = evening(world, power=3.7)
    one.run(hours=hours)
    one.restart()
    one.run(hours=14 - hours)
    assert minutes_outside(one) == 0
    assert one.car.level >= 85


def test_two_nights_of_prediction_the_second_begins_with_a_car_at_rest(world):
    one = evening(world, power=3.7, level=40, env={"PREDICT_STOP": "1", "ALWAYS_CHARGE_AT_THRESHOLD": "0"})
    one.run(hours=14)
    assert 65 < one.car.level < 85
    one.run(hours=11)
    assert minutes_outside(one) == 0
    assert one.car.level == pytest.approx(85, abs=1.5)


def test_a_restart_outside_the_hours_is_no_predicted_stop(world):
    one = evening(world, level=82, power=3.7, env={"PREDICT_STOP": "1"})
    one.run(hours=1)
    one.restart()
    one.run(hours=11)
    assert minutes_outside(one) == 0
    assert one.car.level == pytest.approx(85, abs=1.5)


def test_the_apps_start_at_19_is_stopped_at_the_next_reports(world):
    one = evening(world)
    one.run(hours=1)
    one.car.app("start")
    one.run(hours=2, minutes=55)
    assert 0 < minutes_outside(one) <= 35
    assert one.car.level <= 78


@pytest.mark.parametrize(("deaf", "most"), [(False, 0), (True, 45)])
def test_a_phase_2_car(world, deaf, most):
    one = evening(world, model="X102VE", deaf=deaf)
    one.car.settings["mode"] = "scheduled"
    one.run(hours=14)
    assert minutes_outside(one) <= most
    assert 85 <= one.car.level <= 95


def test_an_unplugged_car_holds_the_block_outside_the_hours(world):
    one = evening(world)
    one.car.plug(False)
    one.run(hours=1)
    assert len(says(one, "scheduling on wednesday @ T18:00Z for 15 minutes (to blocking charging)")) == 1
    one.car.plug(True)
    one.run(hours=2)
    assert minutes_outside(one) == 0
    assert one.car.level == 70


def test_a_window_never_outlasts_the_hours(world):
    one = evening(world, "12:26-14:26,22:56-04:56", level=66, power=1.4)
    one.run(hours=22)
    assert says(one, "T04:30Z") == ["scheduling on friday @ T04:30Z for 15 minutes"]
    assert says(one, "T04:45Z") == ["scheduling on thursday @ T04:45Z for 15 minutes (to blocking charging)"]
    assert one.car.level > 80


@pytest.mark.parametrize(
    ("hours", "clock", "left"),
    [
        ("", "12:00", 60),
        ("22:00-06:00", "21:59", 0),
        ("22:00-06:00", "22:00", 60),
        ("22:00-06:00", "05:45", 15),
        ("22:00-24:00,00:00-06:00", "23:50", 60),
        ("24:00-06:00", "23:59", 0),
        ("24:00-06:00", "00:00", 60),
        ("12:26-14:26,22:56-04:56", "14:12", 14),
        ("00:00-24:00", "23:50", 60),
    ],
)
def test_how_much_of_the_hours_is_left(hours, clock, left):
    assert hours_left(hours, datetime.strptime(clock, "%H:%M")) == left


def window(start, duration, days=("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")):
    return {"activated": True, **{day: {"startTime": start, "duration": duration} for day in days}}


@pytest.mark.parametrize(
    ("mode", "schedules", "hours"),
    [
        pytest.param("scheduled", [window("T02:00Z", 240)], "02:00-06:00", id="one"),
        pytest.param("scheduled", [window("T22:30Z", 450), window("T12:00Z", 120)], "12:00-14:00,22:30-06:00", id="two"),
        pytest.param("scheduled", [{**window("T02:00Z", 240), "activated": False}, window("T01:00Z", 60)], "01:00-02:00", id="one is off"),
        pytest.param("scheduled", [window("T02:00Z", 240, ["monday"])], "", id="one day"),
        pytest.param("scheduled", [window("T02:00Z", 240), window("T12:00Z", 60, ["sunday"])], "", id="sundays differ"),
        pytest.param("scheduled", [window("T00:00Z", 1440)], "", id="all day"),
        pytest.param("scheduled", [window(f"T{hour}:00Z", 60) for hour in (10, 12, 14)], "", id="three"),
        pytest.param("always", [window("T02:00Z", 240)], "", id="not in use"),
        pytest.param("scheduled", None, "", id="none"),
    ],
)
def test_the_owners_own_schedule_as_charge_hours(mode, schedules, hours):
    assert own_hours({"mode": mode, "schedules": schedules}) == hours


def test_the_first_start_names_the_owners_own_hours_once(world, tmp_path):
    one = world(level=70)
    one.car.plug(False)  # so that the car keeps its schedule
    one.state = str(tmp_path)
    one.restart()
    one.run(minutes=1)
    assert says(one, "CHARGE_HOURS") == ["your own schedule was 02:00-06:00 every day: CHARGE_HOURS=02:00-06:00 keeps to it"]
    one.restart()
    one.run(minutes=1)
    assert len(says(one, "CHARGE_HOURS")) == 1
    (tmp_path / f"{VIN}.json").unlink()
    one.env["CHARGE_HOURS"] = "01:00-23:00"
    one.restart()
    one.run(minutes=1)
    assert len(says(one, "CHARGE_HOURS")) == 1


@pytest.mark.parametrize(
    "value", ["22-06", "22:00", "22:00-22:00", "24:00-00:00", "25:00-06:00", "22:60-06:00", "22:00-06:00,", "24:30-06:00", "at night", "9:00-10:00x"]
)
def test_hours_that_are_none_are_one_line_with_an_example(value):
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"CHARGE_HOURS": value, "MAX_CHARGE_THRESHOLD": "x"}, None)
    (line,) = [fault for fault in caught.value.args if value in fault]
    assert line.startswith("CHARGE_HOURS=")
    assert "22:00-06:00" in line
    assert len(caught.value.args) == 2
