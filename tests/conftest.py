"""Fixtures: a world to tell a story in, and the script as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Iterator

import hypothesis
import pytest
from cloud import API_KEY, GIGYA_KEY, PERSON, TOKEN, TOP, Cloud, World, Zoe

hypothesis.settings.register_profile("chargeto", deadline=None, derandomize=True)  # the same on every machine
hypothesis.settings.load_profile("chargeto")


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    """Makes worlds, and closes their clouds afterwards."""
    worlds: list[World] = []

    def make(*args: Any, **kwargs: Any) -> World:
        worlds.append(World(*args, **kwargs))
        return worlds[-1]

    yield make
    for one in worlds:
        one.cloud.close()


class Process:
    """The unmodified script, with an environment of its own, against a cloud that runs in real time."""

    def __init__(self, folder: Path) -> None:
        self.car = Zoe(datetime.now(timezone.utc), level=70, delay=timedelta(0))
        self.cloud = Cloud(self.car, lambda: datetime.now(timezone.utc))
        self.store = folder / "pyze.json"
        self.login()
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYZE_TOKEN_STORE": str(self.store),
            "XDG_STATE_HOME": str(folder / "state"),
            "KAMEREON_API_KEY": API_KEY, "GIGYA_API_KEY": GIGYA_KEY,
            "KAMEREON_ROOT_URL": self.cloud.url, "GIGYA_ROOT_URL": self.cloud.url,
        }  # fmt: skip

    def login(self, **more: str) -> None:
        """Write pyze's credential file, as `pyze login` does."""
        tokens = {"gigya": TOKEN, "gigya-person-id": PERSON, **more}
        self.store.write_text(json.dumps({name: {"token": token, "expiry": None} for name, token in tokens.items()}))
        self.store.chmod(0o600)

    def start(self, *args: str, stdout: Any = subprocess.PIPE, **env: str) -> subprocess.Popen[str]:
        """Start the script with pipes."""
        return subprocess.Popen(
            [sys.executable, str(TOP / "chargeto.py"), *args], env={**self.env, **env}, text=True, cwd=str(self.store.parent),
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *args: str, **env: str) -> tuple[int, str, str]:
        """Run the script to its end; returns status, output and errors."""
        with self.start(*args, **env) as process:
            out, err = process.communicate(timeout=40)
        return process.returncode, out, err


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """The script as a process, logged in."""
    one = Process(tmp_path)
    yield one
    one.cloud.close()
