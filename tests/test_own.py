"""Stories of the owner's own charge mode and schedules: kept before the first command, brought back by --restore."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cloud import VIN, chargeto
from stories import says, wrote

WEEKDAYS = {"id": 1, "activated": True, **{day: {"startTime": "T23:00Z", "duration": 480} for day in chargeto.DAYS[:5]}}
WEEKEND = {"id": 2, "activated": False, "saturday": {"startTime": "T13:15Z", "duration": 90}, "sunday": None}
FILLED = [WEEKDAYS, {name: value for name, value in WEEKEND.items() if value is not None}]
UNREADABLE = 501, {"errors": [{"errorCode": "err.tech.501"}]}
BOTH = pytest.mark.parametrize("model", ["X101VE", "X102VE"])


@pytest.fixture
def begin(world, tmp_path):
    """A car at some level, and the script that keeps its owner's settings, not yet started."""

    def make(own=None, level=86, **car):
        story = world("2026-05-05T10:00:00Z", level=level, **car)
        story.state = str(tmp_path / "state" / "chargeto")
        story.file = tmp_path / "state" / "chargeto" / f"{VIN}.json"
        story.car.settings.update(own or {})
        story.restart()
        return story

    return make


def saved(story):
    return json.loads(story.file.read_text())


def restore(story, dry_run=False):
    story.restart()
    return chargeto.restore(story.script.car, story.state, dry_run, story.sleep, story.lines.append)


def active(car):
    """The car's schedules that make it charge, without their empty days."""
    return [{name: value for name, value in schedule.items() if value} for schedule in car.settings["schedules"] if schedule["activated"]]


# ---- kept


@BOTH
def test_they_are_kept_as_they_are_before_the_first_command_and_the_owner_is_told_where(begin, model):
    story = begin({"schedules": [WEEKDAYS, WEEKEND] if model == "X102VE" else [WEEKDAYS]}, level=70, model=model)
    before = dict(story.car.settings)
    there = []
    story.cloud.always["POST"] = lambda: there.append(story.file.exists())  # and then the command is accepted
    story.run(minutes=20)
    commands = there[len(story.cloud.requests("getJWT")) :]
    assert commands
    assert all(commands)
    assert saved(story) == before
    assert story.file.stat().st_mode & 0o777 == 0o600
    assert story.lines[1] == f"your own charge settings are kept in {story.file}: --restore brings them back"


def test_they_are_kept_once_whatever_kills_the_script(begin):
    story = begin(level=70)
    before = dict(story.car.settings)
    for minutes in (5, 30, 60):
        story.run(minutes=minutes)
        story.restart()  # after a kill -9
    story.run(hours=3)
    assert saved(story) == before
    assert len(says(story, "your own charge settings are kept in")) == 4


@pytest.mark.parametrize("fault", [UNREADABLE, "drop", (502, b"<html>"), (200, {"data": None})])
def test_a_refused_answer_at_the_first_start_does_not_lose_them(begin, fault):
    story = begin()
    story.cloud.faults.append(("charging-settings", fault))
    story.run(minutes=20)
    assert saved(story)["mode"] == "scheduled"
    assert len(story.faults()) == 1
    assert wrote(story)[:1] == ["charge-schedule"]


def test_settings_that_cannot_be_read_cost_three_polls_and_then_none_of_the_script_s_is_taken_for_the_owner_s(begin):
    story = begin()
    story.cloud.always["charging-settings"] = UNREADABLE
    for failed in (1, 2, 3):
        story.poll()
        assert (len(story.faults()), wrote(story), story.file.exists()) == (failed, [], False)
    story.poll()
    assert len(story.faults()) == 3
    assert wrote(story) == ["charge-schedule", "charge-mode"]
    assert saved(story) == {}
    story.cloud.always.clear()
    story.restart()
    story.run(minutes=20)
    assert saved(story) == {}
    assert restore(story) == 1
    assert story.lines[-1] == f"nothing is saved for this car in {story.file}"


def test_a_quota_that_is_used_up_at_the_first_start_costs_none_of_these_polls(begin):
    story = begin()
    story.cloud.always["charging-settings"] = 429, {"errors": [{"errorCode": "err.func.wired.overloaded"}]}
    story.run(hours=2)
    story.cloud.always.clear()
    story.run(minutes=20)
    assert saved(story)["mode"] == "scheduled"


def test_a_window_of_an_earlier_run_whose_file_is_gone_is_not_taken_for_the_owner_s(begin):
    story = begin(level=70)
    story.run(minutes=20)
    story.file.unlink()
    story.restart()
    story.poll()
    assert saved(story) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100000, "\xff", None])
def test_a_file_that_cannot_be_read_is_left_as_it_is_and_stops_nothing(begin, content):
    story = begin(level=70)
    if content is None:
        story.file.mkdir(parents=True)
    else:
        story.file.parent.mkdir(parents=True)
        story.file.write_bytes(content.encode("latin-1"))
    story.run(minutes=20)
    assert len(says(story, f"your own charge settings cannot be read from {story.file}")) == 1
    assert content is None or story.file.read_bytes() == content.encode("latin-1")
    assert [path.name for path in story.file.parent.iterdir()] == [story.file.name]
    assert not story.faults()
    assert story.car.charging
    assert restore(story) == 1


def test_a_folder_that_cannot_be_written_is_one_line_and_no_obstacle(begin, tmp_path):
    (tmp_path / "state").write_text("")
    story = begin(level=70)
    story.run(minutes=30)
    assert len(says(story, "your own charge settings cannot be saved in")) == 1
    assert not story.faults()
    assert story.car.charging


def test_a_dry_run_keeps_nothing_and_sends_nothing(begin):
    story = begin(level=70)
    story.dry_run = True
    story.restart()
    story.run(hours=1)
    assert not story.file.exists()
    assert wrote(story) == []


# ---- brought back


@BOTH
@pytest.mark.parametrize(
    ("own", "mode", "schedules"),
    [
        pytest.param({"mode": "scheduled", "schedules": [WEEKDAYS]}, "scheduled", [WEEKDAYS], id="scheduled"),
        pytest.param({"mode": "schedule_mode", "schedules": [WEEKDAYS]}, "scheduled", [WEEKDAYS], id="in a ZE40's words"),
        pytest.param({"mode": "scheduled", "schedules": [{**WEEKDAYS, "sunday": None}, {"id": 2, "activated": False, "monday": None}]},
                     "scheduled", [WEEKDAYS], id="with empty days and empty schedules"),
        pytest.param({"mode": "always", "schedules": []}, "always", None, id="always"),
        pytest.param({"mode": "always_charging", "schedules": None}, "always", None, id="always, in a ZE40's words"),
        pytest.param({"mode": "delayed", "schedules": [WEEKDAYS]}, "scheduled", [WEEKDAYS], id="delayed, to a moment long past"),
        pytest.param({"mode": "delayed", "schedules": None}, "always", None, id="delayed, without a schedule"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("level", [50, 86], ids=["charging", "blocked"])
def test_whatever_they_were_they_come_back(begin, model, own, mode, schedules, level):
    story = begin(level=level, model=model)
    story.cloud.faults.append(("charging-settings", (200, {"data": {"attributes": own}})))
    story.run(minutes=30)
    assert saved(story) == own
    assert restore(story) == 0
    assert story.lines[-1] == "restored: the car holds your own charge settings"
    assert story.car.settings["mode"] == mode
    assert schedules is None or active(story.car) == schedules
    story.car.advance(story.clock() + timedelta(hours=1))
    assert story.car.charging == (mode == "always")
    assert list(story.file.parent.iterdir()) == []
    assert restore(story) == 1
    assert story.lines[-1] == f"nothing is saved for this car in {story.file}"


@BOTH
@pytest.mark.parametrize("schedules", [[], [{"id": 1, "activated": False, "monday": None}], [{**WEEKDAYS, "activated": False}]])
def test_an_owner_whose_mode_was_scheduled_without_an_active_schedule_finds_none_of_the_script_s(begin, model, schedules):
    story = begin({"schedules": schedules}, model=model)
    story.run(minutes=30)
    assert restore(story) == 0
    assert active(story.car) == []


def test_a_phase_2_gets_its_inactive_schedules_back_too(begin):
    story = begin({"schedules": [WEEKDAYS, WEEKEND]}, model="X102VE")
    story.run(minutes=30)
    assert restore(story) == 0
    assert story.car.settings == {"mode": "scheduled", "schedules": FILLED}


@BOTH
@pytest.mark.parametrize("minutes", [1, 4, 9])
def test_an_earlier_command_that_is_still_on_its_way_does_not_look_like_a_restored_car(begin, model, minutes):
    story = begin({"schedules": [WEEKDAYS]}, level=50, model=model, delay=timedelta(minutes=minutes))
    story.script.poll()  # it is told to charge always, and does not know it yet
    assert restore(story) == 0
    assert story.clock() - story.cloud.writes()[-1][0] >= timedelta(minutes=10)
    story.car.advance(story.clock() + timedelta(hours=1))
    assert (story.car.settings["mode"], active(story.car)) == ("scheduled", [WEEKDAYS])


def test_looks_that_fail_are_made_again(begin):
    story = begin()
    story.run(minutes=30)
    story.cloud.faults += [("charging-settings", UNREADABLE), ("charging-settings", "drop")]
    assert restore(story) == 0


def test_a_car_that_does_not_take_them_over_keeps_the_file(begin):
    story = begin()
    story.run(minutes=30)
    story.car.draw_delay = timedelta(hours=5)
    started = story.clock()
    assert restore(story) == 1
    assert timedelta(minutes=15) <= story.clock() - started <= timedelta(minutes=17)
    assert story.lines[-1] == f"the car has not taken it over: your own charge settings stay in {story.file}, try again later"
    assert saved(story)["mode"] == "scheduled"
    story.clock.now += timedelta(hours=5)
    assert restore(story) == 0


def test_a_refused_restore_keeps_the_file(begin):
    story = begin()
    story.run(minutes=30)
    story.cloud.always["POST actions"] = 500, {"errors": [{"errorCode": "err.tech.500"}]}
    with pytest.raises(chargeto.CarError):
        restore(story)
    assert saved(story)


def test_a_dry_run_shows_what_it_would_send(begin):
    story = begin()
    story.run(minutes=30)
    before = wrote(story)
    assert restore(story, dry_run=True) == 0
    assert wrote(story) == before
    assert saved(story)
    assert story.lines[-3].startswith('ChargeSchedule {"schedules": [{"id": 1, "activated": true, "monday": {"startTime": "T02:00Z"')
    assert story.lines[-2:] == ['ChargeMode {"action": "schedule_mode"}', "dry run: nothing of that was sent"]


def test_restore_as_a_process(process):
    folder = process.store.parent / "state" / "chargeto"
    status, out, err = process.run("--restore")
    assert (status, err) == (1, "")
    assert out == f"nothing is saved for this car in {folder}/{VIN}.json\n"
    assert process.run("--once")[0] == 0
    status, out, err = process.run("--restore", "--dry-run")
    assert (status, err) == (0, "")
    assert out.endswith("dry run: nothing of that was sent\n")
    process.cloud.close()
    status, out, err = process.run("--restore")
    assert (status, err, out.count("\n")) == (1, "", 1)
    assert f"your own charge settings stay in {folder}" in out
    assert [path.name for path in folder.iterdir()] == [f"{VIN}.json"]
