"""The unmodified script as a process: what an owner types, sees and gets wrong."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cloud import SECRETS, TOP, VIN, chargeto

STATUS = re.compile(
    r"\d\d:\d\d:\d\d \d+% plugged in, [A-Z][a-z ]+, power: [\d.]+ remaining: \d+ \(ttc: [\d.]+min\)  \[updated: 20\d\d-.*Z\]"
)
VARIABLES = [
    "KAMEREON_API_KEY", "GIGYA_API_KEY", "KAMEREON_ACCOUNT_ID", "SPECIFIC_VIN", "VEHICLE_TZ", "MAX_CHARGE_THRESHOLD",
    "ALWAYS_CHARGE_AT_THRESHOLD", "KAMEREON_ROOT_URL", "GIGYA_ROOT_URL", "NOTIFY_COMMAND",
]  # fmt: skip


def test_once_polls_once_and_a_second_time_repeats_nothing(process):
    status, out, err = process.run("--once", VEHICLE_TZ="Europe/Paris")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == (
        f"ZOE X101VE AB-123-CD {VIN}: car time Europe/Paris, always charging below 65 %, blocking at 85 %"
    )
    assert lines[1] == "your schedule: every day 02:00 for 4 hours; restore it with --restore"
    assert STATUS.fullmatch(lines[2])
    assert lines[3] == "we should charge, setting 30 minute window from 15 minutes ago"
    assert len(process.cloud.requests("battery-status")) == 1
    assert [what for _, what, _ in process.cloud.writes()] == ["POST actions/charge-schedule", "POST actions/charging-start"]
    status, out, err = process.run("--once", VEHICLE_TZ="Europe/Paris")
    assert (status, err) == (0, "")
    again = [what for _, what, _ in process.cloud.writes()[2:]]
    assert again == (["POST actions/charge-schedule"] if "scheduling on" in out else [])
    assert "scheduling on" not in out or lines[4] not in out  # only for a new quarter of an hour


def test_dry_run_and_once_read_and_write_nothing(process):
    status, out, err = process.run("--once", "--dry-run")
    assert (status, err) == (0, "")
    assert "scheduling on" in out
    assert not process.cloud.writes()


def test_once_against_a_cloud_that_is_down_is_one_line_and_status_1(process):
    process.cloud.close()
    status, out, err = process.run("--once")
    assert (status, err) == (1, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d Renault's cloud cannot be reached: connection refused\n", out)


def test_the_first_status_line_comes_at_once_and_the_memory_stays_small(process):
    begin = time.monotonic()
    with process.start() as running:
        assert running.stdout
        running.stdout.readline()
        running.stdout.readline()
        line = running.stdout.readline()
        took = time.monotonic() - begin
        for _ in range(2):
            running.stdout.readline()
        resident = [row for row in Path(f"/proc/{running.pid}/status").read_text().splitlines() if "VmHWM" in row]
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=5)
    assert STATUS.fullmatch(line.rstrip("\n"))
    assert took < 2
    assert int(resident[0].split()[1]) < 45 * 1024
    assert (running.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("number", "level", "sign", "last"),
    [
        (signal.SIGINT, 70, "starting charging", r"stopped: the car holds a window until \d\d:(00|15|30|45), then it stops by itself"),
        (signal.SIGTERM, 60, "starting charging", r"stopped: always charging: nothing will stop it at 85 %"),
        (signal.SIGHUP, 86, "scheduling on", r"stopped: the car is blocked, but for [a-z]+day \d\d:\d\d to \d\d:\d\d"),
    ],
)
def test_a_signal_ends_it_within_a_second_and_it_says_what_the_car_is_left_with(process, number, level, sign, last):
    process.car.level = level
    process.car.plug(True)
    with process.start() as running:
        while sign not in running.stdout.readline():
            pass
        time.sleep(0.1)  # until it waits
        begin = time.monotonic()
        running.send_signal(number)
        out, err = running.communicate(timeout=10)
    assert time.monotonic() - begin < 1
    assert re.fullmatch(last, out.splitlines()[-1])
    assert (running.returncode, err) == (0, "")


def test_a_signal_during_a_request_ends_it_as_soon_as_the_request_ends(process):
    process.cloud.always["battery-status"] = "hang"
    with process.start() as running:
        while not process.cloud.requests("battery-status"):
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert running.poll() is None
        process.cloud.released.set()
        out, err = running.communicate(timeout=5)
    assert out.splitlines()[-1] == "stopped: the car is as it was found"
    assert (running.returncode, err) == (0, "")


@pytest.mark.parametrize("args", [[], ["--demo"]])
def test_a_closed_output_pipe_ends_it_without_a_traceback(process, args):
    with process.start(*args) as running:
        if args:
            running.stdout.readline()
        running.stdout.close()  # before the first line, or between two
        err = running.stderr.read()
        running.wait(timeout=10)
    assert err == ""
    assert running.returncode == 1


def test_a_full_disk_behind_the_output_does_not_stop_it(process):
    with open("/dev/full", "w") as full, process.start(stdout=full) as running:
        while not process.cloud.requests("charging-start"):
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=5)
    assert (running.returncode, err) == (0, "")


@pytest.mark.parametrize("level", [60, 70, 86])
def test_kill_9_loses_nothing(process, level):
    process.car.level = level
    process.car.plug(True)
    with process.start() as running:
        while "]" not in running.stdout.readline():
            pass
        while not process.cloud.writes():
            time.sleep(0.01)
        running.kill()
    time.sleep(0.2)  # what was under way arrives
    written = len(process.cloud.writes())
    out = process.run("--once")[1]
    held = [body for _, what, body in process.cloud.writes() if "start" not in what]
    assert len(held) == len({str(body) for body in held})  # nothing is repeated
    assert process.car.charging == (level < 85)
    assert out.count("\n") >= 3
    assert len(process.cloud.writes()) <= written + 2


def test_a_credential_file_that_others_may_read_gets_a_warning(process):
    process.store.chmod(0o644)
    status, _, err = process.run("--once")
    assert (status, err) == (0, f"chargeto: others may read your login: chmod 600 {process.store}\n")


@pytest.mark.parametrize(("level", "plugged", "expected"), [(88, True, "charging was blocked at 88 %"), (50, False, "battery low at 50 %")])
def test_the_owner_hears_of_it_from_a_single_poll_too(process, tmp_path, level, plugged, expected):
    process.car.mode, process.car.schedules, process.car.level = "always", [], level
    process.car.plug(plugged)
    script = tmp_path / "notify"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {tmp_path}/told\n')
    script.chmod(0o755)
    status, _, err = process.run("--once", NOTIFY_COMMAND=str(script))
    assert (status, err) == (0, "")
    assert expected in (tmp_path / "told").read_text()


def test_a_notify_command_that_is_not_there_is_told_at_start_and_is_no_obstacle(process):
    process.car.mode, process.car.level = "always", 88
    process.car.plug(True)
    status, out, err = process.run("--once", NOTIFY_COMMAND="/nowhere/at/all")
    assert (status, err) == (0, "chargeto: NOTIFY_COMMAND names no command that can be run\n")
    assert "NOTIFY_COMMAND cannot be run: No such file or directory" in out
    assert len(process.cloud.writes()) == 2


def test_pyze_s_credential_file_is_only_ever_read(process):
    process.store.chmod(0o400)
    before = process.store.read_bytes(), process.store.stat().st_mtime_ns
    assert process.run("--once", KAMEREON_ACCOUNT_ID="account-77aa")[0] == 0
    assert (process.store.read_bytes(), process.store.stat().st_mtime_ns) == before
    assert {path.name for path in process.store.parent.iterdir()} == {process.store.name, "state"}


def test_without_its_packages_it_says_what_is_missing():
    bare = subprocess.run(
        [sys.executable, "-S", str(TOP / "chargeto.py"), "--help"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert bare.returncode == 2
    assert re.fullmatch(r"chargeto: the package \w+ is missing: see the README, .venv/bin/python has it\n", bare.stderr)


def test_every_fault_of_the_configuration_in_one_go_and_no_request(process):
    status, out, err = process.run(
        MAX_CHARGE_THRESHOLD="85%", ALWAYS_CHARGE_AT_THRESHOLD="-1", VEHICLE_TZ="Europe/Stokholm", KAMEREON_API_KEY="",
        GIGYA_ROOT_URL="http://example.com", KAMEREON_ROOT_URL="ftp://localhost", KAMEREON_ACCOUNT_ID="tüp",
        PYZE_TOKEN_STORE="/nowhere",
    )  # fmt: skip
    assert (status, out) == (2, "")
    for line, part in zip(sorted(err.splitlines()), sorted([
        "ALWAYS_CHARGE_AT_THRESHOLD=-1 is not a number from 0 to 100",
        "MAX_CHARGE_THRESHOLD=85% is not a number from 0 to 100",
        "VEHICLE_TZ=Europe/Stokholm is not a time zone: did you mean Europe/Stockholm",
        "KAMEREON_API_KEY is not set and pyze has none stored: the key, the same for everyone, is KAMEREON_APIKEY in https",
        "KAMEREON_ACCOUNT_ID holds a character",
        "not logged in: run `pyze login`",
        "KAMEREON_ROOT_URL=ftp://localhost must be https://HOST",
        "GIGYA_ROOT_URL=http://example.com must be https://HOST",
    ])):  # fmt: skip
        assert part in line
    assert len(err.splitlines()) == 8
    assert not process.cloud.log


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MAX_CHARGE_THRESHOLD": "60"}, "MAX_CHARGE_THRESHOLD=60 must be above ALWAYS_CHARGE_AT_THRESHOLD=65"),
        ({"GIGYA_ROOT_URL": "http://user:secret@[::1"}, "GIGYA_ROOT_URL=[::1 must be https://HOST"),
        ({"VEHICLE_TZ": "stockholm"}, "VEHICLE_TZ=stockholm is not a time zone: did you mean Europe/Stockholm"),
        ({"SPECIFIC_VIN": "VF1NOBODY"}, f"SPECIFIC_VIN=VF1NOBODY is not among your vehicles; there are: ZOE X101VE AB-123-CD {VIN}"),
    ],
)
def test_a_fault_of_the_configuration_is_one_line(process, env, expected):
    status, out, err = process.run("--once", **env)
    assert (status, out) == (2, "")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert "secret" not in err


def test_good_values_at_the_edges_are_taken_and_empty_ones_are_not_set(process):
    empty = dict.fromkeys(VARIABLES[2:7], "")
    status, out, _ = process.run("--once", **{**empty, "MAX_CHARGE_THRESHOLD": "100", "ALWAYS_CHARGE_AT_THRESHOLD": "0"})
    assert status == 0
    assert out.splitlines()[0].endswith("(this machine's zone), always charging below 0 %, blocking at 100 %")


def test_the_keys_pyze_has_stored_are_used_and_its_file_is_left_alone(process):
    keys = {"kamereon-api-key": process.env.pop("KAMEREON_API_KEY"), "gigya-api-key": process.env.pop("GIGYA_API_KEY")}
    process.login(**keys)
    before = process.store.read_bytes()
    assert process.run("--once")[0] == 0
    assert process.store.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"gigya": 1}', None])
def test_without_a_login_it_says_pyze_login(process, content):
    process.store.unlink()
    if content is not None:
        process.store.write_text(content)
    status, out, err = process.run()
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "`pyze login`" in err


def test_demo_charges_from_60_percent_to_a_block_within_15_seconds(process):
    begin = time.monotonic()
    status, out, err = process.run("--demo", KAMEREON_API_KEY="", KAMEREON_ROOT_URL="", GIGYA_ROOT_URL="")
    assert time.monotonic() - begin < 15
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert " 60% plugged in, Waiting for planned charge" in lines[1]
    assert "setting charge mode to always" in lines
    assert sum("(to blocking charging)" in line for line in lines) == 1
    stop = re.fullmatch(
        r"demo: blocked at 85 %, the simulated car stopped at ([\d.]+) %, ([\d.]+) points past the limit, after .*", lines[-1]
    )
    assert stop
    assert 85 <= float(stop[1]) <= 90
    assert float(stop[2]) == pytest.approx(float(stop[1]) - 85)
    assert not process.cloud.log


def test_demo_can_be_ended(process):
    with process.start("--demo") as running:
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=5)
    assert (running.returncode, err) == (0, "")
    assert "demo: ended before the limit of 85 %" in out.splitlines()[-1]


@pytest.mark.parametrize("argument", ["--onec", "--on", "now", "--demo --once"])
def test_anything_else_on_the_command_line_is_a_usage_error(process, argument):
    status, out, err = process.run(*argument.split())
    assert (status, out) == (2, "")
    assert "usage: chargeto.py" in err
    assert not process.cloud.log


def test_help_fits_one_screen_and_names_the_variables(process):
    status, out, _ = process.run("--help")
    assert status == 0
    assert len(out.splitlines()) <= 24
    assert max(len(line) for line in out.splitlines()) <= 80
    for word in [*VARIABLES, "--once", "--dry-run", "--demo", "--version", "pyze login"]:
        assert word in out
    assert process.run("--version")[:2] == (0, f"chargeto {chargeto.__version__}\n")


def test_nothing_secret_is_printed(process):
    outputs = "".join(part for args in (["--once"], ["--once", "--dry-run"]) for part in process.run(*args)[1:])
    for secret in SECRETS:
        assert secret not in outputs
    assert outputs.count(VIN) == 2  # the start-up lines


def test_the_server_s_own_zone_is_used_without_vehicle_tz(process):
    _, out, _ = process.run("--once", "--dry-run", TZ="Asia/Kathmandu")
    assert "UTC+0545 (this machine's zone)" in out
