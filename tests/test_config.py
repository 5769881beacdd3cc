"""Configuration, table by table."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest
from cloud import chargeto

LOGIN = {"gigya": "t", "gigya-person-id": "p", "gigya-api-key": "3_stored", "kamereon-api-key": "stored"}


def settings(stored=LOGIN, **env):
    return chargeto.Settings.from_env(env, stored)


def faults(stored=LOGIN, **env):
    with pytest.raises(chargeto.ConfigError) as caught:
        settings(stored, **env)
    return caught.value.args


@pytest.mark.parametrize("env", [{}, dict.fromkeys(chargeto.VARIABLES, ""), dict.fromkeys(chargeto.VARIABLES, " ")], ids=["unset", "empty", "blank"])
def test_nothing_set_is_the_defaults(env):
    one = settings(**env, VEHICLE_TZ="")
    assert (one.limit, one.always_below, one.notify_command, one.predict_stop) == (85, 65, (), False)
    names = ("SPECIFIC_VIN", "KAMEREON_ACCOUNT_ID", "KAMEREON_API_KEY", "GIGYA_API_KEY")
    assert {one.given[name] for name in names} == {""}
    assert one.given["GIGYA_ROOT_URL"] == "https://accounts.eu1.gigya.com"


def test_what_is_set_is_taken_without_the_blanks_around_it():
    one = settings(
        MAX_CHARGE_THRESHOLD=" 80.5 ", ALWAYS_CHARGE_AT_THRESHOLD="0", KAMEREON_API_KEY=" a ", GIGYA_API_KEY="b", SPECIFIC_VIN="v",
        KAMEREON_ACCOUNT_ID="one", KAMERON_ACCOUNT_ID="two", NOTIFY_COMMAND="echo 'a b'", PREDICT_STOP="1", VEHICLE_TZ="Asia/Tokyo",
    )  # fmt: skip
    names = ("KAMEREON_API_KEY", "GIGYA_API_KEY", "SPECIFIC_VIN", "KAMEREON_ACCOUNT_ID")
    assert [one.given[name] for name in names] == ["a", "b", "v", "one"]
    assert (one.limit, one.always_below, one.predict_stop) == (80.5, 0, True)
    assert (one.notify_command, one.zone_name) == (("echo", "a b"), "Asia/Tokyo")


def test_both_spellings_of_the_account():
    for env in ({"KAMERON_ACCOUNT_ID": "one"}, {"KAMEREON_ACCOUNT_ID": "one"}, {"KAMEREON_ACCOUNT_ID": "", "KAMERON_ACCOUNT_ID": "one"}):
        assert settings(**env).given["KAMEREON_ACCOUNT_ID"] == "one"


def test_no_setting_that_is_secret_is_shown_by_accident():
    one = settings(KAMEREON_API_KEY="s3cret", GIGYA_API_KEY="s3cret", KAMEREON_ACCOUNT_ID="s3cret", NOTIFY_COMMAND="say s3cret")
    assert "s3cret" not in repr(one)


@pytest.mark.parametrize(
    "url",
    ["https://accounts.us1.gigya.com", "https://api-wired-prod-1-usw2.wrd-aws.com/", "https://cafe.de:8443/a/b", "http://localhost:80",
     "http://127.0.0.1:65", "http://127.1.2.3", "http://[::1]:8080", "HTTPS://X.DE"],
)  # fmt: skip
def test_good_servers(url):
    one = settings(KAMEREON_ROOT_URL=url, GIGYA_ROOT_URL=" " + url)
    assert (one.given["KAMEREON_ROOT_URL"], one.given["GIGYA_ROOT_URL"]) == (url, url)


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "ftp://localhost", "localhost", "https://", "https://a b", "https://.x.com", "https://*.com", "https://x.com#a",
     "http://localhost.x.com", "http://127.0.0.1.x.com", "http://[::2]", "https://ä.x", "https://me:s3cret@x.com", "https://x.com/?key=s3cret"],
)  # fmt: skip
def test_bad_servers_are_refused_and_a_password_in_one_is_not_shown(url):
    (fault,) = faults(GIGYA_ROOT_URL=url)
    assert fault.startswith("GIGYA_ROOT_URL")
    assert "must be https://HOST (http:// only for a server on this machine" in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize(
    ("value", "good"),
    [("0", True), ("100", True), ("85.", True), ("85.5", True), ("-1", False), ("101", False), ("1_0", False), ("nan", False),
     ("inf", False), ("8 5", False), ("85%", False), ("٨٥", False), ("1e1", False), ("100.1", False)],
)  # fmt: skip
def test_thresholds(value, good):
    if good:
        env = {"ALWAYS_CHARGE_AT_THRESHOLD": value} if value == "0" else {"MAX_CHARGE_THRESHOLD": value}
        assert settings(**env)
    else:
        assert faults(MAX_CHARGE_THRESHOLD=value) == (
            f"MAX_CHARGE_THRESHOLD={value} is not a number from 0 to 100: give percent, for example 80",
        )


@pytest.mark.parametrize(("limit", "always"), [("65", None), ("85", "85"), (None, "90"), ("50", "60")])
def test_the_limit_must_be_above_the_lower_threshold(limit, always):
    (fault,) = faults(MAX_CHARGE_THRESHOLD=limit or "", ALWAYS_CHARGE_AT_THRESHOLD=always or "")
    assert f"MAX_CHARGE_THRESHOLD={limit or 85} must be above ALWAYS_CHARGE_AT_THRESHOLD={always or 65}" in fault


@pytest.mark.parametrize(
    ("stored", "env", "good"),
    [
        pytest.param({"gigya": "t"}, {}, False, id="a login without its person is half a login"),
        pytest.param({"gigya": "t"}, {"KAMERON_ACCOUNT_ID": "a"}, True, id="unless the account is set"),
        pytest.param({"gigya": "t", "kamereon-account": "a"}, {}, True, id="or stored"),
        pytest.param({"gigya-person-id": "p"}, {"KAMERON_ACCOUNT_ID": "a"}, False, id="no login"),
        pytest.param({}, {}, False, id="nothing"),
    ],
)
def test_the_login(stored, env, good):
    keys = {"KAMEREON_API_KEY": "k", "GIGYA_API_KEY": "g"}
    if good:
        assert settings(stored, **keys, **env)
    else:
        (fault,) = faults(stored, **keys, **env)
        assert "run `pyze login`, then start again" in fault


@pytest.mark.parametrize("name", ["KAMEREON_API_KEY", "GIGYA_API_KEY", "KAMERON_ACCOUNT_ID", "KAMEREON_ACCOUNT_ID"])
def test_a_key_that_cannot_be_one_is_named_but_not_shown(name):
    (fault,) = faults(**{name: "sécret key"})
    assert fault.startswith(f"{name} holds a character")
    assert "cret" not in fault


@pytest.mark.parametrize("command", ["say 'a", 'say "', "say \\"])
def test_a_notify_command_that_cannot_be_split(command):
    (fault,) = faults(NOTIFY_COMMAND=command)
    assert fault.startswith("NOTIFY_COMMAND has a quote without its other half")


@pytest.mark.parametrize("command", ["say", "say 'a b' \"c d\"", "a'b c'd", 'x "it\'s"'])
def test_every_notify_command_that_passes_can_be_split(command):
    assert settings(NOTIFY_COMMAND=command).notify_command


@pytest.mark.parametrize(
    ("name", "near"),
    [("stockholm", "Europe/Stockholm"), ("Europe/Stokholm", "Europe/Stockholm"), ("new york", "America/New_York"), ("xyzzy", "Europe/Paris")],
)
def test_a_time_zone_that_does_not_exist_names_the_nearest_ones(name, near):
    (fault,) = faults(VEHICLE_TZ=name)
    assert fault.startswith(f"VEHICLE_TZ={name} is not a time zone: did you mean ")
    assert fault.count(near) == 1


@pytest.mark.parametrize(
    ("tz", "january", "july"),
    [("Europe/Stockholm", 1, 2), ("Europe/Dublin", 0, 1), ("Asia/Kathmandu", 5.75, 5.75), ("", 0, 0),
     ("CET-1CEST,M3.5.0,M10.5.0/3", 1, 2)],
)  # fmt: skip
def test_the_machine_s_own_zone_with_its_clock_changes(monkeypatch, tz, january, july):
    monkeypatch.setenv("TZ", tz)
    time.tzset()
    try:
        zone = settings().zone
        offsets = [datetime(2026, month, 1, tzinfo=timezone.utc).astimezone(zone).utcoffset() for month in (1, 7)]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert offsets == [timedelta(hours=january), timedelta(hours=july)]
