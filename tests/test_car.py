"""The simulated car is as obstinate as the real ones (renault.md): what all the other stories stand on."""

from datetime import datetime, timedelta, timezone

import pytest
import pytz
from cloud import chargeto

Call, Mode = chargeto.Call, chargeto.Mode
NOON = pytz.timezone("Europe/Paris").localize(datetime(2026, 5, 5, 12, 0))  # a tuesday
NOW = [{"id": 1, "activated": True, "tuesday": {"startTime": "T12:00Z", "duration": 30}}]
LATER = [{"id": 1, "activated": True, "tuesday": {"startTime": "T20:00Z", "duration": 30}}]


def zoe(**options):
    return chargeto.SimulatedZoe(NOON, **{"delay": timedelta(minutes=4), **options})


def after(car, minutes):
    car.advance(NOON + timedelta(minutes=minutes))
    return car.charging


def test_a_command_takes_its_time_to_arrive():
    car = zoe()
    car.send(Call.MODE, Mode.ALWAYS)
    assert not after(car, 3.5)
    assert after(car, 4)


def test_it_charges_at_its_power_and_slower_above_80_percent_and_never_above_100():
    car = zoe(level=60, power=10.4, capacity=52, delay=timedelta(0))
    car.send(Call.MODE, Mode.ALWAYS)
    after(car, 60.5)
    assert car.level == pytest.approx(80, abs=0.1)
    after(car, 120.5)
    assert 90 < car.level < 98
    after(car, 600)
    assert car.level == 100
    assert (car.charging, car.attributes["chargingStatus"]) == (False, 0.2)


def test_it_reports_every_ten_minutes_while_charging_at_changes_and_else_not():
    car = zoe(level=60.9)
    stamps = []
    for minute in range(60):
        if minute == 5:
            car.send(Call.SCHEDULES, [{**NOW[0], "tuesday": {"startTime": "T12:00Z", "duration": 45}}])
        after(car, minute)
        if car.attributes["timestamp"][11:16] not in stamps:
            stamps.append(car.attributes["timestamp"][11:16])
    assert stamps == ["10:00", "10:08", "10:18", "10:28", "10:38", "10:45"]
    assert car.attributes["batteryLevel"] == int(car.level)


def test_a_window_ends_the_charge_even_one_that_was_asked_for():
    car = zoe()
    car.send(Call.SCHEDULES, NOW)
    car.send(Call.START)
    assert after(car, 29)
    assert not after(car, 31)


def test_a_start_charges_without_a_window_until_a_schedule_says_otherwise():
    car = zoe()
    car.send(Call.START)
    assert after(car, 100)
    car.send(Call.SCHEDULES, LATER)
    assert after(car, 103.5)
    assert not after(car, 104)


def test_a_start_is_nothing_to_a_car_that_is_not_plugged_in():
    car = zoe()
    car.plug(False)
    car.send(Call.START)
    after(car, 10)
    car.plug(True)
    assert not after(car, 20)
    assert car.attributes["plugStatus"] == 1


def test_an_inactive_schedule_is_not_obeyed_and_mode_alone_stops_nothing_without_a_schedule():
    car = zoe()
    car.send(Call.SCHEDULES, [{**NOW[0], "activated": False}])
    assert not after(car, 10)
    car.send(Call.MODE, Mode.ALWAYS)
    assert after(car, 20)
    car.schedules = []
    car.send(Call.MODE, Mode.SCHEDULED)
    assert after(car, 30)


def test_no_current_no_charge():
    car = zoe()
    car.powered = False
    car.send(Call.MODE, Mode.ALWAYS)
    assert not after(car, 30)


@pytest.mark.parametrize("call", [Call.SCHEDULES, Call.MODE, Call.START])
def test_a_phase_2_ignores_pyze_s_calls(call):
    car = zoe(model="X102VE")
    car.send(call, {Call.SCHEDULES: NOW, Call.MODE: Mode.ALWAYS}.get(call))
    assert not after(car, 20)


def test_a_phase_2_obeys_the_app():
    car = zoe(model="X102VE")
    car.send(Call.KCM_SCHEDULES, NOW)
    assert after(car, 10)
    car.send(Call.KCM_DELAY, datetime(2026, 5, 5, 11, 0, tzinfo=timezone.utc))  # 13:00 on its own clock
    assert not after(car, 20)
    assert car.charging_settings()["mode"] == "delayed"
    assert car.charging_settings()["startDateTime"] == "2026-05-05T11:00:00Z"
    assert after(car, 61)  # the delay is over
    car.send(Call.KCM_SCHEDULES, LATER)
    assert not after(car, 70)
    car.send(Call.KCM_START)
    assert after(car, 80)
    assert car.charging_settings() == {"mode": "always", "schedules": []}


def test_a_deaf_one_does_not_obey_schedules():
    car = zoe(model="X102VE", deaf=True)
    car.send(Call.KCM_SCHEDULES, NOW)
    assert not after(car, 20)
    assert car.charging_settings()["mode"] == "scheduled"
    assert len(car.schedules[0]) == 9
