"""Stories of other cars: Zoe phase 2, Megane, a car deaf to schedules; and of the owner's own schedule."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cloud import ACCOUNT, VIN, chargeto
from test_charge import says, wrote

OWN = [
    {"id": 1, "activated": True, **{day: {"startTime": "T23:00Z", "duration": 480} for day in chargeto.DAYS[:5]}},
    {"id": 2, "activated": False, "saturday": {"startTime": "T13:15Z", "duration": 90}, "sunday": None},
]
CARS = [
    pytest.param({"model": "X101VE"}, id="X101VE"),
    pytest.param({"model": "X102VE"}, id="X102VE"),
    pytest.param({"model": "X102VE", "deaf": True}, id="X102VE deaf to schedules"),
    pytest.param({"model": "XCB1VE"}, id="XCB1VE"),
]
DEAD = ("charge-mode", "POST actions/", "pause-resume")  # for phase 2 (renault.md 3)


def kcm(story):
    """The kcm commands in short: schedule, start or delay."""
    return [
        "delay" if "startDateTime" in (body or {}) else what.rpartition("/")[2] for _, what, body in story.cloud.requests("POST kcm")
    ]


def saved(folder):
    return json.loads((Path(folder) / f"{VIN}.json").read_text())


def restore(story, **options):
    return chargeto.restore(story.script.car, story.state, options.get("dry_run", False), story.clock, story.sleep, story.lines.append)


@pytest.mark.parametrize("car", CARS)
def test_from_50_percent_through_always_and_the_window_to_a_block_and_40_hours_there(world, car):
    story = world("2026-05-05T10:00:00Z", level=50, delay=timedelta(minutes=3), **car)
    story.run(lambda: story.car.attributes["batteryLevel"] >= 85)
    story.run(hours=1)
    assert not story.car.charging
    assert 85 <= story.car.level < (96 if car.get("deaf") else 90)
    stopped = story.car.level
    for _ in range(40):
        story.run(hours=1)
        assert (story.car.charging, story.car.level) == (False, stopped)
    assert not story.faults()
    assert f" {car['model']} " in story.lines[0]
    made = [what for _, what, _ in story.cloud.log]
    assert not [what for what in made if any(dead in what for dead in (DEAD if car["model"] != "X101VE" else ("kcm",)))]
    assert story.cloud.writes()[0][1:] == (
        ("POST actions/charge-mode", {"action": "always_charging"}) if car["model"] == "X101VE" else ("POST kcm/start", {"action": "start"})
    )


def test_a_zoe_phase_2_gets_one_call_a_window_and_none_to_start(world):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE")
    story.car.schedules = OWN
    story.run(minutes=50)
    assert kcm(story) == ["schedule"] * 4
    assert story.car.charging
    body = story.cloud.requests("POST kcm")[0][2]["schedules"]
    assert body[0] == {"id": 1, "activated": True, "tuesday": {"startTime": "T12:00Z", "duration": 45}}
    assert body[1:] == [{"id": 2, "activated": False, "saturday": {"startTime": "T13:15Z", "duration": 90}}]


def test_a_schedule_that_a_gateway_would_refuse_is_not_sent_along(world):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE")
    odd = {"id": 3, "activated": True, "monday": {"startTime": "T13:20Z", "duration": 90}, "friday": {"startTime": "T13:15Z"}}
    story.cloud.always["charging-settings"] = 200, {"data": {"attributes": {"mode": "scheduled", "schedules": [odd, 5, OWN[1]]}}}
    story.run(minutes=10)
    assert [schedule["id"] for schedule in story.cloud.requests("POST kcm")[0][2]["schedules"]] == [1, 2]


@pytest.mark.parametrize(
    "odd",
    [
        {"id": 3, "activated": True, "monday": {"startTime": "T13:15Z", "duration": 90}, "friday": {"startTime": "T14:15Z", "duration": 90}},
        {"id": 3, "activated": True, "monday": {"startTime": "T24:00Z", "duration": 90}},
        {"id": 3, "activated": True, "monday": {"startTime": "T13:00Z", "duration": 1455}},
        {"id": 2, "activated": True, "monday": {"startTime": "T13:00Z", "duration": 60}},
    ],
)
def test_no_schedule_of_the_owner_s_keeps_the_car_from_being_controlled(world, odd):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE")
    story.cloud.always["charging-settings"] = 200, {"data": {"attributes": {"mode": "scheduled", "schedules": [OWN[1], odd]}}}
    story.run(minutes=30)
    assert not story.faults()
    assert story.car.charging
    assert not any(schedule["activated"] for schedule in story.cloud.requests("POST kcm")[0][2]["schedules"][1:])


def test_active_schedules_of_the_owner_s_are_switched_off_beside_ours(world):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE")
    story.car.schedules = [OWN[0], {**OWN[1], "activated": True, "sunday": {"startTime": "T13:15Z", "duration": 90}}]
    story.run(minutes=10)
    body = story.cloud.requests("POST kcm")[0][2]["schedules"]
    assert [(schedule["id"], schedule["activated"]) for schedule in body] == [(1, True), (2, False)]


def test_a_phase_2_whose_settings_cannot_be_read_is_started_all_the_same(world):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE", deaf=True, idle_report_every=timedelta(minutes=10))
    story.cloud.always["charging-settings"] = 501, {"errors": [{"errorCode": "err.tech.501"}]}
    story.run(hours=1)
    assert "start" in kcm(story)
    assert story.car.charging


def test_the_way_that_worked_is_known_to_the_next_process(world, tmp_path):
    story = world("2026-05-05T10:00:00Z", level=80, model="X102VE", deaf=True)
    story.state = str(tmp_path)
    story.car.mode = "always"
    story.restart()
    story.run(hours=2)
    assert not story.car.charging
    story.car.level = 70
    story.car.plug(False)
    story.car.plug(True)
    story.run(minutes=20)
    assert story.car.charging
    story.restart()
    story.run(hours=3)
    assert not story.car.charging
    assert len(says(story, "blocking it by kcm charge/start")) == 1


def test_an_x101ve_that_ignores_a_block_gets_its_mode_first_the_next_time(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.car.mode = "always"
    story.car.plug(True)
    story.cloud.faults += [("charge-schedule", (200, {"data": {}})), ("charge-mode", (200, {"data": {}}))]
    story.run(hours=1)
    assert wrote(story) == ["charge-schedule", "charge-mode", "charge-mode", "charge-schedule"]
    assert not story.car.charging


def test_a_phase_2_that_the_window_does_not_start_is_started_and_then_gets_its_window_again(world):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE", idle_report_every=timedelta(minutes=5))
    lost = 200, {"data": {}}
    story.cloud.faults.append(("kcm/schedule", lost))
    story.cloud.faults.append(("kcm/schedule", lost))
    story.run(minutes=60)
    # lost, lost, started after the report that showed it, held back until it charges
    assert kcm(story)[:2] == ["schedule", "start"] or kcm(story)[:3] == ["schedule", "schedule", "start"]
    start = kcm(story).index("start")
    assert kcm(story)[start + 1] == "schedule"
    started, window = (when for when, _, _ in story.cloud.requests("POST kcm")[start : start + 2])
    assert window - started >= story.car.delay
    assert story.car.charging
    assert story.car.mode == "scheduled"
    assert kcm(story).count("start") == 1


def test_a_car_deaf_to_schedules_is_delayed_by_a_day_renewed_and_taken_back(world):
    story = world("2026-05-05T10:00:00Z", level=80, model="X102VE", deaf=True, idle_report_every=timedelta(minutes=30))
    story.car.mode = "always"
    story.run(hours=2)
    assert says(story, "the car charges though it is blocked: blocking it by kcm charge/start in 24 hours")
    assert says(story, "delaying the charge to Wednesday 1")
    assert not story.car.charging
    stopped = story.car.level
    story.cloud.log.clear()
    story.run(hours=48)
    assert story.car.level == stopped
    assert kcm(story) == ["delay"] * 4  # every 12 hours
    story.restart()
    story.run(hours=24)
    assert story.car.level == stopped
    assert "schedule" not in kcm(story)  # the way that worked, known from the car's own settings
    story.car.level = 70
    story.car.plug(False)
    story.run(minutes=30)
    story.car.plug(True)
    story.cloud.log.clear()
    story.run(minutes=15)
    assert kcm(story)[0] == "start"  # taken back
    assert story.car.charging
    story.run(hours=4)
    assert not story.car.charging
    assert kcm(story).index("delay") > 0
    assert len(says(story, "the car charges though it is blocked")) == 1  # the way that worked came first


def test_who_starts_a_charge_in_the_app_does_not_change_the_way(world):
    story = world("2026-05-05T10:00:00Z", level=86, model="X102VE", delay=timedelta(minutes=2))
    story.run(hours=1)
    story.car.send(chargeto.Call.KCM_START)
    story.run(minutes=20)
    assert not story.car.charging
    assert set(kcm(story)) == {"schedule"}


def test_a_dead_charging_station_costs_a_phase_2_few_writes_too(world):
    story = world("2026-05-05T10:00:00Z", level=70, model="X102VE", idle_report_every=timedelta(minutes=10))
    story.car.powered = False
    story.run(days=1)
    assert kcm(story).count("schedule") <= 96
    assert kcm(story).count("start") <= 30


def test_a_megane_never_hears_of_its_charge_mode(world):
    story = world("2026-05-05T10:00:00Z", level=86, model="XCB1VE")
    story.run(days=1)
    assert kcm(story) == ["schedule"]
    assert not story.faults()


@pytest.mark.parametrize("model", ["R5E1VE", "A4E1VE", "A5E1AE", "XCB1SE"])
def test_a_car_with_a_limit_of_its_own_is_left_alone(process, model):
    process.cloud.accounts[ACCOUNT][0]["vehicleDetails"]["model"]["code"] = model
    status, out, err = process.run("--once")
    assert (status, out) == (2, "")
    assert f"the ZOE {model} AB-123-CD holds a charge limit of its own, set it in the MyRenault app" in err
    assert VIN not in err
    assert not process.cloud.requests("cars")


# ---- accounts


def test_an_account_without_vehicles_is_passed_over(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    links = story.cloud.accounts.pop(ACCOUNT)
    story.cloud.accounts.update({"empty": [], "full": links})
    story.poll()
    assert "blocking at 85 %" in story.lines[0]
    assert len(story.cloud.requests("GET vehicles")) == 2


def test_the_account_pyze_has_stored_comes_first(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.cloud.accounts["stored"] = [{"vin": "VF1STORED"}]
    story.stored["kamereon-account"] = "stored"
    story.restart()
    story.poll()
    assert story.lines[0].startswith("VF1STORED: ")


def test_without_any_vehicle_it_says_what_there_is(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.cloud.accounts.clear()
    story.cloud.accounts.update({"one": [], "two": []})
    with pytest.raises(chargeto.ConfigError, match=r"there is no vehicle in 2 accounts: check"):
        story.poll()


# ---- the owner's own schedule


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"mode": "scheduled", "schedules": OWN}, "monday to friday 23:00 for 8 hours"),
        ({"mode": "scheduled", "schedules": [{**OWN[1], "activated": True}]}, "saturday 13:15 for 90 minutes"),
        ({"mode": "schedule_mode", "schedules": [{"id": 1, "activated": True, **{
            day: {"startTime": "T02:00Z", "duration": 240} for day in chargeto.DAYS}}]}, "every day 02:00 for 4 hours"),
        ({"mode": "scheduled", "schedules": [{"id": 1, "activated": True, "monday": {"startTime": "T01:00Z", "duration": 60},
          "friday": {"startTime": "T01:00Z", "duration": 60}, "sunday": {"startTime": "T05:00Z", "duration": 120}}]},
         "monday, friday 01:00 for 1 hour; sunday 05:00 for 2 hours"),
        ({"mode": "always_charging", "schedules": []}, "always charging"),
        ({"mode": "delayed"}, "a delayed charge"),
        ({"mode": "scheduled", "schedules": None}, "schedule mode without a schedule"),
    ],
)  # fmt: skip
def test_the_owner_s_schedule_in_words(own, expected):
    assert chargeto.describe(own) == expected


@pytest.mark.parametrize("model", ["X101VE", "X102VE"])
@pytest.mark.parametrize("mode", ["scheduled", "always"])
def test_what_the_car_had_before_is_saved_once_and_put_back_after_a_kill_9(world, tmp_path, model, mode):
    story = world("2026-05-05T10:00:00Z", level=50, model=model, delay=timedelta(minutes=4))
    story.state = str(tmp_path / "state" / "chargeto")
    story.car.mode, story.car.schedules = mode, OWN[:1] if mode == "scheduled" else []
    story.restart()
    story.run(hours=3)
    words = "monday to friday 23:00 for 8 hours" if mode == "scheduled" else "always charging"
    assert story.lines[1] == f"your schedule: {words}; restore it with --restore"
    before = saved(story.state)
    assert before == {"mode": mode, "schedules": OWN[:1] if mode == "scheduled" else []}
    assert (Path(story.state) / f"{VIN}.json").stat().st_mode & 0o777 == 0o600
    for _ in range(3):
        story.restart()
        story.run(hours=1)
    assert saved(story.state) == before
    assert says(story, f"your schedule: {words}") == [f"your schedule: {words}; restore it with --restore"] * 4
    story.restart()
    assert restore(story) == 0
    assert story.lines[-1] == f"restored: {words}"
    assert story.car.mode == mode
    assert mode == "always" or story.car.schedules == OWN[:1]
    assert list(Path(story.state).iterdir()) == []
    assert restore(story) == 1
    assert story.lines[-1].startswith("nothing is saved for this car in ")
    assert story.car.charging == (mode == "always")


@pytest.mark.parametrize("model", ["X101VE", "X102VE"])
@pytest.mark.parametrize("own", [{"mode": "scheduled", "schedules": []}, {"mode": "always", "schedules": []},
                                 {"mode": "delayed", "schedules": OWN[:1]}, {"mode": "delayed", "schedules": None}])  # fmt: skip
def test_whatever_the_car_had_none_of_ours_stays_behind(world, tmp_path, model, own):
    story = world("2026-05-05T10:00:00Z", level=86, model=model)
    story.state = str(tmp_path)
    story.cloud.faults.append(("charging-settings", (200, {"data": {"attributes": own}})))
    story.restart()
    story.run(minutes=20)
    story.cloud.faults.append(("charging-settings", (500, {"errors": [{"errorCode": "err.tech.500"}]})))
    assert restore(story) == 0
    active = [schedule for schedule in story.car.schedules if schedule["activated"]]
    assert active == (OWN[:1] if own["schedules"] else [])
    assert story.car.mode == ("scheduled" if own["mode"] == "scheduled" or own["schedules"] else "always")


@pytest.mark.parametrize("car", CARS[:2])
def test_a_restore_is_not_believed_while_an_earlier_command_is_on_its_way(world, tmp_path, car):
    story = world("2026-05-05T10:00:00Z", level=50, delay=timedelta(minutes=9), **car)
    story.state = str(tmp_path)
    story.restart()
    story.script.poll()  # it is told to charge always, and does not know it yet
    assert restore(story) == 0
    assert story.clock.now - story.cloud.log[0][0] >= timedelta(minutes=9)
    assert (story.car.mode, len(story.car.schedules[0])) == ("scheduled", 9)


def test_a_restore_that_the_car_does_not_take_over_keeps_what_is_saved(world, tmp_path):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.state = str(tmp_path)
    story.restart()
    story.poll()
    story.car.delay = timedelta(hours=5)
    assert restore(story) == 1
    assert saved(tmp_path)
    assert "it stays saved: every day 02:00 for 4 hours" in story.lines[-1]
    assert len(story.cloud.requests("charging-settings")) <= 18


def test_a_dry_run_restore_shows_what_it_would_send(world, tmp_path):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.state = str(tmp_path)
    story.restart()
    story.poll()
    before = wrote(story)
    assert restore(story, dry_run=True) == 0
    assert wrote(story) == before
    assert saved(tmp_path)
    assert "would send charge-schedule" in story.lines[-2]
    assert '"startTime": "T02:00Z", "duration": 240' in story.lines[-2]
    assert story.lines[-1] == "would send charge-mode scheduled"


def test_what_the_script_itself_wrote_is_not_taken_for_the_owner_s(world, tmp_path):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.run(minutes=20)
    story.state = str(tmp_path)
    story.restart()
    story.poll()
    assert saved(tmp_path) == {}


def test_a_dry_run_and_an_unreadable_car_save_nothing(world, tmp_path):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.state, story.dry_run = str(tmp_path), True
    story.restart()
    assert story.poll()[1] == "your schedule: every day 02:00 for 4 hours"
    story.dry_run = False
    story.cloud.always["charging-settings"] = 501, {"errors": [{"errorCode": "err.tech.501"}]}
    story.restart()
    story.poll()
    assert saved(tmp_path) == {}  # unknown: and what the script writes from now on is not taken for the owner's
    story.cloud.always.clear()
    story.restart()
    story.poll()
    assert saved(tmp_path) == {}
    assert restore(story) == 1


def test_a_glitch_at_the_first_read_does_not_cost_the_owner_s_schedule(world, tmp_path):
    story = world("2026-05-05T10:00:00Z", level=86)
    story.state = str(tmp_path)
    story.cloud.faults.append(("charging-settings", (502, b"<html>")))
    story.restart()
    story.poll()
    assert saved(tmp_path)["mode"] == "scheduled"


def test_a_state_folder_that_cannot_be_written_is_one_line_and_no_obstacle(world, tmp_path):
    (tmp_path / "file").write_text("")
    story = world("2026-05-05T10:00:00Z", level=86)
    story.state = str(tmp_path / "file" / "chargeto")
    story.restart()
    story.run(hours=1)
    assert len([line for line in story.lines if "saved" in line]) == 1
    assert not story.faults()
    assert wrote(story) == ["charge-schedule"]


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100000, '{"mode": 5}', '{"mode": "always", "schedules": 5}', '{"schedules": []}'])
def test_a_damaged_state_file_is_kept_aside(world, tmp_path, content):
    (tmp_path / f"{VIN}.json").write_text(content)
    story = world("2026-05-05T10:00:00Z", level=86)
    story.state = str(tmp_path)
    story.restart()
    story.run(minutes=20)
    assert (tmp_path / f"{VIN}.json.damaged").read_text() == content
    assert len(says(story, "is damaged")) == 1
    assert saved(tmp_path)["mode"] == "scheduled"
    assert not story.faults()


def test_restore_as_a_process(process, tmp_path):
    assert process.run("--restore")[0] == 1
    assert process.run("--once")[0] == 0
    folder = tmp_path / "state" / "chargeto"
    assert {path.name for path in folder.iterdir()} == {f"{VIN}.json", f"{VIN}.json.notes"}
    status, out, err = process.run("--restore", "--dry-run")
    assert (status, err) == (0, "")
    assert "would send" in out
    status, out, err = process.run("--restore")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "restored: every day 02:00 for 4 hours"
    assert list(folder.iterdir()) == []
    process.cloud.close()
    status, out, err = process.run("--restore")
    assert (status, err, out.count("\n")) == (1, "", 1)


def test_the_demo_shows_a_phase_2(process):
    with process.start("--demo", "--model", "X102VE") as running:
        assert "simulated X102VE" in running.stdout.readline()
        while "scheduling on" not in running.stdout.readline():
            pass
        running.terminate()
        running.communicate(timeout=5)
    assert running.returncode == 0
    assert process.run("--model", "X102VE")[0] == 2
    assert process.run("--demo", "--model", "R5E1VE")[0] == 2
    assert process.run("--once", "--restore")[0] == 2
