"""Why a container ended, in words a person can act on. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.engine.types import Container

LINES = 8
LINE_LENGTH = 240

_WORDS = {
    0: "it ended by itself",
    1: "it failed",
    126: "its command may not be executed",
    127: "its command was not found in the image",
    132: "it crashed: illegal instruction, the program wants another processor",
    134: "it aborted",
    137: "it was killed",
    139: "it crashed: segmentation fault",
    143: "it was asked to end",
}


def ending(container: Container) -> str:
    """One clause without a full stop, such as `it was killed for want of memory (exit code 137)`."""
    if container.state == "created" and container.error:
        return f"it could not be started: {container.error}"
    code = container.exit_code
    if container.oom_killed:
        return f"it was killed for want of memory (exit code {code})"
    if code is None:
        return "it ended"
    words = _WORDS.get(code, "it failed" if code < 129 else f"it was ended by signal {code - 128}")
    return f"{words} (exit code {code})"


def last_lines(text: str, secrets: Iterable[str] = ()) -> str:
    """The end of a log, fit for a message: few lines, no secret, no control character."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    lines = [line for line in text.splitlines() if line.strip()][-LINES:]
    return "\n".join("".join(char for char in line if char.isprintable())[:LINE_LENGTH] for line in lines)
