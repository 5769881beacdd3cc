"""What the owner is told beside the output, by NOTIFY_COMMAND: once per occasion."""

from __future__ import annotations

import re

import pytest
from stories import report

import chargeto


def test_the_owner_is_notified_once_per_occasion(world):
    story = world("2026-05-05T10:00:00Z", level=60)
    story.car.plug(False)
    story.run(hours=1)
    assert story.notified == ["chargeto: battery low at 60 % and not plugged in"]
    story.car.plug(True)
    story.run(hours=12)
    assert len(story.notified) == 2
    assert re.fullmatch(r"chargeto: charging was blocked at 8\d %", story.notified[1])
    story.restart()
    story.run(hours=1)
    story.car.level = 70
    story.car.plug(False)
    story.run(hours=1)
    story.car.plug(True)
    story.run(hours=8)
    assert len(story.notified) == 3
    assert "blocked at" in story.notified[2]
    story.cloud.always[""] = "drop"
    story.run(minutes=54)
    assert len(story.notified) == 3
    story.run(hours=5)
    assert len(story.notified) == 4
    assert "out of reach for an hour" in story.notified[3]
    story.cloud.always.clear()
    story.run(hours=1)
    story.cloud.always[""] = "drop"
    story.run(hours=5)
    assert len(story.notified) == 5


def test_a_plug_status_that_is_missing_now_and_then_is_not_unplugged(world):
    story = world("2026-05-05T10:00:00Z", level=50)
    for minute in range(0, 120, 5):
        report(story, 50, 0.0, plug=None if minute % 10 else 1)
        story.poll()
    assert not [message for message in story.notified if "not plugged in" in message]


def test_every_expiry_of_the_login_is_notified(world):
    story = world("2026-05-05T10:00:00Z", level=86)
    for _ in range(2):
        story.cloud.always["getJWT"] = 200, {"errorCode": 403005}
        story.run(hours=1)
        story.cloud.always.clear()
        story.run(hours=1)
    assert len([message for message in story.notified if "login has expired" in message]) == 2


def test_the_command_gets_the_message_as_its_last_argument(tmp_path, capfd):
    script = tmp_path / "tell me"
    script.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$(dirname "$0")/told"\n')
    script.chmod(0o755)
    settings = chargeto.Settings.from_env({"NOTIFY_COMMAND": f"'{script}' -a 'b c'"}, None)
    chargeto.notify(settings, 'it "costs" $HOME; 5')
    assert (tmp_path / "told").read_text() == '-a|b c|it "costs" $HOME; 5|'
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "lines"), [("/nowhere/at/all", 1), ("/bin/sh -c 'exit 3'", 1), ("/bin/sh -c 'sleep 20'", 1), ("", 0)]
)
def test_a_command_that_is_missing_fails_or_hangs_is_one_line(command, lines, monkeypatch, capfd):
    assert chargeto.NOTIFY_TIMEOUT == 30
    monkeypatch.setattr(chargeto, "NOTIFY_TIMEOUT", 0.2)
    chargeto.notify(chargeto.Settings.from_env({"NOTIFY_COMMAND": command}, None), "hello")
    said = capfd.readouterr().out
    assert said.count("NOTIFY_COMMAND failed, or did not end within") == said.count("\n") == lines
