"""The core: tables of cases, and properties that hold in every zone and across every clock change."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import dateutil.tz
import pytest
import pytz
from cloud import chargeto, check_schedules
from hypothesis import given, settings
from hypothesis import strategies as st
from pyze.api.schedule import ChargeSchedules

from chargeto import (
    Action,
    Call,
    ChargeSettings,
    Mode,
    Report,
    Window,
    block_window,
    decide,
    rolling_window,
    status_line,
    target,
)

OWNER = chargeto.Settings(pytz.timezone("Europe/Stockholm"), "Europe/Stockholm")
NOON = pytz.timezone("Europe/Paris").localize(datetime(2026, 1, 5, 12, 10))  # a monday
NOW, BLOCK = Window("monday", 720, 45), Window("sunday", 720, 15)
IN_A_DAY = NOON + timedelta(hours=24)


def start(window):
    """A window's start as it goes over the wire."""
    return window.to_schedules()[0][window.day]["startTime"]


@pytest.mark.parametrize(
    ("level", "plug", "expected"),
    [
        pytest.param(0, 1, Action.ALWAYS, id="empty"),
        pytest.param(64, 1, Action.ALWAYS, id="just below the lower threshold"),
        pytest.param(64, 0, Action.ALWAYS, id="below it, not plugged in"),
        pytest.param(64.9, None, Action.ALWAYS, id="below it, plug unknown"),
        pytest.param(65, 1, Action.WINDOW, id="at the lower threshold"),
        pytest.param(65, 0, Action.WAIT, id="at it, not plugged in"),
        pytest.param(84.9, 1, Action.WINDOW, id="just below the limit"),
        pytest.param(84, -1, Action.WAIT, id="in between, plug error"),
        pytest.param(85, 1, Action.BLOCK, id="at the limit"),
        pytest.param(85, 0, Action.BLOCK, id="at the limit, not plugged in"),
        pytest.param(100, None, Action.BLOCK, id="full"),
    ],
)
def test_the_decision(level, plug, expected):
    assert decide(Report(level=level, plug=plug), OWNER) is expected


@pytest.mark.parametrize("attributes", [{}, *({"batteryLevel": bad} for bad in (None, "86", True, -1, 101, 1e400, [], {}))])
def test_without_a_usable_level_nothing_is_decided(attributes):
    with pytest.raises(chargeto.CarError, match="no state of charge"):
        decide(Report.from_attributes(attributes), OWNER)


@pytest.mark.parametrize(
    ("level", "plug", "status", "expected"),
    [
        pytest.param(70, 1, 0.1, True, id="waits in between"),
        pytest.param(50, 1, -1.0, True, id="does not charge, battery low"),
        pytest.param(70, 1, -1.4, True, id="a status newer than pyze"),
        pytest.param(70, 1, 0.2, False, id="charge ended"),
        pytest.param(70, 1, 0.3, False, id="waits for current"),
        pytest.param(70, 1, 1.0, False, id="charges"),
        pytest.param(70, 1, None, False, id="status unknown"),
        pytest.param(50, 0, 0.0, False, id="battery low, not plugged in"),
        pytest.param(70, 0, 0.0, False, id="not plugged in"),
        pytest.param(85, 1, 0.1, False, id="at the limit"),
        pytest.param(70, None, 0.1, True, id="plug unknown, but the status tells"),
    ],
)
def test_when_the_car_is_asked_to_start(level, plug, status, expected):
    report = Report(level=level, plug=plug, status=status)
    wanted = target(decide(report, OWNER), report, ChargeSettings(), NOON, None, 60, deaf=False, outright=False)
    assert bool(wanted.asked) is expected


@pytest.mark.parametrize(
    ("action", "deaf", "outright", "held", "expected"),
    [
        pytest.param("WAIT", False, False, ChargeSettings(Mode.ALWAYS), ChargeSettings(Mode.ALWAYS), id="waits: as it is"),
        pytest.param("BLOCK", False, False, ChargeSettings(), ChargeSettings(Mode.SCHEDULED, BLOCK), id="block"),
        pytest.param("BLOCK", True, False, ChargeSettings(), ChargeSettings(Mode.DELAYED, None, IN_A_DAY), id="deaf, block"),
        pytest.param("BLOCK", True, False, ChargeSettings(Mode.DELAYED, None, NOON + timedelta(hours=13)),
                     ChargeSettings(Mode.DELAYED, None, NOON + timedelta(hours=13)), id="deaf, more than half of it left"),
        pytest.param("BLOCK", True, False, ChargeSettings(Mode.DELAYED, None, NOON + timedelta(hours=12)),
                     ChargeSettings(Mode.DELAYED, None, IN_A_DAY), id="deaf, half of it is over"),
        pytest.param("ALWAYS", False, False, ChargeSettings(), ChargeSettings(Mode.ALWAYS, asked=True), id="always"),
        pytest.param("WINDOW", True, False, ChargeSettings(), ChargeSettings(Mode.SCHEDULED, NOW, asked=True), id="window"),
        pytest.param("WINDOW", False, False, ChargeSettings(), ChargeSettings(Mode.SCHEDULED, NOW, asked=True), id="phase 2"),
        pytest.param("WINDOW", True, True, ChargeSettings(), ChargeSettings(Mode.ALWAYS, asked=True), id="phase 2, outright"),
    ],
)  # fmt: skip
def test_what_the_car_is_to_hold(action, deaf, outright, held, expected):
    report = Report(level=70, plug=1, status=0.1)
    assert target(Action[action], report, held, NOON, None, 60, deaf=deaf, outright=outright) == expected


@pytest.mark.parametrize(
    ("wanted", "held", "kca", "kcm"),
    [
        pytest.param(ChargeSettings(Mode.SCHEDULED, NOW, asked=True), ChargeSettings(), ["SCHEDULES", "MODE", "START"],
                     ["KCM_SCHEDULES"], id="nothing is known: everything"),
        pytest.param(ChargeSettings(Mode.SCHEDULED, NOW, asked=True), ChargeSettings(Mode.SCHEDULED, BLOCK, asked=True), ["SCHEDULES"],
                     ["KCM_SCHEDULES"], id="the window rolls on"),
        pytest.param(ChargeSettings(Mode.SCHEDULED, NOW), ChargeSettings(None, NOW), ["MODE"], ["KCM_SCHEDULES"], id="the mode is unknown"),
        pytest.param(ChargeSettings(Mode.SCHEDULED, NOW, asked=True), ChargeSettings(Mode.SCHEDULED, NOW), ["START"], [], id="it has the window"),
        pytest.param(ChargeSettings(Mode.ALWAYS, asked=True), ChargeSettings(), ["MODE", "START"], ["KCM_START"], id="always"),
        pytest.param(ChargeSettings(Mode.ALWAYS, asked=False), ChargeSettings(Mode.ALWAYS, NOW), [], [], id="it is always"),
        pytest.param(ChargeSettings(Mode.ALWAYS, asked=True), ChargeSettings(Mode.ALWAYS), ["START"], ["KCM_START"], id="but does not charge"),
        pytest.param(ChargeSettings(Mode.DELAYED, None, IN_A_DAY), ChargeSettings(), None, ["KCM_START"], id="a delay"),
        pytest.param(ChargeSettings(Mode.DELAYED, None, IN_A_DAY), ChargeSettings(Mode.DELAYED, None, IN_A_DAY), None, [], id="it has it"),
    ],
)  # fmt: skip
def test_what_is_still_to_be_sent(wanted, held, kca, kcm):
    report = Report(level=70, plug=1, status=0.1)
    for commands, expected in ((chargeto.kca_commands, kca), (chargeto.kcm_commands, kcm)):
        if expected is not None:  # a delay is none of pyze's calls
            sent = commands(wanted, held, report)
            assert [command.call for command in sent] == [Call[name] for name in expected]
            after = sent[-1].holds if sent else held
            assert commands(wanted, after, report) == []  # what was accepted is known


def test_what_is_known_while_a_command_may_have_arrived_or_not():
    before, after = ChargeSettings(Mode.SCHEDULED, BLOCK), ChargeSettings(Mode.SCHEDULED, NOW)
    assert before.common(after) == ChargeSettings(Mode.SCHEDULED)
    assert before.common(ChargeSettings(Mode.ALWAYS, asked=True)) == ChargeSettings()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(
            dict(batteryLevel=86, plugStatus=1, chargingStatus=0.1, chargingInstantaneousPower=11.5,
                 chargingRemainingTime=55, timestamp="2021-10-21T10:48:57Z"),
            "86% plugged in, Waiting for planned charge, power: 11.5 remaining: 55 (ttc: 12.0min)"
            "  [updated: 2021-10-21T10:48:57Z]",
            id="the spec's",
        ),
        pytest.param(
            dict(batteryLevel=89, plugStatus=0, chargingStatus=0.0, timestamp="2021-10-21T12:48:57+02:00"),
            "89% unplugged, Not charging, power: - remaining: - (ttc: 0min)  [updated: 2021-10-21T10:48:57Z]",
            id="unplugged at the limit",
        ),
        pytest.param({}, "-% -, -, power: - remaining: - (ttc: -min)  [updated: -]", id="nothing at all"),
        pytest.param(
            dict(batteryLevel=None, plugStatus="x", chargingStatus=-1.6, chargingRemainingTime=-5, timestamp="soon\n"),
            "-% -, -1.6, power: - remaining: - (ttc: -min)  [updated: -]",
            id="nonsense, and a status that nobody knows",
        ),
        pytest.param(
            dict(batteryLevel=60.5, plugStatus=-1, chargingStatus=-1.1, chargingInstantaneousPower=3900.0,
                 chargingRemainingTime=100),
            "60.5% plug error, Not available, power: 3900.0 remaining: 100 (ttc: 72.0min)  [updated: -]",
            id="a ZE40 of today",
        ),
    ],
)  # fmt: skip
def test_the_status_line(attributes, expected):
    local = datetime(2021, 10, 21, 12, 49, 32)
    assert status_line(Report.from_attributes(attributes), local, 89) == "12:49:32 " + expected


@pytest.mark.parametrize(
    ("utc", "zone", "window", "block"),
    [
        pytest.param("2021-10-21T10:49:32", "Europe/Stockholm", ("thursday", "T12:45Z"), ("wednesday", "T12:45Z"), id="spec"),
        pytest.param("2026-01-04T23:00:00", "Europe/Paris", ("monday", "T00:00Z"), ("sunday", "T00:00Z"), id="week's end"),
        pytest.param("2026-01-04T22:59:59", "Europe/Paris", ("sunday", "T23:45Z"), ("saturday", "T23:45Z"), id="before it"),
        pytest.param("2026-03-29T01:05:00", "Europe/Paris", ("sunday", "T03:00Z"), ("saturday", "T03:00Z"), id="spring"),
        pytest.param("2026-10-25T00:59:00", "Europe/Paris", ("sunday", "T02:45Z"), ("saturday", "T02:45Z"), id="2 h, first"),
        pytest.param("2026-10-25T01:14:00", "Europe/Paris", ("sunday", "T02:00Z"), ("saturday", "T02:00Z"), id="2 h, again"),
        pytest.param("2026-06-30T18:20:00", "Asia/Kathmandu", ("wednesday", "T00:00Z"), ("tuesday", "T00:00Z"), id="+5:45"),
    ],
)
def test_window_and_block_in_car_local_time(utc, zone, window, block):
    local = datetime.fromisoformat(utc + "+00:00").astimezone(pytz.timezone(zone))
    assert (rolling_window(local).day, start(rolling_window(local))) == window
    assert (block_window(local, None).day, start(block_window(local, None))) == block
    assert (rolling_window(local).duration, block_window(local, None).duration) == (45, 15)


@pytest.mark.parametrize(
    ("held", "local", "kept"),
    [
        pytest.param(Window("monday", 720, 15), "2026-01-05T12:10", False, id="open right now"),
        pytest.param(Window("monday", 720, 15), "2026-01-05T23:59", False, id="on its day"),
        pytest.param(Window("monday", 720, 15), "2026-01-06T00:00", True, id="the day after"),
        pytest.param(Window("monday", 720, 15), "2026-01-10T23:59", True, id="two days before it comes round"),
        pytest.param(Window("monday", 720, 15), "2026-01-11T00:00", False, id="the day before"),
        pytest.param(Window("monday", 720, 45), "2026-01-06T12:00", False, id="not a block"),
        pytest.param(None, "2026-01-06T12:00", False, id="unknown"),
    ],
)
def test_a_block_stays_while_its_day_is_neither_today_nor_tomorrow(held, local, kept):
    now = pytz.timezone("Europe/Paris").localize(datetime.fromisoformat(local))
    assert (block_window(now, held) == held) is kept


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        pytest.param(Window("friday", 1425, 45).to_schedules(), Window("friday", 1425, 45), id="our own"),
        pytest.param(
            [Window("friday", 0, 15).to_schedules()[0], {"id": 2, "activated": False, "monday": None}], Window("friday", 0, 15),
            id="with inactive ones and a null day beside it",
        ),
        pytest.param([], None, id="none"),
        pytest.param(None, None, id="null"),
        pytest.param("x", None, id="not a list"),
        pytest.param([None, 5, {}], None, id="odd entries"),
        pytest.param([{"id": 1, "activated": True, "monday": "T12:00Z"}], None, id="an odd day"),
        pytest.param([{"id": 1, "activated": True, "monday": {"startTime": None, "duration": 45}}], None, id="no start"),
        pytest.param([{"id": 1, "activated": True, "monday": {"startTime": "T12:00Z"}}], None, id="no duration"),
        pytest.param([{**Window("friday", 0, 15).to_schedules()[0], "activated": False}], None, id="not active"),
        pytest.param([Window("friday", 0, 15).to_schedules()[0] for _ in "ab"], None, id="two active"),
        pytest.param(
            [{**Window("friday", 0, 15).to_schedules()[0], **Window("monday", 0, 15).to_schedules()[0]}], None, id="two days"
        ),
    ],
)  # fmt: skip
def test_what_counts_as_held(schedules, expected):
    assert ChargeSettings.from_attributes({"mode": "scheduled", "schedules": schedules}).window == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("always", "ALWAYS"), ("always_charging", "ALWAYS"), ("scheduled", "SCHEDULED"), ("schedule_mode", "SCHEDULED"),
     ("delayed", "DELAYED"), (None, None), ([], None)],
)  # fmt: skip
def test_the_words_of_both_generations_for_the_mode(mode, expected):
    held = ChargeSettings.from_attributes({"mode": mode})
    assert (held.mode and held.mode.name) == expected


@pytest.mark.parametrize(
    ("plug", "status", "plugged"),
    [(1, None, True), (0, 0.1, False), (0, 1.0, False), (None, 1.0, True), (None, 0.1, True), (None, 0.2, True), (None, 0.3, True),
     (-1, 1.0, True), (-2147483648, 0.0, False), (None, -1.1, False), (None, None, False)],
)  # fmt: skip
def test_plugged_in(plug, status, plugged):
    assert Report(plug=plug, status=status).plugged_in is plugged


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (ChargeSettings(), "what the car holds is not known"),
        (ChargeSettings(None, Window("monday", 720, 45)), "what the car holds is not known"),
        (ChargeSettings(Mode.ALWAYS, Window("monday", 720, 45)), "always charging: nothing will stop it at 85 %"),
        (ChargeSettings(Mode.SCHEDULED, Window("monday", 720, 45)),
         "the car holds a window until 12:45, then it stops by itself"),
        (ChargeSettings(Mode.SCHEDULED, Window("monday", 660, 45)), "the car is blocked, but for monday 11:00 to 11:45"),
        (ChargeSettings(Mode.SCHEDULED, Window("sunday", 720, 15)), "the car is blocked, but for sunday 12:00 to 12:15"),
        (ChargeSettings(Mode.SCHEDULED, Window("tuesday", 1380, 240)), "the car is blocked, but for tuesday 23:00 to 03:00"),
        (ChargeSettings(Mode.DELAYED, None, datetime(2026, 1, 6, 11, 0, tzinfo=timezone.utc)),
         "the car is blocked until Tuesday 12:00, then it charges"),
    ],
)  # fmt: skip
def test_what_the_car_is_left_with(held, expected):
    now = pytz.timezone("Europe/Paris").localize(datetime(2026, 1, 5, 12, 10))
    assert chargeto.left_with(held, now, 85) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-05-05T10:00:00Z", 10), ("2026-05-05T12:00:00+02:00", 10), ("2026-05-05T10:00:00", 10), ("soon", None), (None, None),
     (5, None), ("", None)],
)  # fmt: skip
def test_timestamps_of_the_cloud(text, expected):
    assert chargeto.moment(text) == (expected and datetime(2026, 5, 5, expected, tzinfo=timezone.utc))


def test_numbers_that_are_none():
    huge = {"batteryLevel": int("9" * 400), "chargingRemainingTime": int("9" * 400), "plugStatus": float("nan")}
    assert Report.from_attributes(huge) == Report()


# ---- properties


def zone_named(name):
    return st.sampled_from([pytz.timezone(name), dateutil.tz.gettz(name)])


@st.composite
def car_local(draw):
    """A moment on a car's clock: any zone, half of them within two days of a clock change."""
    name = draw(st.sampled_from(pytz.common_timezones))
    changes = [t for t in getattr(pytz.timezone(name), "_utc_transition_times", []) if 2012 <= t.year < 2038]
    anywhere = st.datetimes(datetime(2012, 1, 1), datetime(2037, 12, 31))
    moment = draw(st.sampled_from(changes) if changes and draw(st.booleans()) else anywhere)
    moment += timedelta(seconds=draw(st.integers(-172800, 172800)))
    return moment.replace(tzinfo=timezone.utc).astimezone(draw(zone_named(name)))


def car_may_charge(window, local):
    """Read the schedule as the wire has it, by its weekday and its clock, not with the script's arithmetic."""
    schedule = window.to_schedules()[0]
    for back in (0, 1):
        date = local.date() - timedelta(days=back)
        charge = schedule.get(date.strftime("%A").lower())
        if charge:
            start = datetime.combine(date, datetime.strptime(charge["startTime"], "T%H:%MZ").time())
            if start <= local.replace(tzinfo=None) < start + timedelta(minutes=charge["duration"]):
                return True
    return False


@given(car_local())
def test_the_rolling_window_contains_now(local):
    assert car_may_charge(rolling_window(local), local)


@given(car_local(), st.integers(0, 287))
def test_a_block_is_about_a_day_away_at_least(local, polls):
    """Both a fresh one, and one that was kept at a later poll of a week; a clock change takes an hour of the day."""
    held = block_window(local, None)
    later = (local.astimezone(timezone.utc) + polls * timedelta(minutes=37)).astimezone(local.tzinfo)
    for now, block in ((local, held), (later, block_window(later, held))):
        for minutes in range(0, 22 * 60, 3):
            at = (now.astimezone(timezone.utc) + timedelta(minutes=minutes)).astimezone(now.tzinfo)
            assert not car_may_charge(block, at), (block, now, at)


@given(car_local())
def test_every_schedule_passes_pyzes_own_validation_and_the_gateways(local):
    for window in (rolling_window(local), block_window(local, None)):
        assert ChargeSchedules({"schedules": window.to_schedules()}).validate()
        check_schedules(window.to_schedules(), ids=(1,))
        assert re.fullmatch(r"T\d\d:(00|15|30|45)Z", start(window))


@given(
    st.floats(0, 100), st.floats(0, 100), st.sampled_from([0, 1, -1, None]), st.sampled_from([0.1, 1.0, None]),
    st.floats(0, 99), st.floats(0.01, 100),
)  # fmt: skip
@settings(max_examples=300)
def test_more_charge_never_means_more_permission(one, other, plug, status, below, gap):
    owner = chargeto.Settings(pytz.utc, "UTC", min(100, below + gap), below)
    order = list(Action)
    less, more = (order.index(decide(Report(level, plug, status), owner)) for level in sorted((one, other)))
    assert less <= more
