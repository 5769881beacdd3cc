"""The simulated car is as obstinate as the real ones (renault.md): what all the other stories stand on."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import pytz
from cloud import Zoe, chargeto

Call = chargeto.Call
NOON = pytz.timezone("Europe/Paris").localize(datetime(2026, 5, 5, 12, 0))  # a tuesday
START = {"action": "start"}
ALWAYS, SCHEDULED = {"action": "always_charging"}, {"action": "schedule_mode"}


def window(start="12:00", duration=30, activated=True):
    return {"schedules": [{"id": 1, "activated": activated, "tuesday": {"startTime": f"T{start}Z", "duration": duration}}]}


def zoe(**options):
    return Zoe(NOON, **{"delay": timedelta(minutes=4), **options})


def after(car, minutes):
    car.advance(NOON + timedelta(minutes=minutes))
    return car.charging


def test_a_command_takes_its_time_to_arrive():
    car = zoe()
    car.send(Call.MODE, ALWAYS)
    assert not after(car, 3.5)
    assert after(car, 4)


def test_delays_and_the_time_between_reports_may_be_drawn_and_no_command_overtakes_another():
    delays, intervals = iter([9, 2]), iter([25, 25, 40])
    car = zoe(delay=lambda: timedelta(minutes=next(delays)), report_every=lambda: timedelta(minutes=next(intervals)))
    car.send(Call.MODE, SCHEDULED)
    car.send(Call.MODE, ALWAYS)
    assert not after(car, 8)
    assert after(car, 9)
    after(car, 40)
    assert car.attributes["timestamp"] == "2026-05-05T10:34:00Z"  # 25 minutes after the charge began


def test_it_charges_at_its_power_and_slower_above_80_percent_and_never_above_100():
    car = zoe(level=60, power=10.4, capacity=52, delay=timedelta(0))
    car.send(Call.MODE, ALWAYS)
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
            car.send(Call.SCHEDULES, window(duration=45))
        after(car, minute)
        if car.attributes["timestamp"][11:16] not in stamps:
            stamps.append(car.attributes["timestamp"][11:16])
    assert stamps == ["10:00", "10:08", "10:18", "10:28", "10:38", "10:45"]
    assert car.attributes["batteryLevel"] == int(car.level)


def test_the_end_of_its_window_ends_the_charge():
    car = zoe()
    car.send(Call.SCHEDULES, window())
    assert after(car, 29)
    assert not after(car, 31)


def test_a_start_charges_without_a_window_until_a_schedule_and_schedule_mode_say_otherwise():
    car = zoe()
    car.app("start")
    assert after(car, 100)
    car.send(Call.SCHEDULES, window("20:00"))
    car.send(Call.MODE, SCHEDULED)
    assert after(car, 103.5)
    assert not after(car, 104)


def test_a_start_is_nothing_to_a_car_that_is_not_plugged_in():
    car = zoe()
    car.plug(False)
    car.app("start")
    after(car, 10)
    car.plug(True)
    assert not after(car, 20)
    assert car.attributes["plugStatus"] == 1


def test_an_inactive_schedule_is_not_obeyed_and_mode_alone_stops_nothing_without_a_schedule():
    car = zoe()
    car.send(Call.SCHEDULES, window(activated=False))
    assert not after(car, 10)
    car.app("always")
    assert after(car, 20)
    car.settings["schedules"] = []
    car.send(Call.MODE, SCHEDULED)
    assert after(car, 30)


def test_no_current_no_charge():
    car = zoe()
    car.powered = False
    car.app("always")
    assert not after(car, 30)


@pytest.mark.parametrize(("call", "attributes"), [(Call.SCHEDULES, window()), (Call.MODE, ALWAYS), (Call.START, START)])
def test_a_phase_2_ignores_pyze_s_calls(call, attributes):
    car = zoe(model="X102VE")
    car.send(call, attributes)
    assert not after(car, 20)


def test_a_phase_2_obeys_the_app():
    car = zoe(model="X102VE")
    car.send(Call.KCM_SCHEDULES, window())
    assert after(car, 10)
    car.send(Call.KCM_START, {**START, "startDateTime": "2026-05-05T11:00:00Z"})  # 13:00 on its own clock
    assert not after(car, 20)
    assert car.settings == {"mode": "delayed", "schedules": [], "startDateTime": "2026-05-05T11:00:00Z"}
    assert after(car, 61)  # the delay is over
    car.app("schedules", window("20:00")["schedules"])
    assert not after(car, 70)
    car.app("start")
    assert after(car, 80)
    assert car.settings == {"mode": "always", "schedules": []}


def test_a_deaf_one_does_not_obey_schedules():
    car = zoe(model="X102VE", deaf=True)
    car.send(Call.KCM_SCHEDULES, window())
    assert not after(car, 20)
    assert len(car.settings["schedules"][0]) == 9
