"""The unmodified script as a process: what an owner types, sees and gets wrong."""

import os
import re
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cloud import SECRETS, VIN, chargeto

STATUS = re.compile(
    r"\d\d:\d\d:\d\d \d+% plugged in, [A-Z][a-z ]+, power: [\d.]+ remaining: \d+ \(ttc: [\d.]+min\)  \[updated: 20\d\d-.*Z\]"
)
VARIABLES = [
    "KAMEREON_API_KEY", "GIGYA_API_KEY", "KAMEREON_ACCOUNT_ID", "SPECIFIC_VIN", "VEHICLE_TZ", "MAX_CHARGE_THRESHOLD",
    "ALWAYS_CHARGE_AT_THRESHOLD", "KAMEREON_ROOT_URL", "GIGYA_ROOT_URL",
]  # fmt: skip


def test_once_polls_once_and_a_second_time_repeats_nothing(process):
    status, out, err = process.run("--once", VEHICLE_TZ="Europe/Paris")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == (
        f"ZOE AB-123-CD {VIN}: car time Europe/Paris, always charging below 65 %, blocking at 85 %"
    )
    assert STATUS.fullmatch(lines[1])
    assert lines[2] == "we should charge, setting 30 minute window from 15 minutes ago"
    assert len(process.cloud.requests("battery-status")) == 1
    assert [what for _, what, _ in process.cloud.writes()] == ["POST actions/charge-schedule", "POST actions/charging-start"]
    quarter = lines[3]
    status, out, _ = process.run("--once", VEHICLE_TZ="Europe/Paris")
    if quarter in out or "no need" in out:  # unless a new quarter of an hour has begun meanwhile
        assert len(process.cloud.writes()) == 2


def test_dry_run_and_once_read_and_write_nothing(process):
    status, out, err = process.run("--once", "--dry-run")
    assert (status, err) == (0, "")
    assert "scheduling on" in out
    assert not process.cloud.writes()


def test_once_against_a_cloud_that_is_down_is_one_line_and_status_1(process):
    process.cloud.close()
    status, out, err = process.run("--once")
    assert (status, err) == (1, "")
    assert out == "Renault's cloud cannot be reached: connection refused; next try in 5 minutes\n"


def test_the_first_status_line_comes_at_once_and_the_memory_stays_small(process):
    begin = time.monotonic()
    with process.start() as running:
        assert running.stdout
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_while_it_waits(process, number):
    with process.start() as running:
        while "starting charging" not in running.stdout.readline():
            pass
        begin = time.monotonic()
        running.send_signal(number)
        _, err = running.communicate(timeout=10)
    assert time.monotonic() - begin < 5
    assert (running.returncode, err) == (0, "")


def test_every_fault_of_the_configuration_in_one_go_and_no_request(process):
    status, out, err = process.run(
        MAX_CHARGE_THRESHOLD="85%", ALWAYS_CHARGE_AT_THRESHOLD="-1", VEHICLE_TZ="Europe/Stokholm", KAMEREON_API_KEY="",
        GIGYA_ROOT_URL="http://example.com", KAMEREON_ROOT_URL="ftp://localhost", KAMEREON_ACCOUNT_ID="tüp",
        PYZE_TOKEN_STORE="/nowhere",
    )  # fmt: skip
    assert (status, out) == (2, "")
    for line, part in zip(err.splitlines(), [
        "ALWAYS_CHARGE_AT_THRESHOLD=-1 is not a number from 0 to 100",
        "MAX_CHARGE_THRESHOLD=85% is not a number from 0 to 100",
        "VEHICLE_TZ=Europe/Stokholm is not a time zone: did you mean Europe/Stockholm",
        "KAMEREON_API_KEY is not set and pyze has none stored: the key, the same for everyone, is KAMEREON_APIKEY in https",
        "KAMEREON_ACCOUNT_ID holds a character",
        "not logged in: run `pyze login`",
        "KAMEREON_ROOT_URL=ftp://localhost must be https://HOST",
        "GIGYA_ROOT_URL=http://example.com must be https://HOST",
    ]):  # fmt: skip
        assert part in line
    assert len(err.splitlines()) == 8
    assert not process.cloud.log


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MAX_CHARGE_THRESHOLD": "60"}, "MAX_CHARGE_THRESHOLD=60 must be above ALWAYS_CHARGE_AT_THRESHOLD=65"),
        ({"ALWAYS_CHARGE_AT_THRESHOLD": "85"}, "MAX_CHARGE_THRESHOLD=85 must be above ALWAYS_CHARGE_AT_THRESHOLD=85"),
        ({"MAX_CHARGE_THRESHOLD": "100.5"}, "MAX_CHARGE_THRESHOLD=100.5 is not a number from 0 to 100"),
        ({"MAX_CHARGE_THRESHOLD": "nan"}, "MAX_CHARGE_THRESHOLD=nan is not a number from 0 to 100"),
        ({"KAMEREON_ROOT_URL": "http://127.0.0.1.example.com"}, "KAMEREON_ROOT_URL=http://127.0.0.1.example.com must"),
        ({"GIGYA_ROOT_URL": "http://user:secret@[::1"}, "GIGYA_ROOT_URL=[::1 must be https://HOST"),
        ({"VEHICLE_TZ": "stockholm"}, "VEHICLE_TZ=stockholm is not a time zone: did you mean Europe/Stockholm"),
        ({"SPECIFIC_VIN": "VF1NOBODY"}, f"SPECIFIC_VIN=VF1NOBODY is not among your vehicles; there are: ZOE AB-123-CD {VIN}"),
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


@pytest.mark.parametrize("argument", ["--onec", "--on", "now", "--demo --once", "--demo --dry-run", "--once=1"])
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
    process.car.delay = timedelta(0)
    outputs = "".join(part for args in (["--once"], ["--once", "--dry-run"]) for part in process.run(*args)[1:])
    for secret in SECRETS:
        assert secret not in outputs
    assert outputs.count(VIN) == 2  # the start-up lines


def test_the_server_s_own_zone_is_used_without_vehicle_tz(process):
    os.environ.pop("VEHICLE_TZ", None)
    _, out, _ = process.run("--once", "--dry-run", TZ="Asia/Kathmandu")
    assert "+0545 (this machine's zone)" in out
