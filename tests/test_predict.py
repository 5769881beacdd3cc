"""PREDICT_STOP=1: stories of charges that stop at the limit, not past it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import benchmark
import pytest
from stories import says, wrote

import chargeto
from chargeto import Action

ON = {"PREDICT_STOP": "1"}
START = datetime(2026, 5, 5, 10, tzinfo=timezone.utc)


def at(minutes):
    return START + timedelta(minutes=minutes)


def charging(minutes, level, remaining=None, status=1.0, plug=1):
    return chargeto.Report(level, plug, status, 71.6, remaining, at(minutes))


def forecast(*reports):
    one = chargeto.Forecast(chargeto.Settings(timezone.utc, "UTC", predict_stop=True))
    for seen in reports:
        one.see(seen)
    return one


@pytest.mark.parametrize(("power", "error", "worst"), [(7.4, 0.7, 1.5), (11.0, 1.0, 2.5), (22.0, 2.2, 4.0)])
def test_the_short_benchmark_keeps_its_figures(power, error, worst):
    results = [result for number in range(28) for result in benchmark.life((power, number, "predicted"))]
    figures = benchmark.row(results)
    assert figures["error"] <= error
    assert figures["worst over"] <= worst
    assert figures["stops"] <= 2
    assert figures["requests"] <= 30
    plain = benchmark.row([benchmark.life((power, number, "plain"))[0] for number in range(12)])
    assert plain["error"] > 2 * error  # what the prediction is measured against
    lockouts = benchmark.row([benchmark.life((power, number, "lockout"))[0] for number in range(12)])
    assert lockouts["late"] <= 14


@pytest.mark.parametrize(
    ("reports", "now", "low", "high"),
    [
        pytest.param([charging(0, 70, 85)], 10, 73, 74.5, id="one report: by the remaining time"),
        pytest.param([charging(0, 70, 85), charging(10, 74, 74)], 20, 77, 79, id="two reports"),
        pytest.param([charging(0, 70, 85), charging(10, 74, 74), charging(20, 77, 65), charging(30, 81, 54)], 40, 84, 85.5, id="four"),
        pytest.param([charging(0, 70, 300), charging(20, 77, 300), charging(40, 84, 300)], 50, 87, 88.5, id="the car's estimate is off"),
        pytest.param([charging(0, 98, 6)], 60, 100, 100, id="never above 100"),
        pytest.param([charging(0, 70, 85)], -3, 70, 71, id="never below the report, a clock behind the car's"),
        pytest.param([charging(0, 70, 85), charging(600, 71, 84), charging(10, 74, 74)], 12, 71, 100, id="a timestamp of the future"),
    ],
)
def test_the_level_between_the_reports(reports, now, low, high):
    assert low <= forecast(*reports).level(at(now)) <= high


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(charging(10, 80, status=-1.1), id="a status that tells nothing"),
        pytest.param(chargeto.Report(80.0, 1, 1.0), id="no timestamp"),
        pytest.param(charging(10, None), id="no level"),
        pytest.param(charging(10, 80, status=0.1), id="it has stopped"),
        pytest.param(charging(10, 80, status=0.0, plug=0), id="unplugged"),
    ],
)
def test_what_a_report_leaves_open_is_not_estimated(last):
    assert forecast(charging(0, 70, 85), last).level(at(12)) is None


def test_a_charge_that_slows_down_near_full_is_followed():
    levels = [(0, 70), (12, 76), (24, 82), (36, 86), (48, 89), (60, 92), (72, 95), (84, 98)]
    assert 98 <= forecast(*(charging(minutes, level) for minutes, level in levels)).level(at(86)) <= 99


def stopped_after(minutes, one=None):
    """A forecast that has seen a car stop some minutes after it was told to."""
    one = one or forecast()
    for seen in (charging(0, 60, 40), charging(10, 66, 30)):
        one.see(seen)
    one.told(False, at(10))
    one.see(charging(10 + minutes, 70, 8, status=0.1))
    return one


def test_the_delay_to_stop_is_learned_but_one_lucky_sample_does_not_decide():
    def told_before_the_end(one):
        for seen in (charging(40, 60, 40), charging(50, 66, 30)):
            one.see(seen)
        return (one.left(one.level(at(50))) - one.stop_in(at(50))) / timedelta(minutes=1)

    assert told_before_the_end(forecast()) == pytest.approx(6.5)
    assert told_before_the_end(stopped_after(1)) == pytest.approx(5.4)
    assert told_before_the_end(stopped_after(9)) == pytest.approx(7)
    assert told_before_the_end(stopped_after(60)) == pytest.approx(7.2), "no more than it has to obey"
    often = None
    for _ in range(12):
        often = stopped_after(2, often)
    assert told_before_the_end(often) == pytest.approx((8 * 2 + 4 * 6.5) / 12)


@pytest.mark.parametrize(("level", "resumed"), [(60, True), (74, True), (76, False), (84, False)])
def test_what_stopped_short_is_taken_up_again_when_the_way_takes_more_than_20_minutes(level, resumed):
    one = forecast(charging(0, 70, 60), charging(20, 80, 40))  # half a point a minute
    assert one.adjust(Action.WINDOW, charging(28, 80, 20), at(28)) is Action.BLOCK
    one.told(False, at(28))
    resting = charging(31, level, 8, status=0.1)
    one.see(resting)
    assert one.adjust(Action.WINDOW, resting, at(32)) is (Action.WINDOW if resumed else Action.BLOCK)


@pytest.mark.parametrize(("level", "resumed"), [(79, True), (81, False)])
def test_without_a_rate_it_is_taken_up_when_more_than_5_points_are_missing(level, resumed):
    one = forecast()
    one.blocked, one.stops = True, [at(0)]  # a block that was found in the car
    resting = charging(1, level, status=0.1)
    one.see(resting)
    assert one.adjust(Action.WINDOW, resting, at(2)) is (Action.WINDOW if resumed else Action.BLOCK)


def test_there_is_no_third_push_but_a_new_charge_after_driving_or_half_a_day():
    one = forecast()
    one.blocked, one.stops = True, [at(-60), at(0)]
    low = charging(1, 66, status=0.1)
    one.see(low)
    assert one.adjust(Action.WINDOW, low, at(2)) is Action.BLOCK
    assert one.adjust(Action.WINDOW, low, at(12 * 60 + 1)) is Action.WINDOW
    one.blocked, one.stops = True, [at(0), at(1)]
    away = charging(3, 66, status=0.0, plug=0)
    one.see(away)
    assert one.adjust(Action.WAIT, away, at(4)) is Action.WAIT
    for seen in (low, charging(5, 66, 40), charging(25, 80, 20)):
        one.see(seen)
    assert one.adjust(Action.WINDOW, charging(25, 80, 20), at(28)) is Action.BLOCK
    low = charging(30, 66, status=0.1)
    one.see(low)
    assert one.adjust(Action.WINDOW, low, at(31)) is Action.WINDOW


def test_below_the_lower_threshold_it_charges_even_after_two_stops():
    one = forecast()
    one.blocked, one.stops = True, [at(0), at(1)]
    low = charging(20, 60, 90, status=0.1)
    one.see(low)
    assert one.adjust(Action.ALWAYS, low, at(20)) is Action.ALWAYS


def test_a_charge_above_the_lower_threshold_gets_a_window_before_that_is_reported():
    one = forecast(charging(0, 50, 100), charging(20, 60, 80))
    last = charging(20, 60, 80)
    assert one.adjust(Action.ALWAYS, last, at(25)) is Action.ALWAYS
    assert one.adjust(Action.ALWAYS, last, at(31)) is Action.WINDOW


def test_a_charge_says_what_it_expects_polls_in_time_and_stops_at_the_limit(world):
    story = world("2026-05-05T10:00:00Z", level=66, power=11.0, env=ON)
    story.run(hours=3)
    assert not story.faults()
    assert story.car.level == pytest.approx(85, abs=1)
    assert says(story, "% now, stop in ")
    assert len(says(story, "(predicted)")) > 1
    polls = [when for when, _, _ in story.cloud.requests("battery-status")]
    assert min(later - earlier for earlier, later in zip(polls, polls[1:])) < timedelta(minutes=5)
    assert wrote(story).count("charging-start") == 1
    hours = [sum(when <= other < when + timedelta(hours=1) for other, _, _ in story.cloud.log) for when, _, _ in story.cloud.log]
    assert max(hours) <= 30


def test_a_lockout_or_a_kill_9_costs_at_most_14_minutes_past_the_limit(world):
    story = world("2026-05-05T10:03:00Z", level=66, power=11.0, env=ON)
    story.run(lambda: story.car.level > 78)
    story.car.advance(story.clock.now + timedelta(hours=5))  # the script is gone
    assert not story.car.charging
    assert sum(level > 85 for _, level in story.car.charged) / 2 <= 14


@pytest.mark.parametrize("restarts", [1, 3])
def test_a_restart_after_a_predicted_stop_does_not_push_again(world, restarts):
    story = world("2026-05-05T10:00:00Z", level=66, power=11.0, env=ON)
    story.run(hours=2)
    stopped = story.car.level
    assert story.car.attributes["batteryLevel"] < 85
    for _ in range(restarts):
        story.restart()
        story.run(hours=1)
    assert story.car.level == stopped


def test_without_it_nothing_is_different(world):
    plain = world("2026-05-05T10:00:00Z", level=60)
    off = world("2026-05-05T10:00:00Z", level=60, env={"PREDICT_STOP": "0"})
    for story in (plain, off):
        story.run(hours=5)
    assert plain.lines == off.lines
    assert [entry[1:] for entry in plain.cloud.writes()] == [entry[1:] for entry in off.cloud.writes()]
    assert "~" not in "".join(plain.lines)
    assert "predicted" not in "".join(plain.lines)
    assert not says(plain, "for 30 minutes")
    polls = [when for when, _, _ in plain.cloud.requests("battery-status")]
    assert {later - earlier for earlier, later in zip(polls, polls[1:])} == {timedelta(minutes=5)}


def test_thresholds_side_by_side_do_not_use_up_the_quota(world):
    story = world("2026-05-05T10:00:00Z", level=60, power=22.0, delay=timedelta(minutes=10), report_every=timedelta(minutes=30),
                  env={**ON, "ALWAYS_CHARGE_AT_THRESHOLD": "84"})  # fmt: skip
    story.run(hours=3)
    assert not story.faults()
    assert max(sum(when <= other < when + timedelta(hours=1) for other, _, _ in story.cloud.log) for when, _, _ in story.cloud.log) < 30


def test_a_restart_in_always_with_an_old_block_in_the_car_is_no_stop(world):
    story = world("2026-05-05T10:00:00Z", level=67, power=3.7, env=ON)
    old = {"id": 1, "activated": True, "monday": {"startTime": "T10:00Z", "duration": 15}}
    story.car.settings = {"mode": "always", "schedules": [old]}
    story.car.plug(True)
    story.run(minutes=30)
    assert story.car.charging
    assert not says(story, "skipping")
