"""The unmodified script as a process: what an owner types, sees, ends and gets wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cloud import SECRETS, TOP, VIN, chargeto

STATUS = re.compile(
    r"\d\d:\d\d:\d\d \d+% plugged in, [A-Z][a-z ]+, power: [\d.]+ remaining: \d+ \(ttc: [\d.]+min\)  \[updated: 20\d\d-.*Z\]"
)
VARIABLES = sorted({*chargeto.VARIABLES, "VEHICLE_TZ"} - {"KAMERON_ACCOUNT_ID"})
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(scope="module", autouse=True)
def demo():
    """A demo that runs beside the other tests: its output and how long it took."""

    def run():
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(TOP / "chargeto.py"), "--demo"], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
        )
        return done, time.monotonic() - begin

    with ThreadPoolExecutor() as pool:
        yield pool.submit(run)


def until(running, text):
    """Read its output up to a line that holds a text."""
    line = running.stdout.readline()
    while line and text not in line:
        line = running.stdout.readline()
    return line


def ended(running, status=0):
    """Its last lines; it has ended quietly."""
    out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (status, "")
    return out.splitlines()


def test_once_polls_once_and_a_second_time_repeats_no_more_than_a_start(process):
    status, out, err = process.run("--once", VEHICLE_TZ="Europe/Paris")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == f"ZOE X101VE AB-123-CD {VIN}: car time Europe/Paris, always charging below 65 %, blocking at 85 %"
    assert lines[1].startswith(f"your own charge settings are kept in {process.env['XDG_STATE_HOME']}/chargeto/{VIN}.json")
    assert lines[2] == "your own schedule was 02:00-06:00 every day: CHARGE_HOURS=02:00-06:00 keeps to it"
    assert STATUS.fullmatch(lines[3])
    assert lines[4] == "we should charge, setting 30 minute window from 15 minutes ago"
    assert lines[5].startswith("scheduling on ")
    assert len(process.cloud.requests("battery-status")) == 1
    assert [what for _, what, _ in process.cloud.writes()] == ["POST actions/charge-schedule", "POST actions/charging-start"]
    status, out, err = process.run("--once", VEHICLE_TZ="Europe/Paris")
    assert (status, err) == (0, "")
    again = [what for _, what, _ in process.cloud.writes()[2:]]
    assert ("POST actions/charge-schedule" in again) == ("scheduling on" in out)
    assert lines[5] not in out  # only for a new quarter of an hour


def test_dry_run_and_once_read_and_write_nothing(process):
    status, out, err = process.run("--once", "--dry-run")
    assert (status, err) == (0, "")
    assert "dry run: nothing is written to the car" in out.splitlines()[0]
    assert "scheduling on" in out
    assert not process.cloud.writes()


def test_once_against_a_cloud_that_is_down_is_one_line_and_status_1(process):
    process.cloud.close()
    status, out, err = process.run("--once")
    assert (status, err) == (1, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d Renault's cloud cannot be reached[^\n]*\n", out)


# ---- signals


@pytest.mark.parametrize(
    ("number", "level", "sign", "last"),
    [
        (signal.SIGINT, 70, "starting charging", r"stopped: the car holds a window until \d\d:(00|15|30|45), then it stops by itself"),
        (signal.SIGTERM, 60, "starting charging", r"stopped: always charging: nothing will stop it at 85 %"),
        (signal.SIGHUP, 86, "scheduling on", r"stopped: the car is blocked, but for [a-z]+day \d\d:\d\d to \d\d:\d\d"),
    ],
)
def test_a_signal_ends_it_and_it_says_what_the_car_is_left_with(process, number, level, sign, last):
    process.car.level = level
    process.car.plug(True)
    with process.start() as running:
        until(running, sign)
        while not process.cloud.requests("charging-start" if level < 85 else "charge-schedule"):
            time.sleep(0.01)
        time.sleep(0.2)  # until it waits
        running.send_signal(number)
        lines = ended(running)
    assert re.fullmatch(last, lines[-1])


@pytest.mark.parametrize(
    ("request_", "twice"),
    [("getJWT", SIGNALS), ("vehicles", []), ("charging-settings", SIGNALS), ("battery-status", []), ("charge-schedule", SIGNALS),
     ("charging-start", SIGNALS)],
)  # fmt: skip
def test_a_signal_during_any_request_is_one_last_line(process, request_, twice):
    number = SIGNALS[len(request_) % 3]
    with process.start() as running:

        def strike():
            for one in (number, *twice):
                os.kill(running.pid, one)

        process.cloud.always[request_] = strike  # and then the request is answered
        lines = ended(running)
    assert [line for line in lines if "stopped" in line] == lines[-1:]
    if "charg" not in request_:  # before the car's settings are known
        assert lines[-1] in ("stopped: the car is as it was found", "stopped: what the car holds is not known")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_a_request_that_hangs_ends_it_at_once(process, number):
    process.cloud.always["battery-status"] = "hang"
    with process.start() as running:
        while not process.cloud.requests("battery-status"):
            time.sleep(0.01)
        running.send_signal(number)
        running.send_signal(number)
        assert ended(running)[-1].startswith("stopped: ")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_script_is_being_loaded_is_one_last_line_too(process, tmp_path, number):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "dateutil.py").write_text("import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n")  # in the place of the package
    with process.start(PYTHONPATH=str(slow)) as running:
        until(running, "loading")
        running.send_signal(number)
        assert ended(running) == ["stopped: the car is as it was found"]


@pytest.mark.parametrize("read", [True, False], ids=["", "nobody reads"])
def test_a_signal_before_the_first_request_is_one_last_line_too(process, read):
    process.store.unlink()
    os.mkfifo(process.store)  # reading the login takes for ever
    with process.start("--once") as running:
        writer = os.open(process.store, os.O_WRONLY)  # returns when it is being read
        if not read:
            running.stdout.close()
        running.send_signal(signal.SIGTERM)
        if read:
            assert ended(running) == ["stopped: the car is as it was found"]
        else:
            assert running.stderr.read() == ""
            assert running.wait(timeout=10) in (0, 1)
        os.close(writer)


def test_ctrl_c_ends_a_restore_and_the_file_stays(process):
    assert process.run("--once")[0] == 0
    (kept,) = (process.store.parent / "state" / "chargeto").iterdir()
    before = kept.read_bytes()
    with process.start("--restore") as running:
        until(running, "waiting for the car")
        running.send_signal(signal.SIGINT)
        (line,) = ended(running)
    assert re.fullmatch(f"stopped: your own charge settings stay in {kept.parent}.*", line)
    assert kept.read_bytes() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_demo_can_be_ended(process, number):
    with process.start("--demo") as running:
        running.stdout.readline()
        running.send_signal(number)
        running.send_signal(number)
        assert ended(running)[-1].startswith("demo: ended before it was blocked at 85 %")


# ---- where its lines go


@pytest.mark.parametrize("args", [[], ["--once"], ["--demo"], ["--help"]])
def test_a_closed_output_pipe_ends_it_without_a_traceback(process, args):
    with process.start(*args) as running:
        if args == ["--demo"]:
            running.stdout.readline()
        running.stdout.close()  # before the first line, or between two
        err = running.stderr.read()
        running.wait(timeout=10)
    assert err == ""
    assert running.returncode == 1


def test_who_ends_a_pipe_with_ctrl_c_gets_no_traceback(process):
    with process.start() as running:
        until(running, "starting charging")
        running.stdout.close()  # `chargeto.py | tee log`: tee has ended already
        running.send_signal(signal.SIGINT)
        assert running.stderr.read() == ""
        assert running.wait(timeout=10) in (0, 1)


def test_a_full_disk_behind_the_output_does_not_stop_it(process):
    with open("/dev/full", "w") as full, process.start(stdout=full) as running:
        while not process.cloud.requests("charging-start"):
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=5)
    assert (running.returncode, err) == (0, "")


# ---- kill -9, the login, the notify command


@pytest.mark.parametrize("level", [60, 70, 86])
def test_kill_9_loses_nothing(process, level):
    process.car.level = level
    process.car.plug(True)
    with process.start() as running:
        while not process.cloud.writes():
            time.sleep(0.01)
        running.kill()
        running.communicate()
    assert process.run("--once")[0] == 0
    process.run("--once")
    process.car.advance(process.cloud.clock())
    assert process.car.charging == (level < 85)
    (kept,) = (process.store.parent / "state" / "chargeto").iterdir()
    assert "T02:00Z" in kept.read_text()  # the owner's, not the script's


def test_a_credential_file_that_others_may_read_gets_a_warning(process):
    process.store.chmod(0o644)
    status, _, err = process.run("--once")
    assert (status, err) == (0, f"chargeto: others may read your login: chmod 600 {process.store}\n")


@pytest.mark.parametrize(("level", "plugged", "expected"), [(88, True, "charging was blocked at 88 %"), (50, False, "battery low at 50 %")])
def test_the_owner_hears_of_it_from_a_single_poll_too(process, tmp_path, level, plugged, expected):
    process.car.settings, process.car.level = {"mode": "always", "schedules": []}, level
    process.car.plug(plugged)
    script = tmp_path / "notify"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {tmp_path}/told\n')
    script.chmod(0o755)
    status, _, err = process.run("--once", NOTIFY_COMMAND=str(script))
    assert (status, err) == (0, "")
    assert expected in (tmp_path / "told").read_text()


@pytest.mark.parametrize("command", ["/nowhere/at/all s3cret", "false s3cret"])
def test_a_notify_command_that_is_missing_or_fails_is_one_line_and_no_obstacle(process, command):
    process.car.settings, process.car.level = {"mode": "always", "schedules": []}, 88
    process.car.plug(True)
    status, out, err = process.run("--once", NOTIFY_COMMAND=command)
    assert (status, err) == (0, "")
    assert out.count("NOTIFY_COMMAND failed") == 1
    assert "s3cret" not in out
    assert len(process.cloud.writes()) == 2


def test_pyze_s_credential_file_is_only_ever_read(process):
    keys = {"kamereon-api-key": process.env.pop("KAMEREON_API_KEY"), "gigya-api-key": process.env.pop("GIGYA_API_KEY")}
    process.login(**keys)  # those that pyze has stored are used
    process.store.chmod(0o400)
    before = process.store.read_bytes(), process.store.stat().st_mtime_ns
    assert process.run("--once", KAMEREON_ACCOUNT_ID="account-77aa")[0] == 0
    assert (process.store.read_bytes(), process.store.stat().st_mtime_ns) == before
    assert {path.name for path in process.store.parent.iterdir()} == {process.store.name, "state"}


@pytest.mark.parametrize("content", ["{",  '{"gigya": 1}', None])
def test_without_a_login_it_says_pyze_login(process, content):
    process.store.unlink()
    if content is not None:
        process.store.write_text(content)
    status, out, err = process.run()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "`pyze login`" in err


# ---- the configuration, and the command line


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
        GIGYA_ROOT_URL="http://example.com", KAMEREON_ROOT_URL="ftp://localhost", KAMEREON_ACCOUNT_ID="tüp", PREDICT_STOP="yes",
        SPECIFIC_VIN="VF 1", NOTIFY_COMMAND="say 'a", PYZE_TOKEN_STORE="/nowhere",
    )  # fmt: skip
    assert (status, out) == (2, "")
    for line, part in zip(sorted(err.splitlines()), sorted([
        "ALWAYS_CHARGE_AT_THRESHOLD=-1 is not a number from 0 to 100",
        "MAX_CHARGE_THRESHOLD=85% is not a number from 0 to 100",
        "VEHICLE_TZ=Europe/Stokholm is not a time zone: did you mean Europe/Stockholm",
        "KAMEREON_API_KEY is not set and pyze has none stored: the key, the same for everyone, is KAMEREON_APIKEY in https",
        "KAMEREON_ACCOUNT_ID holds a character",
        "not logged in",
        "KAMEREON_ROOT_URL must be https://HOST",
        "GIGYA_ROOT_URL must be https://HOST",
        "PREDICT_STOP=yes must be 1",
        "SPECIFIC_VIN=VF 1 is not a VIN",
        "NOTIFY_COMMAND has a quote without its other half",
    ])):  # fmt: skip
        assert part in line
    assert len(err.splitlines()) == 11
    assert not process.cloud.log


def test_a_vin_of_somebody_else_s_is_one_line_with_those_there_are(process):
    status, out, err = process.run("--once", SPECIFIC_VIN="VF1NOBODY")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"SPECIFIC_VIN=VF1NOBODY is not among your vehicles; there are: ZOE X101VE AB-123-CD {VIN}" in err


def test_good_values_at_the_edges_are_taken_and_empty_ones_are_not_set(process):
    empty = dict.fromkeys(VARIABLES, "")
    kept = {name: process.env[name] for name in VARIABLES if name in process.env}
    edges = {"MAX_CHARGE_THRESHOLD": "100", "ALWAYS_CHARGE_AT_THRESHOLD": "0", "TZ": "Asia/Kathmandu"}
    status, out, _ = process.run("--once", "--dry-run", **{**empty, **kept, **edges})
    assert status == 0
    assert "UTC+0545 (this machine's zone), always charging below 0 %, blocking at 100 %" in out.splitlines()[0]


@pytest.mark.parametrize("argument", ["--on", "now", "--demo --once", "--demo --dry-run"])
def test_anything_else_on_the_command_line_is_a_usage_error(process, argument):
    status, out, err = process.run(*argument.split())
    assert (status, out) == (2, "")
    assert "usage: chargeto.py" in err
    assert not process.cloud.log


def test_help_fits_one_screen_and_names_the_options_and_variables(process):
    status, out, err = process.run("--help")
    assert (status, err) == (0, "")
    lines = out.strip().splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80
    for word in [*VARIABLES, "--once", "--dry-run", "--restore", "--demo", "--version", "pyze login"]:
        assert word in out
    assert process.run("--version") == (0, f"chargeto {chargeto.__version__}\n", "")


def test_nothing_secret_is_printed(process):
    outputs = "".join(part for args in (["--once"], ["--once", "--dry-run"]) for part in process.run(*args)[1:])
    for secret in SECRETS:
        assert secret not in outputs


def test_the_demo_charges_from_60_percent_to_a_block_within_15_seconds(demo):
    done, took = demo.result()
    assert took < 15
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert " 60% plugged in, Waiting for planned charge" in lines[1]
    assert "setting charge mode to always" in lines
    assert sum("(to blocking charging)" in line for line in lines) == 1
    stop = re.fullmatch(
        r"demo: blocked at 85 %, the simulated car is at ([\d.]+) %, \+([\d.]+) points from the limit, after [\d.]+ simulated hours", lines[-1]
    )
    assert stop
    assert 85 <= float(stop[1]) <= 90
    assert float(stop[2]) == pytest.approx(float(stop[1]) - 85)
