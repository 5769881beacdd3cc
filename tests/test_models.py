"""Stories of other cars: Zoe phase 2, Megane, one that is deaf to schedules, those with a limit of their own; and of accounts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cloud import ACCOUNT, chargeto
from stories import says

PHASE_2, DEAF = {"model": "X102VE"}, {"model": "X102VE", "deaf": True}
APP_S = [pytest.param(PHASE_2, id="X102VE"), pytest.param(DEAF, id="X102VE deaf")]  # they take the app's calls
CARS = [pytest.param({}, id="X101VE"), *APP_S]
MEGANE = pytest.param({"model": "XCB1VE"}, id="XCB1VE")
LOST = 200, {"data": {}}  # the cloud accepts it, and the car never hears of it
BUSY = 409, {"errors": [{"errorCode": "err.func.409001"}]}
QUOTA = 429, {"errors": [{"errorCode": "err.func.wired.overloaded"}]}


def at(world, level, mode="scheduled", **car):
    """A world with a car at some level that always charges, or has nothing to charge by."""
    story = world("2026-05-05T10:00:00Z", level=level, **car)
    story.car.settings = {"mode": mode, "schedules": []}
    story.car.update()
    story.restart()
    return story


def kcm(story):
    """The kcm commands in short: schedule, start or delay."""
    return [
        "delay" if "startDateTime" in (body or {}) else what.rpartition("/")[2] for _, what, body in story.cloud.requests("POST kcm")
    ]


def requests_an_hour(story):
    """The most requests that any hour has seen."""
    times = [when for when, _, _ in story.cloud.log]
    return max(sum(later - when < timedelta(hours=1) for later in times[number : number + 60]) for number, when in enumerate(times))


# ---- every car


@pytest.mark.parametrize("car", [*CARS, MEGANE])
def test_from_50_percent_through_always_and_the_window_to_a_block_and_40_hours_there(world, car):
    story = at(world, 50, delay=timedelta(minutes=3), **car)
    story.run(lambda: story.car.attributes["batteryLevel"] >= 85, hours=12)
    story.run(hours=1)
    assert not story.car.charging
    assert 85 <= story.car.level < (96 if car.get("deaf") else 90)
    stopped = story.car.level
    for _ in range(40):
        story.run(hours=1)
        assert (story.car.charging, story.car.level) == (False, stopped)
    assert not story.faults()
    assert f" {car.get('model', 'X101VE')} " in story.lines[0]
    made = [what for _, what, _ in story.cloud.log]
    dead = ("charge-mode", "POST actions/", "pause-resume") if car else ("kcm",)  # renault.md 3
    assert not [what for what in made if any(part in what for part in dead)]


@pytest.mark.parametrize("car", APP_S)
@pytest.mark.parametrize("fault", ["drop", "lose", LOST, BUSY], ids=["never arrives", "answer lost", "accepted in vain", "refused"])
def test_a_stop_that_gets_lost_is_sent_again(world, car, fault):
    story = at(world, 84, "always", idle_report_every=timedelta(minutes=10), **car)
    story.run(lambda: story.car.attributes["batteryLevel"] >= 85, hours=12)
    story.cloud.faults += [("POST kcm", fault)]
    story.run(hours=1)
    assert not story.car.charging
    assert story.car.level < 97


@pytest.mark.parametrize("car", APP_S)
def test_commands_refused_for_three_hours_and_the_status_is_read_all_the_same(world, car):
    story = at(world, 86, "always", power=2.3, **car)
    story.cloud.always["POST kcm"] = BUSY
    story.run(hours=3)
    read = [when for when, _, _ in story.cloud.requests("battery-status")]
    assert max(later - when for when, later in zip(read, read[1:])) <= timedelta(minutes=10)
    assert requests_an_hour(story) <= 30
    del story.cloud.always["POST kcm"]
    story.run(hours=1)
    assert not story.car.charging


@pytest.mark.parametrize("car", CARS)
@pytest.mark.parametrize("deed", ["start", "always", "schedules"])
def test_the_owner_s_app_at_75_percent_does_not_take_it_past_94(world, car, deed):
    story = at(world, 70, idle_report_every=timedelta(minutes=30), **car)
    story.run(lambda: story.car.level >= 75, hours=12)
    story.car.app(deed, [{"id": 1, "activated": True, "tuesday": {"startTime": "T12:00Z", "duration": 720}}])
    story.run(hours=3)
    assert not story.car.charging
    assert 85 <= story.car.level <= 94


@pytest.mark.parametrize("car", CARS)
@pytest.mark.parametrize("deed", ["start", "schedules"])
def test_the_owner_s_app_above_the_limit_is_overruled(world, car, deed):
    story = at(world, 86, idle_report_every=timedelta(minutes=30), delay=timedelta(minutes=2), power=7.4, **car)
    story.run(hours=1)
    story.car.app(deed, [{"id": 1, "activated": True, "tuesday": {"startTime": "T12:00Z", "duration": 720}}])
    story.run(hours=1)
    assert not story.car.charging
    assert story.car.level < 95
    if not car.get("deaf"):
        assert set(kcm(story)) <= {"schedule"}  # it does hear


@pytest.mark.parametrize("car", CARS[:2])
def test_a_restart_after_every_poll_changes_nothing_but_a_start_more(world, car):
    def charged(restarts):
        story = at(world, 60, **car)
        for _ in range(60):
            story.poll()
            if restarts:
                story.restart()
        assert not story.car.charging
        return story.car.level, [what for _, what, _ in story.cloud.writes() if "start" not in what], len(story.cloud.writes())

    (level, told, writes), (again, told_again, writes_again) = charged(restarts=False), charged(restarts=True)
    assert again == pytest.approx(level, abs=2)
    assert len(told_again) <= len(told) + 1
    assert writes_again <= writes + 3


@pytest.mark.parametrize("car", APP_S)
@pytest.mark.parametrize("minutes", [5, 35])
def test_a_restart_above_the_limit_while_the_app_s_start_has_it_charging(world, car, minutes):
    story = at(world, 86, power=7.4, idle_report_every=timedelta(minutes=30), **car)
    story.run(hours=2)
    story.car.app("start")
    story.run(minutes=minutes)
    story.restart()
    story.run(minutes=45)
    assert not story.car.charging


@pytest.mark.parametrize("car", CARS)
def test_two_lockouts_in_which_the_window_lapses(world, car):
    story = at(world, 66, power=0.9, idle_report_every=timedelta(minutes=30), **car)
    for _ in range(2):
        story.run(minutes=110)
        assert story.car.charging
        story.cloud.always["battery-status"] = QUOTA
        story.run(hours=2)
        assert story.car.charging == bool(car.get("deaf"))  # the window ends by itself; a deaf one was started outright
        story.cloud.always.clear()
        story.run(minutes=75)
        assert story.car.charging
    assert story.car.level < 85


@pytest.mark.parametrize("car", CARS)
@pytest.mark.parametrize("dies", [True, False], ids=["its current dies at once", "no current at all"])
def test_a_dead_charging_station_costs_130_commands_a_day_at_most_and_one_notification(world, car, dies):
    story = at(world, 70, idle_report_every=timedelta(minutes=10), **car)
    story.car.full_power, story.car.powered = 0.01, dies
    for _ in range(288):
        story.poll()
        story.car.powered = dies and not story.car.charging
    assert len(story.cloud.writes()) <= 130
    assert len([text for text in story.notified if "does not charge though it should" in text]) == 1
    assert requests_an_hour(story) <= 30
    story.car.full_power, story.car.powered = 11, True
    story.run(hours=3)
    assert story.car.level > 80


# ---- a car that takes the app's calls


@pytest.mark.parametrize("car", [APP_S[0], MEGANE])
def test_it_gets_one_call_a_window_and_none_to_start_or_for_its_mode(world, car):
    story = at(world, 70, **car)
    story.run(minutes=50)
    assert kcm(story) == ["schedule"] * 4
    assert story.car.charging
    assert story.cloud.requests("POST kcm")[0][2]["schedules"] == [
        {"id": 1, "activated": True, "tuesday": {"startTime": "T12:00Z", "duration": 45}}
    ]


def test_a_megane_at_its_limit_hears_of_it_once_a_day_at_most(world):
    story = at(world, 86, "always", model="XCB1VE")
    story.run(hours=30)
    assert len(kcm(story)) <= 2
    assert not story.faults()


@pytest.mark.parametrize("car", [APP_S[0], MEGANE])
def test_one_that_the_window_does_not_start_is_started_outright_and_then_gets_its_window_again(world, car):
    story = at(world, 66, power=7.4, idle_report_every=timedelta(minutes=5), **car)
    story.cloud.always["POST kcm/schedule"] = LOST
    story.run(lambda: "start" in kcm(story), hours=12)
    assert len(says(story, "the car does not charge though it should")) == 2  # told again in vain
    story.cloud.always.clear()
    story.run(minutes=45)
    assert kcm(story)[kcm(story).index("start") + 1] == "schedule"
    started, window = [when for when, _, _ in story.cloud.requests("POST kcm")[kcm(story).index("start") :][:2]]
    assert window - started >= timedelta(minutes=5)  # it is held back until the car charges
    assert story.car.charging
    assert story.car.settings["mode"] == "scheduled"
    assert kcm(story).count("start") == 1


def test_one_that_no_longer_hears_of_its_window_in_mid_charge_is_started_outright_too(world):
    story = at(world, 66, power=3.7, idle_report_every=timedelta(minutes=10), **PHASE_2)
    story.run(hours=1)
    assert story.car.charging
    story.car.deaf, story.car.settings = True, {"mode": "scheduled", "schedules": []}  # by the app
    story.run(hours=2)
    assert "start" in kcm(story)
    assert story.car.charging


def test_one_whose_settings_cannot_be_read_is_started_and_stopped_all_the_same(world):
    story = at(world, 70, idle_report_every=timedelta(minutes=10), **DEAF)
    story.cloud.always["charging-settings"] = 501, {"errors": [{"errorCode": "err.tech.501"}]}
    story.run(lambda: story.car.charging, hours=12)
    assert "start" in kcm(story)
    story.run(hours=3)
    assert not story.car.charging


# ---- deaf to schedules


def test_a_deaf_one_is_delayed_by_a_day_and_the_delay_is_renewed_when_half_of_it_is_over(world):
    story = at(world, 80, "always", idle_report_every=timedelta(minutes=30), **DEAF)
    story.run(hours=2)
    assert len(says(story, "the car charges though it is blocked")) == 1
    assert says(story, "delaying the charge to Wednesday 1")[0].endswith(" (to blocking charging)")
    assert not story.car.charging
    stopped = story.car.level
    story.cloud.log.clear()
    story.run(hours=48)
    assert story.car.level == stopped
    assert kcm(story) == ["delay"] * 4
    story.cloud.log.clear()
    story.restart()
    story.run(hours=24)  # one in mode delayed is known to be deaf
    assert (story.car.level, kcm(story)) == (stopped, ["delay"] * 2)


@pytest.mark.parametrize("restarts", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("every", [timedelta(minutes=30), None], ids=["reports", "asleep"])
def test_a_deaf_one_driven_to_70_percent_is_started_at_once_and_stopped_at_the_limit(world, restarts, every):
    story = at(world, 80, "always", idle_report_every=every, **DEAF)
    story.run(hours=2)
    assert story.car.settings["mode"] == "delayed"
    story.car.level = 70
    story.car.plug(False)
    story.run(minutes=30)
    story.car.plug(True)
    if restarts:
        story.restart()
    story.cloud.log.clear()
    story.run(minutes=15)
    assert kcm(story)[0] == "start"
    assert story.car.charging
    story.run(hours=4)
    assert not story.car.charging
    assert 85 <= story.car.level < 94
    assert kcm(story)[:2] == ["start", "schedule"]  # the window again, as soon as it charges
    assert kcm(story)[-1] == "delay"


def test_a_deaf_one_whose_delay_gets_lost_is_told_again(world):
    story = at(world, 86, "always", power=7.4, **DEAF)
    story.run(lambda: kcm(story) and kcm(story)[-1] == "schedule" and says(story, "the car charges though it is blocked"), hours=12)
    story.cloud.faults += [("POST kcm/start", LOST), ("POST kcm/start", BUSY)]
    story.run(hours=2)
    assert not story.car.charging
    assert story.car.settings["mode"] == "delayed"


# ---- cars with a limit of their own


@pytest.mark.parametrize("model", chargeto.OWN_LIMIT)
def test_a_car_with_a_limit_of_its_own_is_left_alone(world, model):
    story = world(model=model)
    with pytest.raises(chargeto.ConfigError, match=f"the ZOE {model} AB-123-CD .* a charge limit of its own, set it in the MyRenault app"):
        story.poll()
    assert not story.cloud.requests("battery-status")
    assert not story.cloud.writes()


def test_and_that_is_a_line_and_status_2(process):
    process.cloud.accounts[ACCOUNT][0]["vehicleDetails"]["model"]["code"] = "R5E1VE"
    status, out, err = process.run("--once")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "a charge limit of its own" in err


# ---- accounts


def test_an_account_without_vehicles_is_passed_over(world):
    story = at(world, 86)
    links = story.cloud.accounts.pop(ACCOUNT)
    story.cloud.accounts.update({"empty": [], "full": links})
    story.poll()
    assert "blocking at 85 %" in story.lines[0]
    assert len(story.cloud.requests("GET vehicles")) == 2


def test_the_account_pyze_has_stored_comes_first(world):
    story = at(world, 86)
    story.cloud.accounts["stored"] = [{"vin": "VF1STORED"}]
    story.stored["kamereon-account"] = "stored"
    story.restart()
    story.poll()
    assert story.lines[0].startswith("VF1STORED: ")


def test_without_any_vehicle_it_says_so(world):
    story = at(world, 86)
    story.cloud.accounts.clear()
    story.cloud.accounts.update({"one": [], "two": []})
    with pytest.raises(chargeto.ConfigError, match="there is no vehicle in your account: check"):
        story.poll()
