"""What many stories say: what the script has told, what it wrote, and what the car reports."""

from __future__ import annotations

from typing import Any

from cloud import World


def says(world: World, text: str) -> list[str]:
    """The lines so far that hold a text."""
    return [line for line in world.lines if text in line]


def report(world: World, level: float | None, status: float | None = 0.1, plug: float | None = 1, **more: Any) -> None:
    """Lay down what battery-status answers from now on."""
    stamp = world.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    attributes = {"batteryLevel": level, "plugStatus": plug, "chargingStatus": status, "timestamp": stamp, **more}
    world.cloud.always["GET battery-status"] = 200, {"data": {"attributes": attributes}}


def wrote(world: World) -> list[str]:
    """The commands so far, in short."""
    return [what.replace("POST actions/", "") for _, what, _ in world.cloud.writes()]


AUTHORIZED = "err.func.wired.unauthorized"


def error(status: int, code: str, message: str = "x", *headers: str) -> tuple[Any, ...]:
    """An error answer of Kamereon's."""
    return status, {"errors": [{"errorCode": code, "errorMessage": message}]}, *headers
