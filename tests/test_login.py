"""The login: pyze's file is read and never written, a new one is taken over, a JWT is replaced in time."""

from __future__ import annotations

import pytest
from cloud import VIN
from stories import AUTHORIZED, error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (403005, "the login has expired: run `pyze login`"), (403013, "the login has expired: run `pyze login`"),
        (403042, "check GIGYA_API_KEY"), (403101, "a second factor is pending: log in once in the MyRenault app"),
        (403102, "a second factor is pending"), (400093, "are the two keys swapped?"), (403048, "limits the rate"),
        (999999, "refused (HTTP 200)"),
    ],
)  # fmt: skip
def test_what_gigya_refuses_is_told_with_what_to_do(world, code, expected):
    story = world(level=70)
    story.cloud.always["getJWT"] = 200, {"errorCode": code, "errorDetails": "x", "statusCode": 403}
    story.run(hours=1)
    tries = [when.minute for when, _, _ in story.cloud.requests("getJWT")]
    assert tries == ([49, 54, 4, 19, 34] if code != 999999 else [49, 54, 59, 4, 9, 14, 19, 24, 29, 34, 39, 44])
    assert all(expected in line for line in story.lines)
    assert len(story.lines) == len(tries)


def test_an_expired_session_is_told_once_and_a_new_login_is_picked_up_without_a_restart(world):
    story = world(level=86)
    story.run(hours=1)
    story.cloud.token = "a-new-token"
    story.run(hours=2)
    assert "the login has expired: run `pyze login`" in story.faults()[-1]
    assert len([message for message in story.notified if "login" in message]) == 1
    story.stored = {**story.stored, "gigya": "a-new-token"}
    story.run(minutes=20)
    assert story.lines[-1].startswith("no need to update")


def test_a_newer_api_key_comes_with_the_new_login(world):
    story = world(level=86)
    story.env["GIGYA_API_KEY"] = ""
    story.stored["gigya-api-key"] = "3_outdated"
    story.restart()
    story.poll()
    assert "are the two keys swapped" in story.faults()[0]
    story.cloud.token = "a-new-token"
    story.stored = {**story.stored, "gigya": "a-new-token", "gigya-api-key": "3_gigya-key-0123456789"}
    story.poll()
    assert len(story.faults()) == 1


def test_a_new_login_does_not_undo_the_environment_or_change_the_account(world):
    story = world(level=86, env={"SPECIFIC_VIN": VIN})
    story.stored["kamereon-api-key"] = "outdated"
    story.restart()
    story.run(hours=1)
    story.cloud.accounts["other"] = []
    story.cloud.token = "a-new-token"
    story.stored = {**story.stored, "gigya": "a-new-token", "kamereon-account": "other", "gigya-token": "foreign"}
    story.run(hours=1)
    assert not story.faults()


def test_a_401_gets_a_new_jwt_and_one_more_try_in_the_same_poll(world):
    story = world(level=86)
    story.poll()
    story.cloud.log.clear()
    story.cloud.faults.append(("battery-status", error(401, AUTHORIZED)))
    story.poll()
    assert [what for _, what, _ in story.cloud.log] == ["GET battery-status", "POST accounts.getJWT", "GET battery-status"]
    assert not story.faults()
    story.cloud.log.clear()
    story.cloud.always["battery-status"] = error(401, AUTHORIZED)
    story.poll()
    assert len(story.cloud.requests("battery-status")) == 2
    assert len(story.faults()) == 1


def test_the_login_is_renewed_before_it_runs_out(world):
    story = world(level=86)
    story.run(hours=6)
    assert len(story.cloud.requests("getJWT")) == 24
    assert set(story.cloud.answers) == {200}  # not once was it refused first


def test_a_credential_file_that_is_half_written_just_now_is_no_new_login(world):
    story = world(level=86)
    story.run(minutes=10)
    story.stored = {}  # what `Renault.stored` makes of such a file
    story.run(hours=1)
    assert not story.faults()
